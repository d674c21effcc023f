"""What an epoch is judged by."""

from typing import Any, cast

import numpy as np
import pytest

from lt_spark.models.bert import validation
from lt_spark.models.bert.inputs import Items, Questions


class Network:
    """Stands in for a network in training."""

    training = True

    def eval(self) -> None:
        """Change nothing."""

    def train(self, mode: bool) -> None:
        """Change nothing."""


def test_an_item_of_which_nothing_is_known_is_not_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    # its vector is zero, so its score is above those of items that the user would not like
    monkeypatch.setattr(validation, "user_vectors", lambda *_: np.array([[1.0, 0.0]], np.float32))
    monkeypatch.setattr(validation, "item_vectors", lambda _: np.array([[0, 0], [-1, 0], [-2, 0]], np.float32))
    items = Items(np.zeros((3, 0), np.float32), np.array([0, 5, 5], np.float32), np.ones(3, bool))
    questions = Questions(
        np.array([[2]]), (np.array([0, 0]), np.array([], int)), (np.array([0, 1]), np.array([1])), np.array([False])
    )
    values = validation.ndcg_by_user(cast(Any, Network()), items, questions, "cpu")
    assert values[0].tolist() == [1.0]
