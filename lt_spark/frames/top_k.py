"""Exact top-k by inner product on Spark: items lie in files that each executor reads once."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.frames.shards import Keeper, all_shards, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.kernels import topk

_SCHEMA = "user_idx int, item_idx int, score double, rank int"
_VECTORS = pa.schema([("item_idx", pa.int32()), ("vector", pa.list_(pa.float32()))])
_SHARD_ITEMS = 200_000


def top_k(
    users: DataFrame, items: DataFrame, k: int, *, scratch: str, shard_items: int = _SHARD_ITEMS, n_items: int = 1
) -> DataFrame:
    """Return each user's k items of largest inner product, exactly.

    Spark writes the item vectors as Parquet under ``scratch``; a Python worker reads a shard once and keeps it, so that
    neither the driver nor a task's closure carries them. Above ``shard_items`` items, every user is scored against each
    shard and the shards' lists are merged.

    Args:
        users: (user_idx int, vector array<float>, seen array<int> or null: items to leave out).
        items: (item_idx int, vector array<float>); items that may not be recommended are not in it.
        k: items a user.
        scratch: folder that the driver and every executor reach, this call's alone.
        shard_items: items a shard.
        n_items: about how many items there are (for the number of shards).

    Returns:
        (user_idx, item_idx, score double, rank from 1): at most ``k`` rows a user, by score descending, then item_idx;
        NaN scores are never ranked; users without a vector, or with one of another length, have no rows.
    """
    n_shards = max(1, -(-n_items // shard_items))
    vectors = items.select("item_idx", F.col("vector").cast("array<float>").alias("vector"))
    write_shards(vectors, "item_idx", n_shards, scratch)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from score_batch(batch, scratch, k)

    asked = all_shards(
        users.where(F.col("vector").isNotNull()).select(
            "user_idx", F.col("vector").cast("array<float>").alias("vector"), "seen"
        ),
        n_shards,
    )
    parts = spread(asked, "shard", "user_idx").sortWithinPartitions("shard", "user_idx").mapInArrow(score, _SCHEMA)
    if n_shards == 1:
        return parts
    best_first = Window.partitionBy("user_idx").orderBy(F.desc("score"), "item_idx")
    return parts.withColumn("rank", F.row_number().over(best_first)).where(F.col("rank") <= k)


def score_batch(batch: pa.RecordBatch, folder: str, k: int) -> Iterator[pa.RecordBatch]:
    """Score the users of one Arrow batch (user_idx, vector, seen, shard) against their shards."""
    shards = batch.column(3).to_numpy()
    for shard in np.unique(shards):
        rows = batch.filter(pa.array(shards == shard))
        items, vectors, first = _vectors.get(folder, int(shard))
        size = vectors.shape[1]
        lengths = rows.column(1).value_lengths().to_numpy()
        rows = rows.filter(pa.array(lengths == size))
        if not rows.num_rows or not len(items):
            continue
        queries = rows.column(1).flatten().to_numpy().reshape(-1, size)
        masked = _positions(rows.column(2), items)
        positions, scores = topk.top_k(queries, items=vectors, k=k, masked=masked, first=first)
        row, place = np.nonzero(positions >= 0)
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(rows.column(0).to_numpy()[row], pa.int32()),
                pa.array(items[positions[row, place]], pa.int32()),
                pa.array(scores[row, place].astype(np.float64)),
                pa.array((place + 1).astype(np.int32)),
            ],
            ["user_idx", "item_idx", "score", "rank"],
        )


def _read(folder: str, shard: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return a shard's item_idx (n,), ascending, vectors (n, d), and the first place (n,) of each vector."""
    rows = read_shard(folder, shard, _VECTORS)
    if rows.num_rows == 0:
        return np.empty(0, np.int32), np.empty((0, 0), np.float32), np.empty(0, np.int64)
    items = rows["item_idx"].to_numpy()
    vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(items), -1)
    order = np.argsort(items)
    vectors = np.ascontiguousarray(vectors[order])
    return items[order], vectors, topk.first_equal(vectors)


_vectors = Keeper(_read)


def _positions(seen: Any, items: npt.NDArray[np.int32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Turn lists of item_idx into CSR positions in ``items``; items that are not there are dropped."""
    lengths = np.nan_to_num(seen.value_lengths().to_numpy(zero_copy_only=False).astype(float)).astype(np.int64)
    flat = seen.flatten().to_numpy()
    at = np.minimum(np.searchsorted(items, flat), len(items) - 1)
    is_there = items[at] == flat
    row = np.repeat(np.arange(len(lengths)), lengths)[is_there]
    counts = np.bincount(row, minlength=len(lengths))
    return np.concatenate([[0], np.cumsum(counts)]), at[is_there]
