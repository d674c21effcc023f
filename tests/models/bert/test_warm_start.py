"""A training that goes on with a grown catalogue: old rows stay, old users lose no more than chance."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lt_spark.core.errors import TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert import validation
from lt_spark.models.bert.grow import start_from
from lt_spark.models.bert.inputs import read_items, read_questions
from lt_spark.models.bert.train import build_network, train
from tests.models.bert.small_export import SmallExport, section


def grown(tmp_path: Path) -> tuple[SmallExport, SmallExport, str]:
    """Train on 12 items, and write what comes next: 4 items more, 20 new users among them, half of the old again."""
    old = SmallExport(tmp_path / "old", n_users=200).write()
    trained = train(old.task(epochs=15, patience=15, dropout=0.0))
    folder = f"{old.task().checkpoints}/epoch-{trained.chosen:05d}"
    new = SmallExport(tmp_path / "new", n_items=16)
    fresh = {1000 + user: [(user + at) % 4 + 12 for at in range(5)] for user in range(20)}
    replayed = {user: history[:-1] for user, history in enumerate(old.histories()) if user % 2 == 0}
    new.write_windows(fresh | replayed)
    known = np.bincount([item for history in [*fresh.values(), *old.histories()] for item in history], minlength=16)
    draw = np.random.default_rng(7)
    new.write_items(known, [list(row) for row in draw.normal(size=(16, 4))])
    return old, new, folder


@pytest.mark.slow
def test_old_rows_stay_and_new_ones_begin_as_anew(tmp_path: Path) -> None:
    _, new, folder = grown(tmp_path)
    torch.manual_seed(5)
    network = build_network(section(), "causal", read_items(new.task().items), 6)
    before = network.items.ids.weight.detach().clone()
    start_from(network, Folder(folder))
    old = saved.weights(saved.whole(Folder(folder.rpartition("/")[0]), int(folder[-5:])))["items.ids.weight"]
    assert torch.equal(network.items.ids.weight[:12], old)
    assert torch.equal(network.items.ids.weight[12:], before[12:])


@pytest.mark.slow
def test_old_users_lose_no_more_than_the_interval_and_new_items_are_learnt(tmp_path: Path) -> None:
    old, new, folder = grown(tmp_path)
    questions = read_questions(old.task().questions, 6)
    items = read_items(new.task().items)

    def ndcg(where: str, about: list[int], network_items: object) -> np.ndarray:
        network = build_network(section(), "causal", network_items, 6)
        root, _, name = where.rpartition("/")
        saved.restore_network(saved.whole(Folder(root), int(name[-5:])), network)
        values = []
        for user in about:
            one = type(questions)(
                questions.histories[user : user + 1],
                (np.array([0, 0]), np.array([], int)),
                (np.array([0, 1]), questions.targets[1][questions.targets[0][user] :][:1]),
                np.array([False]),
            )
            values.append(validation.ndcg_sums(network, network_items, one, "cpu")[0])
        return np.array(values)

    task = new.task("warm", start_from=folder, n_epochs=3, questions="", learning_rate=0.003, epochs=3, dropout=0.0)
    trained = train(task)
    users = list(range(len(questions)))
    before = ndcg(folder, users, read_items(old.task().items))
    after = ndcg(f"{task.checkpoints}/epoch-{trained.chosen:05d}", users, items)
    difference = after - before
    assert before.mean() > 0.8
    half_width = 1.96 * max(before.std(), after.std()) / np.sqrt(len(before))
    assert difference.mean() >= -half_width
    network = build_network(section(), "causal", items, 6)
    saved.restore_network(saved.newest(Folder(task.checkpoints)), network)
    scores = network.user_vectors(torch.tensor([[12, 13, 14]])) @ network.items().T
    assert int(scores.argmax()) in range(12, 16)


def test_another_network_is_refused_with_what_differs(tmp_path: Path) -> None:
    _, new, folder = grown(tmp_path)
    with pytest.raises(TrainingError, match="embedding_size: expected 32, found 16"):
        train(new.task("warm", start_from=folder, n_epochs=1, questions="", embedding_size=32))
    with pytest.raises(TrainingError, match="objective: expected masked, found causal"):
        train(new.task("warm2", start_from=folder, n_epochs=1, questions="", objective="masked"))
