"""Storage: one transaction a write, folds apart, old readers welcome, clear refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.runs import RunLock
from lt_spark.core.storage import Storage, remove_folder

pytestmark = pytest.mark.spark


@pytest.fixture
def storage(spark: Any, tmp_path: Path) -> Storage:
    root = {"tables": {"root": str(tmp_path / "t")}, "files": {"root": str(tmp_path / "f")}}
    return Storage(spark, Config.model_validate(root), "run-1")


def segment(fold: str, item: int) -> dict[str, Any]:
    return {"fold": fold, "item_idx": item, "segment": "head"}


def test_a_fold_is_replaced_and_the_others_stay(storage: Storage, frame: Any) -> None:
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("test", 2)]), "test")
    n = storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 3), segment("valid", 4)]), "valid")
    assert n == 2
    rows = {(row["fold"], row["item_idx"]) for row in storage.read(t.ITEM_SEGMENTS).collect()}
    assert rows == {("valid", 3), ("valid", 4), ("test", 2)}


@pytest.mark.parametrize("table", [t.ITEM_SEGMENTS, t.STAGE_RUNS])
def test_a_new_table_comes_with_its_rows_in_one_transaction(storage: Storage, frame: Any, table: t.Table) -> None:
    rows = [segment("valid", 1)] if table.folded else [{"stage": "clean", "run_id": "run-1"}]
    n = storage.write(table, frame(table, rows), "valid" if table.folded else None, "key-1")
    commits = storage.delta(table).history().collect()
    assert [commit["version"] for commit in commits] == [0]
    assert json.loads(commits[0]["userMetadata"]) == {"run_id": "run-1", "stage_key": "key-1"}
    assert n == storage.count(table) == 1
    detail = storage.delta(table).detail().first()
    assert detail["description"] == table.comment
    assert detail["partitionColumns"] == list(table.partition_by)
    assert (detail["minReaderVersion"], detail["minWriterVersion"]) == (1, 2)
    assert detail["properties"]["lt_spark.schemaVersion"] == str(t.SCHEMA_VERSION)
    assert [field.metadata["comment"] for field in storage.read(table).schema] == [c.comment for c in table.columns]


def test_rows_that_fail_leave_no_new_table(storage: Storage, frame: Any) -> None:
    rows = frame(t.ITEM_SEGMENTS, [segment("valid", 1)]).withColumn("segment", F.raise_error(F.lit("it failed")))
    with pytest.raises(Exception, match="it failed"):
        storage.write(t.ITEM_SEGMENTS, rows, "valid")
    assert not storage.exists(t.ITEM_SEGMENTS)
    assert storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 2)]), "valid") == 1


def test_a_table_is_made_over_what_a_killed_write_left(storage: Storage) -> None:
    (Path(storage.location(t.ITEM_SEGMENTS)) / "_delta_log").mkdir(parents=True)
    storage.delta(t.ITEM_SEGMENTS)
    assert storage.count(t.ITEM_SEGMENTS) == 0


def test_files_of_others_are_not_made_part_of_a_table(storage: Storage, frame: Any) -> None:
    place = Path(storage.location(t.ITEM_SEGMENTS))
    (place / "fold=valid").mkdir(parents=True)
    (place / "fold=valid" / "part-00000-0123.c000.snappy.parquet").touch()  # of a write that was killed
    (place / "photos").mkdir()
    (place / "photos" / "holiday.png").touch()
    with pytest.raises(StorageError, match=r"expected an empty folder or none, found .*holiday\.png"):
        storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")
    assert not storage.exists(t.ITEM_SEGMENTS)
    (place / "photos" / "holiday.png").unlink()
    assert storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid") == 1


def test_a_place_with_marks_in_its_name(spark: Any, frame: Any, tmp_path: Path) -> None:
    root = {"tables": {"root": str(tmp_path / "it`s a 'röot'.x")}, "files": {"root": str(tmp_path / "f")}}
    storage = Storage(spark, Config.model_validate(root), "run-1")
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("test", 1)]), "test")
    assert storage.count(t.ITEM_SEGMENTS) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["it`s a 'röot'.x"]


def test_a_table_is_taken_whole_where_there_is_none(storage: Storage, frame: Any, spark: Any, tmp_path: Path) -> None:
    other = Storage(spark, Config.model_validate({"tables": {"root": str(tmp_path / "other")}}), "run-2")
    assert not storage.take(t.ITEM_SEGMENTS, other)  # there is none to take
    other.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")
    other.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("test", 2)]), "test")
    assert storage.take(t.ITEM_SEGMENTS, other)
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("test", 3)]), "test")
    rows = {(row["fold"], row["item_idx"]) for row in storage.read(t.ITEM_SEGMENTS).collect()}
    assert rows == {("valid", 1), ("test", 3)}
    assert not storage.take(t.ITEM_SEGMENTS, other)  # what is here stays
    assert other.read(t.ITEM_SEGMENTS, "test").first()["item_idx"] == 2  # and the other root is its own


def test_a_table_that_could_not_be_taken_whole_is_not_there(
    storage: Storage, frame: Any, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Storage(spark, Config.model_validate({"tables": {"root": str(tmp_path / "other")}}), "run-2")
    other.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")

    def full(there: str, half: Path) -> None:
        (Path(half) / "_delta_log").mkdir(parents=True)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lt_spark.core.storage.shutil.copytree", full)
    with pytest.raises(OSError, match="No space"):
        storage.take(t.ITEM_SEGMENTS, other)
    assert not storage.exists(t.ITEM_SEGMENTS)
    assert not list(tmp_path.glob("t/**/*.half"))


def test_an_empty_fold_empties_it(storage: Storage, frame: Any) -> None:
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [segment("valid", 1)]), "valid")
    assert storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, []), "valid") == 0
    assert storage.read(t.ITEM_SEGMENTS).count() == 0


def test_columns_and_tables_carry_comments_and_protocol_one(storage: Storage, frame: Any) -> None:
    storage.write(t.USERS, frame(t.USERS, [{"user_idx": 1, "user_id": "007"}]))
    schema = storage.read(t.USERS).schema
    assert [field.metadata["comment"] for field in schema] == [column.comment for column in t.USERS.columns]
    detail = storage.delta(t.USERS).detail().first()
    assert detail["description"] == t.USERS.comment
    assert detail["minReaderVersion"] == 1
    assert detail["properties"]["delta.enableDeletionVectors"] == "false"


def test_a_missing_table_names_where_and_what_to_do(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"silver.users is not at .*/silver/users. Run the stage that writes it"):
        storage.read(t.USERS)
    assert storage.read_or_empty(t.USERS).count() == 0


def test_a_missing_column_writes_nothing(storage: Storage, spark: Any) -> None:
    with pytest.raises(StorageError, match=r"columns \['user_id'\] are missing"):
        storage.write(t.USERS, spark.createDataFrame([(1,)], "user_idx int"))
    assert not storage.exists(t.USERS)


def test_a_folded_table_needs_its_fold(storage: Storage, frame: Any) -> None:
    with pytest.raises(StorageError, match="written fold by fold"):
        storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, []), "tomorrow")


def test_only_scratch_folders_are_removed(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="only scratch folders are removed"):
        remove_folder(spark, str(tmp_path))
    assert tmp_path.exists()


def test_an_injection_in_the_catalog_name_is_refused(spark: Any) -> None:
    config = Config.model_validate({"tables": {"catalog": "main`; DROP TABLE x; --"}})
    with pytest.raises(ConfigError, match="not a plain identifier"):
        Storage(spark, config).location(t.USERS)


def test_a_table_of_a_catalog_is_written_read_and_described_by_name(spark: Any) -> None:
    config = Config.model_validate({"tables": {"catalog": "spark_catalog", "silver_schema": "silver_here"}})
    storage = Storage(spark, config, "run-1")
    try:
        assert storage.location(t.RUN_LOCK) == "`spark_catalog`.`silver_here`.`run_lock`"
        assert not storage.exists(t.RUN_LOCK)
        with RunLock(storage, config):
            assert spark.table("spark_catalog.silver_here.run_lock").first()["run_id"] == "run-1"
        assert [field.metadata["comment"] for field in storage.read(t.RUN_LOCK).schema] == [
            column.comment for column in t.RUN_LOCK.columns
        ]
        described = storage.delta(t.RUN_LOCK).detail().first()
        assert (described["description"], described["minReaderVersion"]) == (t.RUN_LOCK.comment, 1)
    finally:
        spark.sql("DROP SCHEMA IF EXISTS spark_catalog.silver_here CASCADE")
