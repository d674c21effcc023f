"""Exact top-k by inner product on Spark: items lie in files that each executor reads once."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.frames.spread import spread
from lt_spark.kernels import topk

_SCHEMA = "user_idx int, item_idx int, score double, rank int"
_SHARD_ITEMS = 200_000
_cache: dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = {}


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
    shard = F.pmod(F.xxhash64("item_idx"), F.lit(n_shards)).cast("int")
    vectors = items.select("item_idx", F.col("vector").cast("array<float>").alias("vector"), shard.alias("shard"))
    vectors.repartition(n_shards, "shard").write.mode("overwrite").partitionBy("shard").parquet(scratch)

    def score(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from score_batch(batch, scratch, k)

    asked = users.where(F.col("vector").isNotNull()).select(
        "user_idx", F.col("vector").cast("array<float>").alias("vector"), "seen"
    )
    if n_shards == 1:
        return spread(asked, "user_idx").withColumn("shard", F.lit(0)).mapInArrow(score, _SCHEMA)
    shards = users.sparkSession.range(n_shards).select(F.col("id").cast("int").alias("shard"))
    parts = (
        spread(asked.crossJoin(F.broadcast(shards)), "shard", "user_idx")
        .sortWithinPartitions("shard")
        .mapInArrow(score, _SCHEMA)
    )
    best_first = Window.partitionBy("user_idx").orderBy(F.desc("score"), "item_idx")
    return parts.withColumn("rank", F.row_number().over(best_first)).where(F.col("rank") <= k)


def score_batch(batch: pa.RecordBatch, folder: str, k: int) -> Iterator[pa.RecordBatch]:
    """Score the users of one Arrow batch (user_idx, vector, seen, shard) against their shards."""
    shards = batch.column(3).to_numpy()
    for shard in np.unique(shards):
        rows = batch.filter(pa.array(shards == shard))
        items, vectors = load_vectors(folder, int(shard))
        size = vectors.shape[1]
        lengths = rows.column(1).value_lengths().to_numpy()
        rows = rows.filter(pa.array(lengths == size))
        if not rows.num_rows or not len(items):
            continue
        queries = rows.column(1).flatten().to_numpy().reshape(-1, size)
        positions, scores = topk.top_k(queries, items=vectors, k=k, masked=_positions(rows.column(2), items))
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


def load_vectors(folder: str, shard: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return a shard's item_idx (n,), ascending, and vectors (n, d), read once a Python worker."""
    path = f"{folder}/shard={shard}"
    if path not in _cache:
        _cache.clear()  # one shard of one stage at a time
        _cache[path] = _read(folder, shard)
    return _cache[path]


def _read(folder: str, shard: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    # the folder holds _SUCCESS alone where there is no item at all
    table = ds.dataset(
        folder, format="parquet", partitioning=ds.partitioning(pa.schema([("shard", pa.int32())]), flavor="hive")
    )
    if "vector" not in table.schema.names:
        return np.empty(0, np.int32), np.empty((0, 0), np.float32)
    rows = table.to_table(columns=["item_idx", "vector"], filter=ds.field("shard") == shard).combine_chunks()
    if rows.num_rows == 0:
        return np.empty(0, np.int32), np.empty((0, 0), np.float32)
    items = rows["item_idx"].to_numpy()
    vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(items), -1)
    order = np.argsort(items)
    return items[order], np.ascontiguousarray(vectors[order])


def _positions(seen: Any, items: npt.NDArray[np.int32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Turn lists of item_idx into CSR positions in ``items``; items that are not there are dropped."""
    lengths = np.nan_to_num(seen.value_lengths().to_numpy(zero_copy_only=False).astype(float)).astype(np.int64)
    flat = seen.flatten().to_numpy()
    at = np.minimum(np.searchsorted(items, flat), len(items) - 1)
    is_there = items[at] == flat
    row = np.repeat(np.arange(len(lengths)), lengths)[is_there]
    counts = np.bincount(row, minlength=len(lengths))
    return np.concatenate([[0], np.cumsum(counts)]), at[is_there]
