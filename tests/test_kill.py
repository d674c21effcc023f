"""A run killed with -9, then run again: the tables of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core.config import Config
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from lt_spark.pipeline import STAGES
from tests.small_shop import write_whole_shop
from tests.written import COMPARED, rows_of

# `make test` has the kill of tests/test_kill_describe.py
pytestmark = [pytest.mark.spark, pytest.mark.slow]


def killed_run(folder: Path, settings: dict[str, Any], stage: str, after_s: float, *arguments: str) -> None:
    """Start ``lt-spark run`` and kill its whole process group some time after a stage began."""
    conf = folder / "conf.yaml"
    conf.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from lt_spark.cli import main; main()",
        "run",
        "-c",
        str(conf),
        "--log-json",
        *arguments,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        began = any(line.startswith("{") and json.loads(line)["stage"] == stage for line in process.stderr)
        assert began, f"the run ended before stage {stage}"
        time.sleep(after_s)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def test_killed_in_rebalance_then_run_again(shop: Any, tmp_path: Path) -> None:
    spark, _, undisturbed, _ = shop
    settings = write_whole_shop(tmp_path)
    killed_run(tmp_path, settings, "rebalance", 1.0, "--purpose", "evaluate", "--to", "popularity")
    config = Config.model_validate(settings)
    run(spark, config, purpose="evaluate", last="popularity")
    disturbed = Storage(spark, config)
    compared = [table for table in COMPARED if disturbed.exists(table)]
    assert len(compared) >= 9
    for table in compared:
        folds = ("valid", "test")
        assert rows_of(disturbed, table, folds) == rows_of(undisturbed, table, folds), table.full_name


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", range(5))
def test_killed_at_a_random_moment_then_run_again(shop: Any, tmp_path: Path, moment: int) -> None:
    spark, _, undisturbed, _ = shop
    draw = random.Random(20_000 + moment)
    settings = write_whole_shop(tmp_path)
    config = Config.model_validate(settings)
    stage = draw.choice([stage.name for stage in STAGES if stage.is_on(config)])
    killed_run(tmp_path, settings, stage, draw.uniform(0.0, 4.0))
    run(spark, config)
    disturbed = Storage(spark, config)
    compared = [table for table in COMPARED if undisturbed.exists(table)]
    assert len(compared) > 20
    for table in compared:
        assert rows_of(disturbed, table) == rows_of(undisturbed, table), (stage, table.full_name)
