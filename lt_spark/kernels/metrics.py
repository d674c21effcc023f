"""The formulas of every metric, once.

A user's metrics follow from the ranks of those targets that are in the user's list. Each function takes one user
(ranks of shape (width,), a number of targets) or many at once (ranks (n_users, width), targets (n_users,)): it reduces
the last axis. Ranks count from 1 and ascend along it; 0 stands for "none" and pads the rows at the end. The
definitions are those of trec_eval, as `ir_measures` gives them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]


def list_ranks(scores: npt.NDArray[Any], offsets: Ints) -> npt.NDArray[np.int64]:
    """Rank every item of many lists: 1 + the number of other items of its list with a score >= its own.

    Pessimistic on ties: a model that gives all items one score gains nothing by it.

    Args:
        scores: (n,) the lists' scores one list after the other, in any order within a list; NaN sinks below all.
        offsets: (n_lists + 1,) where each list begins, and the end of the last.

    Returns:
        (n,) ranks in [1, length of the list].
    """
    values = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    bounds = np.asarray(offsets, dtype=np.int64)
    lengths = np.diff(bounds)
    begins = np.repeat(bounds[:-1], lengths)
    n = values.size
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    is_first = np.zeros(n, dtype=np.bool_)
    is_first[bounds[:-1][lengths > 0]] = True
    is_sorted = bool(np.all(is_first[1:] | (values[1:] <= values[:-1])))
    order = np.arange(n) if is_sorted else np.lexsort((-values, begins))
    ordered = values[order]
    # the last place of a run of equal scores within a list is the rank of all of them
    is_last = np.append(is_first[1:] | (ordered[1:] != ordered[:-1]), True)
    run = np.cumsum(is_last) - is_last
    ranks = np.empty(n, dtype=np.int64)
    ranks[order] = np.flatnonzero(is_last)[run] - begins + 1
    return ranks


def target_ranks(scores: npt.NDArray[Any], is_target: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the ascending ranks of one list's targets, as :func:`list_ranks` counts them.

    Args:
        scores: (n,) scores of the listed items, in any order; NaN sinks below all.
        is_target: (n,) whether the item is a target.

    Returns:
        (number of listed targets,) ranks from 1.
    """
    ranks = list_ranks(scores, np.array([0, len(scores)]))
    return np.sort(ranks[np.asarray(is_target, dtype=np.bool_)])


def precision(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Share of the first k places that hold a target: hits / k, in [0, 1]; a list shorter than k counts as k long."""
    del n_targets
    return np.asarray(_hits(ranks, k).sum(axis=-1) / np.float64(k), dtype=np.float64)


def recall(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Share of the user's targets found in the first k places: hits / n_targets, in [0, 1]; 0 without targets."""
    return np.asarray(_hits(ranks, k).sum(axis=-1) / _at_least_one(n_targets), dtype=np.float64)


def f1(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Harmonic mean of precision and recall: 2 hits / (k + n_targets), in [0, 1]."""
    hits = _hits(ranks, k).sum(axis=-1)
    return np.asarray(2.0 * hits / (k + np.asarray(n_targets, dtype=np.float64)), dtype=np.float64)


def hit_rate(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """1 where at least one target is in the first k places, else 0 (Success@k)."""
    del n_targets
    return np.asarray(_hits(ranks, k).any(axis=-1), dtype=np.float64)


def ndcg(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Normalised discounted cumulative gain with binary gains, in [0, 1].

    Sum of 1 / log2(rank + 1) over the hits, divided by the same sum for the ideal list, whose first min(n_targets, k)
    places are targets (Järvelin and Kekäläinen 2002). 0 without targets.
    """
    ideal = np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1.0))
    best = ideal[np.clip(np.asarray(n_targets, dtype=np.int64), 1, k) - 1]
    gains = np.where(_hits(ranks, k), 1.0 / np.log2(np.maximum(ranks, 1) + 1.0), 0.0)
    return np.asarray(gains.sum(axis=-1) / best, dtype=np.float64)


def mrr(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Reciprocal rank of the first target, 0 where none is in the first k places; in [0, 1]."""
    del n_targets
    reciprocal = np.where(_hits(ranks, k), 1.0 / np.maximum(ranks, 1), 0.0)
    return np.asarray(reciprocal.max(axis=-1, initial=0.0), dtype=np.float64)


def average_precision(ranks: Ints, n_targets: Any, k: int) -> Floats:
    """Average precision at k: sum over the hits of (hits so far / rank), divided by n_targets; in [0, 1].

    The denominator is all of the user's targets, as in trec_eval's map_cut (not min(n_targets, k), which other
    libraries take): a user with more targets than k cannot reach 1.
    """
    hits = _hits(ranks, k)
    so_far = np.where(hits, np.cumsum(hits, axis=-1) / np.maximum(ranks, 1), 0.0)
    return np.asarray(so_far.sum(axis=-1) / _at_least_one(n_targets), dtype=np.float64)


METRICS = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "hit_rate": hit_rate,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
}
"""Column name to formula, in the order of the columns; ``map`` is the mean of average_precision over users."""


def gini(counts: npt.NDArray[Any]) -> float:
    """Inequality of exposure over the catalogue: 0 where all items are shown equally often, 1 - 1/n where one has all.

    G = sum_i (2 i - n - 1) x_i / (n sum_i x_i), x ascending, i from 1 (Gini 1912; the rank form of Sen 1973, as in
    Fleder and Hosanagar 2009).

    Args:
        counts: (n_items,) exposures of every item of the catalogue, zeros included; not negative.

    Returns:
        In [0, 1); 0.0 for an empty catalogue or where nothing was shown.
    """
    ascending = np.sort(np.asarray(counts, dtype=np.float64))
    total, n = ascending.sum(), ascending.size
    if n == 0 or total == 0.0:
        return 0.0
    places = np.arange(1, n + 1, dtype=np.float64)
    return float(np.sum((2.0 * places - n - 1.0) * ascending) / (n * total))


def novelty(n_interactions: npt.NDArray[Any], n_total: int) -> Floats:
    """Self-information of an item in bits: -log2(n_interactions / n_total) (Vargas and Castells 2011).

    Args:
        n_interactions: (n,) known interactions of the items; an item without any counts as half an interaction, so
            that its novelty is finite and above that of all others.
        n_total: known interactions of all items, at least 1.

    Returns:
        (n,) bits, at least 0.
    """
    share = np.maximum(np.asarray(n_interactions, dtype=np.float64), 0.5) / max(n_total, 1)
    return np.asarray(-np.log2(np.minimum(share, 1.0)) + 0.0, dtype=np.float64)


def coverage(counts: npt.NDArray[Any]) -> float:
    """Share of the catalogue that was shown at least once, in [0, 1]; 0.0 for an empty catalogue.

    Args:
        counts: (n_items,) exposures of every item of the catalogue, zeros included.
    """
    shown = np.asarray(counts) > 0
    return float(shown.mean()) if shown.size else 0.0


def _hits(ranks: Ints, k: int) -> npt.NDArray[np.bool_]:
    return np.asarray((ranks >= 1) & (ranks <= k), dtype=np.bool_)


def _at_least_one(n_targets: Any) -> Floats:
    return np.maximum(np.asarray(n_targets, dtype=np.float64), 1.0)
