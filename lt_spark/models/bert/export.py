"""Windows as Parquet files that training processes read without Spark: pinned to a version, counted, removed after."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from lt_spark.core.errors import LtSparkError, StorageError
from lt_spark.core.files import Folder
from lt_spark.core.storage import Storage
from lt_spark.core.tables import Table
from lt_spark.models.bert.manifest import COLUMNS, MANIFEST, SCHEMA_HASH, Manifest, Shard, read_manifest

__all__ = ["Manifest", "Shard", "export", "missing_version", "read_manifest", "read_pinned", "remove_old", "run_scoped"]

ROWS_A_GROUP = 2_048
"""About how many rows a row group has, the unit that a loader reads and shuffles: of length 100 about 2.5 MB."""
_BYTES_A_PLACE = 12  # item, order and weight before they are encoded
_ROWS = "rows"
_GONE = (
    "DELTA_VERSION_NOT_FOUND",
    "DELTA_LOG_FILE_NOT_FOUND",
    "DELTA_TRUNCATED_TRANSACTION_LOG",
    "DELTA_FILE_NOT_FOUND",
    "Cannot time travel Delta table",
    "FILE_NOT_EXIST",
    "FileNotFoundException",
)
_MAX_CAUSES = 20


def export(
    rows: DataFrame,
    folder: Folder | str,
    *,
    n_shards: int,
    length: int,
    table: str,
    version: int,
    fold: str,
    n_items: int,
    seed: int,
) -> Manifest:
    """Write windows as Parquet, a file a shard, and their manifest last. Starts one Spark job.

    A row's shard is ``user_idx mod n_shards``; within a shard rows lie in the order of a hash of the seed and the
    row's key. A second export of the same rows is the same, whatever the folder held of an export before.

    Args:
        rows: of ``windows()``.
        folder: where, empty or marked as lt_spark's own.
        n_shards: files, at least 1.
        length: of the windows.
        table: name of the table that the rows were made of, for the manifest.
        version: its Delta version.
        fold: valid, test or live.
        n_items: items are numbered 0 to ``n_items - 1``.
        seed: seed of the order.

    Returns:
        The manifest as it was written.

    Raises:
        StorageError: where the folder is somebody else's, or the files hold other rows than Spark wrote.
    """
    folder = Folder(folder) if isinstance(folder, str) else folder
    folder.mark(time.time())
    folder.remove_file(MANIFEST)
    counted = Observation()
    n_targets = F.size(F.filter("items", lambda item: item >= 0)) - 1
    columns = [F.col(name).cast(kind).alias(name) for name, kind in COLUMNS.items()]
    out = (
        rows.select(*columns, F.pmod("user_idx", F.lit(n_shards)).cast("int").alias("shard"))
        .repartition(n_shards, "shard")
        # after the shuffle, where a task that runs twice is counted once
        .observe(counted, F.count(F.lit(1)).alias("n_rows"), F.sum(n_targets).alias("n_events"))
        .sortWithinPartitions("shard", F.xxhash64(F.lit(seed), "user_idx", "window"), "user_idx", "window")
    )
    writer = out.write.mode("overwrite").partitionBy("shard")
    for name, value in (
        ("maxRecordsPerFile", 0),
        # Parquet knows no limit in rows before version 1.16
        ("parquet.block.size", ROWS_A_GROUP * _BYTES_A_PLACE * (length + 1)),
        ("compression", "zstd"),
    ):
        writer = writer.option(name, value)
    writer.parquet(folder.child(_ROWS).uri)
    shards = tuple(_shard(folder, number) for number in range(n_shards))
    n_rows = int(counted.get["n_rows"])
    n_found = sum(shard.n_rows for shard in shards)
    if n_found != n_rows:
        raise StorageError(
            f"the export in {folder.uri} is not whole: expected the {n_rows} rows that Spark wrote, found {n_found} in "
            "the files. Look for a second writer in files.root, and run again."
        )
    n_events = int(counted.get["n_events"] or 0)
    manifest = Manifest(table, version, fold, length, n_items, n_rows, n_events, SCHEMA_HASH, shards)
    folder.write(MANIFEST, manifest.to_json().encode())
    return manifest


def _shard(folder: Folder, number: int) -> Shard:
    """Return a shard with the row count of its footer."""
    within = folder.child(_ROWS).child(f"shard={number}")
    names = [name for name in within.names() if name.endswith(".parquet")]
    if not names:
        return Shard("", 0)
    if len(names) > 1:
        raise StorageError(f"{within.uri} holds {len(names)} files: expected 1, as Spark writes it. Export again.")
    try:
        with within.filesystem.open_input_file(names[0]) as file:
            n_rows = int(pq.ParquetFile(file).metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{names[0]} in {within.uri} is no whole Parquet file: {error}. Run the same command again."
        ) from error
    return Shard(f"{_ROWS}/shard={number}/{names[0]}", n_rows)


def read_pinned(spark: SparkSession, storage: Storage, table: Table, version: int, fold: str) -> DataFrame:
    """Read one fold of a table as it was at a version.

    Files that VACUUM took are missed only when the rows are read: do that within ``missing_version``.

    Raises:
        StorageError: where the version is gone from the table's log.
    """
    reader = spark.read.option("versionAsOf", version)
    location = storage.location(table)
    with missing_version(table.full_name, version):
        is_name = not location.startswith("/") and ":/" not in location
        rows = reader.table(location) if is_name else reader.format("delta").load(location)
        return rows.where(F.col("fold") == fold)


@contextmanager
def missing_version(table: str, version: int) -> Iterator[None]:
    """Turn the errors of Spark and Delta for a version that is gone into one that says so.

    Args:
        table: name of the table.
        version: the version that is read inside.

    Raises:
        StorageError: where the version, or a file of it, is gone.
    """
    try:
        yield
    except LtSparkError:
        raise
    except Exception as error:  # Spark's, Delta's or the gateway's, of many classes
        if not any(sign in text for text in _texts(error) for sign in _GONE):
            raise
        raise StorageError(
            f"version {version} of {table} can no longer be read: expected its log and data files, found that some are "
            "gone (VACUUM or log retention took them, or the table was made anew). Run the stage again: it pins the "
            "newest version. To keep versions longer set delta.deletedFileRetentionDuration of the table."
        ) from error


def _texts(error: BaseException) -> Iterator[str]:
    """Yield what an error and its causes say, Java's included."""
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            return
        yield f"{type(current).__name__}: {current}"
        current = current.__cause__


def remove_old(root: Folder, max_age_s: float, now: float) -> list[str]:
    """Remove the folders directly in ``root`` that lt_spark marked as its own and that are older than ``max_age_s``.

    Args:
        root: where exports lie.
        max_age_s: age above which a folder is removed, in seconds.
        now: seconds since 1970 (UTC).

    Returns:
        Names of the folders removed, sorted.
    """
    removed = []
    for name in root.names():
        created = root.child(name).marked_at()
        if created is not None and now - created > max_age_s:
            root.child(name).remove()
            removed.append(name)
    return removed


@contextmanager
def run_scoped(root: Folder, name: str) -> Iterator[Folder]:
    """Give an empty folder of lt_spark's own that is removed at the end, whatever happens.

    Args:
        root: where it lies.
        name: its name, of this run alone; what an earlier try left there is removed first.

    Raises:
        StorageError: where the folder is somebody else's, or cannot be removed.
    """
    folder = root.child(name)
    if folder.names():
        folder.remove()
    folder.mark(time.time())
    try:
        yield folder
    except BaseException:
        with suppress(StorageError):  # the first error is the one to tell; remove_old takes the folder later
            folder.remove()
        raise
    folder.remove()
