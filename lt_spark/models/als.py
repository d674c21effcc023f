"""Implicit ALS of Spark MLlib: the plain one, tuned on valid, and the one with rebalanced weights.

Hu, Koren and Volinsky 2008: preference p_ui = 1 for known pairs, confidence c_ui = 1 + alpha r_ui; factors minimise
sum c_ui (p_ui - x_u . y_i)^2 + reg (n_u |x_u|^2 + n_i |y_i|^2) (weighted-lambda regularisation, Zhou et al. 2008).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import AlsPlainConfig, Config
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.known import hash_uniform
from lt_spark.frames.top_k import top_k
from lt_spark.frames.user_metrics import user_metrics

_TUNE_K = 10


@dataclass(frozen=True)
class AlsSettings:
    """What one fit needs."""

    rank: int
    alpha: float
    reg_param: float
    max_iter: int
    nonnegative: bool
    n_blocks: int
    checkpoint_interval: int
    seed: int


def plain_ratings(known_interactions: DataFrame) -> DataFrame:
    """Return (user_idx, item_idx, rating): a pair's summed event weights."""
    return known_interactions.groupBy("user_idx", "item_idx").agg(F.sum("event_weight").alias("rating"))


def rebalanced_ratings(interactions_rebalanced: DataFrame) -> DataFrame:
    """Return (user_idx, item_idx, rating): a pair's summed weights, a copied event counting once a copy."""
    weight = F.sum(F.col("weight") * F.col("n_copies"))
    return interactions_rebalanced.groupBy("user_idx", "item_idx").agg(weight.alias("rating"))


def fit_factors(ratings: DataFrame, settings: AlsSettings) -> tuple[DataFrame, DataFrame]:
    """Fit ALS and return its factors.

    Args:
        ratings: (user_idx, item_idx, rating > 0).
        settings: what to fit.

    Returns:
        User factors (user_idx, vector array<float> of ``rank``) and item factors (item_idx, vector).
    """
    als = ALS(
        rank=settings.rank,
        maxIter=settings.max_iter,
        regParam=settings.reg_param,
        alpha=settings.alpha,
        implicitPrefs=True,
        nonnegative=settings.nonnegative,
        numUserBlocks=settings.n_blocks,
        numItemBlocks=settings.n_blocks,
        checkpointInterval=settings.checkpoint_interval,
        userCol="user_idx",
        itemCol="item_idx",
        ratingCol="rating",
        coldStartStrategy="nan",
        seed=settings.seed,
    )
    model = als.fit(ratings)
    return (
        model.userFactors.select(F.col("id").alias("user_idx"), F.col("features").alias("vector")),
        model.itemFactors.select(F.col("id").alias("item_idx"), F.col("features").alias("vector")),
    )


def als_candidates(
    ratings: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    settings: AlsSettings,
    n: int,
    *,
    model_name: str,
    fold: str,
    scratch: str,
    n_items: int,
) -> DataFrame:
    """Fit ALS and return each user's best items (``silver.candidates_<model_name>``).

    Args:
        ratings: (user_idx, item_idx, rating > 0).
        users: (user_idx) who get candidates.
        seen: (user_idx, seen) items to leave out.
        recommendable: (item_idx) items that may be recommended.
        settings: what to fit.
        n: items a user.
        model_name: als_plain or als.
        fold: the fold.
        scratch: folder for the item factors, read by every executor.
        n_items: items of the catalogue, for the number of shards.
    """
    user_factors, item_factors = fit_factors(ratings, settings)
    queries = users.join(user_factors, "user_idx").join(seen, "user_idx", "left").select("user_idx", "vector", "seen")
    items = item_factors.join(recommendable, "item_idx", "left_semi")
    return as_candidates(top_k(queries, items, n, scratch=scratch, n_items=n_items), model_name, fold)


def grid(config: AlsPlainConfig, seed: int) -> list[AlsSettings]:
    """Return the grid of plain ALS, at most 6 points."""
    points = product(config.ranks, config.alphas, config.reg_params)
    return [
        AlsSettings(rank, alpha, reg, config.max_iter, False, config.n_blocks, config.checkpoint_interval, seed)
        for rank, alpha, reg in points
    ]


def tune_als(
    known_interactions: DataFrame,
    targets: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    config: Config,
    n_events: int,
    n_items: int,
    scratch: Callable[[str], str],
) -> list[tuple[int, float, float, float, float, bool]]:
    """Choose plain ALS's settings by the blend's own goal: NDCG@10 of all + ``tune.tail_importance`` x the tail's.

    The same goal for both, so that the baseline is not beaten on the tail merely because nobody asked it for the tail.

    Fits on the events of hashed users, at most ``als_plain.max_tune_events`` of them.

    Args:
        known_interactions: events of fold valid.
        targets: targets of fold valid, as ``frames.known.targets`` gives them.
        seen: (user_idx, seen) items to leave out.
        recommendable: (item_idx) items that may be recommended.
        config: the configuration.
        n_events: rows of ``known_interactions``.
        n_items: items of the catalogue.
        scratch: gives a folder name for a point.

    Returns:
        Rows of ``silver.als_settings``.
    """
    share = min(1.0, config.als_plain.max_tune_events / max(n_events, 1))
    seed = config.core.seed
    sampled = known_interactions
    if share < 1.0:
        sampled = known_interactions.where(hash_uniform("tune_als", seed, "user_idx") < share)
        targets = targets.where(hash_uniform("tune_als", seed, "user_idx") < share)
    asked = targets.select("user_idx").distinct().orderBy(hash_uniform("tune_als_users", seed, "user_idx"))
    asked = asked.limit(config.als_plain.max_tune_users)
    targets = targets.join(asked, "user_idx", "left_semi").cache()
    ratings = plain_ratings(sampled).cache()
    points = grid(config.als_plain, seed)
    reached = [
        _tuned_ndcg(ratings, targets, seen, recommendable, point, scratch(f"point-{index}"), n_items)
        for index, point in enumerate(points)
    ]
    targets.unpersist()
    ratings.unpersist()
    goals = [overall + config.tune.tail_importance * tail for overall, tail in reached]
    best = max(range(len(points)), key=lambda index: (goals[index], -index))
    return [
        (point.rank, point.alpha, point.reg_param, overall, tail, index == best)
        for index, (point, (overall, tail)) in enumerate(zip(points, reached, strict=True))
    ]


def plain_settings(als_settings: Sequence[tuple[int, float, float]], config: Config) -> AlsSettings:
    """Return the settings of plain ALS from the chosen row (rank, alpha, reg_param)."""
    rank, alpha, reg = als_settings[0]
    section = config.als_plain
    return AlsSettings(
        rank, alpha, reg, section.max_iter, False, section.n_blocks, section.checkpoint_interval, config.core.seed
    )


def als_settings(plain: AlsSettings, config: Config) -> AlsSettings:
    """Return the settings of ALS: its own section's, and plain ALS's where that says nothing."""
    section = config.als
    return AlsSettings(
        section.rank or plain.rank,
        section.alpha or plain.alpha,
        plain.reg_param if section.reg_param is None else section.reg_param,
        section.max_iter,
        section.nonnegative,
        section.n_blocks,
        section.checkpoint_interval,
        config.core.seed,
    )


def _tuned_ndcg(
    ratings: DataFrame,
    targets: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    point: AlsSettings,
    scratch: str,
    n_items: int,
) -> tuple[float, float]:
    users = targets.select("user_idx").distinct()
    lists = als_candidates(
        ratings,
        users,
        seen,
        recommendable,
        point,
        _TUNE_K,
        model_name="als_plain",
        fold="valid",
        scratch=scratch,
        n_items=n_items,
    )
    measured = user_metrics(lists, targets, ["als_plain"], [_TUNE_K]).where(F.col("segment").isin("all", "top20_tail"))
    # a row for all, one for the tail
    means = {
        row["segment"]: row["ndcg"] for row in measured.groupBy("segment").agg(F.avg("ndcg").alias("ndcg")).collect()
    }
    return float(means.get("all", 0.0)), float(means.get("top20_tail", 0.0))
