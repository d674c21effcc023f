"""Users' scores from item neighbours: sum over the history of similarity x decay^age, the best k, and why."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.frames.known import histories
from lt_spark.frames.shards import Keeper, all_shards, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.kernels.edges import Edges, Parts, best_first, edges_of, weighted_sum

N_REASONS = 3
EDGES_PER_SHARD = 30_000_000
_SCHEMA = "user_idx int, item_idx int, score double, rank int, because array<struct<item_idx:int,share:double>>"
_EDGES = pa.schema([("item_idx", pa.int32()), ("neighbour_idx", pa.int32()), ("similarity", pa.float32())])


def neighbour_scores(
    histories: DataFrame, edges: DataFrame, n: int, decay: float, *, scratch: str, n_shards: int = 1
) -> DataFrame:
    """Return each user's n best items by neighbours of the history, with the items that speak for them.

    score(u, j) = sum over u's history items i of similarity(i, j) x decay^age(i), age 0 for the newest event (recency
    weighted item k-nearest-neighbours; Ludewig and Jannach 2018). Linear in events. Edges are written as files and
    read once a Python worker; above one shard each worker holds the edges towards one range of candidates.

    Args:
        histories: (user_idx, items array<int> oldest first, seen array<int> or null).
        edges: (item_idx, neighbour_idx, similarity).
        n: items a user.
        decay: in (0, 1].
        scratch: folder for the edges that the driver and every executor reach.
        n_shards: ranges of candidates.

    Returns:
        (user_idx, item_idx, score, rank, because): at most ``n`` rows a user; ties by item_idx.
    """
    graph = edges.select("item_idx", "neighbour_idx", F.col("similarity").cast("float").alias("similarity"))
    write_shards(graph, "neighbour_idx", n_shards, scratch)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from score_batch(batch, scratch, n, decay)

    asked = all_shards(histories.select("user_idx", "items", "seen"), n_shards)
    parts = spread(asked, "shard", "user_idx").sortWithinPartitions("shard").mapInArrow(score, _SCHEMA)
    if n_shards == 1:
        return parts
    by_score = Window.partitionBy("user_idx").orderBy(F.desc("score"), "item_idx")
    return parts.withColumn("rank", F.row_number().over(by_score)).where(F.col("rank") <= n)


def history_candidates(
    known_interactions: DataFrame,
    edges: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    *,
    max_history: int,
    decay: float,
    n: int,
    n_edges: int,
    scratch: str,
) -> DataFrame:
    """Return each user's best items by neighbours of the newest events, as :func:`neighbour_scores` gives them.

    Args:
        known_interactions: events of the fold.
        edges: (item_idx, neighbour_idx, similarity), of neighbours that may be recommended.
        users: (user_idx) who get candidates.
        seen: (user_idx, seen) items to leave out.
        max_history: newest events of a user that speak.
        decay: in (0, 1].
        n: items a user.
        n_edges: about how many edges there are at most, for the number of shards.
        scratch: folder for the edges, read by every executor.
    """
    own = histories(known_interactions.join(users, "user_idx", "left_semi"), max_history)
    n_shards = max(1, -(-n_edges // EDGES_PER_SHARD))
    return neighbour_scores(own.join(seen, "user_idx", "left"), edges, n, decay, scratch=scratch, n_shards=n_shards)


def score_batch(batch: pa.RecordBatch, folder: str, n: int, decay: float) -> Iterator[pa.RecordBatch]:
    """Score the users of one Arrow batch (user_idx, items, seen, shard)."""
    columns: dict[str, list[Any]] = {"user_idx": [], "item_idx": [], "score": [], "rank": [], "reasons": []}
    users = batch.column(0).to_numpy()
    shards = batch.column(3).to_numpy()
    for row in range(batch.num_rows):
        items = batch.column(1)[row].values.to_numpy()
        masked = batch.column(2)[row]
        seen = masked.values.to_numpy() if masked.is_valid else np.empty(0, np.int32)
        edges = _edges.get(folder, int(shards[row]))
        found, scores, reasons = best_items(edges, items, seen, n, decay)
        columns["user_idx"].append(np.full(len(found), users[row], np.int32))
        columns["item_idx"].append(found)
        columns["score"].append(scores)
        columns["rank"].append(np.arange(1, len(found) + 1, dtype=np.int32))
        columns["reasons"].extend(reasons)
    if batch.num_rows:
        because = pa.array(
            columns.pop("reasons"), pa.list_(pa.struct([("item_idx", pa.int32()), ("share", pa.float64())]))
        )
        arrays = [pa.array(np.concatenate(columns[name])) for name in ("user_idx", "item_idx", "score", "rank")]
        yield pa.RecordBatch.from_arrays([*arrays, because], ["user_idx", "item_idx", "score", "rank", "because"])


def best_items(
    edges: Edges, history: npt.NDArray[np.int32], seen: npt.NDArray[np.int32], n: int, decay: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], list[list[dict[str, Any]]]]:
    """Return one user's best items, their scores and what speaks for each.

    Args:
        edges: the neighbours.
        history: (h,) item_idx, oldest first; repeats count each time.
        seen: (s,) item_idx to leave out.
        n: items wanted.
        decay: weight of an event is decay^age.

    Returns:
        (m,) item_idx by score descending, then item_idx; (m,) scores; m lists of at most 3 (item_idx, share).
    """
    ages = np.arange(len(history) - 1, -1, -1)
    found = weighted_sum(edges, history, np.power(decay, ages))
    order = best_first(found.items, found.totals, seen, n)
    return found.items[order], found.totals[order], _reasons(order, found)


def _reasons(order: npt.NDArray[np.int64], found: Parts) -> list[list[dict[str, Any]]]:
    _, totals, inverse, parts, origins = found
    by_item = np.lexsort((origins, -parts, inverse))
    bounds = np.searchsorted(inverse[by_item], np.stack([order, order + 1]))
    reasons = []
    for low, high, item in zip(*bounds, order, strict=True):
        shares: dict[int, float] = {}
        for at in by_item[low:high]:
            shares[int(origins[at])] = shares.get(int(origins[at]), 0.0) + float(parts[at] / totals[item])
        best = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))[:N_REASONS]
        reasons.append([{"item_idx": origin, "share": share} for origin, share in best])
    return reasons


def _read(folder: str, shard: int) -> Edges:
    table = read_shard(folder, shard, _EDGES)
    return edges_of(*(table[name].to_numpy() for name in _EDGES.names))


_edges = Keeper(_read)
