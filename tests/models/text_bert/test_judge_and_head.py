from math import log2
from pathlib import Path

import numpy as np
import pytest

from lt_spark.models.text_bert import head as heads
from lt_spark.models.text_bert.data import Catalogue, ValidSet, read_training, read_valid
from lt_spark.models.text_bert.head import Head, Labelled, class_reports, draw_unknown, fit_head, report
from lt_spark.models.text_bert.judge import judge, judged
from lt_spark.models.text_bert.tower import Base, build
from tests.models.text_bert.tiny_bert import section, titles, write_log


def ints(*values: int) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    return np.array(values, np.int32)


# scores of a user are its vector's products with the items' one-hot rows
ITEMS = np.eye(4, dtype=np.float32)
VALID = ValidSet(
    users=ints(5, 6, 7),
    histories=[ints(1), ints(1), ints()],
    seen=[ints(10), ints(), ints()],
    targets=[ints(11, 13), ints(12, 99), ints(10)],
    segments=[["head", "cold"], ["mid", "tail"], ["head"]],
    top20=[["head", "tail"], ["tail", "tail"], ["head"]],
    items=ints(10, 11, 12, 13),
)
USERS = np.array([[4, 3, 2, 1], [1, 2, 3, 4], [0, 0, 0, 0]], np.float32)


def test_ndcg_by_segment_in_arithmetic() -> None:
    found = judged(ITEMS, USERS, VALID)
    # user 5: 10 is seen, so 11 12 13; user 6: 13 12 11 10, and 99 may not be recommended; user 7 has no list
    two = 1 + 1 / log2(3)
    assert found.users["all"].tolist() == [5, 6, 7]
    np.testing.assert_allclose(found.values["all"], [(1 + 1 / log2(4)) / two, (1 / log2(3)) / two, 0])
    assert found.users["head"].tolist() == [5, 7]
    np.testing.assert_allclose(found.values["head"], [1, 0])
    assert found.users["tail"].tolist() == [5, 6]
    np.testing.assert_allclose(found.values["tail"], [1 / log2(4), (1 / log2(3)) / two])
    assert (found.users["cold"].tolist(), found.mean("cold")) == ([5], 1 / log2(4))


def test_items_without_a_vector_are_not_ranked_and_no_users_no_mean() -> None:
    items = ITEMS.copy()
    items[0] = 0
    worst = np.array([[0, -1, -2, -3]] * 3, np.float32)
    found = judged(items, worst, VALID)
    assert found.values["all"][0] == judged(ITEMS, USERS, VALID).values["all"][0]
    nobody = ValidSet(ints(), [], [], [], [], [], ints(10))
    assert judged(ITEMS[:1], USERS[:0], nobody).mean("all") is None


def test_all_targets_head(base: Base, tmp_path: Path) -> None:
    rows = [
        {"user_idx": 0, "history": [0], "seen": [0], "targets": [33], "segments": ["head"], "top20": ["head"]},
        {"user_idx": 1, "history": [], "seen": [], "targets": [34], "segments": ["head"], "top20": ["head"]},
    ]
    folder = write_log(tmp_path / "a", valid=rows)
    catalogue = read_training(folder, section()).catalogue
    found = judge(build(base, section(), n_steps=1, seed=0), read_valid(folder, catalogue), catalogue)
    assert (found.mean("tail"), found.mean("cold"), len(found.values["head"])) == (None, None, 2)
    assert found.values["all"][1] == 0, "no history, no list"


def test_class_reports_in_arithmetic() -> None:
    is_liked = np.array([1, 1, 1, 0, 0], np.bool_)
    called = np.array([1, 1, 0, 1, 0], np.bool_)
    dislike, like = class_reports(is_liked, called)
    assert (like.name, like.precision, like.recall, like.f1, like.n) == ("like", 2 / 3, 2 / 3, 2 / 3, 3)
    assert (dislike.name, dislike.precision, dislike.recall, dislike.f1, dislike.n) == (
        "dislike", 1 / 2, 1 / 2, 1 / 2, 2
    )  # fmt: skip
    one_sided = class_reports(is_liked, np.zeros(5, np.bool_))
    assert (one_sided[1].precision, one_sided[1].recall, one_sided[1].f1) == (0, 0, 0)


def test_the_head_tells_near_from_far() -> None:
    random = np.random.default_rng(0)
    users, items = random.normal(size=(2, 200, 8)).astype(np.float32)
    is_liked = np.arange(200) % 2 == 0
    items[is_liked] = users[is_liked] + 0.1 * items[is_liked]
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    half = Labelled(users[:100], items[:100], is_liked[:100])
    rest = Labelled(users[100:], items[100:], is_liked[100:])
    head = fit_head(half)
    assert all(row.f1 > 0.9 and row.n == 50 for row in report(head, rest))
    assert head == head and np.array_equal(fit_head(half).weights, head.weights)
    again = Head.from_json(head.to_json())
    np.testing.assert_array_equal(again.probabilities(users, items), head.probabilities(users, items))
    chance = head.probabilities(users, items)
    assert ((chance >= 0) & (chance <= 1)).all()


def test_no_pairs_no_report() -> None:
    none = Labelled(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), np.zeros(0, np.bool_))
    head = fit_head(none)
    assert head.probabilities(ITEMS[:2], ITEMS[:2]).tolist() == [0.5, 0.5] and report(head, none) == []


def test_drawn_items_are_unknown_and_by_popularity() -> None:
    catalogue = Catalogue({1: "a", 2: "b", 3: "c", 4: "d"}, {1: 60, 2: 30, 3: 10, 4: 0}, section())
    users = np.repeat(ints(1, 2, 3), 1_000).astype(np.int32)
    known, wanted = {1: ints(2), 3: ints(1, 2)}, {3: ints(3)}
    drawn = draw_unknown(users, (known, wanted), catalogue, seed=1)
    first, second, third = drawn[:1_000], drawn[1_000:2_000], drawn[2_000:]
    assert set(first) == {1, 3} and set(second) == {1, 2, 3} and set(third) == {-1}, "user 3 knows all that is known"
    assert np.mean(second == 1) == pytest.approx(0.6, abs=0.06) and np.mean(first == 1) == pytest.approx(
        6 / 7, abs=0.05
    )
    assert (drawn == draw_unknown(users, (known, wanted), catalogue, seed=1)).all()
    nothing = Catalogue({4: "d"}, {4: 0}, section())
    assert set(draw_unknown(users, (known,), nothing, seed=1)) == {-1}


def test_like_is_a_next_item_and_dislike_a_drawn_one(base: Base, tmp_path: Path) -> None:
    folder = write_log(tmp_path / "a", held_out=0.3)
    training = read_training(folder, section())
    tower = build(base, section(), n_steps=1, seed=0)
    labelled = heads.held_out_pairs(tower, training, seed=1)
    n = len(training.held_out)
    assert labelled.is_liked.tolist() == [True] * n + [False] * n
    np.testing.assert_array_equal(labelled.users[:n], labelled.users[n:])
    own = tower.encode_items([titles()[int(item)] for item in training.held_out.targets])
    np.testing.assert_allclose(labelled.items[:n], own, atol=2e-6)
    valid = heads.valid_pairs(tower, read_valid(folder, training.catalogue), training.catalogue, seed=1)
    assert valid.is_liked.sum() == 96 and len(valid.is_liked) == 2 * 96
