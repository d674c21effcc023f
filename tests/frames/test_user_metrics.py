"""Metrics a user, by hand and against a plain loop over the kernels."""

from math import log2

import numpy as np
import pytest

from lt_spark.frames.user_metrics import user_metrics
from lt_spark.kernels.metrics import METRICS, target_ranks

pytestmark = pytest.mark.spark

LISTS = "fold string, model_name string, user_idx int, item_idx int, score double, rank int"
TARGETS = "fold string, user_idx int, item_idx int, segment string, segment_top20 string"
KEY = ("fold", "model_name", "user_idx", "segment", "k")


def by_key(found):
    """Return {key: row}; a key comes once."""
    rows = [row.asDict() for row in found.collect()]
    keyed = {tuple(row[name] for name in KEY): row for row in rows}
    assert len(keyed) == len(rows)
    return keyed


def test_by_hand(spark):
    """User 1 finds a head target at rank 1 and a tail target at rank 3; user 2 has no list."""
    lists = spark.createDataFrame(
        [
            ("valid", "als", 1, 10, 0.9, 1),
            ("valid", "als", 1, 11, 0.8, 2),
            ("valid", "als", 1, 12, 0.7, 3),
            ("valid", "other", 1, 10, 0.7, 1),
            ("test", "als", 2, 20, 0.7, 1),
            ("valid", "als", 3, 20, 0.7, 1),
        ],
        LISTS,
    )
    targets = spark.createDataFrame(
        [
            ("valid", 1, 10, "head", "head"),
            ("valid", 1, 12, "tail", "tail"),
            ("valid", 2, 20, "cold", "tail"),
        ],
        TARGETS,
    )
    found = by_key(user_metrics(lists, targets, ["als", "silent"], [2, 3]))
    segments = {1: {"all", "head", "tail", "tail_and_cold", "top20_head", "top20_tail"}}
    segments[2] = {"all", "cold", "tail_and_cold", "top20_tail"}
    assert set(found) == {
        ("valid", model, user, segment, k)
        for model in ("als", "silent")
        for user in (1, 2)
        for segment in segments[user]
        for k in (2, 3)
    }
    whole = found["valid", "als", 1, "all", 3]
    assert whole["n_targets"] == 2
    assert whole["precision"] == pytest.approx(2 / 3)
    assert whole["recall"] == whole["hit_rate"] == whole["mrr"] == 1
    assert whole["f1"] == pytest.approx(2 * 2 / (3 + 2))
    assert whole["map"] == pytest.approx(1 / 2 * (1 / 1 + 2 / 3))
    assert whole["ndcg"] == pytest.approx((1 + 1 / log2(4)) / (1 + 1 / log2(3)))
    tail = found["valid", "als", 1, "tail", 3]  # the rank is that of the whole list
    assert (tail["n_targets"], tail["mrr"], tail["ndcg"]) == (1, pytest.approx(1 / 3), pytest.approx(1 / log2(4)))
    assert found["valid", "als", 1, "tail", 2]["ndcg"] == 0
    for (_, model, user, _, _), row in found.items():
        if model == "silent" or user == 2:
            assert all(row[name] == 0 for name in METRICS)


def test_ties_are_pessimistic(spark):
    lists = spark.createDataFrame([("valid", "flat", 1, item, 1.0, item + 1) for item in range(4)], LISTS)
    targets = spark.createDataFrame([("valid", 1, 0, "mid", "head")], TARGETS)
    found = by_key(user_metrics(lists, targets, ["flat"], [3, 4]))
    assert found["valid", "flat", 1, "mid", 3]["mrr"] == 0
    assert found["valid", "flat", 1, "mid", 4]["mrr"] == 1 / 4


def test_equals_a_loop_over_the_kernels(spark):
    random = np.random.default_rng(8)
    listed, wanted = {}, {}
    for user in range(30):
        items = random.choice(50, random.integers(1, 6), replace=False)
        wanted[user] = {int(item): str(random.choice(["head", "mid", "tail", "cold"])) for item in items}
        for model in ("a", "b"):
            shown = random.choice(50, random.integers(0, 20), replace=False)
            listed[model, user] = {int(item): float(random.integers(0, 9)) for item in shown}
    lists = spark.createDataFrame(
        [("test", m, u, i, s, 1) for (m, u), shown in listed.items() for i, s in shown.items()], LISTS
    )
    targets = spark.createDataFrame(
        [("test", u, i, s, "head" if s == "head" else "tail") for u, items in wanted.items() for i, s in items.items()],
        TARGETS,
    )
    found = by_key(user_metrics(lists.repartition(3), targets, ["a", "b"], [1, 5, 10]))
    checked = 0
    for (_, model, user, segment, k), row in found.items():
        member = {
            "all": ("head", "mid", "tail", "cold"),
            "tail_and_cold": ("tail", "cold"),
            "top20_head": ("head",),
            "top20_tail": ("mid", "tail", "cold"),
        }.get(segment, (segment,))
        own = {item for item, of in wanted[user].items() if of in member}
        shown = listed[model, user]
        is_target = np.array([item in own for item in shown], dtype=bool)
        ranks = target_ranks(np.array(list(shown.values())), is_target)
        assert row["n_targets"] == len(own) > 0
        for name, formula in METRICS.items():
            assert row[name] == pytest.approx(float(formula(ranks, len(own), k)), abs=1e-12), (model, user, segment, k)
        checked += row["ndcg"] > 0
    assert checked > 20
