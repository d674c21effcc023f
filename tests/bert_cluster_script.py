"""Two training processes on two executors; perhaps one of the executors is killed meanwhile.

Arguments: a folder for the small export, ``kill`` or ``leave``. Writes one JSON line: the epochs' losses and rows, what
was told, whether an executor was killed, seconds.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pyspark.sql import SparkSession

from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert.distributed import run_training
from tests.clusters import spark_home
from tests.models.bert.small_export import SmallExport

N_EPOCHS = 30


def executors() -> list[int]:
    found = subprocess.run(["pgrep", "-f", "CoarseGrainedExecutorBackend"], capture_output=True, text=True, check=False)
    mine = [int(pid) for pid in found.stdout.split()]
    return [pid for pid in mine if str(os.getpid()) in _ancestors(pid)]


def _ancestors(pid: int) -> set[str]:
    found: set[str] = set()
    while pid > 1:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pid = int(fields[1])
        found.add(str(pid))
    return found


def main(folder: str, what: str) -> None:
    os.environ["SPARK_HOME"] = str(spark_home(Path(folder)))
    builder = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.ui.enabled", "false")
    for name in ("spark.driver.host", "spark.driver.bindAddress"):
        builder = builder.config(name, "127.0.0.1")
    spark = builder.config("spark.task.maxFailures", "1").config("spark.log.level", "OFF").getOrCreate()
    export = SmallExport(Path(folder) / "export", n_shards=3).write()
    task = export.task(epochs=N_EPOCHS, n_epochs=N_EPOCHS, num_processes=2, timeout_s=60.0)
    told: list[str] = []
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            newest = saved.newest(Folder(task.checkpoints))
            if newest is not None and newest.epoch >= 3:
                killed.append(executors()[-1])
                os.kill(killed[-1], signal.SIGKILL)
            time.sleep(0.05)

    if what == "kill":
        threading.Thread(target=kill_one, daemon=True).start()
    began = time.monotonic()
    trained = run_training(spark, task, told.append)
    sys.stdout.write(
        "\n"
        + json.dumps(
            {
                "losses": [epoch.loss for epoch in trained.epochs],
                "rows": [epoch.n_rows for epoch in trained.epochs],
                "told": told,
                "killed": len(killed),
                "seconds": time.monotonic() - began,
            }
        )
        + "\n"
    )
    sys.stdout.flush()
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
