"""RecTools' SASRec or BERT4Rec on one fold; bert_against_rectools.py runs it in an environment that has RecTools.

    python rectools_side.py FOLD.npz '{"model": "SASRec", "epochs": 30, "patience": 5, "seed": 42, "n_factors": 64}'

FOLD.npz: user, item (the known events, each user's oldest first), asked, target, is_tail (a row a question), n_items.
What is no setting of this script goes to the model as it is. With "packed" the loss is computed of the places that have
a target alone: the same number and gradient without the scores of padding. With "max_windows" the older windows of a
history are learnt too, each as a user of its own. Prints a JSON line an epoch; does not import lt_spark.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

K = 10


class Fold:
    """What a fold knows and asks."""

    def __init__(self, path: str | Path) -> None:
        with np.load(path) as file:
            self.user, self.item = file["user"], file["item"]
            self.asked, self.target, self.is_tail = file["asked"], file["target"], file["is_tail"]
            self.n_items = int(file["n_items"])
        self.n_known = np.bincount(self.item, minlength=self.n_items)
        self._starts = np.searchsorted(self.user, np.arange(self.user.max() + 2))

    def history(self, user: int) -> Any:
        return self.item[self._starts[user] : self._starts[user + 1]]

    def ndcg(self, rows: Any, scores: Any) -> tuple[float, float]:
        """Return NDCG@10 of all questions and of those with a tail target.

        Args:
            rows: the questions that were answered; the others count as 0.
            scores: (n rows, n_items); -inf for items that are not ranked. What a user has is masked here.
        """
        gains = np.zeros(len(self.asked))
        for row, own in zip(rows, scores, strict=True):
            score = own[self.target[row]]
            if np.isneginf(score):
                continue
            own = own.copy()
            own[self.history(self.asked[row])] = -np.inf
            rank = int((own >= score).sum())  # the target itself is one of them; ties count against it
            gains[row] = 1 / np.log2(rank + 1) if rank <= K else 0.0
        return float(gains.mean()), float(gains[self.is_tail].mean())


def windows(history: Any, length: int, max_windows: int) -> list[Any]:
    """Cut a history, from the newest event backwards, as lt_spark's ``sequences.windows`` does."""
    ends = [len(history) - number * length for number in range(max_windows)]
    cut = [history[max(0, end - length - 1) : end] for end in ends if end >= 1]
    return [window for window in cut if len(window) > 1]


def packed_module() -> Any:
    """Return RecTools' training module with the loss of the places that have a target alone."""
    from rectools.models.nn.transformers.lightning import TransformerLightningModule
    from torch.nn.functional import cross_entropy

    class Packed(TransformerLightningModule):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
            model, is_asked = self.torch_model, batch["y"] != 0
            items = model.item_model.get_all_embeddings()
            outputs = model.encode_sessions(batch, items)[is_asked]
            losses = cross_entropy(outputs @ items.T, batch["y"][is_asked], reduction="none") * batch["yw"][is_asked]
            loss = losses.sum() / (losses > 0).sum()
            self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
            return loss

    return Packed


def judged(module: Any, dataset: Any, fold: Fold, device: str) -> tuple[float, float]:
    """Return NDCG@10 (all, tail) of a model in training."""
    preparator = module.data_preparator
    known = preparator.transform_dataset_u2i(dataset, fold.asked)
    users, items = module._get_user_item_embeddings(preparator.get_dataloader_recommend(known, 256), device)
    module.train()
    row_of = {user: row for row, user in enumerate(fold.asked)}
    rows = np.array([row_of[user] for user in known.user_id_map.external_ids])
    scores = np.full((len(rows), fold.n_items), -np.inf, np.float32)
    scores[:, preparator.get_known_item_ids().astype(int)] = (
        users.cpu().numpy() @ items.detach().cpu().numpy()[preparator.n_item_extra_tokens :].T
    )
    return fold.ndcg(rows, scores)


def judge(dataset: Any, fold: Fold, epochs: int, every: int, patience: int | None, device: str) -> Any:
    """Return a callback that prints a line an epoch, and ends the training when valid gets no better."""
    from pytorch_lightning import Callback

    class Judge(Callback):
        def __init__(self) -> None:
            self.best, self.best_epoch = -1.0, 0

        def __deepcopy__(self, memo: Any) -> "Judge":
            return self

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            self.wall, self.cpu = time.monotonic(), time.process_time()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epoch = trainer.current_epoch + 1
            line = {
                "epoch": epoch,
                "seconds": time.monotonic() - self.wall,
                "cpu_seconds": time.process_time() - self.cpu,
                "loss": float(trainer.callback_metrics.get("train_loss", np.nan)),
            }
            if epoch % every == 0 or epoch == epochs:
                line["ndcg"], line["ndcg_tail"] = judged(pl_module, dataset, fold, device)
                if line["ndcg"] > self.best:
                    self.best, self.best_epoch = line["ndcg"], epoch
                trainer.should_stop = patience is not None and epoch - self.best_epoch >= patience
            print(json.dumps(line), flush=True)

    return Judge()


def main(path: str, text: str) -> None:
    settings = json.loads(text)
    name, epochs, seed = settings.pop("model"), settings.pop("epochs"), settings.pop("seed")
    patience, every = settings.pop("patience", None), settings.pop("every", 1)
    device = settings.pop("device", "cpu")

    import pandas as pd
    import torch
    from pytorch_lightning import Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import BERT4RecModel, SASRecModel

    warnings.filterwarnings("ignore")
    torch.set_num_threads(settings.pop("threads", 1))
    seed_everything(seed, workers=True, verbose=False)
    fold = Fold(path)

    def as_dataset(user: Any, item: Any) -> Any:
        times = pd.to_datetime(np.arange(len(user)), unit="s")
        names = [Columns.User, Columns.Item, Columns.Weight, Columns.Datetime]
        return Dataset.construct(pd.DataFrame(dict(zip(names, (user, item, 1.0, times), strict=True))))

    dataset = as_dataset(fold.user, fold.item)
    learnt, max_windows = dataset, settings.pop("max_windows", 0)
    if max_windows:
        length = settings["session_max_len"]
        cut = [w for user in np.unique(fold.user) for w in windows(fold.history(user), length, max_windows)]
        learnt = as_dataset(np.repeat(np.arange(len(cut)), [len(w) for w in cut]), np.concatenate(cut))
    if settings.pop("packed", False):
        settings["lightning_module_type"] = packed_module()

    def trainer() -> Any:
        return Trainer(
            max_epochs=epochs, min_epochs=1, accelerator={"cuda": "gpu"}.get(device, device), devices=1,
            enable_checkpointing=False, logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[judge(dataset, fold, epochs, every, patience, device)],
        )  # fmt: skip

    kind = {"SASRec": SASRecModel, "BERT4Rec": BERT4RecModel}[name]
    kind(epochs=epochs, get_trainer_func=trainer, train_min_user_interactions=2, **settings).fit(learnt)


if __name__ == "__main__":
    main(*sys.argv[1:])
