"""Tables shipped to executors as files: written by Spark in shards, read once a Python worker."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.files import Folder

T = TypeVar("T")
_FLAVOR = ds.partitioning(pa.schema([("shard", pa.int32())]), flavor="hive")


def write_shards(rows: DataFrame, key: str, n_shards: int, folder: str) -> None:
    """Write rows as Parquet under ``folder``, a file a shard; a row's shard is a hash of its key.

    Neither the driver nor a task's closure ever carries the rows.
    """
    shard = F.pmod(F.xxhash64(key), F.lit(n_shards)).cast("int")
    sharded = rows.withColumn("shard", shard).repartition(n_shards, "shard")
    sharded.write.mode("overwrite").partitionBy("shard").parquet(folder)


def all_shards(rows: DataFrame, n_shards: int) -> DataFrame:
    """Return each row once for every shard, with the column ``shard``."""
    if n_shards == 1:
        return rows.withColumn("shard", F.lit(0))
    shards = rows.sparkSession.range(n_shards).select(F.col("id").cast("int").alias("shard"))
    return rows.crossJoin(F.broadcast(shards))


def read_shard(folder: str, shard: int, schema: pa.Schema) -> pa.Table:
    """Read a shard's rows; a shard without any gives an empty table of the schema."""
    files, path = Folder(folder).opened()
    table = ds.dataset(path, filesystem=files, format="parquet", partitioning=_FLAVOR)
    if not set(schema.names) <= set(table.schema.names):  # nothing but _SUCCESS was written
        return schema.empty_table()
    rows = table.to_table(columns=schema.names, filter=ds.field("shard") == shard)
    return rows.combine_chunks() if rows.num_rows else schema.empty_table()


class Keeper(Generic[T]):
    """Keeps the newest thing that a Python worker read: one shard of one stage at a time."""

    def __init__(self, read: Callable[[str, int], T]) -> None:
        """Bind the function that reads a shard of a folder."""
        self._read = read
        self._kept: dict[tuple[str, int], Any] = {}

    def get(self, folder: str, shard: int) -> T:
        """Return the shard, read where it is not the one kept."""
        if (folder, shard) not in self._kept:
            self._kept.clear()
            self._kept[folder, shard] = self._read(folder, shard)
        kept: T = self._kept[folder, shard]
        return kept
