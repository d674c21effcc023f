"""Dense integer ids that stay the same over runs."""

from itertools import accumulate

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

_BUCKET_ROWS = 500_000
_MAX_BUCKETS = 256
"""Above 128 million new ids the ranges grow, and not their number, for the driver holds them."""
_SAMPLES_PER_BUCKET = 40


def _bucket_bounds(new: DataFrame, id_column: str, n_new: int, n_buckets: int) -> list[str]:
    """Return ids that cut the sorted new ids into about ``n_buckets`` equal ranges, from a sample of bounded size."""
    every = max(1, n_new // (n_buckets * _SAMPLES_PER_BUCKET))
    sample = new.filter(F.pmod(F.xxhash64(id_column), F.lit(every)) == 0).select(
        F.substring(id_column, 1, 64).alias("s")
    )
    # some forty rows a range
    starts = sorted({row["s"] for row in sample.collect()}, key=lambda text: text.encode())
    cuts = {starts[len(starts) * i // n_buckets] for i in range(1, n_buckets)} if starts else set()
    return sorted(cuts, key=lambda text: text.encode())


def _bucket(id_column: str, bounds: list[str]) -> Column:
    """Return the number of bounds that are not above the id."""
    if not bounds:
        return F.lit(0)
    return F.size(F.filter(F.array(*map(F.lit, bounds)), lambda bound: bound <= F.col(id_column)))


def dense_ids(
    keys: DataFrame,
    id_column: str,
    idx_column: str,
    previous: DataFrame | None,
    *,
    bucket_rows: int = _BUCKET_ROWS,
) -> DataFrame:
    """Number the ids densely; what had a number keeps it, new ids follow in the byte order of the id.

    The result does not depend on partitioning or row order: a new id's number is its rank among the new ids. Above
    ``bucket_rows`` the rank is the rank within a range of ids plus the sizes of the ranges before it (counted, one
    row a range, at most 256 of them), so that no task sorts all ids. Runs one small Spark job, three when there are
    many new ids.

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
    n_buckets = min(-(-n_new // bucket_rows), _MAX_BUCKETS)
    bounds = _bucket_bounds(new, id_column, n_new, n_buckets) if n_buckets > 1 else []
    bucketed = new.withColumn("_bucket", _bucket(id_column, bounds))
    # a row a range
    sizes = {row["_bucket"]: row["n"] for row in bucketed.groupBy("_bucket").agg(counts).collect()} if bounds else {}
    offsets = list(accumulate((sizes.get(bucket, 0) for bucket in range(len(bounds))), initial=first))
    offset = F.element_at(F.array(*map(F.lit, offsets)), F.col("_bucket") + 1)
    rank = F.row_number().over(Window.partitionBy("_bucket").orderBy(id_column))
    numbered = bucketed.select((offset + rank - 1).cast("int").alias(idx_column), id_column)
    return numbered if previous is None else previous.unionByName(numbered)
