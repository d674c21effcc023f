"""lt_spark: recommendations in which the long tail reaches the people who want it."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_LAZY = {
    "run": "lt_spark.passes",
    "plan": "lt_spark.passes",
    "probe": "lt_spark.passes",
    "load_config": "lt_spark.core.config_files",
}
__all__ = ["__version__", "load_config", "plan", "probe", "run"]


def __getattr__(name: str) -> Any:
    """Import the public functions at first use, so that ``lt-spark --help`` starts without Spark."""
    if name in _LAZY:
        if _LAZY[name] == "lt_spark.passes":
            import_module("lt_spark.core.versions").check_pyspark()
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'lt_spark' has no attribute {name!r}")
