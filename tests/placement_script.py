"""Tasks on executors of four cores and two pretended GPUs each: which address each of them saw, and when.

Arguments: executors, what the session's own tasks ask of a GPU (or ``none``), then a share of a GPU for each round of
tasks. Executors 0: the submitter says all that, and has ``spark.cores.max`` cores.
Writes one JSON line: the tasks that run at once, and (executor, address, begin, end, process), a row a task, by round.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from lt_spark.core.session import inference_tasks
from lt_spark.engines.placement import gpu_address

CORES = 4
DDL = "executor int, address string, began double, ended double, process int"
SCHEMA = pa.schema(
    [
        ("executor", pa.int32()),
        ("address", pa.string()),
        ("began", pa.float64()),
        ("ended", pa.float64()),
        ("process", pa.int32()),
    ]
)


def see(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Hold this task's GPU for a moment."""
    address, began = gpu_address(), time.time()
    time.sleep(1.0)
    for _ in batches:
        pass
    # the workers of an executor are children of its one daemon
    row = (os.getppid(), address, began, time.time(), os.getpid())
    yield pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True))], schema=SCHEMA)


def main(executors: str, own: str, shares: list[str]) -> None:
    """Start the session, run a round a share, write what the tasks saw."""
    if executors == "0":
        spark = SparkSession.builder.getOrCreate()
        run(spark, int(spark.conf.get("spark.cores.max") or 0), shares)
        return
    with TemporaryDirectory() as folder:
        discovery = Path(folder) / "gpus.sh"
        discovery.write_text('#!/bin/sh\necho \'{"name": "gpu", "addresses": ["0", "1"]}\'\n')
        discovery.chmod(0o755)
        builder = SparkSession.builder.master(f"local-cluster[{executors},{CORES},1024]")
        settings = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.log.level": "ERROR",
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.worker.resource.gpu.amount": "2",
            "spark.worker.resource.gpu.discoveryScript": str(discovery),
            "spark.executor.resource.gpu.amount": "2",
        }
        if own != "none":
            settings["spark.task.resource.gpu.amount"] = own
        for name, value in settings.items():
            builder = builder.config(name, value)
        run(builder.getOrCreate(), int(executors) * CORES, shares)


def run(spark: SparkSession, cores: int, shares: list[str]) -> None:
    """Run a round a share on so many cores, write what the tasks saw, and end the session."""
    n = 2 * cores
    while spark.sparkContext.defaultParallelism < cores:
        time.sleep(0.1)  # executors are still starting
    spark.range(1).count()  # where the submitter says that tasks wait for all of them
    told: dict[str, Any] = {}
    for share in shares:
        n_tasks, profile = inference_tasks(spark, uses_gpu=True, gpus_per_task=float(share))
        rows = spark.range(n, numPartitions=n).mapInArrow(see, DDL, profile=profile)
        told[share] = {"n_tasks": n_tasks, "rows": [row.asDict() for row in rows.collect()]}
    told["torch"] = "torch" in sys.modules
    spark.stop()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
