"""Popularity: the items most used so far, those that the user knows left out."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import Config, PopularityConfig
from lt_spark.frames.as_candidates import as_candidates

MODEL_NAME = "popularity"


def item_popularity(known_interactions: DataFrame, config: PopularityConfig) -> DataFrame:
    """Score items by their events, newer ones counting more where a half-life is set.

    score_i = sum over events of .5^(age / half-life); age = how far the event lies before the newest, as a share of the
    log's span of ``order_value``; half-life 0: the number of events.

    Args:
        known_interactions: events of a fold.
        config: section ``popularity``.

    Returns:
        (item_idx int, score double > 0).
    """
    if config.half_life_share == 0:
        return known_interactions.groupBy("item_idx").agg(F.count(F.lit(1)).cast("double").alias("score"))
    span = known_interactions.agg(F.min("order_value").alias("first"), F.max("order_value").alias("last"))
    age = (F.col("last") - F.col("order_value")) / F.greatest(F.col("last") - F.col("first"), F.lit(1))
    return (
        known_interactions.crossJoin(F.broadcast(span))
        .groupBy("item_idx")
        .agg(F.sum(F.pow(F.lit(0.5), age / F.lit(config.half_life_share))).alias("score"))
    )


def popularity_candidates(
    known_interactions: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    config: Config,
    fold: str,
) -> DataFrame:
    """Return each user's most popular items (``silver.candidates_popularity``).

    A user needs at most n + (number of own seen items) of the popularity list, so one user with a long history costs
    no other user anything.

    Args:
        known_interactions: events of the fold.
        users: (user_idx) who get candidates.
        seen: (user_idx, seen) items to leave out.
        recommendable: (item_idx) items that may be recommended.
        config: the configuration.
        fold: the fold.
    """
    n = config.candidates.n
    longest = config.clean.max_events_per_user
    scores = item_popularity(known_interactions, config.popularity).join(recommendable, "item_idx", "left_semi")
    # as many as any list can need, whatever the catalogue
    enough = scores.orderBy(F.desc("score"), "item_idx").limit(n + longest)
    best = (
        enough.agg(F.collect_list(F.struct((-F.col("score")).alias("minus"), "item_idx", "score")).alias("best"))
        .select(F.array_sort("best").alias("best"))
        .select(F.col("best.item_idx").alias("items"), F.col("best.score").alias("scores"))
    )
    known_items = F.coalesce(F.col("seen"), F.array().cast("array<int>"))
    own = (
        users.join(seen, "user_idx", "left")
        .withColumn("seen", known_items)
        .crossJoin(F.broadcast(best))
        .withColumn("kept", F.array_except(F.slice("items", 1, F.size("seen") + F.lit(n)), F.col("seen")))
        .select("user_idx", F.slice("kept", 1, n).alias("kept"))
        .select("user_idx", F.posexplode("kept").alias("pos", "item_idx"))
        .join(F.broadcast(enough), "item_idx")
        .select("user_idx", "item_idx", "score", (F.col("pos") + 1).alias("rank"))
    )
    return as_candidates(own, MODEL_NAME, fold)
