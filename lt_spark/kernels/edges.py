"""Sparse products by numpy: what speaks for an item is summed over the weighted rows of a table of edges."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Edges:
    """A sparse matrix of similarities or weights, in compressed rows.

    Attributes:
        sources: (n_rows,) key of each row, ascending: an item_idx or a term's number.
        indptr: (n_rows + 1,) where each row's entries begin.
        neighbours: (n_edges,) item_idx of the entries.
        similarities: (n_edges,) similarity, float32.
    """

    sources: npt.NDArray[Any]
    indptr: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int32]
    similarities: npt.NDArray[np.float32]


class Parts(NamedTuple):
    """The terms of a weighted sum of rows, and their sums.

    Attributes:
        items: (m,) item_idx, ascending.
        totals: (m,) the sum of each item.
        inverse: (n_parts,) place in ``items`` that a term belongs to.
        parts: (n_parts,) the terms.
        origins: (n_parts,) key of the row that a term comes from.
    """

    items: npt.NDArray[np.int32]
    totals: npt.NDArray[np.float64]
    inverse: npt.NDArray[np.int64]
    parts: npt.NDArray[np.float64]
    origins: npt.NDArray[Any]


def edges_of(
    sources: npt.NDArray[Any], neighbours: npt.NDArray[np.int32], similarities: npt.NDArray[np.float32]
) -> Edges:
    """Compress rows of (source, neighbour, similarity), in any order."""
    order = np.argsort(sources, kind="stable")
    keys, counts = np.unique(sources, return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Edges(keys, indptr, neighbours[order], similarities[order])


def weighted_sum(edges: Edges, sources: npt.NDArray[Any], weights: npt.NDArray[np.float64]) -> Parts:
    """Return sum over the given rows of weight x row, with its terms.

    Args:
        edges: the matrix.
        sources: (h,) keys of rows; repeats count each time; a key without a row adds nothing.
        weights: (h,) the weight of each.
    """
    rows = np.searchsorted(edges.sources, sources)
    rows[rows == len(edges.sources)] = 0
    is_there = edges.sources[rows] == sources if len(edges.sources) else np.zeros(len(sources), bool)
    rows, origins, weights = rows[is_there], sources[is_there], weights[is_there]
    sizes = edges.indptr[rows + 1] - edges.indptr[rows] if len(rows) else np.empty(0, np.int64)
    n_parts = int(sizes.sum())
    if n_parts == 0:
        none = np.empty(0, np.int64)
        return Parts(np.empty(0, np.int32), np.empty(0, np.float64), none, np.empty(0, np.float64), none)
    starts = np.repeat(edges.indptr[rows] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
    at = np.arange(n_parts) + starts
    parts = edges.similarities[at].astype(np.float64) * np.repeat(weights, sizes)
    items, inverse = np.unique(edges.neighbours[at], return_inverse=True)
    totals = np.bincount(inverse, weights=parts, minlength=len(items)).astype(np.float64)
    return Parts(items, totals, inverse, parts, np.repeat(origins, sizes))


def best_first(
    items: npt.NDArray[np.int32], totals: npt.NDArray[np.float64], masked: npt.NDArray[Any], n: int
) -> npt.NDArray[np.int64]:
    """Return the places of the n best items by total descending, then item_idx; those in ``masked`` are left out."""
    order = np.lexsort((items, -totals))
    best: npt.NDArray[np.int64] = order[~np.isin(items, masked)[order]][:n]
    return best
