"""What the driver asks the executors about model folders that it may not see itself."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from lt_spark.core.errors import ConfigError, LtSparkError
from lt_spark.engines.model_files import ModelInfo, check_folder

_FIELDS = ("name", "revision", "sha256", "kind", "error")
_SCHEMA = ", ".join(f"{name} string" for name in _FIELDS)


def model_info(spark: SparkSession, folder: str, revision: str, sha256: str) -> ModelInfo:
    """Check a model's folder and return what it is, before any task of a stage starts.

    Where the driver does not see the folder (the alias of an archive, a disk of the executors), one task looks.

    Args:
        spark: the session.
        folder: as ``model_files.resolve`` gives it.
        revision: what the conf expects; empty: anything.
        sha256: what the conf expects; empty: anything.

    Raises:
        ConfigError: it is missing, of another revision or hash, or not safe to load.
    """
    if Path(folder).is_dir() or (spark.conf.get("spark.master", "local") or "").startswith("local"):
        return check_folder(folder, revision=revision, sha256=sha256)

    def look(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            try:
                info = check_folder(folder, revision=revision, sha256=sha256)
                row = {"name": info.name, "revision": info.revision, "sha256": info.sha256, "kind": info.kind}
            except LtSparkError as error:
                row = {"error": str(error)}
            yield pa.RecordBatch.from_pylist([row], schema=pa.schema([(name, pa.string()) for name in _FIELDS]))

    found = spark.range(1, numPartitions=1).mapInArrow(look, _SCHEMA).first()
    if found is None or found["error"]:
        raise ConfigError(found["error"] if found is not None else f"no executor could look at {folder}")
    return ModelInfo(found["name"], found["revision"], found["sha256"], found["kind"])
