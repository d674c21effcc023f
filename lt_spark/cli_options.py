"""Options that several commands take, and how each gets its session and tables."""

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from lt_spark.core.config_files import LoadedConfig

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lt_spark.core.storage import Storage

ConfigOption = Annotated[str, typer.Option("--config", "-c", help="Configuration file (YAML).", metavar="FILE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting for this run; may be repeated.", metavar="SECTION.KEY=VALUE"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, and nothing else.")]


def new_run_id() -> str:
    """Return a new run id: random, so that two runs that start together differ."""
    return uuid.uuid4().hex[:12]


def start(loaded: LoadedConfig) -> "SparkSession":
    """Return the session, a local one where there is none."""
    from lt_spark.core.session import start_session

    return start_session(loaded.config, "lt-spark")


def storage_of(loaded: LoadedConfig) -> "Storage":
    """Return the tables of a configuration."""
    spark = start(loaded)
    from lt_spark.core.storage import Storage

    return Storage(spark, loaded.config)
