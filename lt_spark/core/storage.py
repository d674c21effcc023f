"""All reading and writing of Delta tables and of the files beside them."""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delta.tables import DeltaTable
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import LtSparkError, StorageError
from lt_spark.core.names import quoted, table_name
from lt_spark.core.session import is_connect
from lt_spark.core.versions import observes_delta

_PROPERTIES = {
    "delta.enableDeletionVectors": "false",
    "delta.checkpointPolicy": "classic",
    "delta.columnMapping.mode": "none",
    "lt_spark.schemaVersion": str(t.SCHEMA_VERSION),
}
_FULL_DISK = ("No space left on device", "Disk quota exceeded")
_NO_TABLE = ("PATH_NOT_FOUND", "DELTA_TABLE_NOT_FOUND", "DELTA_PATH_DOES_NOT_EXIST")
_MARKER = "_lt_spark_scratch"
_COMMIT = threading.Lock()
"""Held while the session says what commits carry: it says so for all its threads."""
_OF_DELTA = ("part-", ".", "_")
"""How the names of data files begin that a write leaves which did not reach its commit."""


class Storage:
    """Delta tables under a root or in a catalog, and scratch folders under ``files.root``.

    Every write is one Delta transaction. Tables keep reader protocol 1 (no deletion vectors, no column mapping), so
    that delta-rs, DuckDB and old Spark read them.
    """

    def __init__(self, spark: SparkSession, config: Config, run_id: str = "") -> None:
        """Bind the storage to a session and a configuration; ``run_id`` goes into each commit's metadata."""
        self.spark = spark
        self.run_id = run_id
        self._tables = config.tables
        self._root = absolute(config.tables.root)
        self._files_root = absolute(config.files.root)
        self._created: set[str] = set()

    def location(self, table: t.Table) -> str:
        """Return the table's path, or its quoted three-level name in catalog mode."""
        schema = self._tables.silver_schema if table.layer == "silver" else self._tables.gold_schema
        if self._tables.catalog:
            return table_name(self._tables.catalog, schema, table.name)
        return f"{self._root}/{schema}/{table.name}"

    def exists(self, table: t.Table) -> bool:
        """Tell whether the table is there."""
        if self._tables.catalog:
            return self.spark.catalog.tableExists(self.location(table))
        if is_connect(self.spark):
            return self._opens(table)
        return DeltaTable.isDeltaTable(self.spark, self.location(table))

    def _opens(self, table: t.Table) -> bool:
        """Tell whether there is a table, by reading its schema: Delta's own answer needs a plugin on the server."""
        try:
            _ = self.spark.read.format("delta").load(self.location(table)).schema
        except AnalysisException as error:
            if error.getCondition() in _NO_TABLE:
                return False
            raise
        return True

    def read(self, table: t.Table, fold: str | None = None) -> DataFrame:
        """Read a table, or one fold of it.

        Raises:
            StorageError: where it is not there, or its columns are not those of this version.
        """
        try:
            if self._tables.catalog:
                rows = self.spark.read.table(self.location(table))
            else:
                rows = self.spark.read.format("delta").load(self.location(table))
            found = rows.columns
        except AnalysisException as error:
            if "protocol" in str(error).lower():
                raise StorageError(
                    f"{table.full_name} at {self.location(table)} needs a newer Delta reader than this session has. "
                    f"Upgrade delta-spark, or choose another tables.root."
                ) from error
            raise StorageError(
                f"{table.full_name} is not at {self.location(table)}. Run the stage that writes it first: "
                f"`lt-spark stages` names it."
            ) from error
        if found != table.column_names:
            raise StorageError(
                f"{table.full_name} at {self.location(table)} has other columns than this version writes: expected "
                f"{table.column_names}, found {found}. Set tables.root to a new folder, or move the old one away."
            )
        return rows if fold is None or not table.folded else rows.where(F.col("fold") == fold)

    def read_or_empty(self, table: t.Table, fold: str | None = None) -> DataFrame:
        """Read a table, or an empty one of its schema where it is not there yet."""
        if self.exists(table):
            return self.read(table, fold)
        return self.spark.createDataFrame([], table.schema)

    def write(self, table: t.Table, rows: DataFrame, fold: str | None = None, stage_key: str = "") -> int:
        """Write a table in one transaction and return the number of rows written.

        A table with folds has the rows of ``fold`` replaced; a table that grows by run is appended to; any other is
        replaced whole.

        Raises:
            StorageError: where a column is missing, or a folded table is written without a fold.
        """
        missing = sorted(set(table.column_names) - set(rows.columns))
        if missing:
            raise StorageError(f"{table.full_name} cannot be written: columns {missing} are missing.")
        if table.folded and fold not in t.FOLDS:
            raise StorageError(f"{table.full_name} is written fold by fold: expected one of {t.FOLDS}, found {fold!r}.")
        counted = Observation() if observes_delta(self.spark.version) else None
        out = rows.select(
            *(
                F.col(c.name).cast(field.dataType).alias(c.name, metadata={"comment": c.comment})
                for c, field in zip(table.columns, table.schema.fields, strict=True)
            )
        )
        if counted is not None:
            out = out.observe(counted, F.count(F.lit(1)).alias("n"))
        if self._is_new(table) and not self._tables.catalog:
            self._write_new(table, out, stage_key)
            return self._n_written(table, counted)
        self._create(table)
        writer = out.write.format("delta").option("userMetadata", self._said(stage_key))
        if table.append:
            writer = writer.mode("append")
        else:
            writer = writer.mode("overwrite")
            if table.folded:
                writer = writer.option("replaceWhere", f"fold = '{fold}'")
        if self._tables.catalog:
            writer.saveAsTable(self.location(table))
        else:
            writer.save(self.location(table))
        return self._n_written(table, counted)

    def _n_written(self, table: t.Table, counted: Observation | None) -> int:
        """Return the rows of the last write: counted on the way, or as Delta's log tells, which takes half a second."""
        if counted is not None:
            return int(counted.get["n"])
        row = self.delta_unchecked(table).history(1).select("operationMetrics").first()
        return int(row["operationMetrics"].get("numOutputRows", 0)) if row is not None else 0

    def write_first(self, table: t.Table, rows: DataFrame) -> bool:
        """Make a table with its first rows, where there is nothing yet: of two who try at once, one makes it.

        Returns:
            Whether it was made; not over what a killed run left in its place, and never in a catalog, which makes
            tables in two transactions.
        """
        if self._tables.catalog or not self._is_new(table):
            return False
        try:
            self._write_new(table, rows, replaces=False)
        except AnalysisException as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            return False
        return True

    def merge_new(self, table: t.Table, rows: DataFrame, replace_where: str = "", stage_key: str = "") -> None:
        """Insert the rows whose key the table lacks, in one transaction; rows that are there stay as they are.

        Args:
            table: a table with a key of one column.
            rows: at most one row a key; read twice by Delta, so never the output of a model.
            replace_where: SQL condition on ``old`` under which a row that is there is replaced after all.
            stage_key: goes into the commit's metadata.

        Raises:
            StorageError: where a column is missing.
        """
        (key,) = table.key
        missing = sorted(set(table.column_names) - set(rows.columns))
        if missing:
            raise StorageError(f"{table.full_name} cannot be written: columns {missing} are missing.")
        merge = (
            self.delta(table)
            .alias("old")
            .merge(rows.select(*table.column_names).alias("new"), f"old.{key} = new.{key}")
        )
        if replace_where:
            merge = merge.whenMatchedUpdateAll(replace_where)
        with self._commits_say(self._said(stage_key)):
            merge.whenNotMatchedInsertAll().execute()

    def _said(self, stage_key: str) -> str:
        return json.dumps({"run_id": self.run_id, "stage_key": stage_key})

    @contextmanager
    def _commits_say(self, text: str) -> Iterator[None]:
        """Set what commits that have no option for it carry as ``userMetadata``: one thread at a time."""
        setting = "spark.databricks.delta.commitInfo.userMetadata"
        with _COMMIT:
            before = self.spark.conf.get(setting, None)
            self.spark.conf.set(setting, text)
            try:
                yield
            finally:
                if before is None:
                    self.spark.conf.unset(setting)
                else:
                    self.spark.conf.set(setting, before)

    def take(self, table: t.Table, other: "Storage") -> bool:
        """Copy a whole table of another root, all its folds, file by file, where this root has none yet.

        It is there whole, or not at all. Nothing may write to the other root's table meanwhile.

        Returns:
            Whether it was copied; not where it is here already, nor where either root is no local folder.
        """
        here, there = self.location(table), other.location(table)
        if not (Path(there).is_dir() and here.startswith("/")) or Path(here).exists():
            return False
        half = Path(f"{here}.{self.run_id}.half")
        try:
            shutil.copytree(there, half)
            half.rename(here)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        self._created.add(here)
        return True

    def delta(self, table: t.Table) -> DeltaTable:
        """Return the Delta handle of a table, made where it is not there yet."""
        self._create(table)
        if self._tables.catalog:
            return DeltaTable.forName(self.spark, self.location(table))
        return DeltaTable.forPath(self.spark, self.location(table))

    def version(self, table: t.Table) -> int:
        """Return the newest version of a table."""
        row = self.delta(table).history(1).select("version").first()
        return int(row["version"]) if row else -1

    def count(self, table: t.Table) -> int:
        """Return the number of rows of a table."""
        return self.read(table).count()

    def _is_new(self, table: t.Table) -> bool:
        location = self.location(table)
        if location not in self._created and self.exists(table):
            self._created.add(location)
        return location not in self._created

    def _write_new(self, table: t.Table, rows: DataFrame, stage_key: str = "", *, replaces: bool = True) -> None:
        """Make a table with its first rows, in one transaction: in about half the time of two.

        Args:
            table: one that is not there.
            rows: its rows.
            stage_key: goes into the commit's metadata.
            replaces: whether it is made over what a killed run left in its place, too.

        Raises:
            StorageError: where files lie in its place that are no Delta table's: a later VACUUM would remove them.
        """
        foreign = _foreign_file(self.spark, self.location(table))
        if foreign is not None:
            raise StorageError(
                f"{table.full_name} cannot be made at {self.location(table)}: expected an empty folder or none, found "
                f"{foreign}. Move the files away, or set tables.root to another folder."
            )
        location = self.location(table).replace("`", "``")
        writer = rows.writeTo(f"delta.`{location}`").using("delta").option("userMetadata", self._said(stage_key))
        writer = writer.tableProperty("comment", table.comment)
        for name, value in _PROPERTIES.items():
            writer = writer.tableProperty(name, value)
        if table.partition_by:
            writer = writer.partitionedBy(*map(F.col, table.partition_by))
        if replaces:
            writer.createOrReplace()
        else:
            writer.create()
        self._note(table)

    def _create(self, table: t.Table) -> None:
        if not self._is_new(table):
            return
        location = self.location(table)
        if self._tables.catalog:
            self.spark.sql(f"CREATE SCHEMA IF NOT EXISTS {location.rsplit('.', 1)[0]}")
            self.spark.sql(_create_statement(table, location))
            self._note(table)
        else:
            self._write_new(table, self.spark.createDataFrame([], table.schema))

    def _note(self, table: t.Table) -> None:
        """Note a table that was made."""
        # read back for the first table made: what would raise it is a setting of the whole session
        if not self._created:
            self._check_protocol(table)
        self._created.add(self.location(table))

    def _check_protocol(self, table: t.Table) -> None:
        found: Any = self.delta_unchecked(table).detail().select("minReaderVersion").first()
        if found is not None and found["minReaderVersion"] > 1:
            raise StorageError(
                f"{table.full_name} was created with minReaderVersion {found['minReaderVersion']}, expected 1: other "
                "readers would be locked out. Remove the session's spark.databricks.delta.properties.defaults.*."
            )

    def delta_unchecked(self, table: t.Table) -> DeltaTable:
        """Return the Delta handle of a table that is there."""
        if self._tables.catalog:
            return DeltaTable.forName(self.spark, self.location(table))
        return DeltaTable.forPath(self.spark, self.location(table))

    def scratch(self, name: str) -> str:
        """Return a folder name under ``files.root`` for this run alone; removed by :meth:`clear_scratch`."""
        return f"{self._files_root}/{_MARKER}/{self.run_id}/{name}"

    def kept(self, name: str) -> str:
        """Return a folder name under ``files.root`` for what these tables' models keep from run to run."""
        place = hashlib.sha256(self.location(t.ITEMS).encode()).hexdigest()[:12]
        return f"{self._files_root}/trained/{place}/{name}"

    def exports(self) -> str:
        """Return the folder under ``files.root`` in which run-scoped exports lie."""
        return f"{self._files_root}/exports"

    def clear_scratch(self, name: str) -> None:
        """Remove a scratch folder of this run; one that is not there is no error."""
        remove_folder(self.spark, self.scratch(name))


def _create_statement(table: t.Table, name: str) -> str:
    """Return the SQL that makes a table of a catalog: Delta's builder outside Databricks knows no three-level names.

    Args:
        table: whose columns, comments and partitions.
        name: its quoted name.
    """

    def text(value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    columns = ", ".join(
        f"{quoted(column.name)} {field.dataType.simpleString()} COMMENT {text(column.comment)}"
        for column, field in zip(table.columns, table.schema.fields, strict=True)
    )
    partitions = f" PARTITIONED BY ({', '.join(map(quoted, table.partition_by))})" if table.partition_by else ""
    properties = ", ".join(f"{text(key)} = {text(value)}" for key, value in _PROPERTIES.items())
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ({columns}) USING delta{partitions} COMMENT {text(table.comment)} "
        f"TBLPROPERTIES ({properties})"
    )


def absolute(path: str) -> str:
    """Return a local path as absolute and without a trailing slash; a URI is left as it is."""
    if "://" in path or path.startswith(("dbfs:/", "hdfs:/", "s3a:/", "abfss:/")):
        return path.rstrip("/")
    local = path.removeprefix("file:")
    return str(Path(os.path.expanduser(local)).resolve())


@contextmanager
def disk_errors(config: Config) -> Iterator[None]:
    """Turn a full disk, however deep in Java's causes, into an error that says so.

    Raises:
        StorageError: where the disk is full.
    """
    try:
        yield
    except LtSparkError:
        raise
    except Exception as error:
        if not any(sign in str(error) for sign in _FULL_DISK):
            raise
        raise StorageError(
            f"a disk is full: expected space under tables.root ({config.tables.root}), files.root "
            f"({config.files.root}) and Spark's spark.local.dir, found none left. Free some and run the same command "
            "again: stages that are done are kept, and no table is half-written."
        ) from error


def is_scratch(path: str) -> bool:
    """Return whether a path lies in lt_spark's own scratch space."""
    return f"/{_MARKER}/" in path


def remove_folder(spark: SparkSession, path: str) -> None:
    """Remove a folder of lt_spark's own scratch space.

    Raises:
        StorageError: where the path is not inside a scratch folder.
    """
    if not is_scratch(path):
        raise StorageError(f"only scratch folders are removed: expected /{_MARKER}/ in the path, found {path!r}")
    if path.startswith("/"):
        shutil.rmtree(path, ignore_errors=True)
        return
    files, target = _hadoop(spark, path)
    files.delete(target, True)


def _foreign_file(spark: SparkSession, path: str) -> str | None:
    """Return a file below a folder that no write of a Delta table leaves there; None: there is none."""
    files, target = _hadoop(spark, path)
    if not files.exists(target):
        return None
    found = files.listFiles(target, True)
    while found.hasNext():
        file = found.next().getPath()
        if not file.getName().startswith(_OF_DELTA) and file.getParent().getName() != "_delta_log":
            return str(file)
    return None


def _hadoop(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Return a path's Hadoop file system, and the path as Hadoop names it."""
    jvm: Any = spark._jvm  # the JVM is the one door to Hadoop's file systems
    target = jvm.org.apache.hadoop.fs.Path(path)
    return target.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()), target
