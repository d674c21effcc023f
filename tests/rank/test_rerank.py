"""Re-ranking on Spark: the rows kept are enough, rules reach the users they are for, and nothing is shuffled twice."""

import random
from datetime import date
from typing import Any

import numpy as np
import pytest

from lt_spark.core import tables as t
from lt_spark.core.config_rerank import RerankConfig
from lt_spark.frames.rules import in_force
from lt_spark.kernels import fair
from lt_spark.rank.rerank import item_facts, rerank, settings
from lt_spark.rank.user_rules import user_rules

pytestmark = pytest.mark.spark

SCORED = (
    "user_idx int, item_idx int, segment string, score double, "
    "parts array<struct<part:double,model_name:string,because:array<struct<item_idx:int,share:double>>>>, "
    "`group` string, is_blocked boolean, factor double"
)
SHARES = {"quota_share": 0.4, "quota_alpha": 0.3, "quota_floor": 0.2}


def scored(spark: Any, rows: list[dict[str, Any]]) -> Any:
    full = [
        (
            row["user_idx"],
            row["item_idx"],
            row.get("segment", "head"),
            row["score"],
            [(row["score"], "als", [(7, 1.0)])],
            row.get("group"),
            row.get("is_blocked", False),
            row.get("factor", 1.0),
        )
        for row in rows
    ]
    return spark.createDataFrame(full, SCORED)


def lists(rows: list[Any]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in sorted((row for row in rows if row["rank"]), key=lambda row: (row["user_idx"], row["rank"])):
        found.setdefault(row["user_idx"], []).append(row["item_idx"])
        assert len(found[row["user_idx"]]) == row["rank"]
    return found


@pytest.mark.parametrize(
    "config",
    [
        RerankConfig(**SHARES),
        RerankConfig(cap=2, cap_field="brand", cap_k=5),
        RerankConfig(**SHARES, quota_adjusted=False, cap=1, cap_field="brand", cap_k=7),
    ],
    ids=["quota", "cap", "both"],
)
def test_the_rows_that_are_kept_make_the_list_that_all_would_make(spark: Any, config: RerankConfig) -> None:
    draw, n = random.Random(5), 8
    rows = [
        {
            "user_idx": user,
            "item_idx": item,
            # the best are of two brands and head: what the list needs lies deep
            "score": draw.random() + (1.0 if item < 15 + user else 0.0),
            "segment": draw.choice(["tail", "cold", "head"]) if item >= 15 + user else "head",
            "group": draw.choice(["a", "b", "c", "d", "e", "f", None]) if item >= 15 + user else draw.choice("ab"),
        }
        for user in range(8)
        for item in range(60)
    ]
    how = settings(config, n, has_rules=False)
    found = lists(rerank(scored(spark, rows), None, how, "valid").collect())
    numbers = {name: place for place, name in enumerate("abcdef")} | {None: fair.NO_GROUP}
    for user in range(8):
        own = sorted((row for row in rows if row["user_idx"] == user), key=lambda row: -row["score"])
        ranking = fair.reranked(
            np.array([row["score"] for row in own]),
            np.array([row["segment"] != "head" for row in own]),
            np.array([numbers[row["group"]] for row in own]),
            how.limits,
        )
        assert found[user] == [own[position]["item_idx"] for position in ranking.order]
        assert ranking.order != list(range(n))


def rule(item: int, action: str, value: float | None = None, user: int | None = None, **more: Any) -> dict[str, Any]:
    return {"item_idx": item, "action": action, "value": value, "user_idx": user, "reason": "why", **more}


def test_rules_reach_the_users_they_are_for(spark: Any, frame: Any) -> None:
    rules = in_force(
        frame(
            t.BUSINESS_RULES,
            [
                rule(0, "block"),
                rule(1, "boost", 10.0),
                rule(1, "block", user=3),
                rule(2, "boost", 100.0, user=2),
                rule(9, "pin", 2.0),
                rule(8, "pin", 1.0, user=2),
                rule(9, "block", user=3),
                rule(7, "pin", 1.0),  # sold out
                rule(6, "pin", 3.0),  # seen by user 1
                rule(5, "pin", 1.0, user=77),  # gets no list
                rule(4, "block", ends_on=date(2024, 5, 31)),  # over
            ],
        ),
        date(2024, 6, 1),
    )
    segments = frame(
        t.ITEM_SEGMENTS,
        [
            {"item_idx": i, "segment": "tail" if i > 5 else "head", "n_interactions": i, "popularity_rank": 1}
            for i in range(10)
        ],
    )
    users = spark.createDataFrame([(user,) for user in (1, 2, 3, 4)], "user_idx int")
    seen = spark.createDataFrame([(1, 6), (2, 0)], "user_idx int, item_idx int")
    recommendable = spark.createDataFrame([(i,) for i in range(10) if i != 7], "item_idx int")
    of_users = user_rules(rules, users, seen, recommendable, segments)
    # user 4 has no candidates
    rows = [
        {"user_idx": user, "item_idx": item, "score": 10.0 - item, "segment": "head"}
        for user in (1, 2, 3)
        for item in range(5)
    ]
    facts = {row["item_idx"]: row for row in item_facts(segments, frame(t.ITEMS, []), "", rules).collect()}
    assert [item for item, row in facts.items() if row["is_blocked"]] == [0]
    assert {item: row["factor"] for item, row in facts.items() if row["factor"] != 1} == {1: 10.0}
    rows = [row | facts[row["item_idx"]].asDict() | {"user_idx": row["user_idx"]} for row in rows]
    found = rerank(scored(spark, rows), of_users, settings(RerankConfig(), 5, has_rules=True), "live").collect()
    assert lists(found) == {1: [1, 9, 2, 3, 4], 2: [8, 9, 6, 2, 1], 3: [2, 3, 6, 4]}
    of_user = {row["item_idx"]: row for row in found if row["user_idx"] == 1}
    of_pin = of_user[9]
    assert (of_pin["models"], of_pin["because"], of_pin["segment"], of_pin["fold"]) == ([], [], "tail", "live")
    assert [(part["model_name"], part["share"]) for part in of_user[2]["models"]] == [("als", 1.0)]


def test_candidates_are_shuffled_by_user_once(spark: Any, frame: Any) -> None:
    from lt_spark.rank.blend import scored as blended

    models = [frame(t.candidates(name), [{"user_idx": 1, "item_idx": 1, "score": 1.0}]) for name in ("als", "bert")]
    weights = frame(t.BLEND_WEIGHTS, [{"half": -1, "model_name": "als", "weight": 1.0, "popularity_power": 0.0}])
    segments = frame(t.ITEM_SEGMENTS, [{"item_idx": 1, "segment": "tail", "n_interactions": 1}])
    items = frame(t.ITEMS, [{"item_idx": 1, "attributes": [("brand", "b")]}])
    rules = frame(t.BUSINESS_RULES, [rule(1, "boost", 2.0), rule(1, "block", user=1)])
    pairs = spark.createDataFrame([(1, 1)], "user_idx int, item_idx int")
    of_users = user_rules(rules, pairs.select("user_idx"), pairs.limit(0), pairs.select("item_idx"), segments)
    facts = item_facts(segments, items, "brand", rules).hint("broadcast")
    how = settings(RerankConfig(**SHARES, cap=1, cap_field="brand"), 10, has_rules=True)
    out = rerank(blended(models, weights, facts, 42, "test"), of_users, how, "test")
    plan = out._jdf.queryExecution().executedPlan().toString()
    above = plan[: plan.index("Scan ")]
    shuffles = [line for line in above.splitlines() if "Exchange hashpartitioning" in line]
    assert len(shuffles) == 1 and "(user_idx" in shuffles[0] and "REPARTITION_BY_COL" in shuffles[0], plan
    # the sort before Python is the one of the last window
    assert above.index("MapInArrow") < above.index("Window") < above.index("Sort")
