"""Gold: default recommendations keep their share of mid and tail; reach is counted; reasons read well."""

from datetime import datetime
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import PublishConfig
from lt_spark.publish import gold

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
    rows = gold.recommendations(lists, users, items(frame, 4), events).orderBy("rank").collect()
    assert [row["reason_code"] for row in rows] == ["because_of", "popular", "similar_taste"]
    assert rows[0]["reason"] == "because of «T0» on 2001-02-03"
    assert rows[0]["user_id"] == "001"
