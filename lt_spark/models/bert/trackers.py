"""Who hears of the epochs: TensorBoard files, and MLflow or W&B where they are installed and configured."""

import importlib.util
import math
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from lt_spark.core.files import Folder

if TYPE_CHECKING:
    from lt_spark.models.bert.task import Epoch, TrainTask


class _Tracker(Protocol):
    def log(self, values: dict[str, float], epoch: int) -> None:
        """Write an epoch's values."""

    def close(self) -> None:
        """End the record."""


class Trackers:
    """All trackers of a training; of several processes, the first one's."""

    def __init__(self, task: "TrainTask", rank: int) -> None:
        """Bind the training; nothing is opened before the ``with``."""
        self._task, self._rank = task, rank
        self._open: list[_Tracker] = []

    def __enter__(self) -> "Trackers":
        """Open what is installed and configured."""
        if self._rank == 0:
            task = self._task
            settings = {**task.section.model_dump(mode="json"), "objective": task.objective, "seed": task.seed}
            if task.logs and importlib.util.find_spec("tensorboard"):
                self._open.append(_TensorBoard(task.logs))
            if os.environ.get("MLFLOW_TRACKING_URI") and importlib.util.find_spec("mlflow"):
                self._open.append(_MLflow(task.run_name, settings))
            if _wandb_is_configured() and importlib.util.find_spec("wandb"):
                self._open.append(_WandB(task.run_name, settings))
        return self

    def log(self, epoch: "Epoch") -> None:
        """Write an epoch; what is not a number is left out."""
        values = {
            "loss": epoch.loss,
            "ndcg_10": epoch.ndcg,
            "ndcg_10_tail": epoch.ndcg_tail,
            "learning_rate": epoch.learning_rate,
            "seconds": epoch.seconds,
        }
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        for tracker in self._open:
            tracker.log(known, epoch.epoch)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all, whatever happened."""
        for tracker in self._open:
            tracker.close()


class _TensorBoard:
    """Writes beside the training and copies to the folder at each epoch: it may be an object store."""

    def __init__(self, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._local = tempfile.TemporaryDirectory()
        self._folder = Folder(folder)
        self._writer: Any = SummaryWriter(self._local.name)

    def log(self, values: dict[str, float], epoch: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
        for file in Path(self._local.name).iterdir():
            self._folder.write(file.name, file.read_bytes())

    def close(self) -> None:
        self._writer.close()
        self._local.cleanup()


class _MLflow:
    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        import mlflow

        self._mlflow: Any = mlflow
        # a run that somebody opened around the pipeline gets this one as its child
        self._mlflow.start_run(run_name=name, nested=self._mlflow.active_run() is not None)
        self._mlflow.log_params(settings)

    def log(self, values: dict[str, float], epoch: int) -> None:
        self._mlflow.log_metrics(values, step=epoch)

    def close(self) -> None:
        self._mlflow.end_run()


class _WandB:
    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        import wandb

        self._run: Any = wandb.init(name=name, config=settings, reinit=True)

    def log(self, values: dict[str, float], epoch: int) -> None:
        self._run.log(values, step=epoch)

    def close(self) -> None:
        self._run.finish()


def _wandb_is_configured() -> bool:
    return bool(os.environ.get("WANDB_API_KEY")) or os.environ.get("WANDB_MODE") == "offline"
