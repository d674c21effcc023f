"""Reach: who gets an item that nobody would be shown, and what stays as it was."""

import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config_rerank import RerankConfig
from lt_spark.rank.reach import exchanged, exchanges, in_words, report, sums

pytestmark = pytest.mark.spark
Lists = dict[int, list[int]]


def table(frame: Any, lists: Lists, segments: dict[int, str] | None = None) -> Any:
    """Rows of silver.recommendations: each user's items in order, scores 1, 1/2, 1/3, ..."""
    rows = [
        {
            "fold": "test",
            "user_idx": user,
            "item_idx": item,
            "rank": place,
            "score": 1 / place,
            "segment": (segments or {}).get(item, "tail"),
            "models": [("als", 1.0)],
            "because": [(item, 1.0)],
        }
        for user, items in lists.items()
        for place, item in enumerate(items, start=1)
    ]
    return frame(t.RECOMMENDATIONS, rows)


def changed(
    rows: Any, config: RerankConfig, n_users: int, groups: Any = None, arranged: Any = None
) -> tuple[Lists, list[Any]]:
    """Return the lists after it, and the exchanges."""
    chosen = exchanges(rows, config, n_users, groups, arranged)
    out: Lists = {}
    for row in exchanged(rows, chosen, config).orderBy("user_idx", "rank").collect():
        out.setdefault(row["user_idx"], []).append(row["item_idx"])
        assert row["score"] == pytest.approx(1 / row["rank"]), "the score is that of the place"
        assert [why["item_idx"] for why in row["because"]] == [row["item_idx"]], "the reason goes with the item"
    return out, chosen.collect()


def config(**more: Any) -> RerankConfig:
    return RerankConfig(**{"reach_k": 2, "reach_share": 1.0} | more)


def test_it_takes_the_last_seen_place_in_the_list_that_has_it_highest(frame: Any) -> None:
    lists = {1: [1, 2, 3, 9], 2: [1, 2, 9, 3], 3: [3, 1]}
    after, chosen = changed(table(frame, lists), config(), 3)
    assert after == {1: [1, 2, 3, 9], 2: [1, 9, 2, 3], 3: [3, 1]}
    assert [(row["user_idx"], row["item_idx"], row["displaced_idx"]) for row in chosen] == [(2, 9, 2)]


def test_what_only_one_list_shows_stays_in_it(frame: Any) -> None:
    assert changed(table(frame, {1: [1, 2, 9], 2: [1, 3]}), config(), 2)[0][1] == [1, 2, 9]
    # of two lists that show it one keeps it
    after, chosen = changed(table(frame, {1: [1, 2, 8], 2: [1, 2, 9]}), config(), 2)
    assert len(chosen) == 1
    assert {item for items in after.values() for item in items[:2]} >= {1, 2}


def test_a_list_changes_once_and_the_share_of_lists_is_bounded(frame: Any) -> None:
    lists = {user: [1, 2, 100 + user, 200 + user] for user in range(10)}
    after, chosen = changed(table(frame, lists), config(), 10)
    assert len(chosen) == 9  # one keeps item 2
    assert all(sum(a != b for a, b in zip(after[user], lists[user], strict=True)) in (0, 2) for user in lists)
    assert {row["rank"] for row in chosen} == {3}, "its highest"
    assert len(changed(table(frame, lists), config(reach_share=0.25), 10)[1]) == 2
    assert changed(table(frame, lists), config(reach_share=0.05), 10)[1] == []


def test_the_highest_places_come_first(frame: Any) -> None:
    lists = {1: [1, 2, 3, 4, 9], 2: [1, 2, 8], 3: [3, 4], 4: [1, 2]}
    assert [row["item_idx"] for row in changed(table(frame, lists), config(reach_share=0.25), 4)[1]] == [8]


def test_what_the_shop_arranges_stays(spark: Any, frame: Any) -> None:
    lists = table(frame, {1: [1, 2, 9], 2: [1, 2]})
    assert [row["item_idx"] for row in changed(lists, config(), 2)[1]] == [9]
    for item in (2, 9):  # models speak for it, and a rule pins or boosts it
        arranged = spark.createDataFrame([(item,)], "item_idx int")
        assert changed(lists, config(), 2, None, arranged)[1] == []


def test_with_a_quota_only_tail_and_cold_items_come_forward(frame: Any) -> None:
    rows = table(frame, {1: [1, 2, 9, 8], 2: [1, 2]}, {9: "mid", 8: "cold"})
    assert [row["item_idx"] for row in changed(rows, config(), 2)[1]] == [9]
    assert [row["item_idx"] for row in changed(rows, config(quota_share=0.1), 2)[1]] == [8]


def test_short_lists_and_none(frame: Any) -> None:
    assert changed(table(frame, {1: [1], 2: [2]}), config(), 2)[1] == []
    assert changed(table(frame, {}), config(), 0) == ({}, [])


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_of_any_lists_the_rest_stays_as_it_was(spark: Any, frame: Any, seed: int) -> None:
    draw, k, cap_k = random.Random(seed), 4, 6
    lists = {user: [int(100 * draw.random() ** 3) for _ in range(14)] for user in range(40)}
    lists = {user: list(dict.fromkeys(items)) for user, items in lists.items()}
    segment = {item: draw.choice(["head", "mid", "tail", "cold"]) for item in range(100)}
    group = {item: draw.choice([None, "a", "b", "c"]) for item in range(100)}
    groups = spark.createDataFrame(list(group.items()), "item_idx int, group string")
    how = config(reach_k=k, quota_share=0.2, cap=2, cap_field="brand", cap_k=cap_k)
    after, chosen = changed(table(frame, lists, segment), how, len(lists), groups)
    assert len(chosen) > 3
    seen_before, seen_after = ({item for own in each.values() for item in own[:k]} for each in (lists, after))
    assert seen_after == seen_before | {row["item_idx"] for row in chosen}
    assert len(seen_after) == len(seen_before) + len(chosen)
    for user, own in lists.items():
        assert sorted(after[user]) == sorted(own)
        for places in range(len(own)):
            protected = [
                sum(segment[item] in ("tail", "cold") for item in each[:places]) for each in (own, after[user])
            ]
            assert protected[1] >= protected[0], "the quota holds as before"
        of_group: dict[str, list[int]] = defaultdict(list)
        for each in (own, after[user]):
            counts = Counter(group[item] for item in each[:cap_k])
            for name in "abc":
                of_group[name].append(counts[name])
        assert all(now <= before for before, now in of_group.values()), "the cap holds as before"


def test_what_it_cost_is_told(frame: Any) -> None:
    rows = table(frame, {1: [1, 2, 3, 9], 2: [1, 2, 9, 3], 3: [3, 1]}, {1: "head", 2: "head", 3: "mid"})
    chosen = exchanges(rows, config(), 3)
    told = report(sums(rows, 2), chosen, "test")
    measures = {name: value for fold, rule, name, value in told if (fold, rule) == ("test", "reach")}
    assert measures == {
        "users": 3,
        "users_touched": 1,
        "score_lost": pytest.approx((1 / 2 - 1 / 3) / 4.5),
        "tail_share_before": 0,
        "tail_share_after": pytest.approx(1 / 6),
    }
    assert in_words(told) == (
        "reach: 1 items that nobody would have been shown took a place in as many of 3 lists; the first places lost "
        "3.70% of their score, tail share 0.000 -> 0.167"
    )
    assert report(sums(table(frame, {}), 2), exchanges(table(frame, {}), config(), 0), "test")[2][3] == 0
