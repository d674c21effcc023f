"""Data disturbed on purpose."""

import pytest
from pydantic import ValidationError
from pyspark.sql import functions as F

from lt_spark.core.config_ledger import DisturbConfig
from lt_spark.prepare.disturb import disturbed_texts, shuffled_idx, without_dropped

pytestmark = pytest.mark.spark
SCHEMA = "item_idx int, item_id string, title string, attributes array<struct<name:string,value:string>>"


def catalogue(spark, numbers):
    letters = "abcdefghij"
    titles = {i: f"number{letters[i % 10]}{letters[i // 10 % 10]} {i}" for i in numbers}
    rows = [(i, f"i{i}", title, [("brand", f"b{i}")]) for i, title in titles.items()]
    return spark.createDataFrame(rows, SCHEMA)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 12, 100])
def test_shuffled_texts_are_the_same_texts_of_other_items(spark, n):
    items = catalogue(spark, range(n))
    rows = disturbed_texts(items, DisturbConfig(text="shuffled"), 1).collect()
    assert sorted(row["item_idx"] for row in rows) == list(range(n))
    own = {row["item_idx"]: row["title"] for row in items.collect()}
    assert sorted(row["title"] for row in rows) == sorted(own.values())
    assert all(row["item_id"] == f"i{row['item_idx']}" for row in rows)
    assert all(row["title"].rsplit(" ", 1)[1] == row["attributes"][0]["value"][1:] for row in rows)
    assert sum(row["title"] == own[row["item_idx"]] for row in rows) <= 1


def test_a_vacant_number_takes_one_text_and_no_item(spark):
    items = catalogue(spark, [0, 1, 2, 4, 5])
    rows = disturbed_texts(items, DisturbConfig(text="shuffled"), 1).collect()
    assert sorted(row["item_idx"] for row in rows) == [0, 1, 2, 4, 5]
    assert sum(row["title"] is None for row in rows) == 1


def test_shuffled_numbers_of_nothing(spark):
    items = catalogue(spark, [])
    assert items.select(shuffled_idx(items)).collect() == []


def test_typos_touch_titles_only(spark):
    items = catalogue(spark, range(50)).union(spark.createDataFrame([(50, "i50", None, [])], SCHEMA))
    own = {row["item_idx"]: row for row in items.collect()}
    config = DisturbConfig(text="typos", typo_share=0.5)
    rows = disturbed_texts(items, config, 1).collect()
    assert len(rows) == 51
    n_changed = sum(row["title"] != own[row["item_idx"]]["title"] for row in rows)
    assert 10 < n_changed < 40
    assert all(row["attributes"] == own[row["item_idx"]]["attributes"] for row in rows)
    assert [row["title"] for row in rows if row["item_idx"] == 50] == [None]


def test_dropped_events_are_of_train_and_never_the_newest(spark):
    rows = [(u, e, {9: "test", 8: "valid"}.get(e, "train")) for u in range(200) for e in range(10)]
    rows += [(900, 0, "train")]
    split = spark.createDataFrame(rows, "user_idx int, event_order long, split string")
    assert without_dropped(split, DisturbConfig(), 1) is split
    kept = without_dropped(split, DisturbConfig(drop_share=0.5), 1)
    assert kept.columns == split.columns
    count = {row["split"]: row["count"] for row in kept.groupBy("split").count().collect()}
    assert count["valid"] == count["test"] == 200
    # 7 of 8 events may go
    assert abs(count["train"] - 1 - 200 * (1 + 7 * 0.5)) < 80
    newest = kept.where("split = 'train'").groupBy("user_idx").agg(F.max("event_order").alias("newest")).collect()
    assert {(row["user_idx"], row["newest"]) for row in newest} == {(u, 7) for u in range(200)} | {(900, 0)}


def test_what_cannot_be_is_refused():
    for wrong in ({"text": "upside_down"}, {"drop_share": 1.0}, {"typo_share": 2.0}):
        with pytest.raises(ValidationError):
            DisturbConfig(**wrong)
