"""Rows inserted once: what is there stays, the session's own settings too."""

import json
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import StorageError
from lt_spark.core.storage import Storage

pytestmark = pytest.mark.spark
METADATA = "spark.databricks.delta.commitInfo.userMetadata"


@pytest.fixture(scope="module")
def storage(spark: Any, tmp_path_factory: Any) -> Storage:
    root = str(tmp_path_factory.mktemp("merge"))
    return Storage(spark, Config.model_validate({"tables": {"root": root}, "files": {"root": root}}), "run-1")


def rows(frame: Any, *given: tuple[str, str, str]) -> Any:
    return frame(t.ITEM_ENRICHMENTS, [{"key": k, "status": status, "description": text} for k, status, text in given])


def there(storage: Storage) -> dict[str, tuple[str, str]]:
    found = storage.read(t.ITEM_ENRICHMENTS).collect()
    assert len({row["key"] for row in found}) == len(found)
    return {row["key"]: (row["status"], row["description"]) for row in found}


def test_only_new_rows_are_inserted_and_failed_ones_replaced(spark: Any, storage: Storage, frame: Any) -> None:
    first = rows(frame, ("a", "accepted", "first"), ("b", "failed", "first"), ("c", "failed", "first"))
    storage.merge_new(t.ITEM_ENRICHMENTS, first)
    assert there(storage) == {"a": ("accepted", "first"), "b": ("failed", "first"), "c": ("failed", "first")}
    again = rows(frame, ("a", "refused", "second"), ("b", "accepted", "second"), ("d", "accepted", "second"))
    # columns in another order, and more of them than the table has
    mixed = again.select("status", *[name for name in again.columns if name != "status"]).withColumn("x", again["key"])
    spark.conf.set(METADATA, "mine")
    try:
        storage.merge_new(t.ITEM_ENRICHMENTS, mixed, "old.status = 'failed'", "key-1")
        assert spark.conf.get(METADATA) == "mine", "the setting is the session's own again"
    finally:
        spark.conf.unset(METADATA)
    assert there(storage) == {
        "a": ("accepted", "first"),
        "b": ("accepted", "second"),
        "c": ("failed", "first"),
        "d": ("accepted", "second"),
    }
    told = storage.delta(t.ITEM_ENRICHMENTS).history(1).first()
    assert json.loads(told["userMetadata"]) == {"run_id": "run-1", "stage_key": "key-1"}
    storage.merge_new(t.ITEM_ENRICHMENTS, rows(frame, ("c", "accepted", "third")))
    assert there(storage)["c"] == ("failed", "first"), "kept where no condition lets it go"
    assert spark.conf.get(METADATA, None) is None


def test_the_setting_is_given_back_after_a_failure(spark: Any, storage: Storage, frame: Any) -> None:
    doubled = rows(frame, ("e", "failed", "first"), ("e", "failed", "second"))
    storage.merge_new(t.ITEM_ENRICHMENTS, rows(frame, ("e", "failed", "zeroth")))
    with pytest.raises(Exception, match="(?i)multiple source rows|DELTA_MULTIPLE_SOURCE_ROW"):
        storage.merge_new(t.ITEM_ENRICHMENTS, doubled, "old.status = 'failed'")
    assert spark.conf.get(METADATA, None) is None
    assert there(storage)["e"] == ("failed", "zeroth")


def test_a_missing_column_is_named(storage: Storage, frame: Any) -> None:
    with pytest.raises(StorageError, match=r"item_enrichments cannot be written: columns \['reason'\] are missing"):
        storage.merge_new(t.ITEM_ENRICHMENTS, rows(frame, ("f", "accepted", "x")).drop("reason"))
