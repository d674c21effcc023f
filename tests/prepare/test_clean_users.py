"""What ``clean`` makes of the users source."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError, SourceError
from lt_spark.core.tables import USER_ATTRIBUTES
from lt_spark.prepare.clean import clean, user_hash, verify_report
from lt_spark.prepare.sources import read_source, require_columns

pytestmark = pytest.mark.spark

HOSTILE = 'age `now`; DROP "x" 🙂.y'


def conf(**users: Any) -> Config:
    columns = {"user": "who", "groups": [HOSTILE, "land"]} | users.pop("columns", {})
    source = {
        "interactions": {"columns": {"user": "u", "item": "i", "time": "t"}},
        "users": {"path": "users.csv", "columns": columns, **users},
    }
    return Config.model_validate({"source": source, "clean": {"max_title_chars": 12, "max_rejected_share": 0.5}})


@pytest.fixture
def cleaned(spark: SparkSession) -> Callable[..., Any]:
    """Clean a log of users a, b, c and one who is forgotten, with rows of the users source: who, age, land, on."""

    def run(rows: list[tuple[Any, ...]], config: Config) -> Any:
        log = [(user, "i", str(1_700_000_000), "log.csv", place, None) for place, user in enumerate("abcf", 2)]
        known = [(*row[:4], "users.csv", place, row[4] if len(row) > 4 else None) for place, row in enumerate(rows, 2)]
        columns = f"who string, `{HOSTILE.replace('`', '``')}` string, land string, `on` string"
        return clean(
            spark.createDataFrame(log, "u string, i string, t string, _file string, _record bigint, _error string"),
            None,
            None,
            None,
            spark.createDataFrame([(user_hash("f", "key"),)], "user_hash string"),
            config,
            datetime(2024, 6, 1, tzinfo=UTC),
            "key",
            spark.createDataFrame(known, f"{columns}, _file string, _record bigint, _error string"),
        )

    return run


def test_rows_of_the_users_source(cleaned: Callable[..., Any]) -> None:
    rows = [
        ("a", " 31 ", "Österreich\n\x00", "y"),
        ("a", "99", "Wien", "y"),  # again: the first row counts
        ("b", None, "", "y"),  # nothing is known
        ("f", "40", "Wien", "y"),  # forgotten
        ("nobody", "50", "Wien", "y"),  # not in the log
        ("c", "60", "Wien", "n"),  # not wanted
        ("", "70", "Wien", "y"),
        (None, "71", "Wien", "y"),
        ("c", "a text that is much too long", "NA", "y"),
        ("x", "1", "1", "y", "too few fields"),
    ]
    found = cleaned(rows, conf(where="`on` = 'y'"))
    assert [(f.name, f.dataType) for f in found.user_attributes.schema] == [
        (f.name, f.dataType) for f in USER_ATTRIBUTES.schema
    ]
    ids = {row["user_idx"]: row["user_id"] for row in found.users.collect()}
    told = {(ids[row["user_idx"]], row["name"], row["value"]) for row in found.user_attributes.collect()}
    assert told == {
        ("a", HOSTILE, "31"),
        ("a", "land", "Österreich"),
        ("c", HOSTILE, "a text that "),
        ("c", "land", "NA"),
    }
    rejected = found.rejected_rows.where("source = 'users'").orderBy("record").collect()
    assert [(row["record"], row["reason"], row["column"]) for row in rejected] == [
        (8, "user id is empty", "who"),
        (9, "user id is empty", "who"),
        (11, "too few fields", None),
    ]
    report = found.clean_report.collect()
    counts = {row["measure"]: row["n_rows"] for row in report if row["source"] == "users"}
    expected = {"rows_in": 10, "kept": 5, "refused": 3, "duplicates": 1, "not_selected": 1}
    expected |= {"users_in_log": 3, "users_matched": 3, "ids: who of type string, letters": 5}
    expected |= {"refused: user id is empty (column who)": 2, "refused: too few fields": 1}
    assert counts == expected
    verify_report(report, conf())


def _report(**users: int) -> list[Row]:
    counts = {"interactions": {"rows_in": 9, "kept": 9}, "users": {"rows_in": 4, "kept": 4} | users}
    return [
        Row(source=source, measure=measure, n_rows=n)
        for source, measures in counts.items()
        for measure, n in measures.items()
    ]


def test_a_users_source_of_other_people_stops_the_run() -> None:
    verify_report(_report(users_in_log=5, users_matched=1), conf())
    kinds = {"ids: who of type string, digits": 4, "users_in_log": 5, "users_matched": 0}
    with pytest.raises(DataError, match=r"no user of the log is in the users source.*who of type string, digits"):
        verify_report(_report(**kinds), conf())
    with pytest.raises(DataError, match=r"source\.users: 3 of 4 rows refused"):
        verify_report(_report(kept=1, refused=3), conf())


def test_a_column_that_is_not_there_is_named(spark: SparkSession, tmp_path: Any) -> None:
    path = tmp_path / "ml.user"
    path.write_text("who,age\n1,24\n")
    users = conf(path=str(path), columns={"groups": ["agee"]}).source.users
    with pytest.raises(SourceError, match=r"source\.users\.columns\.groups\[0\] is 'agee'.*Did you mean 'age'"):
        read_source(spark, users, "users")
    found = read_source(spark, conf(path=str(path), columns={"groups": ["age"]}).source.users, "users").collect()
    assert [(row["who"], row["age"]) for row in found] == [("1", "24")]
    nameless = users.model_copy(update={"columns": users.columns.model_copy(update={"user": ""})})
    with pytest.raises(ConfigError, match=r"source\.users\.columns\.user is empty"):
        require_columns(spark.range(1), nameless, "users")
