"""Training: AdamW, a rate that rises and falls, stopped where valid grows no better; the best epoch's weights stay."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import EngineError
from lt_spark.models.text_bert.data import Pairs, TrainingSet, ValidSet, batches, log_shares, masked_negatives
from lt_spark.models.text_bert.judge import judge
from lt_spark.models.text_bert.tower import Tower, seeded


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to; epoch 0 is the encoder before it learnt.

    Attributes:
        epoch: its number, from 0.
        loss: mean over the epoch's pairs; None for epoch 0.
        ndcg: NDCG@10 of all on valid; None where it was not looked at, or there are no targets.
        ndcg_tail: of tail targets.
        ndcg_cold: of cold targets.
        seconds: time of the epoch, judging included.
        is_chosen: whether its weights are the result.
    """

    epoch: int
    loss: float | None
    ndcg: float | None
    ndcg_tail: float | None
    ndcg_cold: float | None
    seconds: float
    is_chosen: bool = False


def n_steps(n_pairs: int, section: TextBertConfig) -> int:
    """Return the steps of all epochs, which the rate falls over whether or not they are all done."""
    return section.epochs * math.ceil(n_pairs / section.batch_size)


def learning_rate(step: int, steps: int, section: TextBertConfig) -> float:
    """Return the rate of a step (from 0): linear from near 0 to the highest, then linear to near 0."""
    warmup = int(section.warmup_share * steps)
    if step < warmup:
        return section.rate * (step + 1) / (warmup + 1)
    return section.rate * (steps - step) / max(1, steps - warmup)


def train(
    tower: Tower,
    training: TrainingSet,
    valid: ValidSet | None,
    *,
    seed: int,
    n_epochs: int | None = None,
    tail_importance: float = 1.0,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Epoch]:
    """Train a tower; afterwards it holds the chosen epoch's weights.

    With users of valid the epoch of the best NDCG@10 of all + ``tail_importance`` x the tail's is chosen; epoch 0, the
    untouched encoder, may be it. Without any, nothing is looked at and the last epoch is chosen. One seed, one thread:
    one result.

    Args:
        tower: as ``build`` made it, with ``n_steps`` of this training.
        training: what to learn from.
        valid: the users that choose; None or empty: nobody.
        seed: of the batches' order and of dropout.
        n_epochs: epochs to do where nobody chooses, 0 among them; None: ``section.epochs``.
        tail_importance: weight of the tail in the choice.
        tell: told of progress.

    Returns:
        A row an epoch, epoch 0 first.

    Raises:
        EngineError: a loss is not a number.
    """
    looks = valid if valid is not None and len(valid) else None
    most = tower.section.epochs if looks is not None or n_epochs is None else n_epochs
    with seeded(seed):
        learner = _Learner(tower, training, seed, tell)
        rows = [_looked_at(tower, training, looks, 0, None, time.perf_counter())]
        best, kept = 0, tower.state()
        for number in range(1, most + 1):
            began = time.perf_counter()
            loss = learner.epoch(number)
            rows.append(_looked_at(tower, training, looks, number, loss, began))
            tell(_told(rows[-1], most))
            if looks is None or _goal(rows[number], tail_importance) > _goal(rows[best], tail_importance):
                best, kept = number, tower.state()
            elif number - best >= tower.section.patience:
                break
        tower.set_state(kept)
    return [replace(row, is_chosen=row.epoch == best) for row in rows]


class _Learner:
    """The optimizer, and where it is in its plan."""

    def __init__(self, tower: Tower, training: TrainingSet, seed: int, tell: Callable[[str], None]) -> None:
        import torch

        section = tower.section
        learning = tower.learning()
        groups = [
            # biases and norms are not pulled to zero
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": section.weight_decay},
            {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, lr=section.rate)
        self._tower, self._training, self._seed, self._tell = tower, training, seed, tell
        shares = log_shares(training.pairs.targets)
        self._log_q = shares if section.logq_correction else np.zeros_like(shares)
        self._steps = n_steps(len(training.pairs), section)
        self._step = 0

    def epoch(self, number: int) -> float:
        """Learn from each pair once; return the mean loss."""
        section, pairs = self._tower.section, self._training.pairs
        total, done, told = 0.0, 0, time.perf_counter()
        self._tower.model.train()
        for nth, places in enumerate(batches(len(pairs), section.batch_size, self._seed, number), start=1):
            loss = batch_loss(self._tower, self._training, pairs.take(places), self._log_q[places])
            value = float(loss.detach())
            if not math.isfinite(value):
                raise EngineError(
                    f"text_bert: the loss is {value} in epoch {number}, batch {nth}: expected a finite number. Lower "
                    f"text_bert.learning_rate (now {section.rate}), or raise text_bert.temperature (now "
                    f"{section.temperature})."
                )
            self._learn(loss + self._tower.penalty())
            total, done = total + value * len(places), done + len(places)
            if time.perf_counter() - told > 10:
                told = time.perf_counter()
                self._tell(f"epoch {number}: {done:,} of {len(pairs):,} pairs")
        self._tower.model.eval()
        return total / done

    def _learn(self, loss: Any) -> None:
        import torch

        section = self._tower.section
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(self._step, self._steps, section)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._tower.learning(), section.clip_norm)
        self._optimizer.step()
        self._step += 1
        self._tower.allocate(self._step)
        self._optimizer.zero_grad(set_to_none=True)


def batch_loss(tower: Tower, training: TrainingSet, batch: Pairs, log_q: Any) -> Any:
    """Return a batch's loss as a tensor.

    Args:
        tower: in training mode.
        training: for the texts, and what users know.
        batch: b pairs.
        log_q: (b,) log of the targets' shares.
    """
    import torch

    from lt_spark.models.text_bert.loss import info_nce

    section, catalogue, b = tower.section, training.catalogue, len(batch)
    histories = tower.vectors([catalogue.history(history) for history in batch.histories], section.max_tokens)
    # each text once, whoever needs it
    items, place = np.unique(np.concatenate([batch.targets, *batch.hard]), return_inverse=True)
    vectors = tower.vectors([catalogue.texts[int(item)] for item in items], section.item_max_tokens)
    width = max(len(near) for near in batch.hard)
    hard, is_hard, at = np.zeros((b, width), np.int64), np.zeros((b, width), np.bool_), b
    for row, near in enumerate(batch.hard):
        hard[row, : len(near)], is_hard[row, : len(near)] = place[at : at + len(near)], True
        at += len(near)
    weights = batch.weights if section.use_weights else np.ones(b)

    def on_device(values: Any) -> Any:
        return torch.from_numpy(values).to(tower.device)

    return info_nce(
        histories,
        vectors[on_device(place[:b].astype(np.int64))],
        vectors[on_device(hard)],
        on_device(masked_negatives(batch, training.known)),
        on_device(is_hard),
        on_device(np.asarray(log_q, np.float32)),
        on_device(weights.astype(np.float32)),
        section.temperature,
    )


def _looked_at(
    tower: Tower, training: TrainingSet, valid: ValidSet | None, number: int, loss: float | None, began: float
) -> Epoch:
    if valid is None:
        return Epoch(number, loss, None, None, None, time.perf_counter() - began)
    found = judge(tower, valid, training.catalogue)
    means = (found.mean("all"), found.mean("tail"), found.mean("cold"))
    return Epoch(number, loss, *means, time.perf_counter() - began)


def _goal(row: Epoch, tail_importance: float) -> float:
    return (row.ndcg or 0.0) + tail_importance * (row.ndcg_tail or 0.0)


def _told(row: Epoch, most: int) -> str:
    ndcg = "" if row.ndcg is None else f", NDCG@10 {row.ndcg:.4f}, tail {row.ndcg_tail or 0.0:.4f}"
    return f"epoch {row.epoch} of {most}: loss {row.loss:.4f}{ndcg}, {row.seconds:,.0f} s"
