"""Top-k on Spark against a full sort in numpy."""

import numpy as np
import pytest

from lt_spark.frames.top_k import top_k

pytestmark = pytest.mark.spark

USERS = "user_idx int, vector array<float>, seen array<int>"
ITEMS = "item_idx int, vector array<float>"


def ranked(found):
    """Return {user: [(item, score, rank)]} by rank."""
    lists = {}
    for row in sorted(found.collect(), key=lambda row: (row["user_idx"], row["rank"])):
        lists.setdefault(row["user_idx"], []).append((row["item_idx"], row["score"], row["rank"]))
    return lists


def test_by_hand(spark, tmp_path):
    """Item numbers with gaps, ties by item_idx, seen items, and users that get nothing."""
    items = spark.createDataFrame([(30, [1.0, 0.0]), (5, [1.0, 0.0]), (12, [0.0, 2.0]), (70, [-1.0, 0.0])], ITEMS)
    users = spark.createDataFrame(
        [
            (1, [1.0, 0.0], None),
            (2, [1.0, 0.0], [5, 6, 999]),
            (3, None, None),
            (4, [1.0], [5]),
            (5, [float("nan"), 0.0], None),
            (6, [1.0, 1.0], [5, 12, 30, 70]),
        ],
        USERS,
    )
    found = top_k(users, items, 3, scratch=str(tmp_path / "scratch"))
    assert found.dtypes == [("user_idx", "int"), ("item_idx", "int"), ("score", "double"), ("rank", "int")]
    assert ranked(found) == {
        1: [(5, 1.0, 1), (30, 1.0, 2), (12, 0.0, 3)],
        2: [(30, 1.0, 1), (12, 0.0, 2), (70, -1.0, 3)],
    }


@pytest.mark.parametrize("shard_items", [1_000, 40])
def test_equals_a_full_sort(spark, tmp_path, shard_items):
    random = np.random.default_rng(4)
    item_idx = np.sort(random.choice(1_000, 150, replace=False))
    vectors = random.integers(-3, 4, (150, 3))
    tastes = random.integers(-3, 4, (40, 3))
    seen = [random.choice(1_000, random.integers(0, 300), replace=False) for _ in tastes]
    items = spark.createDataFrame(
        [(int(item), vector.astype(float).tolist()) for item, vector in zip(item_idx, vectors, strict=True)], ITEMS
    )
    users = spark.createDataFrame(
        [(user, taste.astype(float).tolist(), seen[user].tolist()) for user, taste in enumerate(tastes)], USERS
    )
    lists = ranked(
        top_k(users.repartition(3), items, 7, scratch=str(tmp_path / "s"), shard_items=shard_items, n_items=150)
    )
    for user, taste in enumerate(tastes):
        scores = vectors @ taste
        best = sorted((-score, item) for score, item in zip(scores, item_idx, strict=True) if item not in seen[user])
        expected = [(int(item), float(-score), place) for place, (score, item) in enumerate(best[:7], 1)]
        assert lists[user] == expected


def test_without_items_nobody_gets_rows(spark, tmp_path):
    users = spark.createDataFrame([(1, [1.0], None)], USERS)
    items = spark.createDataFrame([], ITEMS)
    assert top_k(users, items, 3, scratch=str(tmp_path / "scratch")).collect() == []
