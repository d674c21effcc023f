"""The shop's rules as people write them: what is kept, and of every other row why not."""

from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.config_sources import RulesSource
from lt_spark.core.errors import SourceError
from lt_spark.core.tables import BUSINESS_RULES, ITEMS, REJECTED_RULES, USERS
from lt_spark.prepare.business_rules import business_rules, checked_rules, overlapping, rejected_rules
from lt_spark.prepare.sources import read_source

HEADER = "item_id,action,value,user_id,starts_on,ends_on,reason\n"
WHY = "the reason"


@pytest.fixture
def check(spark: SparkSession, frame: Any, tmp_path: Path) -> Any:
    items = frame(ITEMS, [{"item_idx": i, "item_id": name} for i, name in enumerate(["a", "b", "c", "d", " é\u202e"])])
    users = frame(USERS, [{"user_idx": 7, "user_id": "u"}, {"user_idx": 8, "user_id": "007"}])

    def checked(text: str | DataFrame, name: str = "rules.csv", n: int = 50, **more: Any) -> tuple[Any, dict[int, Any]]:
        if isinstance(text, str):
            (tmp_path / name).write_text(text, encoding="utf-8")
        source = RulesSource(path=str(tmp_path / name), **more)
        rows = text if isinstance(text, DataFrame) else read_source(spark, source, "rules")
        found = checked_rules(rows, items, users, source, n, 20).persist()
        try:
            kept = business_rules(found).orderBy("record").collect()
            refused = rejected_rules(found).orderBy("record").collect()
            assert business_rules(found).columns == BUSINESS_RULES.column_names
            assert rejected_rules(found).columns == REJECTED_RULES.column_names
        finally:
            found.unpersist()
        return kept, {row["record"]: (row["reason"], row["column"]) for row in refused}

    return checked


@pytest.mark.spark
def test_rules_that_can_be_used(check: Any) -> None:
    kept, refused = check(
        HEADER
        + "a,pin,3,,2026-05-01,2026-05-31,Maytime\n"
        + "a, Block ,,u,,,« no »\n"
        + "b,BOOST,1.5,007,,2026-05-31,twenty characters and more\n"
        + '" é\u202e",block,,,2026-05-31,2026-05-31,"one\nday\x07"\n'
    )
    assert refused == {}
    assert [tuple(row)[:-2] for row in kept] == [
        (0, None, "pin", 3.0, date(2026, 5, 1), date(2026, 5, 31), "Maytime"),
        (0, 7, "block", None, None, None, "« no »"),
        (1, 8, "boost", 1.5, None, date(2026, 5, 31), "twenty characters an"),
        (4, None, "block", None, date(2026, 5, 31), date(2026, 5, 31), "one day"),
    ]
    assert [(row["file"], row["record"]) for row in kept] == [("rules.csv", record) for record in (2, 3, 4, 5)]


REFUSED = {
    ",block,,,,,x": ("item id is empty", "item_id"),
    "A,block,,,,,x": ("item is unknown", "item_id"),
    "a ,block,,,,,x": ("item is unknown", "item_id"),
    "a,block,,nobody,,,x": ("user is unknown", "user_id"),
    "a,block,, ,,,x": ("user is unknown", "user_id"),
    "a,block,,7,,,x": ("user is unknown", "user_id"),
    "a,,,,,,x": ("action is none of pin, block, boost", "action"),
    "a,hide,,,,,x": ("action is none of pin, block, boost", "action"),
    "a,block,1,,,,x": ("a block has no value", "value"),
    "a,pin,,,,,x": ("pin needs a value", "value"),
    "a,boost, ,,,,x": ("boost needs a value", "value"),
    "a,pin,first,,,,x": ("value is not a number", "value"),
    "a,boost,NaN,,,,x": ("value is not a number", "value"),
    "a,boost,1e999,,,,x": ("value is not a number", "value"),
    "a,pin,0,,,,x": ("place is not a whole number from 1", "value"),
    "a,pin,-1,,,,x": ("place is not a whole number from 1", "value"),
    "a,pin,1.5,,,,x": ("place is not a whole number from 1", "value"),
    "a,pin,51,,,,x": ("place is beyond the list: blend.n is 50", "value"),
    "a,boost,0,,,,x": ("factor is not above 0", "value"),
    "a,boost,-2,,,,x": ("factor is not above 0", "value"),
    "a,boost,1000001,,,,x": ("factor is above 1,000,000", "value"),
    "a,block,,,31.5.2026,,x": ("starts_on is no date such as 2026-05-31", "starts_on"),
    "a,block,,,2026-02-30,,x": ("starts_on is no date such as 2026-05-31", "starts_on"),
    "a,block,,,,2026-05-31T10:00,x": ("ends_on is no date such as 2026-05-31", "ends_on"),
    "a,block,,,2026-05-31,2026-05-01,x": ("ends_on is before starts_on", "ends_on"),
    "a,block,,,,,": ("reason is empty", "reason"),
    "a,block,,,,,\u00a0": ("reason is empty", "reason"),
    "a,block": ("too few fields: 2 where the header has 7", None),
    '"a",block,,,,,"x': ("unbalanced quotes", None),
}


@pytest.mark.spark
def test_what_cannot_be_used_is_refused_with_its_reason(check: Any) -> None:
    kept, refused = check(HEADER + "".join(f"{line}\n" for line in REFUSED))
    assert kept == []
    assert refused == dict(enumerate(REFUSED.values(), 2))


@pytest.mark.slow
@pytest.mark.spark
def test_of_two_rules_that_contradict_one_another_one_stands(check: Any) -> None:
    lines = {
        # a block stands, against all that it covers
        "a,pin,1,,2026-05-01,2026-05-10,x": "the item is blocked at the same time",
        "a,block,,,2026-05-10,2026-05-20,x": None,
        "a,boost,2,u,2026-05-20,,x": "the item is blocked at the same time",
        "a,pin,1,,2026-05-21,2026-05-31,x": None,
        # one of a user does not cover everybody
        "b,block,,u,,,x": None,
        "b,boost,2,,,,x": None,
        "b,boost,2,u,,,x": "the item is blocked at the same time",
        # of two factors, or places, of an item the first; and a repeat is one too
        "c,boost,2,,2026-05-02,,x": "the item has another rule of the action at the same time",
        "c,boost,3,,2026-05-01,2026-05-02,x": None,
        "c,pin,5,,,,x": None,
        "c,pin,5,,,,x ": "the item has another rule of the action at the same time",
        "c,pin,6,u,,,x": None,
        # of two items at a place the first; where it was refused itself it takes none
        "d,pin,5,,2026-05-01,,x": "the place is taken at the same time",
        "d,pin,1,,2026-05-01,2026-05-20,x": None,
        "d,pin,6,u,,,x": "the place is taken at the same time",
    }
    kept, refused = check(HEADER + "".join(f"{line}\n" for line in lines))
    found = {record: refused.get(record, (None,))[0] for record in range(2, 2 + len(lines))}
    assert found == dict(enumerate(lines.values(), 2))
    assert len(kept) == sum(reason is None for reason in lines.values())


@pytest.mark.slow
@pytest.mark.spark
def test_typed_columns_json_lines_and_where(spark: SparkSession, check: Any, tmp_path: Path) -> None:
    # the row of a table that stands there twice has one number
    typed = spark.createDataFrame(
        [("a", "pin", 2, date(2026, 5, 1), "x", "t", 1, None)] * 2 + [("a", "pin", None, None, "x", "t", 2, None)],
        "item_id string, action string, value int, ends_on date, reason string, _file string, _record bigint, "
        "_error string",
    )
    kept, refused = check(typed)
    assert [(row["value"], row["ends_on"]) for row in kept] == [(2.0, date(2026, 5, 1))]
    assert refused == {2: ("pin needs a value", "value")}
    lines = '{"item_id": "a", "action": "boost", "value": 2, "reason": "x", "shop": "at"}\nnonsense\n'
    kept, refused = check(lines + lines.replace("at", "de"), "rules.jsonl", where="shop = 'at'")
    assert [(row["record"], row["user_idx"], row["value"]) for row in kept] == [(1, None, 2.0)]
    assert refused == {2: ("not a JSON object", None), 4: ("not a JSON object", None)}


@pytest.mark.slow
@pytest.mark.spark
def test_a_file_without_rules_has_none_and_one_without_columns_is_refused(check: Any) -> None:
    assert check(HEADER) == ([], {})
    with pytest.raises(SourceError, match=r"source\.rules\.path .*: empty: expected records, found 0 bytes"):
        check("")
    with pytest.raises(SourceError, match=r"column reason is missing\. Did you mean 'reasons'\? .* found 'item_id'"):
        check("item_id,action,reasons\n")
    with pytest.raises(SourceError, match=r"column 'end_on' is unknown\. Did you mean 'ends_on'\? "):
        check("item_id,action,end_on,reason\na,block,2026-05-01,x\n")
    assert len(check("item_id,action,reason,author,shop\na,block,x,me,at\n")[0]) == 1


# item, place, first day, last day
pins = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 30), st.integers(0, 6)).map(
    lambda pin: (*pin[:3], pin[2] + pin[3])
)


@settings(deadline=None)
@given(st.lists(pins, max_size=12), st.sampled_from(["pin", "boost"]))
def test_what_stands_never_overlaps_and_what_is_refused_does(spans: list[Any], action: str) -> None:
    names = ["action", "file", "record", "item_idx", "value", "_from", "_to"]
    rows = pd.DataFrame([(action, "f", record, *span) for record, span in enumerate(spans)], columns=names)
    found = overlapping(rows)
    reasons = dict(zip(found["record"], found["_why"], strict=True))
    taken: dict[str, list[Any]] = {"item_idx": [], "value": []}
    standing = [row for row in rows.to_dict("records") if row["record"] not in reasons]
    for row in standing:
        for name in taken:
            taken[name] += [(row[name], day) for day in range(row["_from"], row["_to"] + 1)]
    assert len(taken["item_idx"]) == len(set(taken["item_idx"]))
    assert action == "boost" or len(taken["value"]) == len(set(taken["value"]))
    for row in rows.to_dict("records"):
        if why := reasons.get(row["record"]):
            name = "value" if "place" in why else "item_idx"
            assert (row[name], row["_from"]) in taken[name]
