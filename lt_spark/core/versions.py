"""Which Spark and Delta Lake lt_spark runs on: asked before anything fails for a reason that says less. No Spark."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from lt_spark.core.errors import LtSparkError

_DELTA = {"4.0": ("delta-spark_2.13", "4.0.1"), "4.1": ("delta-spark_4.1_2.13", "4.3.1")}
"""By line of Spark, the name and version of the Delta Lake for it: 4.1.0 names a class that Spark 4.1.4 lacks."""
_BROUGHT = {"4.0": ("antlr4-runtime-4.13.1.jar",)}
"""By line of Spark, the jars that Delta Lake needs beside its own two."""
_OLDEST = (4, 0)
_EXPECTED = " or ".join(_DELTA)
_INSTALL = (
    "pip install 'lt-spark[local]' (Spark 4.0) or 'lt-spark[next]' (Spark 4.1), or submit to such a Spark, or take a "
    "Databricks runtime of 17.3 LTS or newer."
)


def check_pyspark() -> str:
    """Check that this Python's PySpark and Delta Lake are there, and new enough.

    Returns:
        PySpark's version.

    Raises:
        LtSparkError: with what to install.
    """
    try:
        from pyspark.version import __version__ as found
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "pyspark":
            raise
        raise LtSparkError(
            f"PySpark is not installed for this Python ({sys.executable}): expected Spark {_EXPECTED}. {_INSTALL}"
        ) from error
    check_spark(found, f"PySpark of this Python ({sys.executable})")
    home = os.environ.get("SPARK_HOME")
    jars = sorted(Path(home).glob("jars/spark-core_*.jar")) if home else []
    if jars and (its := _version_of(jars[0].name)) and line(its) != line(found):
        raise LtSparkError(
            f"SPARK_HOME ({home}) is Spark {its}, and PySpark of this Python ({sys.executable}) is {found}: expected "
            f"both of one line, {_EXPECTED}. Unset SPARK_HOME, or set it to a Spark {line(found)}."
        )
    if importlib.util.find_spec("delta") is None:
        raise LtSparkError(
            f"the Python package of Delta Lake is missing: expected delta-spark {delta_version(found)}, which is made "
            f"for Spark {line(found)}. pip install 'delta-spark=={delta_version(found)}', or submit with\n"
            f"  spark-submit --packages {delta_package(found)} ..."
        )
    return str(found)


def check_spark(version: str, where: str) -> None:
    """Check that a Spark is new enough; a newer one than was ever run is let through.

    Args:
        version: such as ``4.0.5``.
        where: what has it, for the error.

    Raises:
        LtSparkError: where it is older than 4.0.
    """
    if _numbers(version) < _OLDEST:
        raise LtSparkError(f"{where}: expected Spark {_EXPECTED}, found {version}. {_INSTALL}")


def check_delta_jar(jar: str, spark_version: str) -> None:
    """Check by its name that a Delta Lake is made for a Spark; a name that tells nothing is let through.

    Args:
        jar: the file that Delta's classes come from, such as ``io.delta_delta-spark_2.13-4.0.1.jar``.
        spark_version: such as ``4.0.5``.

    Raises:
        LtSparkError: where it is made for another line of Spark.
    """
    made_for = _line_of_delta(jar)
    if made_for and made_for != line(spark_version) and line(spark_version) in _DELTA:
        raise LtSparkError(
            f"Delta Lake on Spark's class path is {jar}, made for Spark {made_for}: expected one for Spark "
            f"{line(spark_version)}, which runs here. Submit with\n"
            f"  spark-submit --packages {delta_package(spark_version)} ..."
        )


def line(version: str) -> str:
    """Return a version's line: ``4.0`` of ``4.0.5``."""
    return ".".join(version.split(".")[:2])


def observes_delta(spark_version: str) -> bool:
    """Return whether what is observed on the way into a Delta table is told.

    Spark 4.1.1 with Delta Lake 4.3.1 does not tell it of a table that is made: ``Observation.get`` fails.
    """
    return line(spark_version) == "4.0"


def delta_version(spark_version: str) -> str:
    """Return the version of Delta Lake for a Spark; for one that is not known, that of the newest which is."""
    return _delta(spark_version)[1]


def delta_package(spark_version: str) -> str:
    """Return the Maven coordinates of Delta Lake for a Spark."""
    name, version = _delta(spark_version)
    return f"io.delta:{name}:{version}"


def delta_jars(spark_version: str) -> tuple[str, ...]:
    """Return the names of the jars that Delta Lake consists of."""
    name, version = _delta(spark_version)
    return (f"{name}-{version}.jar", f"delta-storage-{version}.jar", *_BROUGHT.get(line(spark_version), ()))


def _delta(spark_version: str) -> tuple[str, str]:
    return _DELTA.get(line(spark_version)) or _DELTA[max(_DELTA)]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _version_of(jar: str) -> str:
    found = re.search(r"_2\.1\d-(\d+\.\d+\.\d+)", jar)
    return found[1] if found else ""


def _line_of_delta(jar: str) -> str:
    """Return the line of Spark that a jar of Delta Lake is made for; empty where its name does not tell."""
    found = re.search(r"delta-spark_(?:(\d+\.\d+)_)?(2\.1\d)-(\d+\.\d+)", jar)
    if not found:
        return ""
    named, scala, delta = found.groups()
    if scala == "2.12" or delta.startswith("3."):
        return "3.5"
    # Delta counts as Spark does in the lines that are known
    return named or (delta if delta in _DELTA else "")
