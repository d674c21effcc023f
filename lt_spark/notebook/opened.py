"""The tables of a configuration, opened in a notebook: by name, and never more rows than fit on a page."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.sql import DataFrame, SparkSession

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.session import is_connect, start_session
from lt_spark.core.storage import Storage
from lt_spark.core.tables.find import find_table
from lt_spark.notebook.parameters import of_notebook

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 1_000
"""Most rows that a notebook takes from Spark at a time."""
_NEWEST_FIRST = ("live", "test", "valid")
_SEPARATOR = ";"


@dataclass(frozen=True)
class Opened:
    """A configuration, the session, and the tables."""

    config: Config
    spark: SparkSession
    storage: Storage

    def has(self, name: str) -> bool:
        """Return whether a table, such as ``silver.metrics``, is there."""
        return self.storage.exists(find_table(name))

    def read(self, name: str, fold: str | None = None) -> DataFrame:
        """Read a table by its name, or one fold of it.

        Raises:
            ConfigError: no table has the name.
            StorageError: it is not there; the message names where it should be.
        """
        return self.storage.read(find_table(name), fold)

    def newest_fold(self, name: str) -> str:
        """Return the fold of a table that knows most: live, else test, else valid.

        Raises:
            StorageError: the table is not there, or has no rows.
        """
        table = find_table(name)
        found = {str(row["fold"]) for row in self.read(name).select("fold").distinct().collect()}  # three at most
        for fold in _NEWEST_FIRST:
            if fold in found:
                return fold
        raise StorageError(
            f"{table.full_name} at {self.storage.location(table)} has no rows: expected one of the folds "
            f"{', '.join(t.FOLDS)}. Run the pipeline first: notebook 02, or `lt-spark run`."
        )


def open_tables(config: str, settings: str = "") -> Opened:
    """Open the tables of a configuration.

    The session is the notebook's own ``spark``, that of the server named by SPARK_REMOTE, or a local one. Relative
    paths in a configuration are relative to the current folder: where the file is not there but in a folder above, as
    for a notebook in ``notebooks/``, that becomes the current folder.

    Args:
        config: a YAML file, such as ``conf/demo.yaml``; empty: the defaults alone.
        settings: further settings as for ``lt-spark --set``, parted by semicolons: ``als.rank=64; blend.n=20``.

    Raises:
        ConfigError: the file is not there or wrong, or a setting is.
        LtSparkError: there is no Java or no Delta Lake.
    """
    _go_to(config)
    overrides = [part.strip() for part in settings.split(_SEPARATOR) if part.strip()]
    loaded = load_config(config or None, overrides).config
    spark = of_notebook("spark")
    if spark is None:
        spark = start_session(loaded, "lt_spark notebook")
    return Opened(loaded, spark, Storage(spark, loaded))


def told(opened: Opened) -> str:
    """Return one line: where the tables are, and what kind of session reads them."""
    tables = opened.config.tables
    where = f"in catalog {tables.catalog}" if tables.catalog else f"under {tables.root}"
    kind = "over Spark Connect" if is_connect(opened.spark) else "in a classic session"
    return f"Tables {where}, read {kind} of Spark {opened.spark.version}."


def small(rows: DataFrame, at_most: int = MAX_ROWS) -> "pd.DataFrame":
    """Return rows as a pandas frame: of more than ``at_most``, the first only."""
    return rows.limit(at_most).toPandas()


def value(rows: DataFrame) -> Any:
    """Return the one value of a frame of one row and column."""
    row = rows.first()
    return row[0] if row is not None else None


def _go_to(config: str) -> None:
    here = Path.cwd()
    if not config or Path(config).is_absolute():
        return
    for folder in (here, *here.parents):
        if (folder / config).is_file():
            os.chdir(folder)
            return
    raise ConfigError(
        f"{config} is not in {here}, nor in a folder above it: expected a YAML file with settings. Give its whole "
        "path, or open the notebook from a folder of the project."
    )
