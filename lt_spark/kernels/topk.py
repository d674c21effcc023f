"""Exact top-k by inner product, in blocks, for one shard of items and over shards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Csr = tuple[npt.NDArray[Any], npt.NDArray[Any]]

_MAX_BLOCK_SCORES = 2**25
"""Scores held at once: 128 MiB of float32, however many items there are."""
_GROUPS_PER_K = 2.5
"""Groups of items whose maxima bound the k-th best score, as a multiple of k."""
_CROWDED = 8
"""A query with more than this multiple of k candidates (ties) is cut before the sort."""


def top_k(
    queries: Floats,
    items: Floats,
    k: int,
    *,
    masked: Csr | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    first: npt.NDArray[np.int64] | None = None,
    block: int = 256,
) -> tuple[Ints, Floats]:
    """Find the k items of largest inner product with each query, exactly.

    A block of scores is one matrix product. Instead of sorting it, the maxima of about 2.5 k groups of items are taken:
    k of them are at least as large as the k-th largest maximum, so that one is a lower bound of the k-th best score,
    and only what reaches it is sorted.

    Args:
        queries: (n_queries, d) float32.
        items: (n_items, d) float32.
        k: items wanted a query, at least 0; may exceed n_items.
        masked: CSR ``indptr`` (n_queries + 1,) and ``indices`` in [0, n_items): the items left out for each query.
        allowed: (n_items,) whether the item may be ranked at all.
        first: (n_items,) as :func:`first_equal` gives it. A matrix product rounds by the place of a column, so that
            without it equal items may differ in the last bit, and stand in any order.
        block: queries scored at once; fewer where the items are many.

    Returns:
        Positions (n_queries, k) int32 and scores (n_queries, k) float32, by score descending, equal scores by ascending
        position (at the cut too). Where fewer than k items remain, -1 and -inf. Scores of NaN and -inf are not ranked.
    """
    n_queries, n_items = queries.shape[0], items.shape[0]
    positions = np.full((n_queries, k), -1, dtype=np.int32)
    best = np.full((n_queries, k), -np.inf, dtype=np.float32)
    if k == 0 or n_items == 0:
        return positions, best
    forbidden = None if allowed is None else np.flatnonzero(~np.asarray(allowed, dtype=np.bool_))
    later = np.empty(0, np.int64) if first is None else np.flatnonzero(first != np.arange(n_items))
    transposed = np.ascontiguousarray(items, dtype=np.float32).T
    rows = max(1, min(block, _MAX_BLOCK_SCORES // n_items))
    buffer = np.empty((min(rows, max(n_queries, 1)), n_items), dtype=np.float32)
    for start in range(0, n_queries, rows):
        stop = min(start + rows, n_queries)
        scores = buffer[: stop - start]
        with np.errstate(invalid="ignore", over="ignore"):
            np.matmul(np.asarray(queries[start:stop], dtype=np.float32), transposed, out=scores)
        if first is not None and later.size:
            scores[:, later] = scores[:, first[later]]
        if forbidden is not None:
            scores[:, forbidden] = -np.inf
        if masked is not None:
            indptr, indices = masked
            row = np.repeat(np.arange(stop - start), np.diff(indptr[start : stop + 1]))
            scores[row, indices[indptr[start] : indptr[stop]]] = -np.inf
        _rank_block(scores, k, positions[start:stop], best[start:stop])
    return positions, best


def first_equal(items: Floats) -> npt.NDArray[np.int64]:
    """Return (n_items,) the position of the first item with the same vector, its own where there is none before it.

    Args:
        items: (n_items, d) float32.
    """
    if items.size == 0:
        return np.arange(len(items))
    rows = np.ascontiguousarray(items).view(np.dtype((np.void, items.dtype.itemsize * items.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def merge_top_k(positions: Sequence[Ints], scores: Sequence[Floats], k: int) -> tuple[Ints, Floats]:
    """Merge the answers of :func:`top_k` over several shards of items.

    Args:
        positions: one (n_queries, k_shard) array a shard, of positions in the whole catalogue; -1 where there is none.
        scores: the scores beside them.
        k: items wanted a query.

    Returns:
        As :func:`top_k`, in the same order.

    Raises:
        ValueError: where there is no shard.
    """
    all_positions = np.concatenate(list(positions), axis=1)
    all_scores = np.concatenate(list(scores), axis=1).astype(np.float32, copy=True)
    all_scores[(all_positions < 0) | np.isnan(all_scores)] = -np.inf
    order = np.lexsort((all_positions, -all_scores), axis=-1)[:, :k]
    n_queries, width = order.shape
    merged = np.full((n_queries, k), -1, dtype=np.int32)
    best = np.full((n_queries, k), -np.inf, dtype=np.float32)
    best[:, :width] = np.take_along_axis(all_scores, order, axis=1)
    merged[:, :width] = np.take_along_axis(all_positions, order, axis=1)
    merged[np.isneginf(best)] = -1
    return merged, best


def _rank_block(scores: Floats, k: int, positions: Ints, best: Floats) -> None:
    """Write the top k of each row of ``scores`` (rows, n_items) into ``positions`` and ``best`` (rows, k)."""
    bound = _lower_bound(scores, k)
    # NaN compares false, and -inf is never above the least float
    row, position = np.nonzero(scores >= bound[:, None])
    value = scores[row, position]
    counts = np.bincount(row, minlength=scores.shape[0])
    if counts.max(initial=0) > _CROWDED * k:
        kept = _thin(value, counts, k)
        row, position, value = row[kept], position[kept], value[kept]
        counts = np.bincount(row, minlength=scores.shape[0])
    width = int(counts.max(initial=0))
    if width == 0:
        return
    slot = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    negated = np.full((scores.shape[0], width), np.inf, dtype=np.float32)
    negated[row, slot] = -value
    columns = np.full((scores.shape[0], width), -1, dtype=np.int32)
    columns[row, slot] = position
    # candidates lie by ascending position, so that a stable sort settles ties
    order = np.argsort(negated, axis=1, kind="stable")[:, :k]
    taken = order.shape[1]
    positions[:, :taken] = np.take_along_axis(columns, order, axis=1)
    best[:, :taken] = -np.take_along_axis(negated, order, axis=1)


def _lower_bound(scores: Floats, k: int) -> Floats:
    """Return (rows,) scores that at least k items of the row reach, or the least float where that is not known."""
    n_rows, n_items = scores.shape
    least = np.finfo(np.float32).min
    n_groups = int(np.ceil(_GROUPS_PER_K * k))
    size = n_items // n_groups
    if size < 2:
        return np.full(n_rows, least, dtype=np.float32)
    groups = scores[:, : size * n_groups].reshape(n_rows, size, n_groups)
    # fmax ignores NaN; a group of only NaN bounds nothing
    maxima = np.nan_to_num(np.fmax.reduce(groups, axis=1), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    kth = np.partition(maxima, n_groups - k, axis=1)[:, n_groups - k]
    return np.asarray(np.maximum(kth, least), dtype=np.float32)


def _thin(value: Floats, counts: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.bool_]:
    """Keep the first k of ``value`` by (score descending, position) of each row with many ties, and all of the others.

    Args:
        value: (n,) scores of the candidates, row after row, by ascending position.
        counts: (rows,) candidates of each row.
        k: items wanted a row.
    """
    kept = np.ones(value.size, dtype=np.bool_)
    stops = np.cumsum(counts)
    for row in np.flatnonzero(counts > _CROWDED * k):
        part = value[stops[row] - counts[row] : stops[row]]
        kth = np.partition(part, part.size - k)[part.size - k]
        keep = part > kth
        ties = np.flatnonzero(part == kth)
        keep[ties[: k - np.count_nonzero(keep)]] = True
        kept[stops[row] - counts[row] : stops[row]] = keep
    return kept
