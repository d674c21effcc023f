"""Stage rebalance: weights of mean 1, a head cap that empties nobody, copies of the tail, and the report."""

import random
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lt_spark.core.config import RebalanceConfig
from lt_spark.core.tables import INTERACTIONS_REBALANCED, INTERACTIONS_SPLIT, ITEM_SEGMENTS, REBALANCE_REPORT
from lt_spark.prepare.rebalance import (
    copies,
    effective_number_weight,
    inverse_power_weight,
    inverse_propensity_weight,
    item_propensity,
    rebalance_interactions,
)
from lt_spark.prepare.rebalance_report import rebalance_report

pytestmark = pytest.mark.spark

Event = tuple[int, int, int]  # user_idx, item_idx, order_value


def log(spark: SparkSession, events: list[Event], event_weights: dict[int, float] | None = None) -> DataFrame:
    """Make known events, each user's numbered in the order given; weights by item."""
    places: Counter[int] = Counter()
    rows = []
    for user, item, order_value in events:
        places[user] += 1
        weight = (event_weights or {}).get(item, 1.0)
        rows.append((user, item, places[user], order_value, datetime(2020, 1, 1), "view", 1.0, weight, "train"))
    return spark.createDataFrame(rows, INTERACTIONS_SPLIT.schema)


def segments(spark: SparkSession, events: list[Event], names: dict[int, str]) -> DataFrame:
    counts = Counter(item for _, item, _ in events)
    rows = [("valid", item, counts[item], 1, name, "tail") for item, name in names.items()]
    rows += [("test", item, 1_000, 1, "cold", "tail") for item in names]  # another fold, not to be read
    return spark.createDataFrame(rows, ITEM_SEGMENTS.schema)


def rebalanced(
    spark: SparkSession,
    events: list[Event],
    names: dict[int, str],
    event_weights: dict[int, float] | None = None,
    **config: Any,
) -> list[Row]:
    rows = rebalance_interactions(
        log(spark, events, event_weights), segments(spark, events, names), RebalanceConfig(**config), "valid", 1
    )
    assert rows.columns == INTERACTIONS_REBALANCED.column_names
    assert [field.dataType for field in rows.schema] == [field.dataType for field in INTERACTIONS_REBALANCED.schema]
    return rows.orderBy("user_idx", "event_order").collect()


def by_item(rows: list[Row], column: str) -> dict[int, float]:
    found = {row.item_idx: row[column] for row in rows}
    assert all(row[column] == found[row.item_idx] for row in rows)
    return found


# item 0 has 4 events, item 1 has 1: 2.5 in the mean
FOUR_AND_ONE = [(0, 0, 1), (1, 0, 2), (2, 0, 3), (3, 0, 4), (3, 1, 5)]
NAMES = {0: "head", 1: "tail", 2: "cold"}


def test_formulas_by_hand(spark: SparkSession) -> None:
    n, n_mean, n_max = F.lit(4), F.lit(9.0), F.lit(16)
    row = spark.range(1).select(
        inverse_power_weight(n, n_mean, 0.5),
        inverse_power_weight(n, n_mean, 0.0),
        effective_number_weight(n, 0.5),
        item_propensity(n, n_max, 0.5, 0.1),
        item_propensity(n, n_max, 1.0, 0.3),
        inverse_propensity_weight(F.lit(0.25)),
        copies(F.lit(0.49), 2.5),
        copies(F.lit(0.5), 2.5),
        copies(F.lit(0.0), 1.0),
    ).first()  # fmt: skip
    assert row is not None
    assert list(row) == pytest.approx(
        [(9 / 4) ** 0.5, 1, (1 - 0.5) / (1 - 0.5**4), (4 / 16) ** 0.5, 0.3, 1 / 0.25, 3, 2, 1], rel=1e-12
    )


def test_effective_number_at_its_limits(spark: SparkSession) -> None:
    row = spark.range(1).select(
        effective_number_weight(F.lit(7), 0.0),
        effective_number_weight(F.lit(7), 1e-9),
        effective_number_weight(F.lit(7), 1 - 1e-12),
    ).first()  # fmt: skip
    assert row is not None
    assert row[0] == 1
    assert row[1] == pytest.approx(1, abs=1e-8)
    assert row[2] == pytest.approx(1 / 7, rel=1e-3)  # 1 - (1 - 1e-12) itself is good to 1e-4


def test_inverse_power(spark: SparkSession) -> None:
    found = by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, strength=1.0), "weight")
    assert found == pytest.approx({0: 2.5 / 4, 1: 2.5 / 1})  # their mean is (4 x .625 + 2.5) / 5 = 1 already


def test_event_weight_multiplies_before_the_mean(spark: SparkSession) -> None:
    found = by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, {1: 3.0}, strength=1.0), "weight")
    mean = (4 * 0.625 + 3 * 2.5) / 5
    assert found == pytest.approx({0: 0.625 / mean, 1: 3 * 2.5 / mean})


def test_weights_are_capped_before_the_mean(spark: SparkSession) -> None:
    found = by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, strength=1.0, max_weight=2.0), "weight")
    mean = (4 * 0.625 + 2) / 5
    assert found == pytest.approx({0: 0.625 / mean, 1: 2 / mean})


def test_none_keeps_the_event_weights(spark: SparkSession) -> None:
    found = by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, {1: 6.0}, method="none"), "weight")
    assert found == pytest.approx({0: 1 / 2, 1: 6 / 2})  # the mean is (4 x 1 + 6) / 5 = 2


def test_effective_number(spark: SparkSession) -> None:
    found = by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, method="effective_number", beta=0.5), "weight")
    weights = {0: 0.5 / (1 - 0.5**4), 1: 0.5 / (1 - 0.5**1)}
    mean = (4 * weights[0] + weights[1]) / 5
    assert found == pytest.approx({item: weight / mean for item, weight in weights.items()})


def test_the_cap_binds_effective_number_too(spark: SparkSession) -> None:
    events = [(user, 0, user) for user in range(199)] + [(0, 1, 200)]  # 199 events and 1: 100 in the mean
    config = {"method": "effective_number", "beta": 0.9}
    found = by_item(rebalanced(spark, events, NAMES, max_weight=2.0, **config), "weight")
    # against the mean count, 199 events weigh 1 to 5 digits, and 1 event about 10, capped at 2
    assert found[1] / found[0] == pytest.approx(2, rel=1e-4)


def test_inverse_propensity(spark: SparkSession) -> None:
    rows = rebalanced(spark, FOUR_AND_ONE, NAMES, method="inverse_propensity", gamma=0.5)
    assert by_item(rows, "propensity") == pytest.approx({0: 1.0, 1: (1 / 4) ** 0.5})
    mean = (4 * 1 + 2) / 5
    assert by_item(rows, "weight") == pytest.approx({0: 1 / mean, 1: 2 / mean})


@pytest.mark.parametrize("method", ["none", "inverse_power", "effective_number"])
def test_propensity_is_always_there_and_clipped(spark: SparkSession, method: str) -> None:
    rows = rebalanced(spark, FOUR_AND_ONE, NAMES, method=method, gamma=1.0, min_propensity=0.3)
    assert by_item(rows, "propensity") == pytest.approx({0: 1.0, 1: 0.3})


def test_head_cap_keeps_the_newest_and_each_users_last(spark: SparkSession) -> None:
    events = [(0, 0, 1), (0, 1, 2), (1, 0, 3), (2, 0, 4), (2, 1, 5), (3, 0, 6), (3, 1, 7)]
    rows = rebalanced(spark, events, NAMES, head_cap=1)
    kept = {(row.user_idx, row.item_idx) for row in rows}
    # of item 0: user 3 has the newest, and user 1 nothing else; item 1 is not head
    assert kept == {(3, 0), (1, 0), (0, 1), (2, 1), (3, 1)}
    assert sum(row.weight for row in rows) / len(rows) == pytest.approx(1)


@pytest.mark.slow
def test_ties_at_the_head_cap_go_by_seed(spark: SparkSession) -> None:
    events = [(user, item, 5) for user in range(30) for item in range(2)]
    kept = []
    for seed in (1, 1, 2):
        frames = log(spark, events).repartition(3), segments(spark, events, NAMES)
        rows = rebalance_interactions(*frames, RebalanceConfig(head_cap=10), "valid", seed)
        kept.append({row.user_idx for row in rows.where("item_idx = 0").collect()})
    assert len(kept[0]) == 10
    assert kept[0] == kept[1] != kept[2]


def test_tail_copies(spark: SparkSession) -> None:
    events = [(user, item, user) for user in range(400) for item in range(2)]
    rows = rebalanced(spark, events, NAMES, tail_copies=2.25)
    assert {row.n_copies for row in rows if row.item_idx == 0} == {1}
    tail = [row.n_copies for row in rows if row.item_idx == 1]
    assert set(tail) == {2, 3}
    assert sum(tail) / len(tail) == pytest.approx(2.25, abs=4 * (0.25 * 0.75 / 400) ** 0.5)


def test_one_user_one_item(spark: SparkSession) -> None:
    rows = rebalanced(spark, [(0, 0, 1)], {0: "head"}, head_cap=1, tail_copies=3)
    assert [(row.weight, row.propensity, row.n_copies) for row in rows] == [(1.0, 1.0, 1)]


def test_event_weights_of_zero_weigh_alike(spark: SparkSession) -> None:
    assert by_item(rebalanced(spark, FOUR_AND_ONE, NAMES, {0: 0.0, 1: 0.0}), "weight") == {0: 1.0, 1: 1.0}


def report(spark: SparkSession, events: list[Event], names: dict[int, str], **config: Any) -> dict[str, tuple]:
    frames = log(spark, events), segments(spark, events, names)
    after = rebalance_interactions(*frames, RebalanceConfig(**config), "valid", 1)
    stored = [tuple(row) for row in after.collect()]
    stored += [("test", *row[1:]) for row in stored]  # another fold, not to be read
    written = spark.createDataFrame(stored, INTERACTIONS_REBALANCED.schema)
    rows = rebalance_report(frames[0], written, frames[1], "valid")
    assert rows.columns == REBALANCE_REPORT.column_names
    collected = rows.collect()
    assert len(collected) == 5
    return {row.measure: (row.before, row.after) for row in collected}


def test_report_by_hand(spark: SparkSession) -> None:
    # masses 0, 1, 4 before; all events of item 0 weigh 2.5 / 4 and that of item 1 2.5 after: 0, 2.5, 2.5
    found = report(spark, FOUR_AND_ONE, NAMES, strength=1.0)
    before = ((2 * 1 - 4) * 0 + (2 * 2 - 4) * 1 + (2 * 3 - 4) * 4) / (3 * 5)
    after = ((2 * 1 - 4) * 0 + (2 * 2 - 4) * 2.5 + (2 * 3 - 4) * 2.5) / (3 * 5)
    assert found["gini"] == pytest.approx((before, after), abs=1e-9)
    assert found["tail_share"] == pytest.approx((1 / 5, 2.5 / 5))
    assert (found["n_users"], found["n_items"], found["n_events"]) == ((4, 4), (2, 2), (5, 5))


def test_report_counts_copies_and_caps(spark: SparkSession) -> None:
    found = report(spark, FOUR_AND_ONE, NAMES, method="none", tail_copies=3, head_cap=1)
    # the cap takes only user 3's event of item 0 ... which is the newest: it stays, as do the last ones of 0, 1, 2
    assert found["n_events"] == (5, 4 + 3)
    assert found["tail_share"] == pytest.approx((1 / 5, 3 / 7))


@pytest.mark.slow
def test_report_of_equal_items_and_of_nothing(spark: SparkSession) -> None:
    equal = report(spark, [(0, 0, 1), (0, 1, 2)], {0: "head", 1: "head"}, method="none")
    assert equal["gini"] == pytest.approx((0, 0))
    assert equal["tail_share"] == (0, 0)
    nothing = report(spark, [], NAMES)
    assert nothing == {
        "gini": (None, None), "tail_share": (None, None), "n_users": (0, 0), "n_items": (0, 0), "n_events": (0, 0)
    }  # fmt: skip


def test_report_gini_is_near_the_exact_one(spark: SparkSession) -> None:
    counts = [1 + item * item % 97 for item in range(60)]
    events = [(user, item, user) for item, n in enumerate(counts) for user in range(n)]
    found = report(spark, events, dict.fromkeys(range(60), "tail"), method="inverse_power", strength=0.3)
    ranked = sorted(counts)
    exact = sum((2 * rank - 61) * n for rank, n in enumerate(ranked, 1)) / (60 * sum(ranked))
    assert found["gini"][0] == pytest.approx(exact, abs=5e-4)
    assert found["gini"][1] < found["gini"][0]


@settings(max_examples=3, deadline=None)
@given(
    # few items and most of them head, so that users' last events meet the cap
    pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(0, 9)), min_size=15, max_size=40),
    names=st.permutations(["head", "head", "tail"]),
    method=st.sampled_from(["none", "inverse_power", "effective_number", "inverse_propensity"]),
    head_cap=st.sampled_from([1, 2, None]),
    shuffle_seed=st.integers(0, 9),
)
def test_rebalance_properties(
    spark: SparkSession, pairs: list[Event], names: list[str], method: str, head_cap: int | None, shuffle_seed: int
) -> None:
    events = sorted(pairs, key=lambda event: event[2])
    item_segments = segments(spark, events, dict(enumerate(names)))
    interactions = log(spark, events)
    config = RebalanceConfig.model_validate({"method": method, "head_cap": head_cap, "tail_copies": 1.5})
    rows = rebalance_interactions(interactions, item_segments, config, "valid", 1).collect()
    kept = {(row.user_idx, row.event_order): row for row in rows}
    assert len(kept) == len(rows)
    assert sum(row.weight for row in rows) / len(rows) == pytest.approx(1)
    assert all(row.weight > 0 and 0 < row.propensity <= 1 and row.n_copies >= 1 for row in rows)

    last = Counter(user for user, _, _ in events)
    assert {(user, n) for user, n in last.items()} <= set(kept)  # nobody is emptied
    of_item = Counter(row.item_idx for row in rows if last[row.user_idx] != row.event_order)
    for item, name in enumerate(names):
        if name != "head" or head_cap is None:
            assert sum(row.item_idx == item for row in rows) == sum(event[1] == item for event in events)
        else:
            assert of_item[item] <= head_cap

    shuffled = interactions.collect()
    random.Random(shuffle_seed).shuffle(shuffled)
    moved = spark.createDataFrame(shuffled, INTERACTIONS_SPLIT.schema).repartition(3)
    again = rebalance_interactions(moved, item_segments.repartition(2), config, "valid", 1).collect()
    assert sorted(again) == sorted(rows)  # bit for bit
