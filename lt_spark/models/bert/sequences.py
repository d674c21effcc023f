"""Each user's events as windows of one length, ready to be learnt from."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.models.bert.manifest import PAD


def weighted_events(interactions_augmented: DataFrame, interactions_rebalanced: DataFrame | None) -> DataFrame:
    """Return a fold's events and pseudo-events, each with what it weighs as a target.

    An event of the log weighs ``weight * n_copies`` of its row in ``interactions_rebalanced``, and 0 where the head
    cap dropped it: it is then still read as input. A pseudo-event weighs its own ``weight``.

    Args:
        interactions_augmented: ``silver.interactions_augmented`` of one fold.
        interactions_rebalanced: ``silver.interactions_rebalanced`` of the same fold; None: each event of the log
            weighs its ``weight`` in ``interactions_augmented``.

    Returns:
        (user_idx int, item_idx int, event_order int, weight double): a row an event; weight at least 0.
    """
    columns = ["user_idx", "item_idx", "event_order"]
    if interactions_rebalanced is None:
        return interactions_augmented.select(*columns, "weight")
    rebalanced = interactions_rebalanced.select(
        "user_idx", "event_order", (F.col("weight") * F.col("n_copies")).alias("log_weight")
    )
    of_log = F.coalesce(F.col("log_weight"), F.lit(0.0))
    weight = F.when(F.col("is_augmented"), F.col("weight")).otherwise(of_log)
    return interactions_augmented.join(rebalanced, ["user_idx", "event_order"], "left").select(
        *columns, weight.alias("weight")
    )


def windows(events: DataFrame, length: int, max_windows: int, min_events: int = 2) -> DataFrame:
    """Cut each user's events, from the newest backwards, into windows of ``length + 1`` places.

    Two windows share one event: the last of the older window, where it is a target, is the first of the newer one,
    where it is an input. So each event but the user's oldest kept one is a target once. The cost is linear in
    events: what lies before the oldest window is dropped before a user's rows are gathered.

    Args:
        events: (user_idx, item_idx, event_order, weight), ``event_order`` distinct within a user.
        length: inputs, and targets, of a window; at least 1.
        max_windows: newest windows kept a user, at least 1.
        min_events: windows with fewer events are left out; at least 1.

    Returns:
        (user_idx int, window int, items array<int>, orders array<int>, weights array<float>): a row a window,
        numbered from 0, the newest; the arrays in step, ``length + 1`` long, oldest event first, padded on the left
        with item -1, order 0, weight 0. A negative or missing item_idx in the events stops the Spark job.
    """
    newest_first = Window.partitionBy("user_idx").orderBy(F.col("event_order").desc())
    n_newer = F.col("age") - 1
    number = F.floor(n_newer / length).cast("int")
    is_shared = (n_newer % length == 0) & (n_newer > 0)
    in_windows = F.when(is_shared, F.array(number - 1, number)).otherwise(F.array(number))
    return (
        events.select("user_idx", _real_item().alias("item_idx"), "event_order", F.col("weight").cast("float"))
        .withColumn("age", F.row_number().over(newest_first))
        .where(F.col("age") <= max_windows * length + 1)
        .withColumn("window", F.explode(in_windows))
        .where(F.col("window") < max_windows)
        .groupBy("user_idx", "window")
        .agg(F.array_sort(F.collect_list(F.struct("event_order", "item_idx", "weight"))).alias("events"))
        .where(F.size("events") >= min_events)
        .select(
            F.col("user_idx").cast("int"),
            "window",
            _padded("item_idx", length, F.lit(PAD)).alias("items"),
            _padded("event_order", length, F.lit(0)).alias("orders"),
            _padded("weight", length, F.lit(0.0).cast("float")).alias("weights"),
        )
    )


def _real_item() -> Column:
    item = F.col("item_idx").cast("int")
    wrong = F.raise_error(
        F.concat(
            F.lit(f"events hold an item_idx that is the padding's ({PAD}), negative or missing: expected 0 or "),
            F.lit("more, found "),
            F.coalesce(item.cast("string"), F.lit("none")),
            F.lit(" of user_idx "),
            F.coalesce(F.col("user_idx").cast("string"), F.lit("none")),
            F.lit(". Run stage clean again."),
        )
    )
    return F.when(item >= 0, item).otherwise(wrong.cast("int"))


def _padded(column: str, length: int, padding: Column) -> Column:
    values = F.col(f"events.{column}")
    return F.concat(F.array_repeat(padding, F.lit(length + 1) - F.size(values)), values)
