"""``source.where``: parsed, checked, rebuilt."""

from typing import Any

import pytest
from pyspark.sql import SparkSession

from lt_spark.core.errors import ConfigError
from lt_spark.prepare.conditions import condition

pytestmark = pytest.mark.spark

ROWS = [
    ("u1", "4.5", 9007199254740993, True, "buy"),
    ("u2", "x", 9007199254740992, False, None),
    ("it's", "10", 3, None, "view"),
]


CONDITIONS: list[tuple[str, list[Any]]] = [
    ("rating >= 4", ["u1", "it's"]),
    ("4 <= rating", ["u1", "it's"]),
    ("rating = '4.5'", ["u1"]),
    ("rating < -1", []),
    ("n = 9007199254740993", ["u1"]),
    ("n = '9007199254740993'", ["u1"]),
    ("NOT n = 3", ["u1", "u2"]),
    ("kind IS NULL", ["u2"]),
    ("kind IS NOT NULL AND rating > 5", ["it's"]),
    ("kind = 'buy' OR user = 'u2'", ["u1", "u2"]),
    ("kind <> 'buy'", ["it's"]),
    ("kind IN ('buy', 'view')", ["u1", "it's"]),
    ("kind NOT IN ('buy')", ["u2", "it's"]),
    ("n BETWEEN 1 AND 5", ["it's"]),
    ("user LIKE 'u%'", ["u1", "u2"]),
    ("user NOT LIKE 'u%'", ["it's"]),
    ("is_real = true", ["u1"]),
    ("is_real", ["u1"]),
    ("(rating > 4 AND (n = 3))", ["it's"]),
    ("user = 'it\\'s'", ["it's"]),
    ("`user` = user", ["u1", "u2", "it's"]),
]


def test_conditions(spark: SparkSession) -> None:
    frame = spark.createDataFrame(ROWS, "user string, rating string, n bigint, is_real boolean, kind string").coalesce(
        1
    )
    columns = [condition(where, frame.schema).alias(f"c{place}") for place, (where, _) in enumerate(CONDITIONS)]
    rows = frame.select("user", *columns).collect()
    kept = {where: [row["user"] for row in rows if row[f"c{place}"]] for place, (where, _) in enumerate(CONDITIONS)}
    assert kept == dict(CONDITIONS)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("ratng > 4", "'ratng', which the source lacks. Did you mean 'rating'?"),
        ("upper(user) = 'X'", "expected comparisons"),
        ("user = (SELECT 1)", "where a column belongs"),
        ("user IN (SELECT user FROM t)", "expected comparisons"),
        ("1 = 1", "two literals"),
        ("rating > 4; DROP TABLE t", "expected comparisons"),
        ("rating BETWEEN SYMMETRIC 2 AND 1", "symmetric"),
        ("rating LIKE 'a' ESCAPE '!'", "Escape"),
        ("rating >", "cannot be parsed"),
        ("t.rating > 4", "where a column belongs"),
        ("rating + 1 > 4", "where a column belongs"),
        ("rating", "expected comparisons"),
        ("rating > 4 -- ' OR 1=1 \n OR exists(SELECT 1)", "expected comparisons"),
        ("is_real > 4", "a number compared with a column of type boolean"),
    ],
)
def test_anything_else_is_a_config_error(spark: SparkSession, where: str, message: str) -> None:
    schema = spark.createDataFrame([], "user string, rating string, is_real boolean").schema
    with pytest.raises(ConfigError) as caught:
        condition(where, schema)
    assert message in str(caught.value)
