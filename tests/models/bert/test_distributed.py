"""Many processes: the same rows an epoch, the same steps as one, nobody waits for ever, a lost one is replaced."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lt_spark.core.errors import ConfigError, TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert import distributed
from lt_spark.models.bert.distributed import run_training
from lt_spark.models.bert.train import train
from tests.clusters import started
from tests.models.bert.small_export import SmallExport, losses, section

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def export(tmp_path: Path) -> SmallExport:
    return SmallExport(tmp_path, n_shards=3).write()


def test_two_processes_learn_as_one(spark: Any, export: SmallExport) -> None:
    # without dropout, and with one batch an epoch, a step's rows are the same however they are dealt
    options = {"n_epochs": 3, "dropout": 0.0, "batch_size": 120}
    one = train(export.task("one", **options))
    told: list[str] = []
    two = run_training(spark, export.task("two", **options, num_processes=2), told.append)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert [epoch.n_rows for epoch in two.epochs] == [60] * 3
    weights = [saved.weights(saved.newest(Folder(export.task(name).checkpoints))) for name in ("one", "two")]
    for name, value in weights[0].items():
        assert np.allclose(value, weights[1][name], atol=1e-4), name


def test_uneven_and_empty_shards_hang_nobody(spark: Any, tmp_path: Path) -> None:
    export = SmallExport(tmp_path, n_shards=1).write()
    trained = run_training(spark, export.task(n_epochs=2, num_processes=2, timeout_s=60.0))
    assert [epoch.n_rows for epoch in trained.epochs] == [60, 60]


def test_a_killed_process_fails_the_stage_and_the_training_goes_on(spark: Any, export: SmallExport) -> None:
    options: dict[str, Any] = {"n_epochs": 40, "epochs": 40, "num_processes": 2, "timeout_s": 60.0}
    task, told, killed = export.task(**options), [], []

    def kill_one() -> None:
        while not killed:
            newest = saved.newest(Folder(task.checkpoints))
            ranks = started("/train.py")
            if newest is not None and newest.epoch >= 3 and ranks:
                os.kill(ranks[-1], signal.SIGKILL)
                killed.append((ranks[-1], newest.epoch))
            time.sleep(0.02)

    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    began = time.monotonic()
    trained = run_training(spark, task, told.append)
    assert killed
    assert time.monotonic() - began < 300
    restarts = [text for text in told if "it goes on from" in text]
    assert len(restarts) == 1
    assert "goes on from epoch" in restarts[0]
    assert len(trained.epochs) == 40
    assert losses(trained) == pytest.approx(losses(run_training(spark, export.task("whole", **options))), rel=1e-6)


def test_a_process_that_always_fails_is_told_with_its_own_traceback(spark: Any, export: SmallExport) -> None:
    task = export.task(n_epochs=2, num_processes=2, max_restarts=1, timeout_s=30.0)
    items = next(Path(task.items).glob("*.parquet"))
    pq.write_table(pq.read_table(items).drop_columns(["is_recommendable"]), items)
    told: list[str] = []
    with pytest.raises(TrainingError, match=r"failed 2 times(?s:.*)process \d: Traceback(?s:.*)is_recommendable"):
        run_training(spark, task, told.append)
    assert len(told) == 1


def test_what_the_user_must_mend_is_not_tried_again(spark: Any, export: SmallExport) -> None:
    run_training(spark, export.task(n_epochs=1, num_processes=2))
    told: list[str] = []
    with pytest.raises(TrainingError, match="embedding_size: expected 32, found 16"):
        run_training(spark, export.task(n_epochs=2, num_processes=2, embedding_size=32), told.append)
    assert told == []


class _Context:
    def __init__(self, master: str, slots: int, **conf: str) -> None:
        self.master, self.defaultParallelism, self._conf = master, slots, conf

    def getConf(self) -> Any:
        return self

    def get(self, name: str, default: str = "") -> str:
        return self._conf.get(name.replace(".", "_"), default)


def test_too_few_slots_are_told_before_anything_waits() -> None:
    class Session:
        sparkContext = _Context("spark://here:7077", 1)

    with pytest.raises(ConfigError, match="the cluster runs 1 tasks at once"):
        distributed.check_slots(Session(), section(num_processes=2))  # type: ignore[arg-type]
    Session.sparkContext = _Context("spark://here:7077", 8, spark_dynamicAllocation_enabled="true")
    with pytest.raises(ConfigError, match=r"spark\.dynamicAllocation\.enabled=false"):
        distributed.check_slots(Session(), section(num_processes=2))  # type: ignore[arg-type]
