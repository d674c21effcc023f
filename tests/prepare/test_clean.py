"""The stage ``clean``."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError, SourceError
from lt_spark.core.tables import CLEAN_REPORT, INTERACTIONS, ITEMS, REJECTED_ROWS, USERS
from lt_spark.prepare.clean import Cleaned, clean, user_hash, verify_report

pytestmark = pytest.mark.spark

NOW = datetime(2024, 6, 1, tzinfo=UTC)
T = 1_700_000_000
DAY = 86_400


def log(spark: SparkSession, rows: list[tuple[Any, ...]], ids: str = "string", item_ids: str = "string") -> DataFrame:
    """Build a log as read: user, item, time, then kind and value where given; one file, records from 2."""
    full = [(*row, *[None] * (5 - len(row)), "log.csv", place, None) for place, row in enumerate(rows, 2)]
    schema = f"u {ids}, i {item_ids}, t string, kind string, value string, _file string, _record bigint, _error string"
    return spark.createDataFrame(full, schema)


def catalogue(
    spark: SparkSession, rows: list[tuple[Any, ...]], columns: str = "item string, title string"
) -> DataFrame:
    full = [(*row, "items.csv", place, None) for place, row in enumerate(rows, 2)]
    return spark.createDataFrame(full, f"{columns}, _file string, _record bigint, _error string")


def conf(interactions: dict[str, Any] | None = None, items: dict[str, Any] | None = None, **limits: Any) -> Config:
    columns = {"user": "u", "item": "i", "time": "t"} | (interactions or {}).pop("columns", {})
    item_columns = {"item": "item", "title": "title"} | (items or {}).pop("columns", {})
    source = {
        "interactions": {"columns": columns, **(interactions or {})},
        "items": {"columns": item_columns, **(items or {})},
    }
    return Config.model_validate({"source": source, "clean": limits})


def run(interactions_source: DataFrame, config: Config, items_source: DataFrame | None = None, **more: Any) -> Cleaned:
    given = {"previous_users": None, "previous_items": None, "forgotten_users": None, "forget_key": ""} | more
    return clean(interactions_source, items_source, config=config, now=NOW, **given)


def report(cleaned: Cleaned, source: str = "interactions") -> dict[str, int]:
    rows = cleaned.clean_report.collect()
    assert len({(row["source"], row["measure"]) for row in rows}) == len(rows)
    return {row["measure"]: row["n_rows"] for row in rows if row["source"] == source}


def reasons(cleaned: Cleaned) -> list[tuple[Any, ...]]:
    rows = cleaned.rejected_rows.orderBy("source", "file", "record").collect()
    return [(row["record"], row["reason"], row["column"]) for row in rows]


def events(cleaned: Cleaned) -> list[Row]:
    named = cleaned.interactions.join(cleaned.users, "user_idx").join(
        cleaned.items.select("item_idx", "item_id"), "item_idx"
    )
    return sorted(named.collect(), key=lambda row: (row["user_id"], row["event_order"]))


def items(cleaned: Cleaned) -> dict[str, Row]:
    return {row["item_id"]: row for row in cleaned.items.collect()}


def test_schemas_and_an_event(spark: SparkSession) -> None:
    cleaned = run(log(spark, [("u", "i", str(T))]), conf())
    tables = (INTERACTIONS, ITEMS, USERS, REJECTED_ROWS, CLEAN_REPORT)
    frames = (cleaned.interactions, cleaned.items, cleaned.users, cleaned.rejected_rows, cleaned.clean_report)
    for table, frame in zip(tables, frames, strict=True):
        assert [(f.name, f.dataType) for f in frame.schema] == [(f.name, f.dataType) for f in table.schema]
    (event,) = cleaned.interactions.collect()
    assert event["order_value"] == T * 1_000_000
    assert event["event_ts"].timestamp() == T
    assert (event["event_order"], event["event_type"], event["value"], event["event_weight"]) == (1, None, None, 1.0)
    (item,) = cleaned.items.collect()
    assert (item["is_in_catalogue"], item["is_available"], item["title"], item["attributes"]) == (False, True, None, [])


def test_ids_are_opaque_text(spark: SparkSession) -> None:
    ids = ["0012", "12", "12E34", "NA", "null", " a ", "a", "9007199254740993", 'q"/\\\n', "é", " "]
    cleaned = run(log(spark, [(one, one, str(T)) for one in [*ids, "", None]]), conf())
    assert sorted(row["user_id"] for row in cleaned.users.collect()) == sorted(ids)
    assert sorted(items(cleaned)) == sorted(ids)
    assert reasons(cleaned) == [(13, "user id is empty", "u"), (14, "user id is empty", "u")]


def test_ids_of_other_types_match_as_text(spark: SparkSession) -> None:
    rows = [
        (2**63 - 1, 7.0, str(T)),
        (2, 2.0**53, str(T)),
        (2, 7.5, str(T)),
        (2, 2.0**53 + 2, str(T)),
        (2, None, str(T)),
    ]
    cleaned = run(log(spark, rows, "bigint", "double"), conf(), catalogue(spark, [("7", "seven")]))
    assert {row["user_id"] for row in cleaned.users.collect()} == {"9223372036854775807", "2"}
    assert {one: row["title"] for one, row in items(cleaned).items()} == {"7": "seven", "9007199254740992": None}
    inexact = "item id is a fraction or too large to be exact: store ids as text or whole numbers"
    assert reasons(cleaned) == [(4, inexact, "i"), (5, inexact, "i"), (6, "item id is empty", "i")]


def test_a_boolean_is_no_id(spark: SparkSession) -> None:
    with pytest.raises(SourceError, match=r"columns.user 'u': is of type boolean"):
        run(log(spark, [(True, "i", str(T))], "boolean"), conf())


def test_every_row_is_accounted_for(spark: SparkSession) -> None:
    rows = [
        ("u", "i", str(T), "buy", "5"),  # kept
        ("u", "i", str(T), "buy", "4"),  # the same event again
        ("u", "i", str(T), "view", "5"),  # another type: kept
        ("u", "j", str(T + 1), "buy", "1"),  # below min_value
        ("u", "j", str(T + 1), "test", ""),  # left out by where, so its type is not looked at
        ("u", "j", str(T - 9 * DAY), "buy", "5"),  # too old
        ("u", "j", str(T), "steal", "5"),  # unknown type
        ("u", "j", str(T), None, "5"),  # unknown type
        ("u", "j", str(T), "buy", "NaN"),
        ("u", "j", str(T), "buy", "1e999"),
        ("u", "j", str(T), "buy", "five"),
        ("u", "j", "soon", "buy", "5"),
        ("u", "j", None, "buy", "5"),
        ("u", "j", str(T * 1000 * 1000 * 100), "buy", "5"),  # year 7352
        ("u", "j", "2024-06-03", "buy", "5"),
        ("gone", "k", str(T), "buy", "5"),  # forgotten
    ]
    settings = {
        "columns": {"event_type": "kind", "value": "value"},
        "event_weights": {"view": 1, "buy": 5},
        "min_value": 2,
        "where": "kind IS NULL OR kind <> 'test'",
        "since_days": 7,
    }
    forgotten = spark.createDataFrame([(user_hash("gone", "key"),)], "user_hash string")
    previous = spark.createDataFrame([(4, "gone"), (5, "old")], "user_idx int, user_id string")
    cleaned = run(
        log(spark, rows), conf(settings), forgotten_users=forgotten, forget_key="key", previous_users=previous
    )
    found = report(cleaned)
    outcomes = {"kept": 2, "refused": 9, "duplicates": 1, "not_selected": 3, "forgotten": 1, "over_cap": 0}
    assert {name: found[name] for name in outcomes} == outcomes
    assert found["rows_in"] == len(rows)
    assert [(event["value"], event["event_weight"]) for event in events(cleaned)] == [(5.0, 5.0), (5.0, 1.0)]
    assert Counter(reason for _, reason, _ in reasons(cleaned)) == {
        "event type is not among event_weights": 2,
        "value is not a number": 3,
        "time is unreadable": 1,
        "time is empty": 1,
        "time is outside the years 1990 to 2024: check time_format (s, ms, us)": 1,
        "time is more than 1 days in the future": 1,
    }
    assert found["refused: value is not a number (column value)"] == 3
    assert {row["user_id"]: row["user_idx"] for row in cleaned.users.collect()} == {"old": 5, "u": 6}
    assert "k" not in items(cleaned)


def test_reader_errors_are_refused(spark: SparkSession) -> None:
    rows = [
        ("u", "i", str(T), None, None, "log.csv", 2, None),
        (None, None, None, None, None, "log.csv", 3, "repeated header"),
    ]
    frame = spark.createDataFrame(rows, log(spark, []).schema)
    assert reasons(run(frame, conf({"where": "u = 'u'"}))) == [(3, "repeated header", None)]


def test_order_of_events_and_bots(spark: SparkSession) -> None:
    rows = [("bot", f"i{n}", str(T + n // 2)) for n in range(10)] + [("u", "i1", str(T)), ("u", "i0", str(T))]
    cleaned = run(log(spark, rows).repartition(3), conf(max_events_per_user=4))
    found = [(event["user_id"], event["event_order"], event["item_id"]) for event in events(cleaned)]
    assert found[:4] == [("bot", 1, "i6"), ("bot", 2, "i7"), ("bot", 3, "i8"), ("bot", 4, "i9")]
    assert found[4:] == [("u", 1, "i1"), ("u", 2, "i0")]  # a tie: the order of the file
    assert (report(cleaned)["over_cap"], report(cleaned)["kept"]) == (6, 6)


def test_only_an_order_has_no_timestamps(spark: SparkSession) -> None:
    cleaned = run(log(spark, [("u", "a", "2"), ("u", "b", "1"), ("u", "c", "1.5")]), conf())
    assert [(e["item_id"], e["order_value"], e["event_ts"]) for e in events(cleaned)] == [
        ("b", 1, None),
        ("a", 2, None),
    ]
    assert reasons(cleaned) == [(4, "time is unreadable", "t")]
    with pytest.raises(ConfigError, match="since_days is set, and the log has no real time"):
        run(log(spark, [("u", "a", "2")]), conf({"since_days": 1}))


def test_without_a_time_the_order_is_that_of_the_files(spark: SparkSession) -> None:
    rows = [("u", "a", None, None, None, "b.csv", 1, None), ("u", "b", None, None, None, "a.csv", 9, None)]
    frame = spark.createDataFrame([*rows, ("u", "a", None, None, None, "b.csv", 2, None)], log(spark, []).schema)
    cleaned = run(frame, conf({"columns": {"time": ""}}))
    assert [event["item_id"] for event in events(cleaned)] == ["b", "a", "a"]  # repeats stay
    assert report(cleaned)["kept"] == 3


def test_catalogue(spark: SparkSession) -> None:
    rows = [
        ("0012", "  Al\x00ien\n(1979) ", "Horror", "yes", "2020-01-01", "9999-12-31"),
        ("0012", "again", None, None, None, None),
        (" 0012 ", "é" * 12, "", "0", "1577836800", ""),
        ("x", " \t ", None, None, None, None),
        ("bad", "title", None, "maybe", None, None),
        ("bad2", "title", None, "1", "some day", None),
        ("", "title", None, None, None, None),
        ("blue", "left out", None, None, None, None),
    ]
    columns = "item string, title string, genre string, live string, since string, until string"
    named = {"text": ("genre", "title"), "is_available": "live", "available_from": "since", "available_until": "until"}
    config = conf(items={"columns": named, "where": "item <> 'blue'"}, max_title_chars=10)
    source = log(spark, [("u", "0012", str(T)), ("u", "new", str(T))])
    cleaned = run(source, config, catalogue(spark, rows, columns).repartition(3))
    found = items(cleaned)
    assert sorted(found) == [" 0012 ", "0012", "new", "x"]
    alien = found["0012"]
    assert alien["title"] == "Alien (197"
    assert alien["attributes"] == [Row(name="genre", value="Horror"), Row(name="title", value="Alien (197")]
    assert (alien["is_available"], alien["available_from"].year, alien["available_until"].year) == (True, 2020, 9999)
    assert found[" 0012 "]["is_available"] is False
    assert found[" 0012 "]["available_from"] == alien["available_from"]
    assert found[" 0012 "]["attributes"] == [Row(name="title", value="é" * 10)]
    assert (found["x"]["title"], found["x"]["attributes"], found["x"]["is_available"]) == (None, [], True)
    assert [one for one, row in found.items() if not row["is_in_catalogue"]] == ["new"]
    assert reasons(cleaned) == [
        (6, "is_available is neither true nor false", "live"),
        (7, "available_from is no time that can be read", "since"),
        (8, "item id is empty", "item"),
    ]
    account = report(cleaned, "items")
    assert {name: n for name, n in account.items() if ":" not in name} == {
        "rows_in": 8,
        "kept": 3,
        "refused": 3,
        "duplicates": 1,
        "not_selected": 1,
        "texts_cut": 4,
    }
    assert (report(cleaned)["items_in_log"], report(cleaned)["items_matched"]) == (2, 1)


@pytest.mark.slow
def test_numbers_are_kept_over_runs(spark: SparkSession) -> None:
    first = run(log(spark, [("b", "y", str(T)), ("c", "z", str(T))]), conf())
    users = spark.createDataFrame(first.users.collect(), first.users.schema)
    old_items = spark.createDataFrame(first.items.collect(), first.items.schema)
    second = run(
        log(spark, [("a", "x", str(T)), ("c", "z", str(T))]), conf(), previous_users=users, previous_items=old_items
    )
    assert {row["user_id"]: row["user_idx"] for row in second.users.collect()} == {"b": 0, "c": 1, "a": 2}
    found = items(second)
    assert {one: row["item_idx"] for one, row in found.items()} == {"y": 0, "z": 1, "x": 2}
    assert {one: row["is_available"] for one, row in found.items()} == {"y": False, "z": True, "x": True}


def test_forgotten_users_need_a_key_that_no_plan_shows(spark: SparkSession) -> None:
    forgotten = spark.createDataFrame([(user_hash("u", "sesame"),)], "user_hash string")
    source = log(spark, [("u", "i", str(T)), ("v", "i", str(T))])
    with pytest.raises(ConfigError, match="LT_SPARK_FORGET_KEY"):
        run(source, conf(), forgotten_users=forgotten)
    cleaned = run(source, conf(), forgotten_users=forgotten, forget_key="sesame")
    assert [row["user_id"] for row in cleaned.users.collect()] == ["v"]
    plan = cleaned.interactions._jdf.queryExecution().toString()
    assert "sesame" not in plan


def test_weights_without_a_type_column(spark: SparkSession) -> None:
    with pytest.raises(ConfigError, match="event_weights is set without"):
        run(log(spark, [("u", "i", str(T))]), conf({"event_weights": {"buy": 2}}))


def verify(measures: dict[tuple[str, str], int], **limits: Any) -> None:
    rows = [Row(source=source, measure=measure, n_rows=n) for (source, measure), n in measures.items()]
    verify_report(rows, conf(**limits))


LOG = "interactions"


def test_verify_too_many_refused() -> None:
    account = {
        (LOG, "rows_in"): 10,
        (LOG, "kept"): 8,
        (LOG, "refused"): 2,
        (LOG, "refused: time is empty (column t)"): 2,
    }
    with pytest.raises(
        DataError, match=r"2 of 10 rows refused \(20.0%\).*Top reasons: 2 rows: time is empty \(column t\)"
    ):
        verify(account)
    verify(account, max_rejected_share=0.2)


def test_verify_nothing_left() -> None:
    with pytest.raises(DataError, match="no row is left: expected at least one, found 4 rows in"):
        verify({(LOG, "rows_in"): 4, (LOG, "not_selected"): 4})


def test_verify_unaccounted() -> None:
    with pytest.raises(DataError, match="rows are not accounted for: expected 4 rows in"):
        verify({(LOG, "rows_in"): 4, (LOG, "kept"): 3})


def test_verify_unreadable_file() -> None:
    with pytest.raises(SourceError, match=r"source.interactions: file cannot be read: a.csv, record 3"):
        verify({(LOG, "rows_in"): 4, (LOG, "kept"): 4, (LOG, "refused: file cannot be read: a.csv, record 3: x"): 1})


def test_verify_ids_that_never_match(spark: SparkSession) -> None:
    source = log(spark, [("u", "7", str(T)), ("u", "8", str(T))])
    cleaned = run(source, conf(), catalogue(spark, [("0007", "x")]))
    with pytest.raises(DataError) as caught:
        verify_report(cleaned.clean_report.collect(), conf())
    assert "no item of the log is in the catalogue" in str(caught.value)
    assert "i of type string, digits (2 rows)" in str(caught.value)
    assert "item of type string, digits with leading zeros (1 rows)" in str(caught.value)
