"""What is popular only through held-out events is tail or cold wherever a choice is made on what is known."""

from dataclasses import dataclass
from functools import reduce
from math import log2
from typing import Any

import pytest
from pyspark.sql import DataFrame

from lt_spark.core.config import RebalanceConfig, SegmentConfig, SplitConfig
from lt_spark.core.config_text import DescribeConfig
from lt_spark.core.tables import INTERACTIONS, INTERACTIONS_SPLIT, ITEM_EMBEDDINGS, ITEM_SEGMENTS, ITEMS
from lt_spark.enrich import work
from lt_spark.frames.known import known, targets
from lt_spark.frames.user_metrics import user_metrics
from lt_spark.measure.lists import list_metrics
from lt_spark.prepare.rebalance import rebalance_interactions
from lt_spark.prepare.segment import segment_items
from lt_spark.prepare.split import split_interactions

pytestmark = pytest.mark.spark

N_ITEMS, STAR, OTHER = 10, 9, 8
"""The star: each user's last item, and user 0's last but one. The other has one known event, as it has in test."""
DESCRIBE = DescribeConfig(keyword_fields=("kind",))
# of 8 users: two items in train, one in valid (the star for user 0), one in test
HISTORIES = [
    [0, 1, STAR], [0, 1, 2], [0, 1, 3], [0, 2, 4], [0, 1, 5], [0, 3, 6], [0, 2, 1], [0, OTHER, 7],
]  # fmt: skip


@dataclass
class Made:
    """Everything that is made of the log on the way to a prompt, a weight and a metric."""

    split: DataFrame
    segments: dict[str, DataFrame]

    def of(self, fold: str) -> dict[int, Any]:
        return {row["item_idx"]: row for row in self.segments[fold].collect()}


def make(frame: Any, last: int) -> Made:
    """Make the tables of a log in which each user's last item is ``last``."""
    rows = [
        {"user_idx": user, "item_idx": item, "event_order": 1 + at, "order_value": 10 * user + at, "event_weight": 1.0}
        for user, history in enumerate(HISTORIES)
        for at, item in enumerate([*history, last])
    ]
    split = frame(INTERACTIONS_SPLIT, as_dicts(split_interactions(frame(INTERACTIONS, rows), SplitConfig(), 1)))
    items, segments = catalogue(frame), {}
    for fold in ("valid", "test", "live"):
        found = segment_items(known(split, fold), items, SegmentConfig(), fold)
        segments[fold] = frame(ITEM_SEGMENTS, as_dicts(found))
    return Made(split, segments)


def as_dicts(rows: DataFrame) -> list[dict[str, Any]]:
    """Collect a few rows, so that they are made once."""
    return [row.asDict() for row in rows.collect()]


def catalogue(frame: Any) -> DataFrame:
    rows = [
        {"item_idx": item, "item_id": str(item), "title": "Thing", "attributes": [("kind", "tool")]}
        for item in range(N_ITEMS)
    ]
    return frame(ITEMS, rows)


def vectors(frame: Any) -> DataFrame:
    return frame(ITEM_EMBEDDINGS, [{"item_idx": item, "vector": [1.0]} for item in range(N_ITEMS)])


@pytest.fixture(scope="module")
def made(frame: Any) -> Made:
    return make(frame, STAR)


def test_segments(made: Made) -> None:
    valid, test, live = made.of("valid"), made.of("test"), made.of("live")
    assert (valid[STAR]["n_interactions"], test[STAR]["n_interactions"], live[STAR]["n_interactions"]) == (0, 1, 9)
    assert live[STAR]["segment"] == live[STAR]["segment_top20"] == "head", "with all events it would be"
    assert (valid[STAR]["segment"], valid[STAR]["segment_top20"]) == ("cold", "tail")
    assert (test[STAR]["segment"], test[STAR]["segment_top20"]) == ("tail", "tail")


def test_weights(made: Made) -> None:
    config = RebalanceConfig()
    for fold, items in {"valid": {0, 1, 2, 3, OTHER}, "test": set(range(N_ITEMS))}.items():
        rows = rebalance_interactions(known(made.split, fold), made.segments[fold], config, fold, 1).collect()
        weights = {row["item_idx"]: row["weight"] for row in rows}
        assert set(weights) == items
    assert weights[STAR] == weights[OTHER] == max(weights.values())
    assert weights[STAR] / weights[0] == pytest.approx((8 / 1) ** config.strength)


@pytest.mark.slow
def test_metrics_of_the_tail(spark: Any, made: Made) -> None:
    both = [targets(made.split, fold, made.segments[fold], False, 100, 1) for fold in ("valid", "test")]
    lists = spark.createDataFrame(
        [(fold, "m", user, STAR, 1.0, 1) for fold in ("valid", "test") for user in range(8)]
        + [(fold, "m", user, OTHER, 0.5, 2) for fold in ("valid", "test") for user in range(8)],
        "fold string, model_name string, user_idx int, item_idx int, score double, rank int",
    )
    rows = user_metrics(lists, reduce(DataFrame.unionByName, both), ["m"], [2]).collect()
    found = {(row["fold"], row["user_idx"], row["segment"]): row["ndcg"] for row in rows}
    of_star = {(fold, segment) for (fold, user, segment), ndcg in found.items() if ndcg == 1 / log2(2)}
    assert of_star == {
        *(("valid", segment) for segment in ("all", "cold", "tail_and_cold", "top20_tail")),
        *(("test", segment) for segment in ("all", "tail", "tail_and_cold", "top20_tail")),
    }
    assert {user for fold, user, segment in found if (fold, segment) == ("test", "tail")} == set(range(1, 8))
    shares = [
        list_metrics(lists.where(f"fold = '{fold}'"), made.segments[fold], [1]).first()["tail_share"]
        for fold in ("valid", "test")
    ]
    assert shares == [1, 1]


def test_examples_and_what_is_described(frame: Any, made: Made) -> None:
    items, embeddings = catalogue(frame), vectors(frame)
    pool = work.examples_pool(items, made.segments["valid"], embeddings, DESCRIBE, 1)
    places = {row["item_idx"]: row["pool_rank"] for row in pool.collect()}
    assert places[STAR] == N_ITEMS, "of no known event, and the last by number"
    by_all = work.examples_pool(items, made.segments["live"], embeddings, DESCRIBE, 1)
    assert {row["item_idx"]: row["pool_rank"] for row in by_all.collect()}[STAR] == 1, "with all events it would be"
    described = work.items_to_describe(items, made.segments["valid"], embeddings, DESCRIBE)
    assert STAR in {row["item_idx"] for row in described.collect()}
    by_all = work.items_to_describe(items, made.segments["live"], embeddings, DESCRIBE)
    assert STAR not in {row["item_idx"] for row in by_all.collect()}


@pytest.mark.slow
def test_other_held_out_events_change_nothing_that_is_made_before_them(frame: Any, made: Made) -> None:
    """Segments, weights, examples, the items to describe and the order in which the budget takes them."""
    items, embeddings, other = catalogue(frame), vectors(frame), make(frame, OTHER)
    for fold in ("valid", "test"):
        assert made.of(fold) == other.of(fold)
        weights = [
            rebalance_interactions(known(each.split, fold), each.segments[fold], RebalanceConfig(), fold, 1).collect()
            for each in (made, other)
        ]
        assert sorted(weights[0]) == sorted(weights[1])
    for choose in (
        lambda each: work.examples_pool(items, each.segments["valid"], embeddings, DESCRIBE, 1).orderBy("pool_rank"),
        lambda each: work.items_to_describe(items, each.segments["valid"], embeddings, DESCRIBE).orderBy("thinness"),
    ):
        rows = choose(made).collect()
        assert rows
        assert rows == choose(other).collect()
