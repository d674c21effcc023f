"""Options that several commands take, and how each gets its session and tables."""

import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from lt_spark.core.config_files import LoadedConfig
from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.versions import check_pyspark

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


def check_stage(name: str | None) -> None:
    """Check that there is a stage of that name.

    Raises:
        ConfigError: with the nearest name, and all of them.
    """
    check_pyspark()  # the pipeline imports it
    from lt_spark.pipeline import STAGES

    known = [stage.name for stage in STAGES]
    if name is not None and name not in known:
        raise ConfigError(f"no stage '{name}'.{nearest(name, known)} Expected one of: {', '.join(known)}.")


def start(loaded: LoadedConfig) -> "SparkSession":
    """Return the session, a local one where there is none."""
    check_pyspark()
    from lt_spark.core.session import start_session

    return start_session(loaded.config, "lt-spark")


def storage_of(loaded: LoadedConfig) -> "Storage":
    """Return the tables of a configuration."""
    spark = start(loaded)
    from lt_spark.core.storage import Storage

    return Storage(spark, loaded.config)
