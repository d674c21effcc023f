"""TensorBoard files beside the checkpoints; MLflow and W&B where they are installed and configured, else nothing."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from lt_spark.models.bert import trackers
from lt_spark.models.bert.train import train
from tests.models.bert.small_export import SmallExport


def test_tensorboard_reads_loss_and_ndcg_of_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is in the extra bert alone")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    export = SmallExport(tmp_path).write()
    trained = train(export.task(n_epochs=3, logs=str(tmp_path / "logs")))
    found = EventAccumulator(str(tmp_path / "logs"))
    found.Reload()
    for name, values in (("loss", [e.loss for e in trained.epochs]), ("ndcg_10", [e.ndcg for e in trained.epochs])):
        scalars = found.Scalars(name)
        assert [event.step for event in scalars] == [1, 2, 3]
        assert [event.value for event in scalars] == pytest.approx(values, abs=1e-6)


class Spy(types.ModuleType):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments or options))
            return self if name == "init" else None

        return call


_OF_MLFLOW = ["active_run", "start_run", "log_params", "log_metrics", "end_run"]


@pytest.mark.parametrize(
    ("library", "variable", "value", "expected"),
    [
        ("mlflow", "MLFLOW_TRACKING_URI", "file:/nowhere", _OF_MLFLOW),
        ("wandb", "WANDB_API_KEY", "key", ["init", "log", "finish"]),
    ],
)  # fmt: skip
def test_a_tracker_hears_of_epochs_where_it_is_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, variable: str, value: str, expected: list[str]
) -> None:
    spy, real = Spy(library), trackers.importlib.util.find_spec
    monkeypatch.setitem(sys.modules, library, spy)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: spy if name == library else real(name))
    export = SmallExport(tmp_path).write()
    train(export.task("without", n_epochs=1))
    assert spy.calls == []
    monkeypatch.setenv(variable, value)
    train(export.task("with", n_epochs=1))
    assert [name for name, _ in spy.calls] == expected


def test_other_processes_stay_silent(tmp_path: Path) -> None:
    export = SmallExport(tmp_path).write()
    with trackers.Trackers(export.task(logs=str(tmp_path / "logs")), rank=1) as silent:
        assert silent._open == []
    assert not (tmp_path / "logs").exists()
