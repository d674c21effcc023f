"""Gold: default recommendations keep their share of mid and tail; reach is counted; reasons read well."""

from datetime import datetime
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import PublishConfig
from lt_spark.publish import gold
from lt_spark.publish.reasons import item_keywords

pytestmark = pytest.mark.spark


def items(frame: Any, n: int) -> Any:
    return frame(t.ITEMS, [{"item_idx": i, "item_id": f"i{i}", "title": f"T{i}"} for i in range(n)])


@pytest.mark.parametrize(("share", "tails"), [(0.0, []), (0.3, [4, 7, 10]), (1.0, list(range(1, 11)))])
def test_default_list_spreads_its_tail_evenly(spark: Any, frame: Any, share: float, tails: list[int]) -> None:
    scores = spark.createDataFrame([(i, float(100 - i)) for i in range(40)], "item_idx int, score double")
    segments = frame(t.ITEM_SEGMENTS, [{"item_idx": i, "segment": "head" if i < 20 else "tail"} for i in range(40)])
    config = PublishConfig(default_n=10, default_tail_share=share)
    rows = gold.recommendations_default(scores, items(frame, 40), segments, config).orderBy("rank").collect()
    assert [row["rank"] for row in rows] == list(range(1, 11))
    assert len([row for row in rows if row["segment"] == "tail"]) == len(tails)
    assert [row["rank"] for row in rows if row["segment"] == "tail"] == tails


def test_default_list_is_full_where_one_side_is_short(spark: Any, frame: Any) -> None:
    scores = spark.createDataFrame([(i, float(100 - i)) for i in range(40)], "item_idx int, score double")
    segments = frame(t.ITEM_SEGMENTS, [{"item_idx": i, "segment": "head" if i < 3 else "tail"} for i in range(40)])
    config = PublishConfig(default_n=10, default_tail_share=0.3)
    rows = gold.recommendations_default(scores, items(frame, 40), segments, config).orderBy("rank").collect()
    assert [row["item_id"] for row in rows[:4]] == ["i0", "i1", "i2", "i3"]
    assert [row["segment"] for row in rows] == ["head"] * 3 + ["tail"] * 7
    assert [row["item_id"] for row in rows[4:]] == [f"i{i}" for i in range(4, 10)], "the best first"


def test_similar_items_may_be_recommended(spark: Any, frame: Any) -> None:
    pairs = [{"item_idx": 1, "neighbour_idx": i, "rank": rank} for rank, i in enumerate([2, 0, 3], 1)]
    recommendable = spark.createDataFrame([(0,), (3,)], "item_idx int")
    kept = gold.recommendable_neighbours(frame(t.ITEM_NEIGHBOURS, pairs), recommendable).orderBy("rank").collect()
    assert [(row["item_idx"], row["neighbour_idx"], row["rank"]) for row in kept] == [(1, 0, 1), (1, 3, 2)]


def test_tail_items_count_users_with_and_without(spark: Any, frame: Any) -> None:
    lists = frame(
        t.RECOMMENDATIONS,
        [{"user_idx": 1, "item_idx": 0, "rank": 10}, {"user_idx": 2, "item_idx": 0, "rank": 11}],
    )
    plain = frame(t.candidates("als_plain"), [])
    segments = frame(
        t.ITEM_SEGMENTS,
        [
            {"item_idx": 0, "segment": "tail", "n_interactions": 2},
            {"item_idx": 1, "segment": "cold", "n_interactions": 0},
            {"item_idx": 2, "segment": "head", "n_interactions": 9},
        ],
    )
    rows = {row["item_id"]: row for row in gold.tail_items(lists, plain, items(frame, 3), segments).collect()}
    assert set(rows) == {"i0", "i1"}
    assert (rows["i0"]["n_users_reached"], rows["i0"]["n_users_reached_als_plain"]) == (1, 0)


def test_reasons(spark: Any, frame: Any) -> None:
    def recommended(item: int, models: list[str], because: list[tuple[int, float]]) -> dict[str, Any]:
        named = [(name, 1 / len(models)) for name in models]
        return {"user_idx": 1, "item_idx": item, "rank": item, "models": named, "because": because}

    lists = frame(
        t.RECOMMENDATIONS,
        [recommended(1, ["neighbours"], [(0, 1.0)]), recommended(2, ["popularity"], []), recommended(3, ["als"], [])],
    )
    users = frame(t.USERS, [{"user_idx": 1, "user_id": "001"}])
    events = frame(t.INTERACTIONS, [{"user_idx": 1, "item_idx": 0, "event_ts": datetime(2001, 2, 3, 4)}])
    keywords = spark.createDataFrame(
        [(0, ["oak", "lamp"]), (1, ["lamp", "brass", "oak"])], "item_idx int, keywords array<string>"
    )
    rows = gold.recommendations(lists, users, items(frame, 4), events, keywords).orderBy("rank").collect()
    assert [row["reason_code"] for row in rows] == ["because_of", "popular", "similar_taste"]
    assert rows[0]["reason"] == "because of «T0» on 2001-02-03 (both: lamp, oak)"
    assert (rows[0]["reason_share"], rows[0]["shared_keywords"], rows[0]["share_neighbours"]) == (1.0, "lamp, oak", 1.0)
    assert (rows[2]["share_als"], rows[2]["share_neighbours"], rows[2]["reason_share"]) == (1.0, 0.0, None)
    assert rows[0]["user_id"] == "001"


def rule(item: int, action: str, value: float | None = None, user: int | None = None, reason: str = "") -> Any:
    return {"item_idx": item, "action": action, "value": value, "user_idx": user, "reason": reason}


def test_reasons_of_pinned_items_are_the_shops_and_no_reason_names_what_is_blocked(frame: Any) -> None:
    def recommended(user: int, item: int, reason_item: int | None) -> dict[str, Any]:
        because = [] if reason_item is None else [(reason_item, 1.0)]
        models = [] if item == 1 else [("als", 1.0)]
        return {"user_idx": user, "item_idx": item, "rank": item, "models": models, "because": because}

    rules = frame(
        t.BUSINESS_RULES,
        [
            rule(1, "pin", 1.0, reason="«new»"),
            rule(2, "pin", 2.0, user=1, reason="for you"),
            rule(2, "pin", 2.0, reason="for all"),
            rule(8, "block"),
            rule(8, "block", user=2),
            rule(9, "block", user=1),
        ],
    )
    lists = [recommended(user, item, because) for user in (1, 2) for item, because in enumerate([None, 0, 8, 9, 0], 1)]
    users = frame(t.USERS, [{"user_idx": user, "user_id": f"u{user}"} for user in (1, 2)])
    rows = gold.recommendations(
        frame(t.RECOMMENDATIONS, lists),
        users,
        items(frame, 10),
        frame(t.INTERACTIONS, []),
        item_keywords(items(frame, 10), None, "|"),
        rules,
    )
    found = {(row["user_id"], row["rank"]): row for row in rows.collect()}
    assert len(found) == len(lists) == rows.count()
    told = {
        key: (row["reason_code"], row["reason"], row["reason_item_id"], row["models"]) for key, row in found.items()
    }
    taste, because = ("similar_taste", "chosen by users of similar taste"), ("because_of", "because of «T0»")
    assert told["u1", 1] == told["u2", 1] == ("pinned", "«new»", None, "")
    assert told["u1", 2] == ("pinned", "for you", None, "als")
    assert told["u2", 2] == ("pinned", "for all", None, "als")
    assert told["u1", 3] == told["u2", 3] == told["u1", 4] == (*taste, None, "als")
    assert told["u2", 4] == ("because_of", "because of «T9»", "i9", "als")
    assert told["u1", 5] == told["u2", 5] == (*because, "i0", "als")


def test_rules_for_everybody_reach_the_default_list_and_similar_items(spark: Any, frame: Any) -> None:
    rules = frame(
        t.BUSINESS_RULES,
        [
            rule(0, "block"),
            rule(1, "block", user=1),
            rule(3, "boost", 200.0),
            rule(2, "boost", 2.0, user=1),
            rule(7, "pin", 2.0),
            rule(4, "pin", 4.0),
            rule(8, "pin", 1.0),  # sold out
            rule(5, "pin", 3.0, user=1),
        ],
    )
    popularity = spark.createDataFrame([(i, float(100 - i)) for i in range(6)], "item_idx int, score double")
    recommendable = spark.createDataFrame([(i,) for i in range(8)], "item_idx int")
    segments = frame(t.ITEM_SEGMENTS, [{"item_idx": i, "segment": "cold" if i == 7 else "head"} for i in range(9)])
    pins = gold.pins(rules, recommendable)
    for n, expected in (
        (5, ["i3", "i7", "i1", "i4", "i2"]),
        (3, ["i3", "i7", "i1"]),
        (9, ["i3", "i7", "i1", "i4", "i2", "i5"]),
    ):
        config = PublishConfig(default_n=n, default_tail_share=0.0)
        scores = gold.with_rules(popularity, rules)
        rows = gold.recommendations_default(scores, items(frame, 9), segments, config, pins).orderBy("rank").collect()
        assert [row["item_id"] for row in rows] == expected
        assert [row["rank"] for row in rows] == list(range(1, len(expected) + 1))
    pairs = [{"item_idx": 1, "neighbour_idx": i, "rank": rank} for rank, i in enumerate([2, 0, 3], 1)]
    pairs.append({"item_idx": 0, "neighbour_idx": 1, "rank": 1})
    kept = gold.without_blocked_neighbours(frame(t.ITEM_NEIGHBOURS, pairs), rules).orderBy("rank").collect()
    assert [(row["item_idx"], row["neighbour_idx"], row["rank"]) for row in kept] == [(1, 2, 1), (1, 3, 2)]
