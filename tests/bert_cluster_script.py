"""Two training processes on two executors; perhaps one of the executors, or its worker, is killed meanwhile.

Arguments: a folder for the small export, ``kill`` or ``leave``, on a local-cluster, or ``kill-worker``, on a standalone
cluster of three workers. Writes one JSON line: the epochs' losses and rows, what was told, whether one was killed,
seconds.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert.distributed import run_training
from tests.clusters import ancestors, spark_home, started
from tests.models.bert.small_export import SmallExport

N_EPOCHS = 30


def busy_worker() -> int:
    """A worker whose executor trains."""
    training = {ancestor for pid in started("torch.distributed.run") for ancestor in ancestors(pid)}
    return next(pid for pid in started("deploy.worker.Worker") if pid in training)


@contextmanager
def standalone(home: str, n_workers: int) -> Iterator[str]:
    """A master and workers of one core each on this host; yields the master's URL."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = str(own.getsockname()[1])
    url, where = f"spark://127.0.0.1:{port}", ["--host", "127.0.0.1", "--webui-port", "0"]
    command = [f"{home}/bin/spark-class", "org.apache.spark.deploy"]
    kinds = [("master.Master", ["--port", port])]
    kinds += [("worker.Worker", ["-c", "1", "-m", "1g", "-d", f"{home}/work-{n}", url]) for n in range(n_workers)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    daemons = [
        subprocess.Popen([command[0], f"{command[1]}.{kind}", *where, *more], **quiet) for kind, more in kinds
    ]  # fmt: skip
    try:
        yield url
    finally:
        for daemon in daemons:
            daemon.kill()


def main(folder: str, what: str) -> None:
    os.environ["SPARK_HOME"] = str(spark_home(Path(folder)))
    with ExitStack() as stack:
        master = "local-cluster[2,1,1024]"
        if what == "kill-worker":
            master = stack.enter_context(standalone(os.environ["SPARK_HOME"], 3))
        run(folder, what, master)


def run(folder: str, what: str, master: str) -> None:
    builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    builder = builder.config("spark.executor.memory", "1g").config("spark.executor.cores", "1")
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
                one = busy_worker() if what == "kill-worker" else started("CoarseGrainedExecutorBackend")[-1]
                killed.append(one)
                os.kill(killed[-1], signal.SIGKILL)
            time.sleep(0.05)

    if what != "leave":
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
