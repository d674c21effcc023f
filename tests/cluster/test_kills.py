"""Executors, workers and drivers killed with -9 at each stage: within bounded time the tables of an undisturbed run."""

import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core.config import Config
from lt_spark.pipeline import STAGES
from tests.cluster.conftest import SUBMIT_S, Package
from tests.cluster.same import check_same
from tests.cluster.standalone import Standalone
from tests.cluster.test_submits import ENOUGH_TABLES

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(14_400)]
_DONE = re.compile(r"(?P<stage>\w+)(?: \((?P<fold>\w+)\))? (?:done in |up to date)")
"""A stage is behind the run: done now, or, after a kill that came late, before."""


def conf_of(package: Package, folder: Path) -> tuple[Path, list[str]]:
    """Write a conf under which one stage runs at a time; return it and the stages up to fold valid's last."""
    conf = package.conf(folder)
    settings = yaml.safe_load(conf.read_text(encoding="utf-8")) | {"run": {"side_by_side": 1}}
    conf.write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = Config.model_validate(settings)
    on = [stage for stage in STAGES if stage.is_on(config)]
    order = [stage.name for fold in ("", "valid") for stage in on if (fold in stage.folds if fold else not stage.folds)]
    return conf, order


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Yield what a submit prints, line by line; it is killed when its time is up."""
    bound = threading.Timer(SUBMIT_S, lambda: os.killpg(process.pid, signal.SIGKILL))
    bound.start()
    try:
        assert process.stdout is not None
        yield from process.stdout
    finally:
        bound.cancel()


def run_with_kills(
    package: Package, cluster: Standalone, conf: Path, order: list[str], do: Callable[[int], Any]
) -> int:
    """Run all in one submit, and do something at a moment of each stage of fold valid; return how often it was done.

    It must end well: what was killed is Spark's to make good.
    """
    draw = random.Random(7)
    process = package.start(cluster.url, "run_pipeline", conf)
    said, begun, n_done = [], 0, 0
    pending: list[threading.Timer] = []
    for line in lines_of(process):
        said.append(line)
        found = _DONE.match(line)
        if found and begun < len(order) and found["stage"] == order[begun]:
            begun += 1
            if begun < len(order):  # the next stage begins now
                pending.append(threading.Timer(draw.uniform(0.2, 2.5), do, (begun % 2,)))
                pending[-1].start()
                n_done += 1
    for timer in pending:
        timer.join(timeout=60)
    assert process.wait(timeout=60) == 0, "".join(said)[-6_000:]
    return n_done


def test_an_executor_is_killed_in_each_stage(
    package: Package, cluster: Standalone, undisturbed: Path, storage_of: Any, tmp_path: Path
) -> None:
    conf, order = conf_of(package, tmp_path)
    killed: list[bool] = []
    n = run_with_kills(package, cluster, conf, order, lambda worker: killed.append(cluster.kill_executor(worker)))
    assert n == len(order) - 1
    # one that had just been killed may not have been there again
    assert sum(killed) > n / 2
    assert check_same(storage_of(conf), storage_of(undisturbed)) > ENOUGH_TABLES


def test_a_worker_is_killed_in_each_stage(
    package: Package, cluster: Standalone, undisturbed: Path, storage_of: Any, tmp_path: Path
) -> None:
    conf, order = conf_of(package, tmp_path)
    n = run_with_kills(package, cluster, conf, order, cluster.kill_worker)
    assert n == len(order) - 1
    cluster.wait_for_workers(2)
    assert check_same(storage_of(conf), storage_of(undisturbed)) > ENOUGH_TABLES


def test_the_driver_is_killed_in_each_stage(
    package: Package, cluster: Standalone, undisturbed: Path, storage_of: Any, tmp_path: Path
) -> None:
    conf, order = conf_of(package, tmp_path)
    draw = random.Random(11)
    for stage in order[:-1]:
        process = package.start(cluster.url, "run_pipeline", conf)
        said = []
        for line in lines_of(process):
            said.append(line)
            found = _DONE.match(line)
            if found and found["stage"] == stage:
                time.sleep(draw.uniform(0.0, 2.5))  # into the stage after it
                os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL, f"{stage}: {''.join(said)[-4_000:]}"
    package.submit(cluster.url, "run_pipeline", conf)
    assert check_same(storage_of(conf), storage_of(undisturbed)) > ENOUGH_TABLES
