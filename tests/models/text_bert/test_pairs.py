"""Pairs and users as rows: nothing of the future, nothing without a text, the same sample always."""

from collections.abc import Callable
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.frames.known import known, seen, targets
from lt_spark.models.text_bert import pairs
from tests.models.text_bert.tiny_bert import section

pytestmark = pytest.mark.spark
Frame = Callable[..., Any]
# user: items in the order of the events; of each the last two are valid and test
LOG = {0: [1, 2, 3, 1, 4, 90, 91], 1: [2, 5, 90, 91], 2: [3, 90, 91], 3: [8, 1, 2, 90, 91]}
NO_TEXT = 8


@pytest.fixture
def split(frame: Frame) -> Any:
    rows = []
    for user, items in LOG.items():
        for order, item in enumerate(items, start=1):
            at = order - len(items)
            kind = {-1: "valid", 0: "test"}.get(at, "train")
            rows.append({"user_idx": user, "item_idx": item, "event_order": order, "split": kind, "event_weight": 1.0})
    return frame(t.INTERACTIONS_SPLIT, rows)


@pytest.fixture
def texts(spark: Any) -> Any:
    said = [(item, f"title {item}") for item in (1, 2, 3, 4, 5, 6, 7, 90, 91)]
    return spark.createDataFrame([*said, (NO_TEXT, "  "), (9, None)], "item_idx int, text string")


def found(rows: Any) -> dict[tuple[int, int], tuple[list[int], int]]:
    return {(r["user_idx"], r["event_order"]): (r["history"], r["item_idx"]) for r in rows.collect()}


def test_a_history_holds_events_before_its_target_and_none_of_the_future(split: Any, texts: Any) -> None:
    of = section(history_items=2)
    rows = found(pairs.training_pairs(known(split, "valid"), texts, of, 1))
    assert rows == {
        (0, 2): ([1], 2),
        (0, 3): ([1, 2], 3),
        # the 4th event is of an item that user 0 had before, and is history all the same
        (0, 5): ([3, 1], 4),
        (1, 2): ([2], 5),
        # item 8 of user 3 has no text
        (3, 3): ([1], 2),
    }
    live = found(pairs.training_pairs(known(split, "live"), texts, of, 1))
    assert live[0, 7] == ([4, 90], 91) and live[2, 2] == ([3], 90)
    repeated = found(pairs.training_pairs(known(split, "valid"), texts, of, 1, repeats=True))
    assert repeated[0, 4] == ([2, 3], 1) and len(repeated) == len(rows) + 1


@pytest.mark.slow
def test_the_sample_is_the_same_however_the_rows_lie(split: Any, texts: Any) -> None:
    events = known(split, "live")
    few = section(max_pairs=3)
    rows = found(pairs.training_pairs(events, texts, few, 1))
    assert len(rows) == 3
    assert rows == found(pairs.training_pairs(events.repartition(7, "item_idx"), texts, few, 1))
    others = [found(pairs.training_pairs(events, texts, few, seed)) for seed in range(2, 8)]
    assert any(other != rows for other in others)


def test_head_alone_is_taught_and_weights_and_held_out_come_along(frame: Frame, split: Any, texts: Any) -> None:
    events = known(split, "valid")
    head = frame(t.ITEM_SEGMENTS, [{"item_idx": item} for item in (2, 3)]).select("item_idx")
    rows = pairs.training_pairs(events, texts, section(), 1, head=head)
    assert {item for _, item in found(rows).values()} == {2, 3} and found(rows)[3, 3] == ([1], 2)
    weights = frame(
        t.INTERACTIONS_REBALANCED,
        [
            {"user_idx": 0, "event_order": 2, "weight": 0.5, "n_copies": 3},
            {"user_idx": 1, "event_order": 2, "weight": 2.0, "n_copies": 1},
        ],
    )
    weighed = pairs.training_pairs(events, texts, section(), 1, weights=weights).collect()
    assert {r["user_idx"]: r["weight"] for r in weighed} == {0: 1.5, 1: 2.0}, "what rebalance left out is no target"
    none = pairs.training_pairs(events, texts, section(classify=False), 1).where("is_held_out").count()
    most = pairs.training_pairs(events, texts, section(classify_share=0.99), 1).where("is_held_out").count()
    assert (none, most) == (0, 5)


def test_hard_negatives_are_near_unknown_and_have_a_text(frame: Frame, split: Any, texts: Any) -> None:
    near = {2: [1, 2, 8, 5, 6, 7], 5: [2], 3: []}
    neighbours = frame(
        t.ITEM_NEIGHBOURS,
        [
            {"item_idx": item, "neighbour_idx": other, "rank": rank}
            for item, others in near.items()
            for rank, other in enumerate(others, start=1)
        ],
    )
    events = known(split, "valid")
    chosen = pairs.training_pairs(events, texts, section(), 1)
    rows = pairs.with_hard_negatives(chosen, neighbours, events, texts, 2).collect()
    hard = {(r["user_idx"], r["event_order"]): r["hard"] for r in rows}
    assert hard == {(0, 2): [5, 6], (0, 3): [], (0, 5): [], (1, 2): [], (3, 3): [5, 6]}
    assert {tuple(r["hard"]) for r in pairs.with_hard_negatives(chosen, neighbours, events, texts, 0).collect()} == {()}


def test_users_of_valid(frame: Frame, split: Any, texts: Any) -> None:
    segments = frame(
        t.ITEM_SEGMENTS,
        [
            {"fold": "valid", "item_idx": item, "segment": "cold", "segment_top20": "tail"}
            for item in (*range(1, 10), 90, 91)
        ],
    )
    events = known(split, "valid")
    wanted = targets(split, "valid", segments, False, 100, 1)
    of = section(history_items=2)
    rows = {r["user_idx"]: r for r in pairs.valid_users(events, wanted, seen(events), texts, of, 1).collect()}
    assert set(rows) == {0, 1, 2, 3}
    assert rows[0]["history"] == [1, 4] and rows[0]["seen"] == [1, 2, 3, 4] and rows[0]["targets"] == [90]
    assert rows[3]["history"] == [1, 2] and rows[3]["seen"] == [1, 2, 8], "known without a text is known"
    assert (rows[0]["segments"], rows[0]["top20"]) == (["cold"], ["tail"])
    few = pairs.valid_users(events, wanted, seen(events), texts, section(max_valid_users=2), 1)
    assert few.count() == 2
    only_blank = texts.where("item_idx = 9")
    assert {
        tuple(r["history"]) for r in pairs.valid_users(events, wanted, seen(events), only_blank, of, 1).collect()
    } == {()}
    items = texts.select("item_idx")
    all_items = {r[0] for r in pairs.valid_items(items, texts, few, 100, 1).collect()}
    assert all_items == {1, 2, 3, 4, 5, 6, 7, 90, 91}
    sampled = [r[0] for r in pairs.valid_items(items, texts, few, 2, 1).collect()]
    assert 90 in sampled and 2 <= len(sampled) == len(set(sampled)) <= 3


def test_texts_of_histories_are_the_newest_first(split: Any, texts: Any, spark: Any) -> None:
    users = spark.createDataFrame([(0,), (3,), (7,)], "user_idx int")
    rows = pairs.history_texts(known(split, "valid"), users, texts, 3).collect()
    assert {r["user_idx"]: r["texts"] for r in rows} == {
        0: ["title 4", "title 1", "title 3"],
        3: ["title 2", "title 1"],
    }
    what = {r["user_idx"]: r["known"] for r in pairs.known_items(known(split, "valid"), users).collect()}
    assert what == {0: [1, 2, 3, 4], 3: [1, 2, 8]}


def test_keywords_that_passed_stand_before_the_title(frame: Frame, texts: Any) -> None:
    def row(item: int, key: str, status: str, own: bool = False, current: bool = True) -> dict[str, Any]:
        words = [f"{key} word", "tool"]
        return {
            "item_idx": item, "key": key, "status": status, "has_own_keywords": own, "is_current": current,
            "keywords": words,
        }  # fmt: skip

    enrichments = frame(
        t.ITEM_ENRICHMENTS,
        [
            row(1, "a", "accepted"),
            row(2, "b", "fallback"),
            row(3, "c", "fallback", own=True),
            row(4, "d", "accepted", current=False),
            row(5, "e", "refused"),
            row(9, "f", "accepted"),
        ],
    )
    said = {r["item_idx"]: r["text"] for r in pairs.with_keywords(texts, enrichments).collect()}
    assert said[1] == "a word, tool. title 1" and said[3] == "c word, tool. title 3" and said[9] == "f word, tool"
    assert [said[item] for item in (2, 4, 5, 6)] == ["title 2", "title 4", "title 5", "title 6"]
    assert len(said) == texts.count()
