"""GPUs on a cluster: each worker has addresses of its own, and no two tasks have one at the same time."""

import json
import subprocess

import pytest

from tests.cluster.conftest import Package
from tests.cluster.standalone import Standalone
from tests.clusters import ROOT
from tests.test_placement import check_apart, sharers

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(14_400)]


def test_each_task_has_a_gpu_of_its_own_worker_to_itself(package: Package, cluster: Standalone) -> None:
    of_gpus = {"spark.executor.resource.gpu.amount": "2", "spark.task.resource.gpu.amount": "0.5"}
    size = {"spark.executor.cores": "2", "spark.cores.max": "4", "spark.default.parallelism": "4"}
    size |= {"spark.scheduler.minRegisteredResourcesRatio": "1.0"}
    settings = [word for name, value in (of_gpus | size).items() for word in ("--conf", f"{name}={value}")]
    # the settings of --conf stand above those of the file
    command = [*(str(package.home / "bin" / "spark-submit"), "--master", cluster.url)]
    command += [*("--properties-file", str(package.folder / "spark.conf")), *settings]
    command += [*("--py-files", str(package.archive), str(ROOT / "tests" / "placement_script.py"))]
    done = subprocess.run(
        [*command, "0", "none", "1.0", "0.5"],
        capture_output=True,
        text=True,
        cwd=package.folder,
        env=package.environment(),
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["torch"] is False, "the driver imported torch"
    whole, half = told["1.0"], told["0.5"]
    by_executor: dict[int, set[str]] = {}
    for row in whole["rows"] + half["rows"]:
        by_executor.setdefault(row["executor"], set()).add(row["address"])
    assert sorted(map(sorted, by_executor.values())) == [["0", "1"], ["2", "3"]]
    check_apart(whole["rows"])
    # of the eight shares four find a core
    assert (whole["n_tasks"], half["n_tasks"]) == (4, 4)
    assert sharers(half["rows"]) <= 2
