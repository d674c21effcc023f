"""Recall and precision of new words, by hand."""

import math

import pytest

from lt_spark.kernels.overlap import mean_share, precision, recall


def test_recall_and_precision_of_new_words() -> None:
    answered, hidden, visible = {"a", "b", "x", "y", "z"}, {"a", "b", "c", "d", "y"}, {"b", "c", "z"}
    # new hidden: a d y; new answered: a x y; both: a y
    assert recall(answered, hidden, visible) == 2 / 3
    assert precision(answered, hidden, visible) == 2 / 3
    assert recall({"a"}, hidden, visible) == 1 / 3
    assert precision({"a"}, hidden, visible) == 1
    assert precision({"x", "a", "y", "w"}, hidden, visible) == 2 / 4


@pytest.mark.parametrize(
    ("answered", "hidden", "visible", "found"),
    [
        (set(), {"a"}, set(), (0, 0)),
        ({"a"}, set(), set(), (0, 0)),
        ({"a"}, {"a"}, {"a"}, (0, 0)),  # nothing new on either side
        ({"a", "b"}, {"b"}, {"a"}, (1, 1)),
        ({"a"}, {"b"}, {"a"}, (0, 0)),
        (["a", "a", "c"], ["a", "b", "b"], [], (1 / 2, 1 / 2)),  # a word counts once
    ],
)
def test_edges(answered: object, hidden: object, visible: object, found: tuple[float, float]) -> None:
    assert (recall(answered, hidden, visible), precision(answered, hidden, visible)) == found  # type: ignore[arg-type]


def test_the_mean_has_an_interval_that_hangs_on_items_and_seed_alone() -> None:
    values = [1.0, 0.0, 0.5, 1.0] * 50
    found = mean_share(range(200), values, 7)
    assert (found.value, found.n) == (pytest.approx(2.5 / 4), 200)
    # standard error of the mean: sqrt(variance / n)
    error = math.sqrt(sum((v - 0.625) ** 2 for v in values) / 200 / 200)
    assert found.low == pytest.approx(0.625 - 1.96 * error, abs=0.4 * error)
    assert found.high == pytest.approx(0.625 + 1.96 * error, abs=0.4 * error)
    assert mean_share(range(200), values, 7) == found
    backwards = mean_share(list(range(200))[::-1], values[::-1], 7)
    assert (backwards.low, backwards.high) == (pytest.approx(found.low), pytest.approx(found.high))
    assert mean_share(range(200), values, 8) != found


def test_nothing_has_no_mean() -> None:
    found = mean_share([], [], 1)
    assert found.n == 0
    assert all(math.isnan(value) for value in (found.value, found.low, found.high))


def test_all_the_same_has_no_width() -> None:
    found = mean_share([1, 2, 3], [0.5, 0.5, 0.5], 1)
    assert (found.value, found.low, found.high) == (0.5, pytest.approx(0.5), pytest.approx(0.5))
