"""Pairs of items that stand near each other in histories, summed exactly."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

UNIT = 1_000_000
"""A pair's weight is counted in whole millionths, so that sums are the same in whatever order they are taken."""
_CHUNK_EVENTS = 20_000


class PairSums(NamedTuple):
    """Sums over a batch of histories, a row a directed pair.

    Attributes:
        items: (n,) the item of the history.
        neighbours: (n,) the item that it speaks for.
        weights: (n,) sum over histories of the pair's weight, in millionths.
        counts: (n,) number of histories with the pair, in either order.
    """

    items: npt.NDArray[np.int32]
    neighbours: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]


def pair_sums(
    items: npt.NDArray[Any], offsets: npt.NDArray[Any], max_lag: int, lag_power: float, backward: float
) -> Iterator[PairSums]:
    """Sum the pairs of many histories, chunk by chunk.

    Two events of one history at positions p < q, lag q - p at most ``max_lag``, of different items i and j, give
    lag^-lag_power to (i, j) and ``backward`` times as much to (j, i). Of what one history gives to (i, j), where it has
    i or j more than once, the most counts, and once: a pair that one user repeats is one user's pair.

    Args:
        items: (n,) item of every event, history after history, oldest first.
        offsets: (n_histories + 1,) where each history begins.
        max_lag: largest distance in positions.
        lag_power: exponent of the distance.
        backward: share that goes from the later item to the earlier one.

    Yields:
        Sums; a pair may come in several chunks.
    """
    bounds = np.asarray(offsets, np.int64)
    start = 0
    while start < len(bounds) - 1:
        stop = int(np.searchsorted(bounds, bounds[start] + _CHUNK_EVENTS, side="right")) - 1
        stop = max(start + 1, stop)
        owners = np.repeat(np.arange(start, stop), np.diff(bounds[start : stop + 1]))
        yield _chunk(np.asarray(items[bounds[start] : bounds[stop]]), owners, max_lag, lag_power, backward)
        start = stop


def _chunk(
    items: npt.NDArray[Any], owners: npt.NDArray[Any], max_lag: int, lag_power: float, backward: float
) -> PairSums:
    firsts, seconds, histories, forward, back = [], [], [], [], []
    for lag in range(1, min(max_lag, len(items) - 1) + 1):
        earlier, later = items[:-lag], items[lag:]
        kept = (owners[:-lag] == owners[lag:]) & (earlier != later)
        if not kept.any():
            continue
        weight = lag**-lag_power
        firsts += [earlier[kept], later[kept]]
        seconds += [later[kept], earlier[kept]]
        histories += [owners[:-lag][kept]] * 2
        n = int(kept.sum())
        forward.append(np.full(n, round(UNIT * weight), np.int64))
        back.append(np.full(n, round(UNIT * weight * backward), np.int64))
    if not firsts:
        none = np.empty(0, np.int32)
        return PairSums(none, none, np.empty(0, np.int64), np.empty(0, np.int64))
    weights = np.concatenate([part for pair in zip(forward, back, strict=True) for part in pair])
    keys = np.concatenate(firsts).astype(np.int64) << 32 | np.concatenate(seconds).astype(np.int64)
    if _repeats(items, owners):
        keys, weights = _once_an_owner(keys, weights, np.concatenate(histories))
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    return PairSums(
        (ordered[begins] >> 32).astype(np.int32),
        (ordered[begins] & 0xFFFFFFFF).astype(np.int32),
        np.add.reduceat(weights[order], begins),
        np.diff(np.append(begins, len(ordered))),
    )


def _repeats(items: npt.NDArray[Any], owners: npt.NDArray[Any]) -> bool:
    """Return whether a history has an item twice."""
    return len(np.unique(owners.astype(np.int64) << 32 | items.astype(np.int64))) < len(items)


def _once_an_owner(
    keys: npt.NDArray[np.int64], weights: npt.NDArray[np.int64], owners: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each owner's pairs once, at the largest of their weights."""
    order = np.lexsort((-weights, keys, owners))
    keys, weights, owners = keys[order], weights[order], owners[order]
    is_first = np.concatenate([[True], (keys[1:] != keys[:-1]) | (owners[1:] != owners[:-1])])
    return keys[is_first], weights[is_first]
