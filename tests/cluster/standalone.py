"""A standalone cluster on 127.0.0.1: a master and workers, each a process that tests may kill and start again."""

import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from tests.processes import below, kill

WAIT_S = 90.0
"""Longest wait for the cluster to be as a test needs it."""


class Standalone:
    """A master and ``n_workers`` workers of two cores and two pretended GPUs each, whose addresses differ by worker."""

    def __init__(self, home: Path, folder: Path, python: Path, n_workers: int = 2) -> None:
        """Start it, and wait until all workers are there.

        Args:
            home: a Spark home.
            folder: where workers and their logs write.
            python: the Python of executors.
            n_workers: how many.
        """
        self._class, self._folder, self._python = home / "bin" / "spark-class", folder, python
        folder.mkdir(parents=True)
        self._port, self._ui_port = _free_ports(2)
        self.url = f"spark://127.0.0.1:{self._port}"
        # an executor that is killed is started again, however often
        own = "-Dspark.deploy.maxExecutorRetries=-1"
        where = ["--port", str(self._port), "--webui-port", str(self._ui_port)]
        self._master = self._start("master", "master.Master", where, SPARK_MASTER_OPTS=own)
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        for number in range(n_workers):
            self.start_worker(number)
        self.wait_for_workers(n_workers)

    def _start(self, name: str, kind: str, arguments: list[str], **more: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"PYSPARK_PYTHON": str(self._python), "SPARK_LOCAL_IP": "127.0.0.1"} | more
        # what a checkout's environment says of lt_spark is not the cluster's
        for unwanted in ("PYTHONPATH", "PYSPARK_SUBMIT_ARGS", "LT_SPARK_MASTER"):
            environment.pop(unwanted, None)
        command = [str(self._class), f"org.apache.spark.deploy.{kind}", "--host", "127.0.0.1", *arguments]
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def start_worker(self, number: int) -> None:
        """Start a worker, or start it again."""
        work = self._folder / f"worker-{number}"
        work.mkdir(exist_ok=True)
        script = work / "gpus.sh"
        addresses = json.dumps([str(2 * number), str(2 * number + 1)])
        script.write_text(f'#!/bin/sh\necho \'{{"name": "gpu", "addresses": {addresses}}}\'\n')
        script.chmod(0o755)
        gpus = f"-Dspark.worker.resource.gpu.amount=2 -Dspark.worker.resource.gpu.discoveryScript={script}"
        size = ["-c", "2", "-m", "2g", "-d", str(work), "--webui-port", "0"]
        self._workers[number] = self._start(
            f"worker-{number}",
            "worker.Worker",
            [*size, self.url],
            SPARK_WORKER_OPTS=gpus,
        )

    def wait_for_workers(self, n_workers: int) -> None:
        """Wait until the master counts so many living workers, for a bounded time."""
        deadline = time.monotonic() + WAIT_S
        while self.n_alive() != n_workers:
            assert time.monotonic() < deadline, f"not {n_workers} workers within {WAIT_S:.0f} s: {self.logs()}"
            time.sleep(0.2)

    def n_alive(self) -> int:
        """Return how many workers the master counts as alive; 0 while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ui_port}/json/", timeout=5) as page:
                return int(json.load(page)["aliveworkers"])
        except OSError:
            return 0

    def kill_executor(self, number: int) -> bool:
        """Kill the executors of a worker with -9; the worker starts new ones. Tell whether there was one."""
        found = below(self._workers[number].pid, "CoarseGrainedExecutorBackend")
        kill(*found)
        return bool(found)

    def kill_worker(self, number: int) -> None:
        """Kill a worker and its executors with -9, as a machine that is lost, and start it again."""
        worker = self._workers[number]
        kill(worker.pid, *below(worker.pid, ""))
        worker.wait(timeout=WAIT_S)
        self.start_worker(number)

    def logs(self) -> str:
        """Return the end of each daemon's log."""
        return "\n".join(f"{log.name}: {log.read_text()[-1_500:]}" for log in sorted(self._folder.glob("*.log")))

    def stop(self) -> None:
        """End all of it."""
        for daemon in (*self._workers.values(), self._master):
            kill(*below(daemon.pid, ""), daemon.pid)
            daemon.wait(timeout=WAIT_S)


def _free_ports(n: int) -> list[int]:
    held = [socket.socket() for _ in range(n)]
    for each in held:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
