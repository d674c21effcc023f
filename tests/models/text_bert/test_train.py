from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import EngineError
from lt_spark.models.text_bert import train as training
from lt_spark.models.text_bert.data import TrainingSet, ValidSet, read_training, read_valid
from lt_spark.models.text_bert.judge import judge
from lt_spark.models.text_bert.tower import Base, Tower, build
from lt_spark.models.text_bert.train import Epoch, learning_rate, n_steps, train
from tests.models.text_bert.tiny_bert import section, write_log


class Case:
    """A log on the disk, and towers that learn from it."""

    def __init__(self, base: Base, folder: Path, **changes: Any) -> None:
        self.base, self.folder = base, write_log(folder, **changes)

    def read(self, of: TextBertConfig) -> tuple[TrainingSet, ValidSet]:
        taught = read_training(self.folder, of)
        return taught, read_valid(self.folder, taught.catalogue)

    def train(self, looks: bool = True, seed: int = 1, **changes: Any) -> tuple[Tower, list[Epoch]]:
        of = section(**{name: value for name, value in changes.items() if name not in ("n_epochs", "tell")})
        taught, valid = self.read(of)
        tower = build(self.base, of, n_steps=n_steps(len(taught.pairs), of), seed=seed)
        options = {name: changes[name] for name in ("n_epochs", "tell") if name in changes}
        return tower, train(tower, taught, valid if looks else None, seed=seed, **options)


@pytest.fixture(scope="module")
def case(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Case:
    from tests.models.text_bert.tiny_bert import base_of

    return Case(base_of(tiny), tmp_path_factory.mktemp("log") / "rows")


def losses(rows: list[Epoch]) -> list[float]:
    return [row.loss for row in rows if row.loss is not None]


METHODS: dict[str, dict[str, float]] = {"full": {}, "lora": {"learning_rate": 1e-2}, "adalora": {"learning_rate": 3e-2}}


@pytest.mark.parametrize(
    "method", ["lora", *(pytest.param(each, marks=pytest.mark.slow) for each in ("full", "adalora"))]
)
def test_it_learns_which_word_follows_which(case: Case, method: str) -> None:
    tower, rows = case.train(method=method, epochs=10, patience=10, **METHODS[method])
    assert [row.epoch for row in rows] == list(range(11)) and rows[0].loss is None
    chosen = next(row for row in rows if row.is_chosen)
    assert sum(row.is_chosen for row in rows) == 1
    found = losses(rows)
    assert found[-1] < 0.8 * found[0]
    assert rows[0].ndcg is not None and chosen.ndcg is not None and chosen.ndcg > rows[0].ndcg + 0.15
    # the tower holds the chosen epoch's weights
    taught, valid = case.read(tower.section)
    assert judge(tower, valid, taught.catalogue).mean("all") == pytest.approx(chosen.ndcg)
    assert chosen.ndcg_tail == pytest.approx(chosen.ndcg_cold), "in this log all tail targets are cold"


def test_one_seed_one_result(case: Case) -> None:
    (one, rows), (two, again), (_, other) = (
        case.train(method="lora", epochs=2, lora_dropout=0.1, seed=seed) for seed in (1, 1, 2)
    )
    assert losses(rows) == losses(again) != losses(other)
    assert all((value == two.state()[name]).all() for name, value in one.state().items())


def test_the_random_state_of_others_is_left_alone(case: Case) -> None:
    import torch

    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    case.train(epochs=1, method="lora")
    assert torch.rand(1) == expected


def test_without_a_look_the_epochs_are_those_that_valid_chose(case: Case) -> None:
    """Test and live go the same way as valid, and stop where it was best."""
    tower, looked = case.train(epochs=3)
    blind, rows = case.train(epochs=3, looks=False, n_epochs=2)
    assert losses(rows) == losses(looked)[:2] and rows[-1].is_chosen and not rows[0].is_chosen
    assert all(row.ndcg is None for row in rows)
    untouched, none = case.train(epochs=3, looks=False, n_epochs=0)
    assert [(row.epoch, row.is_chosen) for row in none] == [(0, True)]
    fresh = build(case.base, tower.section, n_steps=1, seed=1).state()
    assert all((value == fresh[name]).all() for name, value in untouched.state().items())
    assert len(case.train(epochs=2, looks=False)[1]) == 3


def test_nobody_to_choose_by(base: Base, tmp_path: Path) -> None:
    _, rows = Case(base, tmp_path / "a", valid=[]).train(epochs=2)
    assert [(row.epoch, row.ndcg, row.is_chosen) for row in rows] == [
        (0, None, False),
        (1, None, False),
        (2, None, True),
    ]


def test_it_stops_where_valid_grows_no_better_and_keeps_the_best(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = iter([(0.1, 0.1), (0.3, 0.1), (0.31, 0.05), (0.2, 0.3), (0.1, 0.1), (0.1, 0.1), (0.9, 0.9)])
    states = []

    def looked(tower: Tower, taught: Any, valid: Any, number: int, loss: float | None, began: float) -> Epoch:
        states.append(tower.state())
        return Epoch(number, loss, *next(goals), None, 0.0)

    monkeypatch.setattr(training, "_looked_at", looked)
    tower, rows = case.train(epochs=6, patience=2)
    # all + tail: .2 .4 .36 .5 .2 .2, and epoch 6 is never reached
    assert [row.epoch for row in rows if row.is_chosen] == [3] and len(rows) == 6
    kept = tower.state()
    assert all((value == states[3][name]).all() for name, value in kept.items())
    assert any((value != states[5][name]).any() for name, value in kept.items())


def test_an_encoder_that_learning_only_harms_stays_as_it_came(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(training, "_looked_at", lambda *a: Epoch(a[3], a[4], next(goals), None, None, 0.0))
    tower, rows = case.train(epochs=3, patience=1)
    assert [row.is_chosen for row in rows] == [True, False]
    fresh = build(case.base, tower.section, n_steps=1, seed=1).state()
    assert all((value == fresh[name]).all() for name, value in tower.state().items())


def test_a_loss_that_is_no_number_names_epoch_and_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = training.batch_loss, iter(range(100))
    monkeypatch.setattr(training, "batch_loss", lambda *a: real(*a) * (float("nan") if next(calls) == 7 else 1.0))
    with pytest.raises(EngineError, match="the loss is nan in epoch 2, batch 2: .*text_bert.learning_rate"):
        case.train(epochs=3)  # 96 pairs are 6 batches


def test_one_user_and_one_pair(base: Base, tmp_path: Path) -> None:
    _, rows = Case(base, tmp_path / "a", n_users=1).train(epochs=1)
    assert losses(rows)[0] > 0, "its hard negative"
    alone = {"user_idx": 0, "event_order": 2, "history": [0], "item_idx": 33, "weight": 1.0, "is_held_out": False}
    _, rows = Case(base, tmp_path / "b", n_users=1, pairs=[alone | {"hard": []}]).train(epochs=1)
    assert losses(rows) == [0.0], "nothing to tell it from"


def test_weights_and_the_correction_reach_the_loss(case: Case, base: Base, tmp_path: Path) -> None:
    def first(of: Case, **changes: Any) -> float:
        return losses(of.train(epochs=1, learning_rate=1e-9, batch_size=96, looks=False, **changes)[1])[0]

    plain = first(case, use_weights=False)
    taught, _ = case.read(section())
    pairs = [
        {
            "user_idx": int(user),
            "event_order": 2,
            "history": taught.pairs.histories[row].tolist(),
            "item_idx": int(taught.pairs.targets[row]),
            "weight": 5.0 if row < 40 else 0.2,
            "is_held_out": False,
            "hard": taught.pairs.hard[row].tolist(),
        }
        for row, user in enumerate(taught.pairs.users)
    ]
    weighed = Case(base, tmp_path / "a", pairs=pairs)
    assert first(weighed, use_weights=False) == pytest.approx(plain)
    assert abs(first(weighed) - plain) > 1e-3
    assert abs(first(case, logq_correction=False) - first(case)) > 1e-3


def test_the_rate_rises_and_falls() -> None:
    of = section(learning_rate=1.0, warmup_share=0.2)
    rates = [learning_rate(step, 10, of) for step in range(10)]
    np.testing.assert_allclose(rates, [1 / 3, 2 / 3, 8 / 8, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert learning_rate(0, 1, section(learning_rate=1.0, warmup_share=0.9)) == 1.0
    assert n_steps(97, section(batch_size=16, epochs=3)) == 7 * 3


def test_adalora_gives_ranks_up(case: Case) -> None:
    tower, _ = case.train(method="adalora", lora_rank=2, epochs=4, looks=False, learning_rate=1e-2)
    kept = [int((value != 0).sum()) for name, value in tower.state().items() if name.endswith("lora_E")]
    assert len(kept) == 4 and sum(kept) == 4 * 2, "from 3 an adapter to 2 in the mean"


def test_progress_is_told(case: Case) -> None:
    told: list[str] = []
    case.train(epochs=1, tell=told.append)
    assert len(told) == 1 and told[0].startswith("epoch 1 of 1: loss ") and "NDCG@10" in told[0]
