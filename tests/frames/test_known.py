"""What a fold may see, and what it is asked."""

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lt_spark.core.errors import ConfigError, LeakageError
from lt_spark.frames.known import check_known, hash_uniform, histories, known, seen, targets, with_segments

pytestmark = pytest.mark.spark

# (user_idx, item_idx, event_order, split): user 0 repeats item 1 in test, user 1 sees item 3 in valid and in test
LOG = [
    (0, 1, 1, "train"),
    (0, 2, 2, "train"),
    (0, 3, 3, "valid"),
    (0, 1, 4, "test"),
    (1, 2, 1, "train"),
    (1, 3, 2, "valid"),
    (1, 3, 3, "test"),
    (2, 4, 1, "train"),
    (2, 4, 2, "valid"),
    (2, 5, 3, "test"),
]


def log(spark: SparkSession, rows: list[tuple[int, int, int, str]] | None = None) -> DataFrame:
    return spark.createDataFrame(rows or LOG, "user_idx int, item_idx int, event_order int, split string")


def segments(spark: SparkSession, items: range = range(6)) -> DataFrame:
    rows = [(fold, item, f"{fold}-{item}", "head") for fold in ("valid", "test") for item in items]
    return spark.createDataFrame(rows, "fold string, item_idx int, segment string, segment_top20 string")


def pairs(rows: DataFrame) -> set[tuple[int, int]]:
    return {(row.user_idx, row.item_idx) for row in rows.collect()}


@pytest.mark.parametrize(
    ("fold", "splits"),
    [("valid", {"train"}), ("test", {"train", "valid"}), ("live", {"train", "valid", "test"})],
)
def test_known_is_what_the_fold_may_see(spark: SparkSession, fold: str, splits: set[str]) -> None:
    rows = known(log(spark), fold).collect()
    assert sorted(tuple(row) for row in rows) == sorted(event for event in LOG if event[3] in splits)


def test_unknown_fold_is_named(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match=r"expected one of valid, test, live; found 'vaild'. Did you mean 'valid'\?"):
        known(log(spark), "vaild")
    with pytest.raises(ConfigError, match="expected one of valid, test; found 'live'"):
        targets(log(spark), "live", segments(spark), False, 10, 1)


def test_histories_are_the_newest_oldest_first(spark: SparkSession) -> None:
    events = [(0, 10 - order, order, "train") for order in range(1, 6)] + [(1, 7, 9, "train")]
    shuffled = log(spark, events[::-2] + events[-2::-2]).repartition(3)
    found = {row.user_idx: (row["items"], row.orders) for row in histories(shuffled, 3).collect()}
    assert found == {0: ([7, 6, 5], [3, 4, 5]), 1: ([7], [9])}


def test_seen_is_sorted_and_distinct(spark: SparkSession) -> None:
    found = {row.user_idx: row.seen for row in seen(log(spark)).collect()}
    assert found == {0: [1, 2, 3], 1: [2, 3], 2: [4, 5]}


def test_check_known_lets_known_rows_pass(spark: SparkSession) -> None:
    for fold in ("valid", "test", "live"):
        check_known(known(log(spark), fold), log(spark), fold)


def test_check_known_counts_rows_from_outside(spark: SparkSession) -> None:
    with pytest.raises(LeakageError, match=r"fold 'valid'.*split train; found 3 rows"):
        check_known(known(log(spark), "test"), log(spark), "valid")
    with pytest.raises(LeakageError, match="found 1 rows"):  # an event that the log does not have
        check_known(log(spark, [(0, 1, 99, "train")]), log(spark), "live")


def test_check_known_looks_at_its_fold_only(spark: SparkSession) -> None:
    both = (
        known(log(spark), "valid")
        .withColumn("fold", F.lit("valid"))
        .unionByName(known(log(spark), "live").withColumn("fold", F.lit("live")))
    )
    check_known(both, log(spark), "valid")


@pytest.mark.parametrize(
    ("fold", "recommend_seen", "expected"),
    [
        ("test", True, {(0, 1), (1, 3), (2, 5)}),
        ("test", False, {(2, 5)}),  # users 0 and 1 knew their last item
        ("valid", True, {(0, 3), (1, 3), (2, 4)}),
        ("valid", False, {(0, 3), (1, 3)}),
    ],
)
def test_targets(spark: SparkSession, fold: str, recommend_seen: bool, expected: set[tuple[int, int]]) -> None:
    rows = targets(log(spark), fold, segments(spark), recommend_seen, 10, 1)
    assert rows.columns == ["fold", "user_idx", "item_idx", "segment", "segment_top20"]
    assert pairs(rows) == expected
    assert all(row.segment == f"{fold}-{row.item_idx}" and row.fold == fold for row in rows.collect())


def test_targets_are_distinct_items(spark: SparkSession) -> None:
    rows = log(spark, [(0, 1, 1, "train"), (0, 2, 2, "test"), (0, 2, 3, "test"), (0, 3, 4, "test")])
    assert sorted(row.item_idx for row in targets(rows, "test", segments(spark), False, 10, 1).collect()) == [2, 3]


def test_targets_sample_users_by_seed(spark: SparkSession) -> None:
    rows = log(spark, [(user, 1 + item, item, "test") for user in range(40) for item in range(2)])
    sample = pairs(targets(rows, "test", segments(spark), False, 10, 1))
    assert len({user for user, _ in sample}) == 10
    assert len(sample) == 10 * 2
    assert sample == pairs(targets(rows.repartition(3), "test", segments(spark), False, 10, 1))
    assert sample != pairs(targets(rows, "test", segments(spark), False, 10, 2))
    larger = pairs(targets(rows, "test", segments(spark), False, 20, 1))
    assert sample < larger


def test_the_sample_is_the_same_with_and_without_seen_items(spark: SparkSession) -> None:
    events = [(user, user % 2, 1, "train") for user in range(20)] + [(user, 1, 2, "test") for user in range(20)]
    rows = log(spark, events)
    with_seen = pairs(targets(rows, "test", segments(spark), True, 10, 1))
    assert len(with_seen) == 10
    assert pairs(targets(rows, "test", segments(spark), False, 10, 1)) == {
        (user, item) for user, item in with_seen if user % 2 == 0
    }


def test_an_item_without_segment_is_not_lost_in_silence(spark: SparkSession) -> None:
    with pytest.raises(Exception, match=r"fold 'valid' lacks an item of the log.*lacking 4\. Run stage segment"):
        with_segments(log(spark), segments(spark, range(4)), "valid", ["segment"]).where("item_idx = 4").collect()


def test_hash_uniform_is_uniform_and_seeded(spark: SparkSession) -> None:
    draws = spark.range(4_000).select(
        hash_uniform("a", 1, "id").alias("a"),
        hash_uniform("a", 2, "id").alias("b"),
        hash_uniform("c", 1, "id").alias("c"),
    )
    row = draws.agg(
        F.min("a"), F.max("a"), F.avg("a"), F.corr("a", "b"), F.corr("a", "c"), F.avg((F.col("a") < 0.1).cast("int"))
    ).first()
    assert row is not None
    low, high, mean, over_seeds, over_purposes, tenth = row
    assert 0 <= low < 0.01
    assert 0.99 < high < 1
    assert abs(mean - 0.5) < 0.02  # 4 standard errors
    assert abs(over_seeds) < 0.07
    assert abs(over_purposes) < 0.07
    assert abs(tenth - 0.1) < 0.02
