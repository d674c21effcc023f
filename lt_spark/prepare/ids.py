"""Dense integer ids that stay the same over runs."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_MAX_BUCKET_ROWS = 500_000
_SAMPLES_PER_BUCKET = 40


def _bucket_bounds(new: DataFrame, id_column: str, n_new: int, bucket_rows: int) -> list[str]:
    """Return ids that cut the sorted new ids into ranges of about ``bucket_rows``; a bounded sample is collected."""
    n_buckets = -(-n_new // bucket_rows)
    every = max(1, n_new // (n_buckets * _SAMPLES_PER_BUCKET))
    sample = new.filter(F.pmod(F.xxhash64(id_column), F.lit(every)) == 0).select(
        F.substring(id_column, 1, 64).alias("s")
    )
    starts = sorted({row["s"] for row in sample.collect()}, key=lambda text: text.encode())
    return sorted({starts[len(starts) * i // n_buckets] for i in range(1, n_buckets)}, key=lambda text: text.encode())


def _bucket(id_column: str, bounds: list[str]) -> Column:
    bucket = F.lit(0)
    for bound in bounds:
        bucket = bucket + F.when(F.col(id_column) >= F.lit(bound), 1).otherwise(0)
    return bucket


def dense_ids(
    keys: DataFrame,
    id_column: str,
    idx_column: str,
    previous: DataFrame | None,
    *,
    bucket_rows: int = _MAX_BUCKET_ROWS,
) -> DataFrame:
    """Number the ids densely; what had a number keeps it, new ids follow in the byte order of the id.

    The result does not depend on partitioning or row order: a new id's number is its rank among the new ids. Above
    ``bucket_rows`` the rank is the rank within a range of ids plus the sizes of the ranges before it (counted, one
    row a range), so that no task sorts all ids. Runs one small Spark job, three when there are many new ids.

    Args:
        keys: has ``id_column``; repeats are taken once, nulls left out.
        id_column: name of the external id.
        idx_column: name of the number.
        previous: the same two columns from the last run, or None.
        bucket_rows: about the most new ids that one task sorts.

    Returns:
        ``idx_column`` int from 0, ``id_column``: all previous rows and the new ones.
    """
    new = keys.select(id_column).filter(F.col(id_column).isNotNull()).distinct()
    counts = F.count(F.lit(1)).alias("n")
    first = 0
    if previous is not None:
        previous = previous.select(idx_column, id_column)
        new = new.join(previous.select(id_column), id_column, "left_anti")
        last = previous.agg(F.max(idx_column).alias("last"))
        summary = new.agg(counts).crossJoin(last).first()
        first = 0 if summary is None or summary["last"] is None else summary["last"] + 1
    else:
        summary = new.agg(counts).first()
    n_new = 0 if summary is None else summary["n"]
    bounds = _bucket_bounds(new, id_column, n_new, bucket_rows) if n_new > bucket_rows else []
    bucketed = new.withColumn("_bucket", _bucket(id_column, bounds))
    offsets = {0: first}
    if bounds:
        sizes = {row["_bucket"]: row["n"] for row in bucketed.groupBy("_bucket").agg(counts).collect()}
        for bucket in range(1, len(bounds) + 1):
            offsets[bucket] = offsets[bucket - 1] + sizes.get(bucket - 1, 0)
    offset = F.lit(None).cast("int")
    for bucket, start in offsets.items():
        offset = F.when(F.col("_bucket") == bucket, F.lit(start)).otherwise(offset)
    rank = F.row_number().over(Window.partitionBy("_bucket").orderBy(id_column))
    numbered = bucketed.select((offset + rank - 1).cast("int").alias(idx_column), id_column)
    return numbered if previous is None else previous.unionByName(numbered)
