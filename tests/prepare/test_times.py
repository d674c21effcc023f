"""Times as people write them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lt_spark.core.config_sources import TimeFormat
from lt_spark.prepare.times import detect_time_format, order_value, time_reason, utc_micros

pytestmark = pytest.mark.spark

NOON = utc_micros(datetime(2024, 1, 31, 12, tzinfo=UTC))
DAY = 86_400_000_000


def orders(spark: SparkSession, values: list[Any], data_type: str = "string", how: TimeFormat = "auto") -> list[Any]:
    frame = spark.createDataFrame([(place, value) for place, value in enumerate(values)], f"p int, t {data_type}")
    found = frame.select("p", order_value(F.col("t"), frame.schema["t"].dataType, how).alias("o"))
    return [row["o"] for row in sorted(found.collect())]


def test_iso_text(spark: SparkSession) -> None:
    texts = {
        "2024-01-31T12:00:00Z": NOON,
        "2024-01-31 12:00:00": NOON,
        "2024-01-31T12:00": NOON,
        " 2024-01-31 12:00:00.250001 ": NOON + 250_001,
        "2024-01-31 12:00:00,5": NOON + 500_000,
        "2024-01-31T12:00:00.123456789Z": NOON + 123_456,
        "2024-01-31T14:00:00+02:00": NOON,
        "2024-01-31T17:30:00+0530": NOON,
        "2024-01-31 07:00:00 -05": NOON,
        "2024-01-31 12:00:00 UTC": NOON,
        "2024/1/31 12:00:00": NOON,
        "2024-01-31": NOON - DAY // 2,
    }
    assert dict(zip(texts, orders(spark, list(texts)), strict=True)) == texts
    assert orders(spark, list(texts), how="iso") == list(texts.values())


@pytest.mark.parametrize(
    "text", ["", "soon", "31.01.2024", "2024-13-01", "12:00:00", "2024-02-30 10:00", "NaN", "1e999"]
)
def test_unreadable_text(spark: SparkSession, text: str) -> None:
    assert orders(spark, [text]) == [None]


def test_epochs_by_size(spark: SparkSession) -> None:
    texts = ["881250949", "881250949.0", "8.8125e8", "881250949123", "881250949123456", "1706702400.25", "+881250949"]
    expected = [881250949000000, 881250949000000, 881250000000000, 881250949123000, 881250949123456]
    assert orders(spark, texts) == [*expected, NOON + 250_000, 881250949000000]


def test_numbers_keep_every_digit(spark: SparkSession) -> None:
    assert orders(spark, [881250949123456], "bigint") == [881250949123456]
    assert orders(spark, [1706702400.123456], "double") == [NOON + 123_456]
    assert orders(spark, [Decimal("1706702400.123456")], "decimal(20,6)") == [NOON + 123_456]
    assert orders(spark, [1706702400.0, 5.0], "float", "s") == [None, 5_000_000]  # 32 bits cannot hold the first
    assert orders(spark, [float("nan"), float("inf")], "double") == [None, None]


def test_native_times(spark: SparkSession) -> None:
    assert orders(spark, [date(2024, 1, 31)], "date") == [NOON - DAY // 2]
    assert orders(spark, [datetime(2024, 1, 31, 12, 0, 0, 7)], "timestamp_ntz") == [NOON + 7]
    assert orders(spark, [datetime(2024, 1, 31, 12, tzinfo=UTC)], "timestamp") == [NOON]


def test_times_without_a_zone_are_utc_in_any_session(spark: SparkSession) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    try:
        assert orders(spark, ["2024-01-31 12:00:00", "2024-01-31"]) == [NOON, NOON - DAY // 2]
        frame = spark.sql("SELECT TIMESTAMP_NTZ '2024-01-31 12:00:00' t")
        assert frame.select(order_value(F.col("t"), frame.schema["t"].dataType, "auto")).first() == (NOON,)
    finally:
        spark.conf.set("spark.sql.session.timeZone", str(before))


def test_only_an_order(spark: SparkSession) -> None:
    assert orders(spark, ["12", "3.0", "3.5", "-1", "x"], how="order") == [12, 3, None, -1, None]


@pytest.mark.parametrize(
    ("values", "how", "expected"),
    [
        (["0", "1", "12", "x"], "auto", "order"),
        (["5", "881250949"], "auto", "auto"),
        (["2024-01-31"], "auto", "auto"),
        ([], "auto", "auto"),
        (["1"], "s", "s"),
    ],
)
def test_detection(spark: SparkSession, values: list[str], how: TimeFormat, expected: str) -> None:
    frame = spark.createDataFrame([(value,) for value in values], "t string")
    assert detect_time_format(frame, "t", how) == expected
    assert detect_time_format(frame, "", "auto") == "order"


def test_reasons(spark: SparkSession) -> None:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    texts = ["881250949", "2024-06-01T23:00:00Z", "2024-06-02T01:00:00Z", "1989-12-31", "x", " ", None]
    frame = spark.createDataFrame([(text,) for text in texts], "t string").coalesce(1)
    value = order_value(F.col("t"), frame.schema["t"].dataType, "auto")
    rows = frame.select(time_reason(F.col("t"), value, 1990, now, 1.0).alias("r")).collect()
    assert [row["r"] for row in rows] == [
        None,
        None,
        "time is more than 1 days in the future",
        "time is outside the years 1990 to 2024: check time_format (s, ms, us)",
        "time is unreadable",
        "time is empty",
        "time is empty",
    ]


def test_milliseconds_taken_for_seconds(spark: SparkSession) -> None:
    frame = spark.createDataFrame([("881250949000",)], "t string")
    value = order_value(F.col("t"), frame.schema["t"].dataType, "s")
    row = frame.select(time_reason(F.col("t"), value, 1990, datetime(2024, 6, 1), 1.0).alias("r")).first()
    assert row is not None and "outside the years 1990 to 2024" in row["r"]
