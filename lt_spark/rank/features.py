"""What the blend sees of a candidate: one number a model, and how popular the item is."""

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_EQUAL = 1e-6
"""Scores that differ by less of the larger one are equal."""
HALVES = (0, 1)
ALL_USERS = -1
"""``half`` of the weights that are fitted on all users of valid."""


def min_max(score: Column, low: Column, high: Column) -> Column:
    """Return a candidate's score between the lowest (0) and highest (1) of the user's list; 1 where all are equal.

    Equal: as far as single precision tells, or its last digits would become the whole range.

    Score fusion on min-max scores: CombSUM (Fox and Shaw 1994).
    """
    is_spread = high - low > F.lit(_EQUAL) * F.greatest(F.abs(high), F.abs(low))
    return F.when(is_spread, (score - low) / (high - low)).otherwise(F.lit(1.0))


def log_popularity(n_interactions: Column, n_max: Column) -> Column:
    """Return log(1 + n) / log(1 + n_max), in [0, 1]; 0 where nothing is known of any item."""
    return F.when(n_max > 0, F.log1p(n_interactions) / F.log1p(n_max)).otherwise(F.lit(0.0))


def model_features(candidates: list[DataFrame]) -> DataFrame:
    """Return (user_idx, item_idx, model_name, feature, because) of all models' candidates.

    The rows are shuffled by user once: what groups by user and item, or ranks a user's items, needs no other shuffle.
    """
    rows = reduce(DataFrame.unionByName, candidates).repartition("user_idx")
    of_list = Window.partitionBy("user_idx", "model_name")
    feature = min_max(F.col("score"), F.min("score").over(of_list), F.max("score").over(of_list))
    return rows.select("user_idx", "item_idx", "model_name", feature.alias("feature"), "because")


def popularities(item_segments: DataFrame) -> DataFrame:
    """Return (item_idx, segment, log_popularity) of a fold's items."""
    largest = item_segments.agg(F.max("n_interactions").alias("n_max"))
    return item_segments.crossJoin(F.broadcast(largest)).select(
        "item_idx", "segment", log_popularity(F.col("n_interactions"), F.col("n_max")).alias("log_popularity")
    )


def user_half(seed: int) -> Column:
    """Return the half of valid that a user is in, 0 or 1, by a hash."""
    return F.pmod(F.xxhash64(F.lit("half"), F.lit(seed), F.col("user_idx")), F.lit(2)).cast("int")
