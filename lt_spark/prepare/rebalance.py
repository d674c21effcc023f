"""Stage rebalance: weights, copies and caps that let rare items be learnt too."""

import math

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import RebalanceConfig
from lt_spark.core.tables import INTERACTIONS_REBALANCED
from lt_spark.frames.known import hash_uniform, with_segments


def inverse_power_weight(n_item: Column, n_mean: Column, strength: float) -> Column:
    """Weight of an event of an item with ``n_item`` events: (n_mean / n_item)^strength.

    1 for an item of mean popularity; strength 0 weighs all events alike, 1 gives every item the same mass; the
    exponent between them is the smoothing of Mikolov et al., "Distributed Representations of Words and Phrases"
    (2013), turned into weights.
    """
    return F.pow(n_mean / n_item, F.lit(strength))


def effective_number_weight(n_item: Column, beta: float) -> Column:
    """Weight of an event of an item with ``n_item`` events: (1 - beta) / (1 - beta^n_item), in (1 - beta, 1].

    The inverse of the effective number of samples of Cui et al., "Class-Balanced Loss Based on Effective Number of
    Samples" (CVPR 2019): 1 for every item as beta goes to 0, 1 / n_item as beta goes to 1.
    """
    if beta == 0:
        return F.lit(1.0)
    # 1 - beta^n by expm1: near beta = 1 the plain difference loses its digits
    return F.lit(1 - beta) / -F.expm1(n_item * F.lit(math.log(beta)))


def item_propensity(n_item: Column, n_max: Column, gamma: float, min_propensity: float) -> Column:
    """Estimated chance that an item was shown: (n_item / n_max)^gamma, clipped to [min_propensity, 1].

    The power of relative popularity is that of Saito et al., "Unbiased Recommender Learning from
    Missing-Not-At-Random Implicit Feedback" (WSDM 2020); the clip bounds the variance of its inverse.
    """
    return F.least(F.greatest(F.pow(n_item / n_max, F.lit(gamma)), F.lit(min_propensity)), F.lit(1.0))


def inverse_propensity_weight(propensity: Column) -> Column:
    """Weight of an event: 1 / propensity (Schnabel et al., "Recommendations as Treatments", ICML 2016)."""
    return F.lit(1.0) / propensity


def copies(draw: Column, mean_copies: float) -> Column:
    """Copies of an event, ``mean_copies`` in the mean: floor(mean_copies), and 1 more where the draw says so.

    Args:
        draw: uniform in [0, 1).
        mean_copies: at least 1.
    """
    whole = math.floor(mean_copies)
    return F.lit(whole) + F.when(draw < mean_copies - whole, 1).otherwise(0)


def exact_sum(column: Column) -> Column:
    """Sum of doubles that is the same in whatever order the rows come: taken in decimals of 12 places."""
    return F.sum(column.cast("decimal(28,12)")).cast("double")


def rebalance_interactions(
    known_interactions: DataFrame,
    item_segments: DataFrame,
    config: RebalanceConfig,
    fold: str,
    seed: int,
) -> DataFrame:
    """Weigh, cap and copy a fold's known events so that rare items are learnt too.

    An event's weight is its method's formula of its item's known events, capped at ``max_weight``, times
    ``event_weight``, then divided by the mean over the kept rows, so that weights have mean 1 (where every weight is
    0, all become 1). The formula of ``effective_number`` is divided by its value at the mean count first, a constant
    that gives the cap a meaning: alone it never exceeds 1. Counts are those before the head cap. Everything is a
    function of the row, the settings and the seed: the order and the place of the rows do not matter.

    Args:
        known_interactions: events that the fold may see.
        item_segments: ``silver.item_segments``; rows of other folds are ignored.
        config: the section ``rebalance``.
        fold: the fold.
        seed: seed of the copies and of ties at the head cap.

    Returns:
        ``silver.interactions_rebalanced`` of the fold. Each user of ``known_interactions`` has a row at least.
    """
    rows = with_segments(known_interactions, item_segments, fold, ["n_interactions", "segment"])
    if config.head_cap is not None:
        rows = _cap_head(rows, config.head_cap, seed)
    popularity = item_segments.where((F.col("fold") == fold) & (F.col("n_interactions") > 0)).agg(
        F.avg("n_interactions").alias("n_mean"), F.max("n_interactions").alias("n_max")
    )
    n_item = F.col("n_interactions")
    draw = hash_uniform("rebalance.copies", seed, "user_idx", "event_order")
    weighed = (
        rows.crossJoin(F.broadcast(popularity))
        .withColumn("propensity", item_propensity(n_item, F.col("n_max"), config.gamma, config.min_propensity))
        .withColumn("weight", F.least(_weight(config), F.lit(config.max_weight)) * _event_weight())
        .withColumn("n_copies", F.when(F.col("segment") == "tail", copies(draw, config.tail_copies)).otherwise(1))
        .withColumn("fold", F.lit(fold))
    )
    mean = weighed.agg((exact_sum(F.col("weight")) / F.greatest(F.count("*"), F.lit(1))).alias("mean_weight"))
    scaled = F.when(F.col("mean_weight") > 0, F.col("weight") / F.col("mean_weight")).otherwise(1.0)
    return (
        weighed.crossJoin(F.broadcast(mean))
        .withColumn("weight", scaled)
        .withColumn("n_copies", F.col("n_copies").cast("int"))
        .select(*INTERACTIONS_REBALANCED.column_names)
    )


def _weight(config: RebalanceConfig) -> Column:
    n_item, n_mean = F.col("n_interactions"), F.col("n_mean")
    if config.method == "inverse_power":
        return inverse_power_weight(n_item, n_mean, config.strength)
    if config.method == "effective_number":
        return effective_number_weight(n_item, config.beta) / effective_number_weight(n_mean, config.beta)
    if config.method == "inverse_propensity":
        return inverse_propensity_weight(F.col("propensity"))
    return F.lit(1.0)


def _event_weight() -> Column:
    return F.coalesce(F.col("event_weight"), F.lit(1.0))


def _cap_head(rows: DataFrame, head_cap: int, seed: int) -> DataFrame:
    """Keep the newest ``head_cap`` events of each head item, and each user's last event.

    Only the first ``head_cap`` places of an item are ever ranked, so Spark drops the others before the shuffle; the
    place of the last kept event, a row an item, is then joined back.
    """
    tie = F.xxhash64(F.lit("rebalance.head_cap"), F.lit(seed), F.col("user_idx"), F.col("event_order"))
    rows = rows.withColumn("age_key", F.struct("order_value", tie.alias("tie"), "user_idx", "event_order"))
    newest_first = Window.partitionBy("item_idx").orderBy(F.col("age_key").desc())
    oldest_kept = (
        rows.where(F.col("segment") == "head")
        .select("item_idx", "age_key", F.row_number().over(newest_first).alias("place"))
        .where(F.col("place") <= head_cap)
        .groupBy("item_idx")
        .agg(F.min("age_key").alias("oldest_kept"))
    )
    is_last = F.col("event_order") == F.max("event_order").over(Window.partitionBy("user_idx"))
    return (
        rows.withColumn("is_last", is_last)
        .join(oldest_kept, "item_idx", "left")
        .where((F.col("segment") != "head") | F.col("is_last") | (F.col("age_key") >= F.col("oldest_kept")))
    )
