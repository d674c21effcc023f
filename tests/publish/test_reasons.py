"""Parts of a recommendation: shares by model, items of the history, what items have in common, words."""

from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.publish import reasons

pytestmark = pytest.mark.spark


def attributes(**values: str | None) -> list[tuple[str, str | None]]:
    return list(values.items())


@pytest.fixture
def catalogue(frame: Any) -> Any:
    return frame(
        t.ITEMS,
        [
            {
                "item_idx": 0,
                "item_id": "i0",
                "title": "A",
                "attributes": attributes(kind="Lamp| Desk |oak", text="x" * 300),
            },
            {"item_idx": 1, "item_id": "i1", "title": None, "attributes": attributes(kind="desk|LAMP|Ünï", brand=None)},
            {"item_idx": 2, "item_id": "i2", "title": "C"},
        ],
    )


def test_every_model_has_a_column_and_its_share(frame: Any) -> None:
    rows = frame(t.RECOMMENDATIONS, [{"user_idx": 1, "models": [("bert", 0.75), ("lexical", 0.25)]}])
    row = rows.select(*(column.alias(name) for name, column in reasons.model_columns(F.col("models")).items())).first()
    assert row.asDict() == {f"share_{name}": {"bert": 0.75, "lexical": 0.25}.get(name, 0.0) for name in reasons.MODELS}


def test_three_items_of_the_history_with_their_shares(frame: Any, catalogue: Any) -> None:
    rows = frame(
        t.RECOMMENDATIONS,
        [
            {"user_idx": 1, "item_idx": 2, "because": [(0, 0.5), (1, 0.25)]},
            {"user_idx": 2, "item_idx": 2, "because": []},
        ],
    )
    found = {row["user_idx"]: row for row in reasons.with_history_items(rows, catalogue).collect()}
    one = found[1]
    assert (one["reason_1_item_id"], one["reason_1_title"], one["reason_1_share"]) == ("i0", "A", 0.5)
    assert (one["reason_2_item_id"], one["reason_2_title"], one["reason_2_share"]) == ("i1", None, 0.25)
    assert (one["reason_3_item_id"], one["reason_3_share"]) == (None, None)
    assert found[2]["reason_1_item_id"] is None


def test_keywords_are_written_ones_and_short_values(frame: Any, catalogue: Any) -> None:
    written = frame(
        t.ITEM_ENRICHMENTS,
        [
            {"key": "a", "item_idx": 2, "keywords": ["Brass"], "status": "accepted", "is_current": True},
            {
                "key": "b",
                "item_idx": 0,
                "keywords": ["no"],
                "status": "refused",
                "is_current": True,
                "has_own_keywords": False,
            },
            {"key": "c", "item_idx": 1, "keywords": ["old"], "status": "accepted", "is_current": False},
        ],
    )
    found = {row["item_idx"]: row["keywords"] for row in reasons.item_keywords(catalogue, written, ",;|").collect()}
    assert found == {0: ["lamp", "desk", "oak"], 1: ["desk", "lamp", "ünï"], 2: ["brass"]}


def test_shared_keywords_are_those_of_both(frame: Any, catalogue: Any) -> None:
    rows = frame(
        t.RECOMMENDATIONS,
        [
            {"item_idx": 1, "because": [(0, 0.5)]},
            {"item_idx": 2, "because": [(0, 0.5)]},
            {"item_idx": 0, "because": []},
        ],
    )
    keywords = reasons.item_keywords(catalogue, None, "|")
    found = {row["item_idx"]: row["shared_keywords"] for row in reasons.with_shared_keywords(rows, keywords).collect()}
    assert found == {1: "desk, lamp", 2: None, 0: None}


@pytest.mark.parametrize(
    ("model", "segment", "share", "code", "words"),
    [
        ("lexical", "tail", 0.4, "because_of", "because of «A» on 2001-02-03 (both: desk)"),
        ("popularity", "head", 0.05, "popular", "popular with many users"),
        ("bert", "tail", None, "what_you_did_last", "follows from what you did last"),
        ("als", "tail", 0.09, "similar_taste", "chosen by users of similar taste"),
        # nobody has used it: no users of similar taste chose it
        ("als", "cold", 0.09, "alike", "its description is like what you chose before"),
        ("semantic", "tail", 0.09, "alike", "its description is like what you chose before"),
    ],
)
def test_the_reason_is_what_weighs_most(
    spark: Any, model: str, segment: str, share: float | None, code: str, words: str
) -> None:
    rows = spark.createDataFrame(
        [([(model, 1.0)], segment, share, "A", "2001-02-03", "desk")],
        "models array<struct<model_name:string,share:double>>, segment string, share double, named string, day string, "
        "shared string",
    )
    found = reasons.reason_code(F.col("models"), F.col("share"), F.col("segment"))
    text = reasons.reason_words(F.col("code"), F.col("named"), F.col("day"), F.col("shared"))
    row = rows.withColumn("code", found).withColumn("words", text).first()
    assert (row["code"], row["words"]) == (code, words)
