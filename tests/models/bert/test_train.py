"""The training of one process: it learns, goes on exactly where it stopped, and fails with a reason."""

import errno
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lt_spark.core import files
from lt_spark.core.errors import DataError, StorageError, TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert import train as training
from lt_spark.models.bert.manifest import SCHEMA_HASH, Manifest
from lt_spark.models.bert.train import train
from tests.loaders import KINDS
from tests.models.bert.small_export import SmallExport, losses, section


@pytest.fixture
def export(tmp_path: Path) -> SmallExport:
    return SmallExport(tmp_path).write()


@pytest.mark.parametrize("objective", ["causal", pytest.param("masked", marks=pytest.mark.slow)])
def test_it_learns_what_follows_what(export: SmallExport, objective: str) -> None:
    epochs = 20 if objective == "causal" else 120
    trained = train(export.task(objective=objective, epochs=epochs, patience=epochs, dropout=0.0))
    # item i is always followed by i + 1: chance is 1 of 12 items
    assert trained.best.ndcg > 0.9
    assert trained.epochs[-1].loss < trained.epochs[0].loss / 2
    assert {epoch.n_rows for epoch in trained.epochs} == {60}


@pytest.mark.slow
def test_masked_learns_it_sooner_with_both_losses(export: SmallExport) -> None:
    how = {"objective": "masked", "epochs": 40, "patience": 40, "dropout": 0.0}
    alone, both = (train(export.task(f"share {s}", causal_share=s, **how)).best.ndcg for s in (0.0, 1.0))
    assert both > 0.9 > alone


def test_a_group_of_one_learns_as_one_alone(export: SmallExport, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = losses(train(export.task("alone", n_epochs=2)))
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port = str(own.getsockname()[1])
    variables = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    backends = []
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # a platform's own variables start no group; torchrun's do
    for run_id in ("", "a run"):
        if run_id:
            monkeypatch.setenv("TORCHELASTIC_RUN_ID", run_id)
        task = export.task(f"grouped {run_id}", n_epochs=2)
        found = train(task, lambda text: backends.append(dist.is_initialized()))
        assert losses(found) == pytest.approx(alone, rel=1e-6)
    assert backends == [False, False, True, True]


@pytest.mark.parametrize(
    ("n_rows", "n_events", "expected"),
    [(8_317, 33_541, 128), (2_300, 98_000, 35), (50, 2_500, 30), (5, 5_000, 16), (0, 0, 128)],
)
def test_a_step_holds_about_as_many_events_whatever_the_histories(n_rows: int, n_events: int, expected: int) -> None:
    manifest = Manifest("t", 0, "valid", 50, 10, n_rows, n_events, SCHEMA_HASH, ())
    assert training.windows_of_a_step(section(batch_size=None), manifest) == expected
    assert training.windows_of_a_step(section(batch_size=7), manifest) == 7


@pytest.mark.slow
def test_sampled_softmax_learns_it_too(export: SmallExport) -> None:
    trained = train(export.task(max_full_softmax_items=5, n_negatives=8, epochs=20, patience=20, dropout=0.0))
    assert trained.best.ndcg > 0.9


def test_one_seed_one_training_another_seed_another(export: SmallExport) -> None:
    first, second, other = (
        train(export.task(name, seed=seed, n_epochs=3)) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert losses(first) == losses(second)
    assert losses(first) != losses(other)


@pytest.mark.parametrize("kind", KINDS)
def test_both_loaders_give_a_training_that_repeats_itself(export: SmallExport, kind: Any) -> None:
    runs = [losses(train(export.task(f"p{at}", loader=kind, n_epochs=2))) for at in range(2)]
    assert runs[0] == runs[1]


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(export: SmallExport) -> None:
    whole = train(export.task("whole", n_epochs=5))
    task = export.task("parts", n_epochs=5)

    class Killed(BaseException):
        pass

    def stop_after_two(text: str) -> None:
        if text.startswith("epoch 2"):
            raise Killed

    with pytest.raises(Killed):
        train(task, stop_after_two)
    told: list[str] = []
    resumed = train(task, told.append)
    assert [text.split(",")[0] for text in told] == ["epoch 3", "epoch 4", "epoch 5"]
    assert losses(resumed) == losses(whole)
    for name, value in saved.weights(saved.newest(Folder(task.checkpoints))).items():
        assert torch.equal(value, saved.weights(saved.newest(Folder(export.task("whole").checkpoints)))[name]), name


def test_a_finished_training_is_not_trained_again(export: SmallExport) -> None:
    task, told = export.task(n_epochs=2), []
    first = train(task)
    assert train(task, told.append) == first
    assert told == []


def test_early_stopping_takes_the_best_epoch_and_waits_no_longer_than_it_may(export: SmallExport) -> None:
    trained = train(export.task(epochs=40, patience=2, learning_rate=0.05))
    scores = [epoch.score for epoch in trained.epochs]
    assert trained.chosen == scores.index(max(scores)) + 1
    assert len(trained.epochs) in (trained.chosen + 2, 40)
    root = Folder(export.task().checkpoints)
    assert saved.whole(root, trained.chosen) is not None
    assert set(saved.epochs_in(root)) == {trained.chosen, len(trained.epochs) - 1, len(trained.epochs)}


def test_without_questions_every_epoch_is_trained(export: SmallExport) -> None:
    trained = train(export.task(questions="", n_epochs=4, patience=1))
    assert (len(trained.epochs), trained.chosen) == (4, 4)
    assert all(math.isnan(epoch.ndcg) for epoch in trained.epochs)


def test_fewer_epochs_follow_the_same_schedule(export: SmallExport) -> None:
    # test and live train as many epochs as valid chose: they must take the steps that valid took
    long, short = train(export.task("long", n_epochs=6)), train(export.task("short", n_epochs=3))
    assert losses(short) == losses(long)[:3]


@pytest.mark.slow
def test_weights_decide_what_is_learnt(export: SmallExport) -> None:
    histories = {user: [0, 1] if user % 2 else [0, 2] for user in range(60)}
    export.write_windows(histories, weights={1: 3.0, 2: 1.0})
    export.write_questions({0: ([0], [1])})
    weighted = train(export.task("weighted", epochs=30, patience=30, dropout=0.0))
    export.write_windows(histories)
    even = train(export.task("even", epochs=30, patience=30, dropout=0.0))
    # cross entropy at the true shares: 3/4 and 1/4, and a half each
    assert weighted.epochs[-1].loss == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=0.03)
    assert even.epochs[-1].loss == pytest.approx(math.log(2), abs=0.03)


def test_a_loss_that_is_no_number_stops_it_and_overwrites_nothing(
    export: SmallExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = export.task(n_epochs=4)
    real, calls = training.full_softmax, [0]

    def broken(*arguments: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return real(*arguments) * (float("nan") if calls[0] == 7 else 1.0)

    monkeypatch.setattr(training, "full_softmax", broken)
    # 60 windows in batches of 16: 4 an epoch, so the seventh is the third of epoch 2
    with pytest.raises(TrainingError, match=r"the loss is nan at epoch 2, batch 2, process 0"):
        train(task)
    assert saved.epochs_in(Folder(task.checkpoints)) == [1]
    monkeypatch.setattr(training, "full_softmax", real)
    assert losses(train(task)) == losses(train(export.task("whole", n_epochs=4)))


def test_a_full_disk_leaves_the_checkpoint_before(export: SmallExport, monkeypatch: pytest.MonkeyPatch) -> None:
    task, real = export.task(n_epochs=3), os.fsync

    def full(descriptor: int) -> None:
        if os.path.exists(f"{task.checkpoints}/epoch-00002"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        train(task)
    monkeypatch.setattr(files.os, "fsync", real)
    found = saved.newest(Folder(task.checkpoints))
    assert found is not None
    assert found.epoch == 1
    assert losses(train(task)) == losses(train(export.task("whole", n_epochs=3)))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(export: SmallExport, name: str) -> None:
    task = export.task(n_epochs=3)
    train(task)
    root = Folder(task.checkpoints)
    path = Path(task.checkpoints) / "epoch-00003" / name
    path.write_bytes(path.read_bytes()[:-5])
    assert saved.newest(root).epoch == 2
    told: list[str] = []
    again = train(task, told.append)
    assert [text.split(",")[0] for text in told] == ["epoch 3"]
    assert losses(again) == losses(train(export.task("whole", n_epochs=3)))


def test_a_checkpoint_of_another_conf_is_refused_with_what_differs(export: SmallExport) -> None:
    train(export.task(n_epochs=2))
    with pytest.raises(TrainingError, match=r"embedding_size: expected 32, found 16"):
        train(export.task(n_epochs=2, embedding_size=32))
    with pytest.raises(TrainingError, match=r"seed: expected 9, found 3"):
        train(export.task(n_epochs=2, seed=9))


def test_settings_that_decide_nothing_may_change(export: SmallExport) -> None:
    train(export.task(n_epochs=2))
    assert len(train(export.task(n_epochs=3, num_processes=2, timeout_s=5.0)).epochs) == 3


def test_no_windows_are_refused(export: SmallExport) -> None:
    export.write_windows({})
    with pytest.raises(DataError, match="nothing to learn from"):
        train(export.task())


@pytest.mark.parametrize(
    "histories",
    [{0: [3, 4]}, {user: [1, 2, 3] for user in range(40)}, {user: [5] * 4 for user in range(3)}],
    ids=["one user", "all users equal", "one item again and again"],
)
def test_little_to_learn_from_is_learnt(export: SmallExport, histories: dict[int, list[int]]) -> None:
    export.write_windows(histories)
    trained = train(export.task(n_epochs=2, batch_size=64))
    assert len(trained.epochs) == 2
    assert all(math.isfinite(epoch.loss) for epoch in trained.epochs)


def test_a_batch_without_weight_is_no_step(export: SmallExport) -> None:
    export.write_windows({user: [1, 2, 3] for user in range(8)}, weights={1: 0.0, 2: 0.0, 3: 0.0})
    trained = train(export.task(n_epochs=1))
    assert trained.epochs[0].n_rows == 8
    assert math.isnan(trained.epochs[0].loss)


def test_items_without_any_text_are_learnt_by_id(export: SmallExport) -> None:
    export.write_items([5] * 12, vectors=[None] * 12)
    assert train(export.task(epochs=20, patience=20, dropout=0.0)).best.ndcg > 0.9


def test_items_that_are_not_numbered_through_are_refused(export: SmallExport) -> None:
    task = export.task()
    export.n_items = 11
    export.write_items([5] * 11)
    with pytest.raises(DataError, match="expected 12 items, as the export says, found 11"):
        train(task)


def test_vectors_of_two_lengths_are_refused(export: SmallExport) -> None:
    export.write_items([5] * 12, vectors=[[1.0], [1.0, 2.0]] * 6)
    with pytest.raises(DataError, match="differ in length: expected one, found 1, 2"):
        train(export.task())


def test_the_rows_of_an_epoch_are_counted(export: SmallExport, monkeypatch: pytest.MonkeyPatch) -> None:
    real = training.make_loader

    class Losing:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def epoch(self, number: int):
            batches = list(self.inner.epoch(number))
            yield from batches[:-1]

    monkeypatch.setattr(training, "make_loader", lambda *a, **k: Losing(real(*a, **k)))
    with pytest.raises(DataError, match=r"epoch 1: expected 60 windows over all processes, found 48"):
        train(export.task())


def test_adapting_the_section_is_checked() -> None:
    with pytest.raises(ValueError, match="multiple of bert.n_heads"):
        section(embedding_size=15, n_heads=2)
