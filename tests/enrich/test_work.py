"""Which items are described, the pool of examples, waves, what is done already, and texts that are another's."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark.core.config_text import DescribeConfig
from lt_spark.core.tables import ENRICHMENT_STAGING, ITEM_EMBEDDINGS, ITEM_ENRICHMENTS, ITEM_SEGMENTS, ITEMS
from lt_spark.enrich import work

pytestmark = pytest.mark.spark
Frame = Callable[..., Any]
SECTION = DescribeConfig(keyword_fields=("kind",), description_field="about")


def item(item_idx: int, title: str | None = "Spade", **attributes: str | None) -> dict[str, Any]:
    return {"item_idx": item_idx, "item_id": f"i{item_idx}", "title": title, "attributes": list(attributes.items())}


def segments(frame: Frame, **named: list[int]) -> Any:
    """Items of each segment; an item's rank of popularity is its place over all of them."""
    rows = [(idx, segment) for segment, items in named.items() for idx in items]
    return frame(
        ITEM_SEGMENTS,
        [{"item_idx": idx, "segment": name, "popularity_rank": rank} for rank, (idx, name) in enumerate(rows, 1)],
    )


def embeddings(frame: Frame, *filled: int, zeros: tuple[int, ...] = ()) -> Any:
    vectors = [(idx, [1.0, 0.0]) for idx in filled] + [(idx, [0.0, 0.0]) for idx in zeros]
    return frame(ITEM_EMBEDDINGS, [{"item_idx": idx, "vector": vector} for idx, vector in vectors])


def test_tail_and_cold_items_the_thinnest_first(frame: Frame) -> None:
    items = frame(
        ITEMS,
        [
            item(1, "Head"),
            item(2, "A long tail item", kind="tool"),
            item(3, "Tail", kind="tool", about=None),
            item(4, "Longer tail", kind=" "),
            item(5, "No segment"),
            item(6, "Of the middle"),
            item(7, None, kind="a tool"),
            item(8, "Cold", kind="tool"),
            item(9, "Tail") | {"attributes": None},
        ],
    )
    of_fold = segments(frame, head=[1], mid=[6], tail=[2, 3, 4, 7, 9], cold=[8])
    found = work.items_to_describe(items, of_fold, embeddings(frame, 2, 3), SECTION).orderBy("thinness").collect()
    assert [row["item_idx"] for row in found] == [
        9,  # no keyword field, 4 characters
        5,  # none, 10; without a row in the segments it is cold
        4,  # a blank one, 11 + 1
        7,  # has one; 6, and no title
        3,  # has one; 4 + 4, and null counts nothing
        8,  # has one; 4 + 4, the later item
        2,
    ]
    by_item = {row["item_idx"]: row for row in found}
    assert by_item[3]["thinness"].asDict() == {"has_keywords": True, "n_chars": 8, "item_idx": 3}
    assert (by_item[2]["vector"], by_item[5]["vector"]) == ([1.0, 0.0], None)
    only_cold = work.items_to_describe(
        items, of_fold, embeddings(frame), SECTION.model_copy(update={"segments": ("cold",)})
    )
    assert {row["item_idx"] for row in only_cold.collect()} == {5, 8}


def test_the_hash_of_an_items_own_text(frame: Frame) -> None:
    rows = [item(1, kind="tool"), item(2, kind="tool"), item(3, kind="toy"), item(4, "Rake", kind="tool"), item(5)]
    hashes = [r[0] for r in frame(ITEMS, rows).orderBy("item_idx").select(work.content_hash()).collect()]
    assert hashes[0] == hashes[1], "the item's id and number are not part of it"
    assert len(set(hashes)) == 4


def test_items_with_a_value_in_each_field(frame: Frame) -> None:
    items = frame(
        ITEMS,
        [
            item(1, kind="tool", about="A spade."),
            item(2, kind="tool", about=" "),
            item(3, kind=None, about="A spade."),
            item(4),
            item(5) | {"attributes": None},
        ],
    )
    asked = {"one": ("kind",), "both": ("kind", "about"), "unknown": ("nothing",), "none": ()}
    rows = items.select("item_idx", *(work.has_fields(names).alias(name) for name, names in asked.items())).collect()
    assert {name: [row["item_idx"] for row in rows if row[name]] for name in asked} == {
        "one": [1, 2], "both": [1], "unknown": [], "none": []
    }  # fmt: skip
    assert {row[name] for row in rows for name in asked} == {True, False}, "never null"


def test_the_pool_holds_full_items_most_known_first(frame: Frame) -> None:
    full = {"kind": "tool", "about": "A spade."}
    items = frame(
        ITEMS,
        [
            item(1, **full),
            item(2, **full),
            item(3, **full),  # not in the segments: last
            item(4, kind="tool"),  # lacks a field
            item(5, "", **full),
            item(6, **full),  # a vector of zeros
            item(7, **full),  # no vector
            item(8, **full),
        ],
    )
    of_fold = segments(frame, head=[8, 4], tail=[5, 6, 7, 2, 1])
    vectors = embeddings(frame, 1, 2, 3, 4, 5, 8, zeros=(6,))
    pool = work.examples_pool(items, of_fold, vectors, SECTION, 3)
    assert [(row["pool_rank"], row["item_idx"]) for row in pool.orderBy("pool_rank").collect()] == [
        (1, 8), (2, 2), (3, 1), (4, 3)
    ]  # fmt: skip
    assert {row["examples_version"] for row in pool.collect()} == {3}
    small = work.examples_pool(items, of_fold, vectors, SECTION.model_copy(update={"pool_size": 2}), 1)
    assert [row["item_idx"] for row in small.orderBy("pool_rank").collect()] == [8, 2]
    no_fields = DescribeConfig()
    bare = work.examples_pool(frame(ITEMS, [item(1), item(2, colour="red")]), of_fold, vectors, no_fields, 1)
    assert [row["item_idx"] for row in bare.collect()] == [2]


def test_waves_hold_every_row_once_about_even_and_the_thinnest_first(spark: Any) -> None:
    thinness = F.struct((F.col("id") % 2 == 0).alias("has_keywords"), (1_000 - F.col("id")).alias("n_chars"))
    rows = spark.range(1_000).withColumn("thinness", thinness)
    found = work.in_waves(rows, 1_000, 130).collect()
    assert sorted(row["id"] for row in found) == list(range(1_000))
    sizes = Counter(row["wave"] for row in found)
    assert sorted(sizes) == list(range(8)), "1,000 / 130, rounded up"
    assert max(sizes.values()) < 2 * 130
    in_order = sorted(found, key=lambda row: (row["thinness"]["has_keywords"], row["thinness"]["n_chars"]))
    waves = [row["wave"] for row in in_order]
    assert waves == sorted(waves)
    assert in_order[0]["id"] == 999


def test_few_rows_are_one_wave(spark: Any) -> None:
    rows = work.in_waves(spark.range(10).withColumn("thinness", F.col("id")), 10, 10).collect()
    assert [row["wave"] for row in rows] == [0] * 10


def enrichment(key: str, item_idx: int, **values: Any) -> dict[str, Any]:
    """A row that the model wrote, of an item whose own text is its number."""
    common = {"content_hash": f"text {item_idx}", "status": "accepted", "input_key": f"in {key}", "is_current": True}
    return common | {"key": key, "item_idx": item_idx} | values


def todo(spark: Any, *rows: tuple[str, int, str]) -> Any:
    return spark.createDataFrame(rows, "key string, item_idx int, content_hash string")


def test_what_is_done_or_judged_by_a_person_is_left_out(spark: Any, frame: Frame) -> None:
    done = frame(
        ITEM_ENRICHMENTS,
        [
            enrichment("a", 1),
            enrichment("b", 2, status="failed"),
            enrichment("c", 3, status="refused"),
            enrichment("d", 4, status="fallback", reviewed_by="Ada"),
            enrichment("e", 5, reviewed_by="Ada"),
        ],
    )
    rows = todo(
        spark,
        ("a", 1, "text 1"),
        ("b", 2, "text 2"),
        ("c", 3, "text 3"),
        ("new d", 4, "text 4"),
        ("new e", 5, "another text"),
        ("f", 6, "text 6"),
    )
    found = {row["key"] for row in work.left_out(rows, done).collect()}
    assert found == {
        "b",  # the engine failed on it
        "new e",  # what was judged was of the item's former text
        "f",
    }


def test_an_answer_is_known_by_its_input(spark: Any, frame: Frame) -> None:
    done = frame(
        ITEM_ENRICHMENTS,
        [
            enrichment("a", 1, input_key="one", answer="First."),
            enrichment("b", 2, input_key="one", answer="First.", status="fallback"),
            enrichment("c", 3, input_key="two", status="failed", answer="half"),
            enrichment("d", 4, input_key="three", answer=None, status="refused"),
        ],
    )
    pending = spark.createDataFrame(
        [(f"key {name}", name) for name in ("one", "two", "three", "four")], "key string, input_key string"
    )
    found = {row["input_key"]: row["known_answer"] for row in work.with_known_answers(pending, done).collect()}
    assert found == {"one": "First.", "two": None, "three": None, "four": None}


def test_a_reviewed_row_is_current_whatever_the_key_is_now(spark: Any, frame: Frame) -> None:
    early, late = datetime(2026, 1, 1), datetime(2026, 2, 1)
    done = frame(
        ITEM_ENRICHMENTS,
        [
            enrichment("z", 1, reviewed_by="Ada", reviewed_at=early),
            enrichment("b", 1, reviewed_by="Ada", reviewed_at=late),
            enrichment("c", 2, reviewed_by="Ada", reviewed_at=early, content_hash="former text"),
            enrichment("d", 3),
        ],
    )
    rows = todo(spark, ("new 1", 1, "text 1"), ("new 2", 2, "text 2"), ("new 3", 3, "text 3"))
    found = {row["key"] for row in work.current_keys(rows, done).collect()}
    assert found == {"b", "new 2", "new 3"}


def staged(key: str, item_idx: int, description: str, **values: Any) -> dict[str, Any]:
    common = {
        "description": description,
        "keywords": ["own word"],
        "has_own_keywords": True,
        "fallback_description": "A product of this catalogue.",
        "fallback_keywords": ["voted"],
        "checks": [],
    }
    return enrichment(key, item_idx, **(common | values))


def judge(frame: Frame, rows: list[dict[str, Any]], there: list[dict[str, Any]]) -> dict[str, Any]:
    """Return (status, description) by key."""
    found = work.without_same_text(frame(ENRICHMENT_STAGING, rows), frame(ITEM_ENRICHMENTS, there))
    assert found.columns == ENRICHMENT_STAGING.column_names
    got = {row["key"]: row for row in found.collect()}
    assert set(got) == {row["key"] for row in rows}, "every row once"
    return got


SAME, SAME_LETTERS, ELSE = "Digs holes in soil.", "digs HOLES, in soil", "Waters flowers."


def test_of_several_items_with_one_text_the_first_keeps_it(frame: Frame) -> None:
    got = judge(
        frame,
        [
            staged("a", 1, SAME, input_key="2"),
            staged("b", 2, SAME_LETTERS, input_key="1"),
            staged("c", 3, SAME, input_key="3", has_own_keywords=False, keywords=[]),
            staged("d", 4, ELSE, input_key="4"),
            staged("e", 5, SAME, input_key="0", status="fallback", reason="length"),
        ],
        [],
    )
    assert {key: row["status"] for key, row in got.items()} == {
        "a": "fallback", "b": "accepted", "c": "fallback", "d": "accepted", "e": "fallback"
    }  # fmt: skip
    told = {name: got["a"][name] for name in ("description", "keywords", "reason", "checks")}
    assert told == {
        "description": "A product of this catalogue.",
        "keywords": ["own word"],  # they passed
        "reason": "same_text",
        "checks": ["same_text"],
    }
    assert got["c"]["keywords"] == ["voted"]
    assert (got["e"]["reason"], got["e"]["description"]) == ("length", SAME), "what was refused is left as it is"
    assert got["d"]["reason"] is None


def test_a_text_that_another_item_has_already_is_refused(frame: Frame) -> None:
    lost = {"fallback_description": "", "fallback_keywords": [], "keywords": [], "has_own_keywords": False}
    rows = [
        staged("another's", 1, SAME),
        staged("not current", 2, ELSE),
        staged("a fallback", 3, "Sweeps floors."),
        staged("its own", 4, "Cuts hedges."),
        staged("its own, corrected", 5, "Paints walls.", content_hash="corrected title"),
        # another item, the same prompt
        staged("one input", 6, "Holds ink.", input_key="one"),
        staged("one input too", 7, "Holds ink.", input_key="one"),
        # the same title, other examples
        staged("twin", 8, "Dries hair.", content_hash="twin", input_key="two"),
        staged("twin too", 9, "Dries hair.", content_hash="twin", input_key="three"),
        staged("lost", 10, "Boils eggs.", **lost),
    ]
    there = [
        enrichment("21", 21, description=SAME_LETTERS),
        enrichment("22", 22, description=ELSE, is_current=False),
        enrichment("23", 23, description="Sweeps floors.", status="fallback"),
        enrichment("24", 4, description="Cuts hedges."),
        enrichment("25", 5, description="Paints walls."),
        enrichment("26", 26, description="Holds ink.", input_key="one"),
        enrichment("27", 27, description="Dries hair.", content_hash="twin"),
        enrichment("28", 28, description="Boils eggs."),
    ]
    got = judge(frame, rows, there)
    assert {key for key, row in got.items() if row["status"] != "accepted"} == {"another's", "lost"}
    assert got["another's"]["status"] == "fallback"
    assert {name: got["lost"][name] for name in ("status", "description", "keywords")} == {
        "status": "refused", "description": None, "keywords": None
    }  # fmt: skip
