"""What a training is told, and what it brings. No torch: the driver reads it too."""

import math
from dataclasses import dataclass

from lt_spark.core.config_models import BertConfig, Objective


@dataclass(frozen=True)
class TrainTask:
    """What a training process needs: settings, and names of folders; small, and sent with the task.

    Attributes:
        section: section ``bert``.
        objective: causal or masked.
        seed: of the run.
        windows: export of the windows.
        items: Parquet of the items, as ``inputs.read_items`` reads it.
        questions: Parquet of the users that an epoch is judged by; empty: nothing is looked at.
        checkpoints: where checkpoints go; this training's alone.
        n_epochs: epochs to train; None: until ``patience`` epochs in a row were no better on the questions.
        start_from: an epoch's checkpoint that the weights are taken from; empty: random ones.
        logs: folder of the TensorBoard files; empty: none.
        run_name: what trackers call the training.
    """

    section: BertConfig
    objective: Objective
    seed: int
    windows: str
    items: str
    questions: str
    checkpoints: str
    n_epochs: int | None = None
    start_from: str = ""
    logs: str = ""
    run_name: str = "bert"


@dataclass(frozen=True)
class Epoch:
    """What an epoch brought.

    Attributes:
        loss: weighted mean over the guessed places.
        ndcg: NDCG@10 of all users that it was judged by; NaN where nothing was looked at.
        ndcg_tail: the same of users with a tail target.
        n_rows: windows read, over all processes.
        seconds: of the steps, without the looking.
    """

    epoch: int
    loss: float
    ndcg: float
    ndcg_tail: float
    learning_rate: float
    n_rows: int
    seconds: float

    @property
    def score(self) -> float:
        """What an epoch is chosen by."""
        return self.ndcg + (0.0 if math.isnan(self.ndcg_tail) else self.ndcg_tail)


@dataclass(frozen=True)
class Trained:
    """The epochs of a training, in order, and the one whose checkpoint is its result."""

    epochs: tuple[Epoch, ...]
    chosen: int

    @property
    def best(self) -> Epoch:
        """The chosen epoch."""
        return next(epoch for epoch in self.epochs if epoch.epoch == self.chosen)


def told(epoch: Epoch, chosen: int) -> str:
    """Return an epoch in a line for people."""
    text = f"epoch {epoch.epoch}, loss {epoch.loss:.4f}"
    if not math.isnan(epoch.ndcg):
        text += f", NDCG@10 on valid {epoch.ndcg:.4f}, tail {epoch.ndcg_tail:.4f}, best epoch {chosen}"
    return f"{text}, {epoch.seconds:.1f} s"
