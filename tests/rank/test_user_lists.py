"""Arrow rows of users re-ranked: users over batch borders, pins, scores of places, what each rule cost."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels.fair import Limits
from lt_spark.rank.user_lists import CAP, QUOTA, RULES, SUMS, Settings, place_scores, rerank_users, whole_users

MODELS = pa.list_(pa.struct([("model_name", pa.string()), ("share", pa.float64())]))
BECAUSE = pa.list_(pa.struct([("item_idx", pa.int32()), ("share", pa.float64())]))
PINS = pa.list_(
    pa.struct([("is_for_all", pa.bool_()), ("place", pa.int32()), ("item_idx", pa.int32()), ("segment", pa.string())])
)
SCHEMA = pa.schema(
    [
        ("user_idx", pa.int32()),
        ("item_idx", pa.int32()),
        ("ranked_score", pa.float64()),
        ("score", pa.float64()),
        ("segment", pa.string()),
        ("is_protected", pa.bool_()),
        ("is_blocked", pa.bool_()),
        ("group", pa.string()),
        ("pins", PINS),
        ("models", MODELS),
        ("because", BECAUSE),
    ]
)


def row(
    user: int,
    item: int | None,
    score: float | None = None,
    segment: str = "head",
    plain: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "user_idx": user,
        "item_idx": item,
        "ranked_score": score,
        "segment": segment,
        "is_protected": segment in ("tail", "cold"),
        "models": [{"model_name": f"m{item}", "share": 1.0}],
        "because": [],
        "score": score if plain is None else plain,
        "is_blocked": False,
        "group": None,
        "pins": None,
        **more,
    }


def pin(place: int, item: int, segment: str = "head", is_for_all: bool = True) -> dict[str, Any]:
    return {"is_for_all": is_for_all, "place": place, "item_idx": item, "segment": segment}


def reranked(rows: list[dict[str, Any]], how: Settings) -> list[dict[str, Any]]:
    batches = rerank_users(pa.Table.from_pylist(rows, SCHEMA), how)
    found = [row for batch in batches for row in batch.to_pylist()]
    return sorted(found, key=lambda row: (row["user_idx"], row["rank"] or 0))


def listed(rows: list[dict[str, Any]], user: int = 1) -> list[tuple[int, float]]:
    return [(row["item_idx"], row["score"]) for row in rows if row["user_idx"] == user and row["rank"]]


def sums(rows: list[dict[str, Any]], how: Settings, user: int = 1) -> dict[str, dict[str, float]]:
    (told,) = [row["sums"] for row in rows if row["user_idx"] == user and row["sums"] is not None]
    assert len(told) == len(SUMS) * len(how.rules)
    parts = [told[place * len(SUMS) : (place + 1) * len(SUMS)] for place in range(len(how.rules))]
    return {rule: dict(zip(SUMS, part, strict=True)) for rule, part in zip(how.rules, parts, strict=True)}


def test_quota_then_cap_each_told_by_itself() -> None:
    how = Settings(Limits(4, (0, 1, 1, 1), cap=1, cap_k=3), (QUOTA, CAP))
    rows = [
        row(1, 10, 9.0, group="a"),
        row(1, 11, 8.0, group="a"),
        row(1, 12, 7.0, group="b"),
        row(1, 13, 6.0),
        row(1, 14, 4.0, "tail"),
        row(2, 20, 2.0, "cold"),
    ]
    found = reranked(rows, how)
    # by score 10 11 12 13; with the quota 10 14 11 12; with the cap 11 waits: 10 14 12 11
    assert listed(found) == [(10, 9.0), (14, 8.0), (12, 7.0), (11, 6.0)]
    assert [row["models"][0]["model_name"] for row in found if row["user_idx"] == 1] == ["m10", "m14", "m12", "m11"]
    assert listed(found, 2) == [(20, 2.0)]
    told = sums(found, how)
    before, lifted = 9.0 + 8 + 7 + 6, 9.0 + 4 + 8 + 7
    assert told[QUOTA] == dict.fromkeys(SUMS, 0.0) | {
        "users": 1,
        "users_touched": 1,
        "items_moved": 3,
        "score_before": before,
        "score_after": lifted,
        "tail_after": 1,
        "places_before": 4,
        "places_after": 4,
    }
    assert told[CAP] == told[QUOTA] | {"items_moved": 2, "score_before": lifted, "tail_before": 1}
    assert sums(found, how, 2)[QUOTA]["users_touched"] == 0


def test_pins_blocks_and_boosts() -> None:
    how = Settings(Limits(3, (0, 0, 0)), (RULES,))
    pins = [pin(2, 99, "tail", is_for_all=False), pin(1, 12)]
    rows = [
        row(1, 11, 10.0, plain=5.0, pins=pins),  # boosted by 2
        row(1, 10, 9.0, pins=pins),
        row(1, 12, 1.0, pins=pins),
        row(1, 13, 20.0, is_blocked=True, pins=pins),
        row(2, 13, 3.0, is_blocked=True, pins=[pin(3, 98)]),
        row(3, 13, 3.0, is_blocked=True),
    ]
    found = reranked(rows, how)
    assert listed(found) == [(12, 10.0), (99, 9.0), (11, 1.0)]
    assert [row["models"] for row in found if row["item_idx"] == 99] == [[]]
    assert [row["segment"] for row in found if row["item_idx"] == 99] == ["tail"]
    assert listed(found, 2) == [(98, 1.0)]
    assert listed(found, 3) == []
    told = sums(found, how)[RULES]
    # without rules 13 10 11, by their own scores
    assert (told["score_before"], told["score_after"]) == (20.0 + 9 + 5, 1.0 + 0 + 5)
    assert (told["items_moved"], told["items_blocked"], told["pins_placed"]) == (2, 1, 2)
    assert (told["tail_before"], told["tail_after"]) == (0, 1)
    assert sums(found, how, 3)[RULES]["items_blocked"] == 1


def test_scores_fall_with_the_places_also_behind_the_last_candidate() -> None:
    assert place_scores(np.array([4.0, 2.0, 1.0]), 2) == [4.0, 2.0]
    assert place_scores(np.array([4.0]), 3) == [4.0, 2.0, 1.0]
    assert place_scores(np.array([]), 2) == [1.0, 0.5]


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 7))
def test_users_come_whole_however_the_batches_fall(sizes: list[int], batch_size: int) -> None:
    users = np.repeat(np.arange(len(sizes)), sizes)
    rows = pa.table({"user_idx": pa.array(users), "nth": pa.array(range(len(users)))})
    tables = list(whole_users([pa.RecordBatch.from_pydict({"user_idx": [], "nth": []}), *rows.to_batches(batch_size)]))
    assert [nth for table in tables for nth in table["nth"].to_pylist()] == list(range(len(users)))
    seen = [set(table["user_idx"].to_pylist()) for table in tables]
    assert sum(map(len, seen)) == len(sizes)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_the_answer_does_not_depend_on_the_batches(batch_size: int) -> None:
    how = Settings(Limits(3, (0, 1, 1)), (QUOTA,))
    rows = [row(user, item, 10.0 - item, "tail" if item == 3 else "head") for user in (1, 2, 3) for item in range(4)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    found = [
        out
        for whole in whole_users(table.to_batches(batch_size))
        for batch in rerank_users(whole, how)
        for out in batch.to_pylist()
    ]
    assert [row["item_idx"] for row in found] == [0, 3, 1] * 3
    assert sum(row["sums"] is not None for row in found) == 3
