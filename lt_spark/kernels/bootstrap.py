"""Poisson bootstrap of means over users, the same on any number of machines.

Instead of drawing users with replacement, every user gets a Poisson(1) weight in each replicate (Chamandy et al. 2012,
"Estimating Uncertainty for Massive Data Streams"). The weight is a hash of (user, replicate, seed): the same user has
the same weight for every model, so that differences are paired, and on any partition.
"""

from dataclasses import dataclass
from math import exp, factorial
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint64]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_POISSON_CDF = np.cumsum([exp(-1.0) / factorial(n) for n in range(16)])
"""P(N <= n) of Poisson(1); from n = 16 on the probability is below 1e-13."""
_CDF_WORDS = (_POISSON_CDF * 2.0**32).astype(np.uint64)
_CHUNK_WEIGHTS = 2**22


@dataclass(frozen=True)
class Interval:
    """What :func:`interval` says of each of the m values; all arrays are (m,).

    Attributes:
        low: lower bound.
        high: upper bound.
        p_value: two-sided, of "the mean is zero".
    """

    low: Floats
    high: Floats
    p_value: Floats


def poisson_weights(user_idx: npt.NDArray[Any], n_replicates: int, seed: int, first: int = 0) -> npt.NDArray[np.uint8]:
    """Draw each user's Poisson(1) weight in each replicate.

    splitmix64 (Steele et al. 2014) of the counter (seed, user, replicate) gives a uniform number of 32 bits, whose
    place in the table of Poisson(1)'s distribution function is the weight.

    Args:
        user_idx: (n,) integers.
        n_replicates: replicates wanted.
        seed: any integer.
        first: number of the first replicate.

    Returns:
        (n, n_replicates) weights in [0, 15]. Depends on nothing but the user, the replicate's number and the seed.
    """
    users = np.asarray(user_idx).astype(np.int64).view(np.uint64)
    key = _mix(np.array([seed & _MASK], dtype=np.uint64) + np.uint64(_GAMMA))
    stream = _mix(users * np.uint64(_GAMMA) ^ key)
    steps = np.arange(first + 1, first + 1 + n_replicates, dtype=np.uint64) * np.uint64(_GAMMA)
    # (n, n_replicates): splitmix64 started at the user's own state
    uniform = _mix(stream[:, None] + steps[None, :]) >> np.uint64(32)
    weights = np.zeros(uniform.shape, dtype=np.uint8)
    for bound in _CDF_WORDS[:-1]:
        above = uniform >= bound
        if not above.any():
            break
        weights += above
    return weights


def partial_sums(user_idx: npt.NDArray[Any], values: npt.NDArray[Any], n_replicates: int, seed: int) -> Floats:
    """Sum the weighted values of some of the users; sums of disjoint sets of users add up.

    Args:
        user_idx: (n,) integers.
        values: (n, m) one row a user.
        n_replicates: replicates wanted.
        seed: any integer.

    Returns:
        (n_replicates, m + 1): for each replicate the sums of weight x value, and last the sum of the weights.
    """
    columns = np.column_stack([np.asarray(values, dtype=np.float64), np.ones(len(user_idx))])
    return weighted_sums(user_idx, columns, n_replicates, seed)


def weighted_sums(user_idx: npt.NDArray[Any], columns: npt.NDArray[Any], n_replicates: int, seed: int) -> Floats:
    """Sum weight x column over the users: (n_replicates, m) of columns (n, m). See :func:`partial_sums`."""
    sums = np.zeros((n_replicates, columns.shape[1]))
    rows = max(1, _CHUNK_WEIGHTS // max(n_replicates, 1))
    for start in range(0, len(user_idx), rows):
        weights = poisson_weights(user_idx[start : start + rows], n_replicates, seed)
        sums += weights.T.astype(np.float64) @ columns[start : start + rows]
    return sums


def interval(sums: npt.NDArray[Any], level: float = 0.95) -> Interval:
    """Turn the replicates' sums into percentile intervals and p-values.

    A replicate's mean is sum(weight x value) / sum(weight). The bounds are the (1 - level) / 2 and (1 + level) / 2
    quantiles of the B means. The p-value is min(1, 2 min(1 + #(mean <= 0), 1 + #(mean >= 0)) / (B + 1)), so that it is
    never below 2 / (B + 1) (Davison and Hinkley 1997, 4.11, doubled for two sides).

    Args:
        sums: (n_replicates, m + 1) as :func:`partial_sums` gives them. Replicates without any weight are left out.
        level: of the interval, in (0, 1).

    Returns:
        Arrays of m; where no replicate has weight, bounds NaN and p 1.
    """
    means = np.asarray(sums, dtype=np.float64)
    means = means[means[:, -1] > 0]
    n, m = means.shape[0], means.shape[1] - 1
    if n == 0:
        return Interval(np.full(m, np.nan), np.full(m, np.nan), np.ones(m))
    means = means[:, :-1] / means[:, -1:]
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    extreme = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    return Interval(low, high, np.minimum(1.0, 2.0 * (1.0 + extreme) / (n + 1.0)))


def _mix(state: Words) -> Words:
    """Return the output function of splitmix64 (wraps round)."""
    word = state ^ (state >> np.uint64(30))
    word = word * np.uint64(0xBF58476D1CE4E5B9)
    word = word ^ (word >> np.uint64(27))
    word = word * np.uint64(0x94D049BB133111EB)
    return np.asarray(word ^ (word >> np.uint64(31)), dtype=np.uint64)
