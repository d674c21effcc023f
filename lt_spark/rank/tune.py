"""The blend weights: fitted on a bounded sample of valid, cross-fitted over two halves of its users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import TuneConfig
from lt_spark.frames.known import hash_uniform
from lt_spark.rank.features import ALL_USERS, HALVES, model_features, popularities, user_half
from lt_spark.rank.listwise import fit_weights

_POWERS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
_RIDGE = 1e-3
_SHRINKAGE = 50.0
"""Pairs that the weights' own mean counts as: few pairs say little of how models differ."""
_N_REPLICATES = 30
_BYTES_PER_ROW = 80


@dataclass(frozen=True)
class Sample:
    """Candidates of sampled (user, target) pairs.

    Attributes:
        features: (n_rows, n_models) a row a candidate; 0 where the model does not list it.
        log_popularity: (n_rows,) log(1 + n) / log(1 + n_max) of the candidate.
        pairs: (n_rows,) number of the pair, from 0, ascending.
        is_target: (n_rows,) whether the candidate is the pair's target.
        is_tail: (n_pairs,) whether the pair's target is tail by segment_top20.
        halves: (n_pairs,) half of the pair's user.
        users: (n_pairs,) the pair's user.
    """

    features: npt.NDArray[np.float32]
    log_popularity: npt.NDArray[np.float32]
    pairs: npt.NDArray[np.int64]
    is_target: npt.NDArray[np.bool_]
    is_tail: npt.NDArray[np.bool_]
    halves: npt.NDArray[np.int8]
    users: npt.NDArray[np.int64]

    def without(self, half: int) -> "Sample":
        """Return the pairs of the users outside a half; all pairs for ``ALL_USERS``."""
        if half == ALL_USERS:
            return self
        keep = self.halves != half
        rows = keep[self.pairs]
        numbers = np.cumsum(keep) - 1
        return Sample(
            self.features[rows],
            self.log_popularity[rows],
            numbers[self.pairs[rows]],
            self.is_target[rows],
            self.is_tail[keep],
            self.halves[keep],
            self.users[keep],
        )


@dataclass(frozen=True)
class Weights:
    """The weight of each model (n_models,), the largest 1, and the power of popularity."""

    models: npt.NDArray[np.float64]
    popularity_power: float


def sample_rows(
    candidates: list[DataFrame],
    targets: DataFrame,
    item_segments: DataFrame,
    config: TuneConfig,
    seed: int,
    max_bytes: int,
    n_candidates: int,
) -> DataFrame:
    """Return the candidates of sampled (user, target) pairs of valid, few enough for the driver.

    Args:
        candidates: one candidate table a model, of fold valid.
        targets: (user_idx, item_idx, segment_top20) of fold valid.
        item_segments: ``silver.item_segments`` of fold valid.
        config: section ``tune``.
        seed: seed of the sample.
        max_bytes: bound of what reaches the driver; fewer pairs are taken where it is tight.
        n_candidates: candidates a user and model.

    Returns:
        (pair_user, pair_item, is_tail, half, item_idx, log_popularity, model_name, feature): a row a candidate and
        model; for a pair without candidates one row with a null item.
    """
    n_pairs = min(config.max_users, max(10, max_bytes // (_BYTES_PER_ROW * n_candidates * len(candidates))))
    pairs = (
        targets.orderBy(hash_uniform("tune", seed, "user_idx", "item_idx"), "user_idx", "item_idx")
        .limit(n_pairs)
        .select(
            "user_idx",
            F.col("item_idx").alias("pair_item"),
            (F.col("segment_top20") == "tail").alias("is_tail"),
            user_half(seed).alias("half"),
        )
    )
    sampled = pairs.select("user_idx").distinct()
    features = model_features([rows.join(sampled, "user_idx", "left_semi") for rows in candidates])
    described = features.drop("because").join(popularities(item_segments).drop("segment"), "item_idx")
    return (
        pairs.join(described, "user_idx", "left")
        .withColumnRenamed("user_idx", "pair_user")
        .withColumn("feature", F.col("feature").cast("float"))
        .withColumn("log_popularity", F.col("log_popularity").cast("float"))
    )


def to_sample(rows: pd.DataFrame, models: Sequence[str]) -> Sample:
    """Turn the rows of :func:`sample_rows` into arrays."""
    rows = rows.sort_values(["pair_user", "pair_item", "item_idx", "model_name"], kind="stable")
    pair_of = rows.groupby(["pair_user", "pair_item"], sort=True).ngroup().to_numpy()
    first = np.flatnonzero(np.diff(pair_of, prepend=-1))
    is_tail, halves = rows["is_tail"].to_numpy(bool)[first], rows["half"].to_numpy(np.int8)[first]
    users = rows["pair_user"].to_numpy(np.int64)[first]
    listed = rows["item_idx"].notna().to_numpy()
    rows, pair_of = rows[listed], pair_of[listed]
    items = rows["item_idx"].to_numpy(np.int64)
    is_new = (np.diff(pair_of, prepend=-1) != 0) | (np.diff(items, prepend=-1) != 0)
    features = np.zeros((int(is_new.sum()), len(models)), np.float32)
    places = rows["model_name"].map({name: place for place, name in enumerate(models)}).to_numpy(np.int64)
    features[np.cumsum(is_new) - 1, places] = rows["feature"].to_numpy(np.float32)
    return Sample(
        features,
        rows["log_popularity"].to_numpy(np.float32)[is_new],
        pair_of[is_new],
        (items == rows["pair_item"].to_numpy(np.int64))[is_new],
        is_tail,
        halves,
        users,
    )


def goal(sample: Sample, weights: Weights, config: TuneConfig) -> float:
    """Return NDCG@k of all users + ``tail_importance`` x NDCG@k of the users with tail targets."""
    return float(_goals(_gains(sample, weights, config.k), sample, config, np.ones((1, len(sample.is_tail))))[0])


def _gains(sample: Sample, weights: Weights, k: int) -> npt.NDArray[np.float64]:
    """Return (n_pairs,) the gain of each pair's target: 1 / log2(1 + its rank) up to rank k, else 0."""
    n_pairs = len(sample.is_tail)
    scores = sample.features @ weights.models.astype(np.float32)
    if weights.popularity_power:
        scores = scores * np.exp(-np.float32(weights.popularity_power) * sample.log_popularity)
    own = np.full(n_pairs, np.inf, np.float32)
    own[sample.pairs[sample.is_target]] = scores[sample.is_target]
    own[own <= 0] = np.inf  # what no weighed model lists is not recommended
    ranks = np.bincount(sample.pairs[scores >= own[sample.pairs]], minlength=n_pairs)  # the target counts itself
    hit = np.isfinite(own) & (ranks <= k)
    gains: npt.NDArray[np.float64] = np.where(hit, 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    return gains


def _goals(
    gains: npt.NDArray[np.float64], sample: Sample, config: TuneConfig, counts: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (n,) the goal for each of n ways to count the pairs, counts (n, n_pairs)."""
    total = np.zeros(len(counts))
    for shares, importance in zip(_shares(sample), (1.0, config.tail_importance), strict=True):
        counted = counts * shares
        total += importance * (counted @ gains) / np.maximum(counted.sum(axis=1), 1e-12)
    return total


def _shares(sample: Sample) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what a pair counts among all, and among the tail pairs: a user's pairs together count one."""
    of_user = np.unique(sample.users, return_inverse=True)[1]
    ones = np.ones(len(of_user))
    of_all, of_tail = (np.bincount(of_user, weights=each)[of_user] for each in (ones, sample.is_tail.astype(float)))
    return ones / np.maximum(of_all, 1.0), sample.is_tail / np.maximum(of_tail, 1.0)


def search(sample: Sample, models: Sequence[str], config: TuneConfig) -> Weights:
    """Return the weights of the models by listwise likelihood, then the power of popularity with the best goal.

    A user counts 1 / users, and one with tail targets ``tail_importance`` / such users besides, as in the goal. NDCG
    itself has steps, and a search on it found other weights on each half of the users (docs/decisions.md). What
    popularity adds by itself is fitted along and then left out: the power stands for it.

    Few users decide little: the weights are shrunk towards their mean, n w + s mean over n + s, n the pairs whose
    target is listed, and the power is the mean of the best ones of bootstrap replicates (bagging, Breiman 1996).
    Models weigh alike where no pair lists its target.
    """
    counts = np.zeros(len(sample.is_tail))
    for shares, importance in zip(_shares(sample), (1.0, config.tail_importance), strict=True):
        counts += importance * shares / max(shares.sum(), 1.0)
    rows = np.column_stack([sample.features, -sample.log_popularity])
    found = fit_weights(rows, sample.pairs, sample.is_target, counts, _RIDGE)[: len(models)]
    if not found.any():
        found = np.ones(len(models))
    n = len(np.unique(sample.pairs[sample.is_target]))
    found = n * found + _SHRINKAGE * found.mean()
    found = found / found.max()
    return Weights(found, _power(sample, found, config))


def _power(sample: Sample, models: npt.NDArray[np.float64], config: TuneConfig) -> float:
    """Return the mean of the powers that are best for bootstrap replicates of the pairs; of equals the smallest."""
    n_pairs = len(sample.is_tail)
    if n_pairs == 0:
        return 0.0
    evenly = np.full(n_pairs, 1.0 / n_pairs)
    draws = np.random.default_rng(0).multinomial(n_pairs, evenly, size=_N_REPLICATES).astype(float)
    goals = [_goals(_gains(sample, Weights(models, power), config.k), sample, config, draws) for power in _POWERS]
    return float(np.array(_POWERS)[np.argmax(goals, axis=0)].mean())


def weights_rows(sample: Sample, models: Sequence[str], config: TuneConfig) -> list[tuple[int, str, float, float]]:
    """Return the rows of ``silver.blend_weights``: fitted without each half, and on all."""
    rows = []
    for half in (*HALVES, ALL_USERS):
        found = search(sample.without(half), models, config)
        rows += [
            (half, name, float(weight), found.popularity_power)
            for name, weight in zip(models, found.models, strict=True)
        ]
    return rows
