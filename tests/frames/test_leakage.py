"""Checks of what reached a fold's tables: right ones pass, one event too many is counted."""

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lt_spark.core.errors import LeakageError
from lt_spark.frames.known import known
from lt_spark.frames.leakage import check_counts, check_examples, check_pairs, item_counts

pytestmark = pytest.mark.spark

# (user_idx, item_idx, split, event_weight): user 0 repeats item 1 in valid and in test
LOG = [
    (0, 1, "train", 1.0),
    (0, 2, "train", 0.1),
    (0, 2, "train", 0.2),
    (0, 1, "valid", 1.0),
    (0, 1, "test", 1.0),
    (1, 2, "train", 3.0),
    (1, 3, "valid", 1.0),
    (1, 4, "test", 1.0),
]
COUNTS = {"valid": {1: 1, 2: 3, 3: 0, 4: 0}, "test": {1: 2, 2: 3, 3: 1, 4: 0}}


def log(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(LOG, "user_idx int, item_idx int, split string, event_weight double")


def segments(spark: SparkSession, of_valid: dict[int, int], of_test: dict[int, int]) -> DataFrame:
    rows = [(fold, *each) for fold, of in (("valid", of_valid), ("test", of_test)) for each in of.items()]
    return spark.createDataFrame(rows, "fold string, item_idx int, n_interactions bigint")


def ratings(rows: DataFrame) -> DataFrame:
    return rows.groupBy("user_idx", "item_idx").agg(F.sum("event_weight").alias("rating"))


def test_item_counts(spark: SparkSession) -> None:
    found = {row["item_idx"]: row["n_interactions"] for row in item_counts(log(spark), "test").collect()}
    assert found == {1: 2, 2: 3, 3: 1}


def test_right_counts_pass(spark: SparkSession) -> None:
    for fold in ("valid", "test", "live"):
        check_counts(segments(spark, **{f"of_{name}": of for name, of in COUNTS.items()}), log(spark), fold)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({3: 1}, "events of split train, 4 in all; found 1 items with another count, 5 in all"),
        ({1: 2, 2: 2}, "4 in all; found 2 items with another count, 4 in all"),  # the sum alone would not tell
        ({5: 1}, "found 1 items"),  # an item that the log does not have
    ],
)
def test_a_count_too_high_is_told(spark: SparkSession, changed: dict[int, int], expected: str) -> None:
    planted = segments(spark, COUNTS["valid"] | changed, COUNTS["test"])
    check_counts(planted, log(spark), "test")
    with pytest.raises(LeakageError, match=f"fold 'valid'.*{expected}"):
        check_counts(planted, log(spark), "valid")


def test_known_pairs_pass(spark: SparkSession) -> None:
    for fold in ("valid", "test"):
        check_pairs(ratings(known(log(spark), fold).repartition(3)), log(spark), fold, True)
    heavy = ratings(known(log(spark), "valid")).withColumn("rating", F.col("rating") * 7)
    check_pairs(heavy, log(spark), "valid", False)  # weights of rebalance may be above an event's own


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_pair_from_outside_is_told(spark: SparkSession, is_plain: bool) -> None:
    planted = log(spark).where("split = 'train' or (item_idx = 3 and split = 'valid')")
    with pytest.raises(LeakageError, match=r"fold 'valid'.*split train; found 1 pairs .* and 0 whose rating"):
        check_pairs(ratings(planted), log(spark), "valid", is_plain)
    check_pairs(ratings(planted), log(spark), "test", is_plain)


def test_a_later_event_of_a_known_pair_is_told_by_its_rating(spark: SparkSession) -> None:
    planted = ratings(log(spark).where("split != 'test'").where("item_idx != 3"))
    with pytest.raises(LeakageError, match="found 0 pairs .* and 1 whose rating"):
        check_pairs(planted, log(spark), "valid", True)


def pool(spark: SparkSession, *items: int) -> DataFrame:
    return spark.createDataFrame([(item, 1 + at) for at, item in enumerate(items)], "item_idx int, pool_rank int")


def test_examples_in_the_order_of_what_is_known(spark: SparkSession) -> None:
    eligible = spark.createDataFrame([(item,) for item in (1, 2, 3, 4)], "item_idx int")
    counts = item_counts(log(spark), "valid")
    check_examples(pool(spark, 2, 1, 3, 4), eligible, counts)
    check_examples(pool(spark, 2, 1), eligible, counts)
    with pytest.raises(LeakageError, match=r"split train first; found 2 places that are not so, of 4 examples"):
        check_examples(pool(spark, 2, 1, 4, 3), eligible, counts)
    # item 3 stands where item 1 should: both places are wrong
    with pytest.raises(LeakageError, match="found 2 places that are not so, of 2 examples"):
        check_examples(pool(spark, 2, 3), eligible, counts)


def test_an_error_in_known_is_found_as_well(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    from lt_spark.frames import known as module

    keyed = log(spark).withColumn("event_order", F.monotonically_increasing_id())
    monkeypatch.setattr(module, "known", lambda rows, fold: rows)
    with pytest.raises(LeakageError, match="found 4 rows"):
        module.check_known(module.known(keyed, "valid"), keyed, "valid")
