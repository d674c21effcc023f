"""Each domain's conf through the whole pipeline, on data of the domain's shape: what all hold, and what is its own."""

from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.tables import FOLDS
from tests.domains.generate import N_NEWS_DAYS, NEWS_A_DAY
from tests.domains.runs import NAMES, Ran, run_domain

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def ran_once(spark: Any, tmp_path_factory: Any) -> Callable[[str], Ran]:
    """The run of a domain, made when it is first asked for."""
    return cache(lambda name: run_domain(spark, name, tmp_path_factory.mktemp(name)))


@pytest.fixture(params=NAMES, scope="module")
def ran(request: Any, ran_once: Callable[[str], Ran]) -> Ran:
    """The run of each domain, or of the one that a test names."""
    return ran_once(request.param)


def of(name: str) -> Any:
    """A test of one domain."""
    return pytest.mark.parametrize("ran", [name], indirect=True)


def lists(ran: Ran, fold: str) -> dict[int, list[int]]:
    """Each user's items, the best first."""
    found: dict[int, list[int]] = defaultdict(list)
    for row in ran.storage.read(t.RECOMMENDATIONS, fold).orderBy("user_idx", "rank").collect():
        found[row["user_idx"]].append(row["item_idx"])
    return found


def known_items(ran: Ran) -> dict[int, set[int]]:
    """The items of each user's events."""
    found: dict[int, set[int]] = defaultdict(set)
    for row in ran.storage.read(t.INTERACTIONS).select("user_idx", "item_idx").distinct().collect():
        found[row["user_idx"]].add(row["item_idx"])
    return found


def item_ids(ran: Ran) -> dict[int, str]:
    return {row["item_idx"]: row["item_id"] for row in ran.storage.read(t.ITEMS).collect()}


def log_report(ran: Ran) -> dict[str, int]:
    """What became of the log's rows: how many by measure."""
    rows = ran.storage.read(t.CLEAN_REPORT).where("source = 'interactions'").collect()
    return {row["measure"]: row["n_rows"] for row in rows}


def test_gold_is_there_and_not_empty(ran: Ran) -> None:
    for table in t.ALL_TABLES:
        if table.layer == "gold":
            assert ran.storage.count(table) > 0, table.full_name


def test_everybody_gets_a_list(ran: Ran) -> None:
    found = lists(ran, "live")
    assert len(found) == ran.storage.count(t.USERS) > 50
    for items in found.values():
        assert len(set(items)) == len(items) > 0


def test_broken_rows_are_refused_with_their_reason(ran: Ran) -> None:
    rows = ran.storage.read(t.REJECTED_ROWS).collect()
    assert {row["source"] for row in rows} == {"interactions"}
    assert Counter(row["reason"] for row in rows) == ran.generated.refused
    assert log_report(ran).get("not_selected", 0) == ran.generated.n_not_selected


def test_every_event_has_the_weight_of_its_type(ran: Ran) -> None:
    pairs = ran.storage.read(t.INTERACTIONS).select("event_type", "event_weight").distinct().collect()
    weights = ran.config.source.interactions.event_weights
    assert {row["event_type"]: row["event_weight"] for row in pairs} == (weights or {None: 1.0})


def test_weights_of_events_reach_what_als_and_bert_learn_from(ran: Ran) -> None:
    """Events of one item differ by the weights of their types alone."""
    log = ran.storage.read(t.INTERACTIONS).select("user_idx", "event_order", "event_weight")
    rows = ran.storage.read(t.INTERACTIONS_REBALANCED, "live").join(log, ["user_idx", "event_order"])
    share = F.col("weight") / F.col("event_weight")
    of_item = rows.groupBy("item_idx").agg(F.min(share).alias("least"), F.max(share).alias("most"))
    assert rows.count() == log.count()
    assert of_item.where("most - least > 1e-9").count() == 0
    assert of_item.select(F.round("most", 6)).distinct().count() > 1, "rare items weigh more"


def test_the_cap_holds_where_a_list_has_enough_others(ran: Ran) -> None:
    section = ran.config.rerank
    assert section.cap is not None
    group_of = {
        row["item_idx"]: next((pair["value"] for pair in row["attributes"] if pair["name"] == section.cap_field), None)
        for row in ran.storage.read(t.ITEMS).collect()
    }
    n_touched = 0.0
    for fold in FOLDS:
        report = {
            row["measure"]: row["value"]
            for row in ran.storage.read(t.RERANK_REPORT, fold).where("rule = 'cap'").collect()
        }
        n_touched += report["users_touched"]
        above = 0
        for items in lists(ran, fold).values():
            counts = Counter(group_of[item] for item in items[: section.cap_k] if group_of[item])
            above += any(n > section.cap for n in counts.values())
        assert above == report["users_short"], fold
    assert n_touched > 0, "the cap changes no list: the data does not show that it holds"


def test_known_items_come_again_in_music_alone(ran: Ran) -> None:
    known = known_items(ran)
    again = [len(known[user] & set(items)) for user, items in lists(ran, "live").items()]
    if ran.config.evaluate.recommend_seen:
        assert sum(n > 0 for n in again) > len(again) / 2
    else:
        assert sum(again) == 0


@of("music")
def test_known_tracks_are_targets_in_music(ran: Ran) -> None:
    split = ran.storage.read(t.INTERACTIONS_SPLIT)
    known = split.where("split <> 'test'").select("user_idx", "item_idx").distinct()
    tests = split.where("split = 'test'").select("user_idx", "item_idx").distinct()
    n_repeats = tests.join(known, ["user_idx", "item_idx"], "left_semi").count()
    told = {row["n_users"] for row in ran.summary.metrics if row["model_name"] == "blend" and row["segment"] == "all"}
    assert n_repeats > tests.count() / 2
    assert told == {tests.select("user_idx").distinct().count()}


@of("music")
def test_skips_are_no_plays(ran: Ran) -> None:
    kinds = {row["event_type"] for row in ran.storage.read(t.INTERACTIONS).select("event_type").distinct().collect()}
    assert kinds == {"play", "like"}
    assert ran.generated.n_not_selected > 100


@of("video")
def test_who_left_at_once_was_not_interested(ran: Ran) -> None:
    row = ran.storage.read(t.INTERACTIONS).agg(F.min("value").alias("least"), F.max("value").alias("most")).first()
    assert row is not None
    assert row["least"] >= 120 and row["most"] > 3600
    assert ran.generated.n_not_selected > 100


@of("social")
def test_nobody_is_recommended_to_themselves(ran: Ran) -> None:
    rows = ran.storage.read(t.GOLD_RECOMMENDATIONS)
    assert ran.storage.count(t.REJECTED_RULES) == 0
    assert rows.where("item_id LIKE 'a%'").count() > 0, "accounts are recommended"
    assert rows.where("item_id LIKE 'post%'").count() > 0, "so are posts"
    assert rows.where("item_id = user_id").count() == 0
    own = ran.storage.read(t.CANDIDATES["popularity"], "live").join(ran.storage.read(t.USERS), "user_idx")
    named = own.join(ran.storage.read(t.ITEMS).select("item_idx", "item_id"), "item_idx")
    assert named.where("item_id = user_id").count() > 0, "but for the rules they would be"


@of("content")
def test_one_cut_date_parts_train_valid_and_test(ran: Ran) -> None:
    ends = {
        row["split"]: (row["first"], row["last"])
        for row in ran.storage.read(t.INTERACTIONS_SPLIT)
        .where(f"user_idx IN ({', '.join(str(user) for user in _frequent(ran))})")
        .groupBy("split")
        .agg(F.min("event_ts").alias("first"), F.max("event_ts").alias("last"))
        .collect()
    }
    assert ends["train"][1] < ends["valid"][0] <= ends["valid"][1] < ends["test"][0]


def _frequent(ran: Ran) -> list[int]:
    """Users with enough events to be measured: those of others stay in train, whenever they are."""
    counts = ran.storage.read(t.INTERACTIONS_SPLIT).groupBy("user_idx").count()
    return [row["user_idx"] for row in counts.where(f"count >= {ran.config.split.min_events}").collect()]


@of("content")
def test_only_the_last_thirty_days_are_learnt_from(ran: Ran) -> None:
    row = (
        ran.storage.read(t.INTERACTIONS).agg(F.min("event_ts").alias("first"), F.max("event_ts").alias("last")).first()
    )
    assert row is not None
    assert 29 <= (row["last"] - row["first"]).days < 30 < N_NEWS_DAYS


@of("content")
def test_only_what_can_be_read_today_is_recommended(ran: Ran) -> None:
    ids = item_ids(ran)
    recommended = {ids[item] for items in lists(ran, "live").values() for item in items}
    last = N_NEWS_DAYS * NEWS_A_DAY
    readable = {f"n{number}" for number in range(last - 4 * NEWS_A_DAY, last)} | {f"n{last}"}
    assert recommended and recommended <= readable
    for table in (t.GOLD_RECOMMENDATIONS, t.GOLD_RECOMMENDATIONS_DEFAULT, t.GOLD_SIMILAR_ITEMS):
        column = "similar_item_id" if table == t.GOLD_SIMILAR_ITEMS else "item_id"
        assert {row[column] for row in ran.storage.read(table).select(column).distinct().collect()} <= readable
    # the planned one is known, and for its date alone left out
    planned = f"item_id = 'n{last + 1}' AND is_available AND available_until IS NULL"
    assert ran.storage.read(t.ITEMS).where(f"{planned} AND available_from > '2099-01-01'").count() == 1


@of("content")
def test_an_article_that_nobody_read_is_found_by_its_words(ran: Ran) -> None:
    unread = next(item for item, name in item_ids(ran).items() if name == f"n{N_NEWS_DAYS * NEWS_A_DAY}")
    assert ran.storage.read(t.CANDIDATES["lexical"], "live").where(f"item_idx = {unread}").count() > 0


@of("content")
def test_a_read_counts_half_after_a_day_and_a_half(ran: Ran) -> None:
    section = ran.config
    days = section.source.interactions.since_days
    assert days is not None and section.popularity.half_life_share * days == pytest.approx(1.5)
    events = ran.storage.read(t.INTERACTIONS).select("item_idx", "event_ts").collect()
    newest = max(row["event_ts"] for row in events)
    span = (newest - min(row["event_ts"] for row in events)).total_seconds()
    scores: dict[int, float] = defaultdict(float)
    for row in events:
        age = (newest - row["event_ts"]).total_seconds()
        scores[row["item_idx"]] += 0.5 ** (age / (span * 0.05))
    found = ran.storage.read(t.CANDIDATES["popularity"], "live").select("item_idx", "score").distinct().collect()
    assert {row["item_idx"]: row["score"] for row in found} == pytest.approx(
        {row["item_idx"]: scores[row["item_idx"]] for row in found}
    )


@of("ecommerce")
def test_most_products_are_seldom_or_never_bought(ran: Ran) -> None:
    """The data is of the shape that the conf is for."""
    segments = Counter(row["segment"] for row in ran.storage.read(t.ITEM_SEGMENTS, "live").collect())
    assert segments["tail"] + segments["cold"] > segments["head"] + segments["mid"]
    kinds = Counter(row["event_type"] for row in ran.storage.read(t.INTERACTIONS).collect())
    assert kinds["view"] > kinds["cart"] > kinds["buy"] > 0
