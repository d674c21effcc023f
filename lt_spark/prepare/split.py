"""Stage split: which events are train, valid and test."""

from decimal import Decimal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import SplitConfig
from lt_spark.core.tables import INTERACTIONS_SPLIT
from lt_spark.frames.known import hash_uniform

_ACCURACY = 10_000
"""percentile_approx errs by at most 1 / this of the rows."""
_BRACKET = 2 / _ACCURACY
"""Half width of the bracket, in shares of the rows, within which a cut is then found exactly."""


def split_interactions(interactions: DataFrame, config: SplitConfig, seed: int) -> DataFrame:
    """Give each event its split.

    - ``leave_last_out``: a user's last event is test, the last but one valid, the rest train.
    - ``time``: one pair of cuts in ``order_value`` for all users; the newest ``test_share`` of events is test, the
      ``valid_share`` before it valid. An event at a cut belongs to the earlier side, so valid and test may be
      smaller than asked where many events share a time. Meant for logs with real times: where ``order_value`` is
      only each user's own position, a cut means nothing.
    - ``cold_items``: whole items, drawn by hash, are test (``test_share`` of items) or valid (``valid_share``), for
      every user: an exception would make the item known.

    In the first two, users with fewer than ``min_events`` events stay in train whole.

    Args:
        interactions: ``silver.interactions``.
        config: the section ``split``.
        seed: seed of the choice of items.

    Returns:
        ``silver.interactions_split``: the same events, each once, with ``split``.
    """
    if config.method == "cold_items":
        split = interactions.withColumn("split", _cold_item_split(config, seed))
    elif config.method == "time":
        split = _time_split(interactions, config)
    else:
        split = _leave_last_out(interactions, config)
    return split.select(*INTERACTIONS_SPLIT.column_names)


def _leave_last_out(interactions: DataFrame, config: SplitConfig) -> DataFrame:
    user = Window.partitionBy("user_idx")
    age = F.row_number().over(user.orderBy(F.col("event_order").desc()))
    split = (
        F.when(F.col("n_events") < config.min_events, "train")
        .when(F.col("age") == 1, "test")
        .when(F.col("age") == 2, "valid")
        .otherwise("train")
    )
    return interactions.withColumns({"age": age, "n_events": F.count("*").over(user)}).withColumn("split", split)


def _time_split(interactions: DataFrame, config: SplitConfig) -> DataFrame:
    train_share = 1 - Decimal(str(config.valid_share)) - Decimal(str(config.test_share))
    train_end = _quantile(interactions, train_share, "train_end")
    valid_end = _quantile(interactions, 1 - Decimal(str(config.test_share)), "valid_end")
    split = (
        F.when(F.col("n_events") < config.min_events, "train")
        .when(F.col("order_value") <= F.col("train_end"), "train")
        .when(F.col("order_value") <= F.col("valid_end"), "valid")
        .otherwise("test")
    )
    return (
        interactions.withColumn("n_events", F.count("*").over(Window.partitionBy("user_idx")))
        .crossJoin(F.broadcast(train_end))
        .crossJoin(F.broadcast(valid_end))
        .withColumn("split", split)
    )


def _quantile(interactions: DataFrame, share: Decimal, name: str) -> DataFrame:
    """Return one row: the least ``order_value`` at or below which at least ``share`` of the events lie.

    Exact, and so the same however the rows lie. ``percentile_approx`` alone depends on the order of its merges, and
    the exact percentiles of Spark keep every distinct value in one task; so the first brackets the cut, and only
    the distinct values in the bracket (at most about 6 / 10,000 of the events) are counted and summed in order.
    """
    low, high = max(float(share) - _BRACKET, 0.0), min(float(share) + _BRACKET, 1.0)
    order_value = F.col("order_value")
    bracket = interactions.agg(
        F.percentile_approx(order_value, low, _ACCURACY).alias("low"),
        F.percentile_approx(order_value, high, _ACCURACY).alias("high"),
        F.count("*").alias("n_events"),
    )
    # one row for all that lies below the bracket, one for each distinct value in it
    counts = (
        interactions.crossJoin(F.broadcast(bracket))
        .where(order_value <= F.col("high"))
        .groupBy(F.when(order_value >= F.col("low"), order_value).alias("order_value"))
        .agg(F.count("*").alias("n"), F.first("n_events").alias("n_events"))
    )
    up_to = F.sum("n").over(Window.partitionBy(F.lit(0)).orderBy(order_value.asc_nulls_first()))
    is_reached = up_to >= F.lit(share) * F.col("n_events")
    reached = counts.withColumn("is_reached", is_reached).where("is_reached")
    return reached.agg(F.min("order_value").alias(name))


def _cold_item_split(config: SplitConfig, seed: int) -> Column:
    draw = hash_uniform("split.cold_items", seed, "item_idx")
    return (
        F.when(draw < config.test_share, "test")
        .when(draw < config.test_share + config.valid_share, "valid")
        .otherwise("train")
    )
