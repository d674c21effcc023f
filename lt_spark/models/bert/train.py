"""The training of one process: windows in, a checkpoint an epoch out."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow  # noqa: F401 - before torch, or the two libraries' threads clash
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lt_spark.core.config_models import BertConfig, Objective
from lt_spark.core.errors import DataError, TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert import validation
from lt_spark.models.bert.extras import adversarial_step, contrastive_loss, popularity_adjustment
from lt_spark.models.bert.inputs import Items, read_items, read_questions
from lt_spark.models.bert.loader import Batch, make_loader
from lt_spark.models.bert.loss import drawing_chances, full_softmax, sampled_softmax
from lt_spark.models.bert.manifest import PAD, Manifest, read_manifest
from lt_spark.models.bert.network import SequenceNetwork, Shape
from lt_spark.models.bert.objectives import guessed
from lt_spark.models.bert.processes import Ranks, number_format, ranks
from lt_spark.models.bert.serve import SERVED, write_served
from lt_spark.models.bert.task import Epoch, Trained, TrainTask, told
from lt_spark.models.bert.trackers import Trackers

_WINDOWS, _NETWORK, _STEPS = 1, 2, 3
"""What a seed is for; each draws on its own."""
_EVENTS_OF_A_STEP = 1_500


def train(task: TrainTask, tell: Callable[[str], None] = lambda text: None) -> Trained:
    """Train, or go on from the newest whole checkpoint of the same training.

    Of several processes each calls this with the same task; the gradient of a step is that of one process with all
    their rows. A process whose rows have ended takes part without any until all have: no row is left out.

    Args:
        task: what to do.
        tell: hears of each epoch (first process only).

    Raises:
        TrainingError: the loss is no number, or the checkpoint is of another training.
        DataError: there is nothing to learn from, or rows were lost on the way.
    """
    with ranks(task.section) as here:
        return _Trainer(task, here).run(tell)


def serve(task: TrainTask, epoch: int) -> str:
    """Make an epoch's network ready to be asked, beside its checkpoints; return the hash of its weights."""
    root = Folder(task.checkpoints)
    found = saved.whole(root, epoch)
    if found is None:
        raise TrainingError(f"the checkpoint of epoch {epoch} at {root.uri} is not whole: run the stage again")
    items = read_items(task.items)
    network = build_network(task.section, task.objective, items, read_manifest(Folder(task.windows)).length)
    saved.restore_network(found, network)
    return write_served(network.eval(), root.child(SERVED))


def build_network(task_section: BertConfig, objective: Objective, items: Items, length: int) -> SequenceNetwork:
    """Return a network with random weights for a catalogue."""
    section = task_section
    text = torch.from_numpy(items.text if section.use_text else items.text[:, :0])
    shape = Shape(
        objective,
        len(items),
        length,
        section.embedding_size,
        section.n_layers,
        section.n_heads,
        text.shape[1],
    )
    support = torch.from_numpy(items.n_known)
    return SequenceNetwork(
        shape,
        text,
        support,
        dropout=section.dropout,
        id_support=section.id_support,
        hides=section.contrastive > 0,
    )


class _Trainer:
    def __init__(self, task: TrainTask, here: Ranks) -> None:
        self.task, self.here, self.section = task, here, task.section
        self.manifest = read_manifest(Folder(task.windows))
        self.root = Folder(task.checkpoints)
        self.items = read_items(task.items)
        _check_rows(self.manifest, self.items)
        self.questions = read_questions(task.questions, self.manifest.length) if task.questions else None
        _seed(task.seed, _NETWORK)
        network = build_network(self.section, task.objective, self.items, self.manifest.length)
        if task.start_from:
            from lt_spark.models.bert.grow import start_from

            start_from(network, Folder(task.start_from))
        self.network = network.to(here.device)
        step = _StepLoss(self.network, self.section, self.items, task.objective)
        self.step: nn.Module = step
        if here.is_group:
            self.step = DistributedDataParallel(step)
        self.n_epochs = task.n_epochs or self.section.epochs
        self.optimizer = _optimizer(self.network, self.section)
        # the length of the schedule is the conf's, whatever epoch the training ends at: valid's choice holds for test
        batch_size = windows_of_a_step(self.section, self.manifest)
        n_steps = self.section.epochs * math.ceil(self.manifest.n_rows / batch_size)
        self.schedule = _Schedule(self.section, n_steps)
        self.format = number_format(self.section, here.device)
        self.scaler = torch.amp.GradScaler(enabled=self.format == torch.float16)
        self.loader = make_loader(
            self.section.loader,
            task.windows,
            batch_size=max(1, batch_size // here.world),
            seed=task.seed,
            rank=here.rank,
            world=here.world,
            shuffle_rows=self.section.shuffle_rows,
            workers_count=self.section.workers_count,
        )
        self.n_steps = 0
        self.epochs: list[Epoch] = []

    def run(self, tell: Callable[[str], None]) -> Trained:
        self._resume()
        with Trackers(self.task, self.here.rank) as trackers:
            while not self._is_done():
                number = len(self.epochs) + 1
                epoch = self._epoch(number)
                self.epochs.append(epoch)
                self._save(number)
                if self.here.rank == 0:
                    trackers.log(epoch)
                    tell(told(epoch, self._chosen()))
        return Trained(tuple(self.epochs), self._chosen())

    def _is_done(self) -> bool:
        if len(self.epochs) >= self.n_epochs:
            return True
        early = self.task.n_epochs is None and self.questions is not None and bool(self.epochs)
        return early and len(self.epochs) - self._chosen() >= self.section.patience

    def _chosen(self) -> int:
        """Return the best epoch so far (the first of equals), or the last where nothing was looked at."""
        if self.questions is None:
            return len(self.epochs)
        return max(self.epochs, key=lambda epoch: (epoch.score, -epoch.epoch)).epoch

    def _epoch(self, number: int) -> Epoch:
        started = time.monotonic()
        _seed(self.task.seed, _STEPS, number, self.here.rank)
        sums = torch.zeros(3, dtype=torch.float64)  # loss, weight, rows
        self.network.train()
        for at, batch in enumerate(self._batches(number)):
            sums += self._step(batch, number, at)
        sums = self.here.total(sums)
        seconds = time.monotonic() - started
        if int(sums[2]) != self.manifest.n_rows:
            raise DataError(
                f"epoch {number}: expected {self.manifest.n_rows} windows over all processes, found {int(sums[2])}. "
                "Rows were lost on the way: run the stage again."
            )
        ndcg, ndcg_tail = self._judge()
        loss = float(sums[0] / sums[1]) if sums[1] > 0 else math.nan
        return Epoch(number, loss, ndcg, ndcg_tail, self.schedule.rate, int(sums[2]), seconds)

    def _batches(self, number: int) -> Iterator[Batch | None]:
        """Yield this process's batches, then None for as long as another process has one."""
        own = self.loader.epoch(number)
        while True:
            batch = next(own, None)
            if self.here.total(torch.tensor([float(batch is not None)]))[0] == 0:
                return
            yield batch

    def _step(self, batch: Batch | None, number: int, at: int) -> Tensor:
        """Learn from a batch; return (3,): its summed loss, weight and rows."""
        length = self.manifest.length + 1
        if batch is None:
            items, weights = torch.full((1, length), PAD), torch.zeros(1, length)
        else:
            items, weights = batch.items, batch.weights
        device = self.here.device
        rate = self.schedule.rate_at(self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs = items.to(device), weights.to(device)
        loss, weight = self._forward(*inputs)
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at epoch {number}, batch {at}, process {self.here.rank}: nothing "
                "was overwritten, the last checkpoint stands. Lower bert.learning_rate, or set bert.dtype: float32."
            )
        total = self.here.total(weight.detach().cpu().reshape(1))[0]
        # DistributedDataParallel takes the mean of the processes' gradients
        share = self.here.world / max(float(total), 1e-9)
        self.optimizer.zero_grad(set_to_none=True)
        self._backward(loss * share)
        adversarial_step(
            self.network.items.ids.weight,
            self.section.adversarial,
            lambda: self._backward(self._forward(*inputs)[0] * share),
        )
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.section.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.n_steps += 1
        n_rows = 0 if batch is None else len(batch.items)
        return torch.tensor([float(loss.detach()), float(weight), float(n_rows)], dtype=torch.float64)

    def _forward(self, items: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.here.device.partition(":")[0]
        with torch.autocast(kind, self.format, enabled=self.format != torch.float32):
            loss, weight = self.step(items, weights)
        return loss, weight

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def _judge(self) -> tuple[float, float]:
        if self.questions is None:
            return math.nan, math.nan
        here = self.here
        sums = validation.ndcg_sums(self.network, self.items, self.questions, here.device, here.rank, here.world)
        total = here.total(torch.from_numpy(sums)).numpy()
        ndcg, tail = (float(total[at] / total[at + 1]) if total[at + 1] else math.nan for at in (0, 2))
        return ndcg, tail

    def _identity(self) -> dict[str, Any]:
        section = self.section.model_dump(mode="json", exclude=set(_NO_MATTER))
        shape = asdict(self.network.shape)
        rows = {"fold": self.manifest.fold, "n_rows": self.manifest.n_rows, "n_events": self.manifest.n_events}
        start = {"seed": self.task.seed, "start_from": self.task.start_from}
        return {**section, **shape, **rows, **start}

    def _save(self, number: int) -> None:
        if self.here.rank == 0:
            state = {
                "epochs": [asdict(epoch) for epoch in self.epochs],
                "n_steps": self.n_steps,
                "chosen": self._chosen(),
                "scaler": self.scaler.state_dict(),
            }
            saved.save(self.root, number, self.network, self.optimizer, self._identity(), state)
            saved.prune(self.root, {self._chosen()})
        # none goes on before the checkpoint is there: a process that fails now restarts from it
        self.here.total(torch.zeros(1))

    def _resume(self) -> None:
        found = saved.newest(self.root)
        if found is None:
            return
        saved.check_identity(found, self._identity())
        saved.restore(found, self.network, self.optimizer)
        self.epochs = [Epoch(**epoch) for epoch in found.state["epochs"]]
        self.n_steps = int(found.state["n_steps"])
        self.scaler.load_state_dict(found.state["scaler"])


def windows_of_a_step(section: BertConfig, manifest: Manifest) -> int:
    """Return ``bert.batch_size``, or by the mean length of the windows what holds about as many events whatever it is.

    Long histories make few windows: a fixed number of them would be few steps an epoch, each of many events.
    """
    if section.batch_size is not None:
        return section.batch_size
    events_per_window = manifest.n_events / max(1, manifest.n_rows)
    return min(128, max(16, round(_EVENTS_OF_A_STEP / max(1.0, events_per_window))))


_NO_MATTER = (
    "objectives",
    "loader",
    "workers_count",
    "num_processes",
    "max_restarts",
    "timeout_s",
    "device",
    "export_max_age_days",
)
"""Settings that a training may go on with when they changed."""


class _StepLoss(nn.Module):
    """The summed loss and weight of a batch: one forward call, as DistributedDataParallel wants it."""

    def __init__(self, network: SequenceNetwork, section: BertConfig, items: Items, objective: Objective) -> None:
        super().__init__()
        self.network, self.section = network, section
        self.is_full = len(items) <= section.max_full_softmax_items
        chances = drawing_chances(torch.from_numpy(items.n_known))
        self.chances, self.bounds = chances, chances.cumsum(0)
        self.adjustment: Tensor | None = None
        if section.logit_adjustment:
            self.adjustment = popularity_adjustment(torch.from_numpy(items.n_known), section.logit_adjustment)

    def forward(self, items: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        section, generator = self.section, torch.default_generator
        loss, weight = self._guess(items, weights, generator)
        if section.contrastive:
            loss = loss + section.contrastive * contrastive_loss(self.network, items, weights, generator)
        return loss, weight

    def _guess(self, items: Tensor, weights: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        section = self.section
        adjustment = self.adjustment.to(items.device) if self.adjustment is not None else None
        outputs, targets, weights = guessed(
            self.network,
            items,
            weights,
            mask_share=section.mask_share,
            last_mask_share=section.last_mask_share,
            causal_share=section.causal_share,
            generator=generator,
        )
        if self.is_full:
            return full_softmax(outputs, self.network.items(), targets, weights, adjustment), weights.sum()
        drawn = torch.rand(section.n_negatives, dtype=torch.float64, generator=generator)
        negatives = torch.searchsorted(self.bounds, drawn).clamp(max=len(self.bounds) - 1)
        log_q = self.chances[negatives].log().float().to(items.device)
        negatives = negatives.to(items.device)
        vectors = self.network.items
        drawn_vectors = vectors(targets), vectors(negatives)
        loss = sampled_softmax(outputs, *drawn_vectors, targets, negatives, weights, log_q, adjustment)
        return loss, weights.sum()


class _Schedule:
    """A linear rise of the learning rate, then a linear fall to nothing at the conf's last epoch."""

    def __init__(self, section: BertConfig, n_steps: int) -> None:
        self._peak, self._n_steps = section.learning_rate, n_steps
        self._n_warmup = max(1, int(section.warmup_share * n_steps))
        self.rate = 0.0

    def rate_at(self, step: int) -> float:
        rising = (step + 1) / self._n_warmup
        falling = (self._n_steps - step) / max(1, self._n_steps - self._n_warmup)
        self.rate = self._peak * max(0.0, min(1.0, rising, falling))
        return self.rate


def _optimizer(network: nn.Module, section: BertConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay)


def _check_rows(manifest: Manifest, items: Items) -> None:
    if manifest.n_rows == 0:
        raise DataError(
            f"there is nothing to learn from in fold {manifest.fold}: expected users with at least two known events, "
            "found none. Leave bert out of blend.models, or give a log with longer histories."
        )
    if manifest.n_items != len(items):
        raise DataError(f"expected {manifest.n_items} items, as the export says, found {len(items)}: run it again")


def _seed(seed: int, *purpose: int) -> None:
    """Seed all that draws, for a purpose."""
    drawn = np.random.SeedSequence([seed, *purpose]).generate_state(2, np.uint64)
    torch.manual_seed(int(drawn[0]) & (2**63 - 1))
    np.random.seed(int(drawn[1]) & (2**32 - 1))
    random.seed(int(drawn[1]))
