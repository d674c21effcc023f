"""Stage split: each event in one split, by the rules, however the rows lie."""

from collections import Counter
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.config import SplitConfig
from lt_spark.core.tables import INTERACTIONS, INTERACTIONS_SPLIT
from lt_spark.prepare.split import split_interactions

pytestmark = pytest.mark.spark

Event = tuple[int, int, int, int]  # user_idx, item_idx, event_order, order_value


def log(spark: SparkSession, events: list[Event]) -> DataFrame:
    rows = [(*event, datetime(2020, 1, 1), "view", 1.0, 1.0) for event in events]
    return spark.createDataFrame(rows, INTERACTIONS.schema)


def in_order(pairs: list[tuple[int, int, int]]) -> list[Event]:
    """Number the events of (user, item, order_value) within each user, by order_value."""
    places: Counter[int] = Counter()
    events = []
    for user, item, order_value in sorted(pairs, key=lambda pair: (pair[0], pair[2])):
        places[user] += 1
        events.append((user, item, places[user], order_value))
    return events


def splits(rows: DataFrame) -> dict[tuple[int, int], str]:
    assert rows.columns == INTERACTIONS_SPLIT.column_names
    collected = rows.collect()
    found = {(row.user_idx, row.event_order): row.split for row in collected}
    assert len(found) == len(collected)
    return found


def test_leave_last_out(spark: SparkSession) -> None:
    of_user_0 = [(0, 1, 10), (0, 2, 20), (0, 3, 30), (0, 1, 40)]
    events = in_order([*of_user_0, (1, 1, 1), (1, 2, 2), (1, 3, 3), (2, 1, 1), (2, 2, 2)])
    assert splits(split_interactions(log(spark, events[::-1]), SplitConfig(), 1)) == {
        (0, 1): "train", (0, 2): "train", (0, 3): "valid", (0, 4): "test",
        (1, 1): "train", (1, 2): "valid", (1, 3): "test",
        (2, 1): "train", (2, 2): "train",
    }  # fmt: skip


def test_users_below_min_events_stay_in_train(spark: SparkSession) -> None:
    events = in_order([(0, item, item) for item in range(4)] + [(1, item, item) for item in range(5)])
    found = splits(split_interactions(log(spark, events), SplitConfig(min_events=5), 1))
    assert {found[0, order] for order in range(1, 5)} == {"train"}
    assert (found[1, 4], found[1, 5]) == ("valid", "test")


def test_time_cuts_once_for_all(spark: SparkSession) -> None:
    # 10 events of 2 users at times 1..10: the first 7 = (1 - .1 - .2) x 10 are train, then 1 valid, then 2 test
    events = in_order([(time % 2, time, time) for time in range(1, 11)])
    config = SplitConfig(method="time", valid_share=0.1, test_share=0.2)
    found = splits(split_interactions(log(spark, events), config, 1))
    by_time = {time: found[user, order] for user, _, order, time in events}
    assert by_time == {**{time: "train" for time in range(1, 8)}, 8: "valid", 9: "test", 10: "test"}


def test_an_event_at_the_cut_is_on_the_earlier_side(spark: SparkSession) -> None:
    events = in_order([(0, item, time) for item, time in enumerate([1, 1, 1, 2, 2, 2, 2, 2, 3, 3])])
    config = SplitConfig(method="time", valid_share=0.3, test_share=0.3)  # both cuts fall on time 2: none is valid
    found = splits(split_interactions(log(spark, events), config, 1))
    assert Counter(found.values()) == {"train": 8, "test": 2}


def test_time_keeps_small_users_in_train(spark: SparkSession) -> None:
    events = in_order([(0, time, time) for time in range(1, 21)] + [(1, 1, 99), (1, 2, 100)])
    found = splits(split_interactions(log(spark, events), SplitConfig(method="time"), 1))
    # 22 events: the cuts are the ceil(.8 x 22) = 18th and the ceil(.9 x 22) = 20th; only user 1 comes after
    assert [found[0, order] for order in (18, 19, 20)] == ["train", "valid", "valid"]
    assert found[1, 1] == found[1, 2] == "train"


def test_one_time_for_all_leaves_all_in_train(spark: SparkSession) -> None:
    events = in_order([(user, item, 5) for user in range(3) for item in range(4)])
    assert set(splits(split_interactions(log(spark, events), SplitConfig(method="time"), 1)).values()) == {"train"}


def test_time_cuts_are_exact_on_many_events(spark: SparkSession) -> None:
    # above the accuracy of percentile_approx; order_value = a permutation of 0..49,999 (7,919 is a prime)
    n = 50_021
    rows = spark.range(n).selectExpr(
        "cast(id % 100 as int) user_idx", "cast(id % 7 as int) item_idx", "cast(id as int) event_order",
        f"id * 7919 % {n} order_value", "timestamp'2020-01-01' event_ts", "'view' event_type",
        "1D value", "1D event_weight",
    )  # fmt: skip
    config = SplitConfig(method="time", valid_share=0.1, test_share=0.1)
    found = split_interactions(rows.repartition(7), config, 1).groupBy("split").agg({"order_value": "max"})
    largest = {row.split: row["max(order_value)"] for row in found.collect()}
    assert largest == {"train": 40_017 - 1, "valid": 45_019 - 1, "test": n - 1}  # ceil(.8 n), ceil(.9 n) events


def test_cold_items_holds_whole_items_out(spark: SparkSession) -> None:
    events = in_order([(user, item, item) for user in range(3) for item in range(300)])
    rows = split_interactions(log(spark, events), SplitConfig(method="cold_items", valid_share=0.1, test_share=0.3), 1)
    of_item: dict[int, set[str]] = {}
    for row in rows.collect():
        of_item.setdefault(row.item_idx, set()).add(row.split)
    assert all(len(found) == 1 for found in of_item.values())
    counts = Counter(next(iter(found)) for found in of_item.values())
    assert abs(counts["test"] - 0.3 * 300) < 4 * (300 * 0.3 * 0.7) ** 0.5
    assert abs(counts["valid"] - 0.1 * 300) < 4 * (300 * 0.1 * 0.9) ** 0.5


def test_cold_items_go_by_seed(spark: SparkSession) -> None:
    rows = log(spark, in_order([(0, item, item) for item in range(100)]))
    config = SplitConfig(method="cold_items")
    first = splits(split_interactions(rows, config, 1))
    assert first == splits(split_interactions(rows.repartition(3), config, 1))
    assert first != splits(split_interactions(rows, config, 2))


@settings(max_examples=5, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 20)), min_size=1, max_size=40),
    method=st.sampled_from(["leave_last_out", "time"]),
    random=st.randoms(use_true_random=False),
)
def test_split_properties(spark: SparkSession, pairs: list[tuple[int, int, int]], method: str, random: object) -> None:
    events = in_order(pairs)
    config = SplitConfig.model_validate({"method": method})
    found = splits(split_interactions(log(spark, events), config, 1))
    assert set(found) == {(user, order) for user, _, order, _ in events}
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert found == splits(split_interactions(log(spark, shuffled).repartition(3), config, 1))
    age = {"train": 0, "valid": 1, "test": 2}
    n_events = Counter(user for user, *_ in events)
    for user, n in n_events.items():
        of_user = [age[found[user, order]] for order in range(1, n + 1)]
        assert of_user == sorted(of_user)  # never a later split before an earlier one
        if n < config.min_events:
            assert set(of_user) == {0}
        elif method == "leave_last_out":
            assert of_user[-2:] == [1, 2]
            assert of_user.count(0) == n - 2
