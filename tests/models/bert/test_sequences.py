"""Events with weights, and windows of one length."""

from collections.abc import Callable
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.tables import INTERACTIONS_AUGMENTED, INTERACTIONS_REBALANCED
from lt_spark.models.bert.sequences import weighted_events, windows

pytestmark = pytest.mark.spark
EVENTS = "user_idx int, item_idx int, event_order int, weight double"


def events(spark: SparkSession, n_events: dict[int, int]) -> DataFrame:
    """Users with events 1 to n of items 100 + order and weights order / 2, in no order."""
    rows = [(user, 100 + order, order, order / 2) for user, n in n_events.items() for order in range(1, n + 1)]
    return spark.createDataFrame(rows[::2] + rows[1::2], EVENTS).repartition(3)


def cut(rows: DataFrame) -> dict[tuple[int, int], list[int]]:
    """Each window's orders; checks that items and weights are in step."""
    found = {}
    for row in rows.collect():
        found[row.user_idx, row.window] = row.orders
        assert row["items"] == [100 + order if order else -1 for order in row.orders]
        assert row.weights == [order / 2 for order in row.orders]
    return found


def test_events_weigh_what_rebalance_says(spark: SparkSession, frame: Callable[..., Any]) -> None:
    def event(user: int, order: int, weight: float, is_augmented: bool) -> dict[str, Any]:
        return {
            "fold": "valid",
            "user_idx": user,
            "item_idx": 10 * order,
            "event_order": order,
            "weight": weight,
            "is_augmented": is_augmented,
        }

    augmented = frame(
        INTERACTIONS_AUGMENTED,
        [event(0, 1, 1.0, False), event(0, 2, 1.0, False), event(0, 3, 0.3, True), event(1, 1, 1.0, False)],
    )
    rebalanced = frame(
        INTERACTIONS_REBALANCED,
        [
            {"user_idx": 0, "event_order": 1, "weight": 0.5, "n_copies": 3},
            {"user_idx": 0, "event_order": 3, "weight": 9.0, "n_copies": 9},  # no event of the log
            {"user_idx": 1, "event_order": 1, "weight": 2.0, "n_copies": 1},
            {"user_idx": 2, "event_order": 1, "weight": 2.0, "n_copies": 1},
        ],
    )
    found = weighted_events(augmented, rebalanced)
    assert found.columns == ["user_idx", "item_idx", "event_order", "weight"]
    assert sorted(map(tuple, found.collect())) == [
        (0, 10, 1, 0.5 * 3),
        (0, 20, 2, 0.0),  # dropped by the head cap: read, and no target
        (0, 30, 3, 0.3),
        (1, 10, 1, 2.0),
    ]
    plain = weighted_events(augmented, None).collect()
    assert sorted(map(tuple, plain)) == [(0, 10, 1, 1.0), (0, 20, 2, 1.0), (0, 30, 3, 0.3), (1, 10, 1, 1.0)]


def test_windows_share_one_event_and_are_padded(spark: SparkSession) -> None:
    rows = windows(events(spark, {0: 7, 1: 4, 2: 5, 3: 2, 4: 1}), length=3, max_windows=5)
    assert cut(rows) == {
        (0, 0): [4, 5, 6, 7],
        (0, 1): [1, 2, 3, 4],  # no third window: event 1 has nothing before it
        (1, 0): [1, 2, 3, 4],
        (2, 0): [2, 3, 4, 5],
        (2, 1): [0, 0, 1, 2],
        (3, 0): [0, 0, 1, 2],
    }
    assert rows.schema.simpleString() == (
        "struct<user_idx:int,window:int,items:array<int>,orders:array<int>,weights:array<float>>"
    )


def test_the_newest_windows_are_kept(spark: SparkSession) -> None:
    assert cut(windows(events(spark, {0: 20}), length=3, max_windows=2)) == {
        (0, 0): [17, 18, 19, 20],
        (0, 1): [14, 15, 16, 17],
    }
    assert cut(windows(events(spark, {0: 20}), length=3, max_windows=1)) == {(0, 0): [17, 18, 19, 20]}


@pytest.mark.parametrize("min_events", [1, 3])
def test_short_windows_are_left_out(spark: SparkSession, min_events: int) -> None:
    found = cut(windows(events(spark, {0: 1, 1: 2, 2: 3, 3: 4}), 2, 4, min_events))
    of_all = {
        (0, 0): [0, 0, 1],
        (1, 0): [0, 1, 2],
        (2, 0): [1, 2, 3],
        (2, 1): [0, 0, 1],
        (3, 0): [2, 3, 4],
        (3, 1): [0, 1, 2],
    }
    assert found == {key: orders for key, orders in of_all.items() if sum(map(bool, orders)) >= min_events}


def test_windows_of_one_input(spark: SparkSession) -> None:
    assert cut(windows(events(spark, {0: 4}), 1, 10)) == {(0, 0): [3, 4], (0, 1): [2, 3], (0, 2): [1, 2]}


@pytest.mark.parametrize(("length", "n_events"), [(1, 9), (4, 11)])
def test_each_event_but_the_oldest_is_a_target_once(spark: SparkSession, length: int, n_events: int) -> None:
    targets = []
    for orders in cut(windows(events(spark, {0: n_events}), length, 100)).values():
        targets += [order for before, order in zip(orders, orders[1:], strict=False) if before]
        assert len(orders) == length + 1
    assert sorted(targets) == list(range(2, n_events + 1))


def test_gaps_in_the_order_do_not_matter(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(0, 5, 40, 1.0), (0, 6, 7, 1.0), (0, 5, 1_000, 1.0)], EVENTS)
    (found,) = windows(rows, 3, 2).collect()
    assert (found["items"], found.orders) == ([-1, 6, 5, 5], [0, 7, 40, 1_000])


def test_old_events_are_dropped_before_the_shuffle(spark: SparkSession) -> None:
    plan = windows(events(spark, {0: 9}), 3, 2)._jdf.queryExecution().toString()
    assert "WindowGroupLimit" in plan
    assert "row_number(), 7, Partial" in plan  # 2 * 3 + 1 events


@pytest.mark.parametrize(("item", "told"), [(-1, "found -1 of user_idx 7"), (None, "found none of user_idx 7")])
def test_the_paddings_item_in_the_events_stops_the_job(spark: SparkSession, item: int | None, told: str) -> None:
    rows = spark.createDataFrame([(7, item, 1, 1.0), *((7, 3, order, 1.0) for order in range(2, 9))], EVENTS)
    with pytest.raises(Exception, match=f"item_idx that is the padding's.*{told}.*Run stage clean"):
        windows(rows, 2, 2).collect()
