"""Dense ids: stable over runs, the same under any partitioning."""

import pytest
from pyspark.sql import Column, SparkSession

from lt_spark.prepare.ids import _bucket, dense_ids

pytestmark = pytest.mark.spark


def numbered(spark: SparkSession, ids: list[str], previous: dict[str, int] | None = None, **how: int) -> dict[str, int]:
    keys = spark.createDataFrame([(one,) for one in ids], "user_id string").repartition(how.pop("partitions", 2))
    rows = [(idx, one) for one, idx in (previous or {}).items()]
    old = None if previous is None else spark.createDataFrame(rows, "user_idx int, user_id string")
    users = dense_ids(keys, "user_id", "user_idx", old, **how)
    assert users.columns == ["user_idx", "user_id"]
    assert dict(users.dtypes)["user_idx"] == "int"
    rows_out = users.collect()
    assert len(rows_out) == len({row["user_id"] for row in rows_out})
    return {row["user_id"]: row["user_idx"] for row in rows_out}


def test_byte_order_of_the_id(spark: SparkSession) -> None:
    assert numbered(spark, ["b", "10", "é", "B", "9", "b"]) == {"10": 0, "9": 1, "B": 2, "b": 3, "é": 4}


def test_previous_numbers_are_kept_and_new_ones_appended(spark: SparkSession) -> None:
    previous = {"m": 0, "gone": 7}
    assert numbered(spark, ["a", "m", "z"], previous) == {"m": 0, "gone": 7, "a": 8, "z": 9}


def test_empty_previous_and_empty_keys(spark: SparkSession) -> None:
    assert numbered(spark, ["a"], {}) == {"a": 0}
    assert numbered(spark, [], {"m": 3}) == {"m": 3}


@pytest.mark.parametrize("partitions", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_ranges_of_ids_give_what_one_sort_gives(spark: SparkSession, partitions: int) -> None:
    ids = [f"{n * 7919 % 1000}{'é' if n % 3 else 'x'}" for n in range(1000)]
    expected = {one: place for place, one in enumerate(sorted(set(ids), key=str.encode), 2)}
    found = numbered(spark, ids, {"~": 1}, partitions=partitions, bucket_rows=100)
    assert found == expected | {"~": 1}


def test_the_driver_holds_a_bounded_number_of_ranges(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    cut: list[list[str]] = []

    def noted(id_column: str, bounds: list[str]) -> Column:
        cut.append(bounds)
        return _bucket(id_column, bounds)

    monkeypatch.setattr("lt_spark.prepare.ids._MAX_BUCKETS", 3)
    monkeypatch.setattr("lt_spark.prepare.ids._bucket", noted)
    ids = [f"{n:04}" for n in range(1000)]
    assert numbered(spark, ids, bucket_rows=10) == {one: place for place, one in enumerate(ids)}
    assert len(cut[0]) == 2
