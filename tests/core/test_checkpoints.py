"""A run's checkpoints: they keep the chain of an iterative fit short, and nothing of them stays."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core.checkpoints import checkpoints
from lt_spark.core.config import Config
from lt_spark.core.storage import Storage
from lt_spark.models.als import AlsSettings, fit_factors
from tests.small_shop import write_shop

pytestmark = pytest.mark.spark
LONG = 120
"""Iterations of ALS; without checkpoints Java ended after some fifteen."""


@pytest.fixture
def no_folder(spark: Any) -> Iterator[None]:
    """The session without a folder for checkpoints; afterwards as it was."""
    context = spark.sparkContext._jsc.sc()
    before = context.getCheckpointDir()
    put = getattr(context, "checkpointDir_$eq")  # what Scala assigns by
    put(spark._jvm.scala.Option.empty())
    yield
    put(before)


def storage(spark: Any, folder: Path, run_id: str) -> Storage:
    return Storage(spark, Config.model_validate({"files": {"root": str(folder)}}), run_id)


def test_als_leaves_checkpoints_while_the_run_is_on_and_none_after(spark: Any, tmp_path: Path, no_folder: None) -> None:
    ratings = spark.createDataFrame(
        [(user, user % 3, 1.0) for user in range(6)], "user_idx int, item_idx int, rating double"
    )
    settings = AlsSettings(2, 1.0, 0.1, 4, False, 1, 2, 7)
    with checkpoints(storage(spark, tmp_path, "run-1")):
        fit_factors(ratings, settings)
        assert len(list(tmp_path.glob("_lt_spark_scratch/run-1/checkpoints/*/rdd-*"))) == 1, "the newest"
    assert list(tmp_path.rglob("rdd-*")) == []
    # the session's next run has a folder of its own
    with checkpoints(storage(spark, tmp_path, "run-2")):
        assert "/run-2/" in spark.sparkContext.getCheckpointDir()


def test_a_folder_that_the_session_has_is_kept(spark: Any, tmp_path: Path, no_folder: None) -> None:
    spark.sparkContext.setCheckpointDir(str(tmp_path / "own"))
    own = spark.sparkContext.getCheckpointDir()
    with checkpoints(storage(spark, tmp_path, "run-1")):
        assert spark.sparkContext.getCheckpointDir() == own
    assert Path(own.removeprefix("file:")).is_dir()


@pytest.mark.slow
def test_many_iterations_do_not_fill_javas_stack(tmp_path: Path) -> None:
    # in a process of its own: a full stack in a task ends Java
    settings = write_shop(tmp_path, n_users=12)
    settings["als_plain"] = {"ranks": [4], "alphas": [1.0], "max_iter": LONG}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-c", "from lt_spark.cli import main; main()", "run", "-c", str(tmp_path / "conf.yaml")]
    done = subprocess.run(
        [*command, "--purpose", "evaluate", "--to", "tune_als"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-3_000:]
