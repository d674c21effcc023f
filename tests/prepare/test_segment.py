"""Stage segment: popularity and segments that partition the catalogue."""

from collections import Counter
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.config import SegmentConfig
from lt_spark.core.tables import ITEM_SEGMENTS, SEGMENTS
from lt_spark.prepare import segment
from lt_spark.prepare.segment import segment_items

pytestmark = pytest.mark.spark

Rows = dict[int, tuple[int, int, str, str]]  # item_idx: n_interactions, popularity_rank, segment, segment_top20


def segmented(spark: SparkSession, counts: dict[int, int], config: SegmentConfig, n_partitions: int = 1) -> Rows:
    """Segment a catalogue whose items have the given counts."""
    events = [(item,) for item, n in counts.items() for _ in range(n)]
    interactions: DataFrame = spark.createDataFrame(events, "item_idx int").repartition(n_partitions)
    items = spark.createDataFrame([(item,) for item in counts], "item_idx int").repartition(n_partitions)
    rows = segment_items(interactions, items, config, "test")
    assert rows.columns == ITEM_SEGMENTS.column_names
    assert [field.dataType for field in rows.schema] == [field.dataType for field in ITEM_SEGMENTS.schema]
    collected = rows.collect()
    assert {row.fold for row in collected} == {"test"}
    found = {
        row.item_idx: (row.n_interactions, row.popularity_rank, row.segment, row.segment_top20) for row in collected
    }
    assert len(found) == len(collected) == len(counts)
    return found


# 10 events: item 3 has half of them, items 3 and 1 have 8
COUNTS = {0: 1, 1: 3, 2: 1, 3: 5, **dict.fromkeys(range(4, 10), 0)}


def test_by_interaction_share(spark: SparkSession) -> None:
    found = segmented(spark, COUNTS, SegmentConfig(head=0.5, mid=0.8))
    assert {item: found[item] for item in range(5)} == {
        3: (5, 1, "head", "head"),
        1: (3, 2, "mid", "head"),  # the first ceil(.2 x 10) = 2 items
        0: (1, 3, "tail", "tail"),
        2: (1, 4, "tail", "tail"),
        4: (0, 5, "cold", "tail"),
    }
    assert [found[item][1] for item in range(4, 10)] == [5, 6, 7, 8, 9, 10]


def test_the_item_that_crosses_the_line_is_included(spark: SparkSession) -> None:
    found = segmented(spark, COUNTS, SegmentConfig(head=0.51, mid=0.81))
    assert [found[item][2] for item in (3, 1, 0, 2)] == ["head", "head", "mid", "tail"]


def test_by_item_share(spark: SparkSession) -> None:
    # the first ceil(.11 x 10) = 2 items, then up to ceil(.5 x 10) = 5, of which the fifth is never seen
    found = segmented(spark, COUNTS, SegmentConfig(by="item_share", head=0.11, mid=0.5))
    assert [found[item][2] for item in (3, 1, 0, 2, 4, 5)] == ["head", "head", "mid", "mid", "cold", "cold"]


def test_by_count(spark: SparkSession) -> None:
    found = segmented(spark, COUNTS, SegmentConfig(by="count", head=5, mid=3))
    assert [found[item][2] for item in (3, 1, 0, 2, 4)] == ["head", "mid", "tail", "tail", "cold"]


def test_shares_are_exact(spark: SparkSession) -> None:
    # .55 x 100 is 55.00000000000001 in 64-bit floats: a float comparison takes an item too many
    found = segmented(spark, dict.fromkeys(range(100), 1), SegmentConfig(head=0.55, mid=0.56))
    assert Counter(row[2] for row in found.values()) == {"head": 55, "mid": 1, "tail": 44}


@pytest.mark.parametrize(("n_items", "n_head"), [(1, 1), (5, 1), (6, 2), (35, 7)])
def test_top20_is_the_first_fifth_rounded_up(spark: SparkSession, n_items: int, n_head: int) -> None:
    found = segmented(spark, {item: n_items - item for item in range(n_items)}, SegmentConfig())
    assert sorted(item for item, row in found.items() if row[3] == "head") == list(range(n_head))


def test_one_item(spark: SparkSession) -> None:
    assert segmented(spark, {7: 3}, SegmentConfig()) == {7: (3, 1, "head", "head")}


def test_all_head_no_tail(spark: SparkSession) -> None:
    found = segmented(spark, {0: 2, 1: 2}, SegmentConfig(by="count", head=2, mid=1))
    assert {row[2] for row in found.values()} == {"head"}


def test_no_events_at_all(spark: SparkSession) -> None:
    assert segmented(spark, {0: 0, 1: 0}, SegmentConfig()) == {0: (0, 1, "cold", "head"), 1: (0, 2, "cold", "tail")}


def expected_rows(counts: dict[int, int], by: str, head: Fraction, mid: Fraction) -> Rows:
    """Segment by brute force, in fractions: the shortest prefix of the ranked items that fills each share."""
    ranked = sorted(counts, key=lambda item: (-counts[item], item))
    mass = [1 if by == "item_share" else counts[item] for item in ranked]
    ends = [
        next((end for end in range(len(ranked) + 1) if sum(mass[:end]) >= share * sum(mass)), 0)
        for share in (head, mid)
    ]
    rows = {}
    for place, item in enumerate(ranked):
        name = "head" if place < ends[0] else "mid" if place < ends[1] else "tail"
        top20 = "head" if place < ceil(len(ranked) / 5) else "tail"
        rows[item] = (counts[item], place + 1, name if counts[item] else "cold", top20)
    return rows


@settings(max_examples=5, deadline=None)
@given(
    counts=st.dictionaries(st.integers(0, 30), st.integers(0, 6), min_size=1, max_size=25),
    by=st.sampled_from(["interaction_share", "item_share"]),
    shares=st.sampled_from([("0.5", "0.8"), ("0.1", "0.3"), ("0.07", "1")]),
)
def test_segments_partition_the_catalogue(
    spark: SparkSession, counts: dict[int, int], by: str, shares: tuple[str, str]
) -> None:
    config = SegmentConfig.model_validate({"by": by, "head": float(shares[0]), "mid": float(shares[1])})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "BLOCK_SIZE", 4)  # so that ranks run over several blocks
        found = segmented(spark, counts, config, n_partitions=3)
    assert found == expected_rows(counts, by, Fraction(shares[0]), Fraction(shares[1]))
    assert {row[2] for row in found.values()} <= set(SEGMENTS)
    assert sorted(row[1] for row in found.values()) == list(range(1, len(counts) + 1))
