"""Lorenz curve, Gini and segments by hand-computable counts."""

from typing import Any

import pytest

from lt_spark.kernels.metrics import gini as gini_by_hand
from lt_spark.measure.long_tail import exposures, gini, lorenz, segment_shares

pytestmark = pytest.mark.spark


@pytest.fixture
def counts(spark: Any) -> Any:
    def build(*rows: tuple[str, int]) -> Any:
        return spark.createDataFrame(list(rows), "segment string, n bigint")

    return build


def points(curve: Any) -> list[tuple[float, float]]:
    return [(row["item_share"], row["event_share"]) for row in curve.collect()]


def test_the_curve_has_the_ends_of_the_classes_of_items_used_alike(counts: Any) -> None:
    # 2 items of 0, 1 of 1, 1 of 3 events
    found = points(lorenz(counts(("cold", 0), ("head", 3), ("tail", 1), ("cold", 0))))
    assert found == [(0, 0), (2 / 4, 0), (3 / 4, 1 / 4), (1, 1)]


def test_gini_is_that_of_all_items_one_by_one(counts: Any) -> None:
    found = gini(counts(("cold", 0), ("head", 3), ("tail", 1), ("cold", 0))).collect()
    # (2 i - n - 1) x_i / (n sum x): (2 x 3 - 5) x 1 + (2 x 4 - 5) x 3 over 4 x 4
    assert [row["gini"] for row in found] == [pytest.approx((1 * 1 + 3 * 3) / 16)]


def test_a_curve_of_many_classes_keeps_few_points_all_of_them_on_it(spark: Any) -> None:
    n = list(range(1, 501))
    rows = spark.createDataFrame([(each,) for each in n], "n bigint")
    found = points(lorenz(rows, n_points=20))
    assert len(found) <= 21
    assert (found[0], found[-1]) == ((0, 0), (1, 1))
    for item_share, event_share in found:
        used = round(item_share * 500)
        assert event_share == pytest.approx(sum(n[:used]) / sum(n))
    assert gini(rows).collect()[0]["gini"] == pytest.approx(gini_by_hand(n))


def test_without_events_there_is_the_origin_alone_and_no_gini(counts: Any) -> None:
    none = counts(("cold", 0), ("cold", 0))
    assert points(lorenz(none)) == [(0, 0)]
    assert gini(none).collect()[0]["gini"] is None


def test_segments_come_head_first_with_their_shares(counts: Any) -> None:
    found = segment_shares(counts(("cold", 0), ("tail", 1), ("head", 5), ("tail", 0), ("tail", 2)))
    assert [tuple(row) for row in found.collect()] == [
        ("head", 1, 5, 0, 1 / 5, 5 / 8),
        ("tail", 3, 3, 1, 3 / 5, 3 / 8),
        ("cold", 1, 0, 1, 1 / 5, 0),
    ]


def test_what_nobody_is_shown_counts_zero(spark: Any) -> None:
    lists = spark.createDataFrame([(1, 1), (1, 2), (2, 2), (3, 3)], "item_idx int, rank int")
    segments = spark.createDataFrame(
        [(1, "head"), (2, "mid"), (3, "tail"), (4, "cold")], "item_idx int, segment string"
    )
    found = {tuple(row) for row in exposures(lists, segments, k=2).collect()}
    assert found == {(1, "head", 2), (2, "mid", 1), (3, "tail", 0), (4, "cold", 0)}
