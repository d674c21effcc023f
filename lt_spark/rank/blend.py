"""The blend: all models' candidates, weighed and ranked, with what speaks for each."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.rank.explain import blended_because, model_shares
from lt_spark.rank.features import ALL_USERS, model_features, popularities, user_half


def blend(
    candidates: list[DataFrame], blend_weights: DataFrame, item_segments: DataFrame, n: int, seed: int, fold: str
) -> DataFrame:
    """Return each user's n best items over all models (``silver.recommendations``), as :func:`scored` says.

    Args:
        candidates: one candidate table a model, of the fold.
        blend_weights: ``silver.blend_weights``.
        item_segments: ``silver.item_segments`` of the fold.
        n: items a user.
        seed: seed of the halves.
        fold: the fold.
    """
    best_first = Window.partitionBy("user_idx").orderBy(F.desc("score"), "item_idx")
    return (
        scored(candidates, blend_weights, popularities(item_segments), seed, fold)
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= n)
        .select(F.lit(fold).alias("fold"), "user_idx", "item_idx", "rank", "score", "segment", *speakers())
    )


def scored(candidates: list[DataFrame], blend_weights: DataFrame, items: DataFrame, seed: int, fold: str) -> DataFrame:
    """Return the blend's score of each candidate.

    score(u, i) = [sum over models m of weight_m x minmax_m(u, i)] x exp(-power x log(1 + n_i) / log(1 + n_max)), minmax
    0 where the model does not list the item. The power holds popular items back where valid says that it pays (a power
    law of popularity, as in Steck 2011). On fold valid a user's weights are those fitted without the user's half, so
    that valid can judge the blend.

    Args:
        candidates: one candidate table a model, of the fold.
        blend_weights: ``silver.blend_weights``.
        items: (item_idx, segment, log_popularity), as ``popularities`` gives them, and what else is to go with them.
        seed: seed of the halves.
        fold: the fold.

    Returns:
        (user_idx, item_idx, segment, score above 0, parts: array of (part, model_name, because)) and the further
        columns of ``items``; a user's rows lie together.
    """
    half = user_half(seed) if fold == "valid" else F.lit(ALL_USERS)
    more = [name for name in items.columns if name not in ("item_idx", "segment", "log_popularity")]
    weighed = (
        model_features(candidates)
        .join(items, "item_idx")
        .withColumn("half", half)
        .join(F.broadcast(blend_weights), ["half", "model_name"])
        .withColumn(
            "part", F.col("feature") * F.col("weight") * F.exp(-F.col("popularity_power") * F.col("log_popularity"))
        )
    )
    return (
        weighed.groupBy("user_idx", "item_idx", "segment")
        .agg(
            F.sum("part").alias("score"),
            F.collect_list(F.struct("part", "model_name", "because")).alias("parts"),
            *(F.first(name).alias(name) for name in more),
        )
        .where(F.col("score") > 0)
    )


def speakers() -> tuple[Column, Column]:
    """Return ``models`` and ``because`` of a row of :func:`scored`."""
    parts, score = F.col("parts"), F.col("score")
    return model_shares(parts, score).alias("models"), blended_because(parts, score).alias("because")
