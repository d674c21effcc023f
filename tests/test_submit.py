"""The jobs through spark-submit, as a cluster runs them."""

import os
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
import yaml

from lt_spark.core.versions import delta_package
from tests.small_shop import write_shop

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(2400)]
ROOT = Path(__file__).parent.parent


def submit(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["spark-submit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=1800)


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("submit")
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(write_shop(folder)), encoding="utf-8")
    return str(path)


def test_without_delta_the_right_command_is_told(conf: str) -> None:
    done = submit("jobs/clean.py", "--config", conf)
    output = done.stdout + done.stderr
    assert done.returncode == 2
    assert f"spark-submit --packages {delta_package(pyspark.__version__)}" in output
    assert "Traceback" not in output
    assert "\tat " not in output


def test_stage_after_stage_then_all_in_one(conf: str) -> None:
    properties = ("--properties-file", "conf/spark-defaults.conf")
    for stage in ("clean", "split", "segment", "rebalance"):
        done = submit(*properties, f"jobs/{stage}.py", "--config", conf)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"{stage} done in" in done.stdout or f"{stage} (valid) done in" in done.stdout
    done = submit(*properties, "jobs/run_pipeline.py", "--config", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clean up to date" in done.stdout
    assert "publish (live) done in" in done.stdout
