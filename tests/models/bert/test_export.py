"""Exports: a file a shard, counted, the same again, of a pinned version, removed after."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.config import Config
from lt_spark.core.errors import StorageError
from lt_spark.core.files import MARKER, Folder
from lt_spark.core.storage import Storage
from lt_spark.core.tables import INTERACTIONS_REBALANCED
from lt_spark.models.bert import export as module
from lt_spark.models.bert.export import export, missing_version, read_pinned, remove_old, run_scoped
from lt_spark.models.bert.loader import make_loader
from lt_spark.models.bert.manifest import MANIFEST, SCHEMA_HASH, Manifest, Shard, read_manifest

ROWS = "user_idx int, window int, items array<int>, orders array<int>, weights array<float>"
MANIFEST_OF_TWO = Manifest("t", 4, "valid", 2, 9, 3, 5, SCHEMA_HASH, (Shard("rows/a", 3), Shard("", 0)))


def windows_of(spark: SparkSession, users: list[int]) -> DataFrame:
    """A row a user, with one target where the user's number is odd and two where it is even."""
    rows = [
        (user, 0, [-1 if user % 2 else 3, 4, 5], [0 if user % 2 else 1, 2, 3], [0.0 if user % 2 else 1.0, 1.0, 1.0])
        for user in users
    ]
    return spark.createDataFrame(rows, ROWS)


def run(rows: DataFrame, folder: Path, **settings: Any) -> Manifest:
    named = {"table": "silver.t", "version": 7, "fold": "valid", "length": 2, "n_items": 9, "n_shards": 4, "seed": 1}
    return export(rows, str(folder), **(named | settings))


def user_lists(folder: Path, manifest: Manifest) -> list[list[int]]:
    return [
        pq.ParquetFile(folder / shard.name).read(["user_idx"])["user_idx"].to_pylist() if shard.name else []
        for shard in manifest.shards
    ]


@pytest.mark.spark
def test_export_is_counted_sharded_and_the_same_again(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "a b%20c"
    users = [user for user in range(61) if user % 4 != 2]
    manifest = run(windows_of(spark, users).repartition(3), folder)
    assert read_manifest(Folder(str(folder))) == manifest
    assert (manifest.table, manifest.version, manifest.fold, manifest.length) == ("silver.t", 7, "valid", 2)
    assert manifest.n_rows == len(users)
    assert manifest.n_events == sum(1 if user % 2 else 2 for user in users)
    lists = user_lists(folder, manifest)
    assert [sorted(found) for found in lists] == [[user for user in users if user % 4 == shard] for shard in range(4)]
    assert [shard.n_rows for shard in manifest.shards] == list(map(len, lists))
    assert manifest.shards[2] == Shard("", 0)
    assert lists[0] != sorted(lists[0])  # in an order of the seed
    again = run(windows_of(spark, users[::-1]).repartition(2), folder)
    assert user_lists(folder, again) == lists
    assert {shard.name for shard in again.shards}.isdisjoint(s.name for s in manifest.shards if s.name)
    other = run(windows_of(spark, users), tmp_path / "other", seed=2)
    assert user_lists(tmp_path / "other", other) != lists
    for kind in ("auto", "pyarrow"):
        batches = list(make_loader(kind, str(folder), batch_size=16, seed=1).epoch(0))  # type: ignore[arg-type]
        assert sorted(user for batch in batches for user in batch.users.tolist()) == users


@pytest.mark.spark
def test_row_groups_are_small_and_columns_have_the_types(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_A_GROUP", 300)
    manifest = run(windows_of(spark, list(range(3_000))), tmp_path / "export", n_shards=1)
    file = pq.ParquetFile(tmp_path / "export" / manifest.shards[0].name)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert sum(sizes) == 3_000
    assert 300 / 3 < max(sizes) < 300 * 3  # Parquet counts bytes
    assert [str(field.type) for field in file.schema_arrow] == [
        "int32",
        "int32",
        "list<element: int32>",
        "list<element: int32>",
        "list<element: float>",
    ]


@pytest.mark.spark
def test_an_export_without_rows(spark: SparkSession, tmp_path: Path) -> None:
    manifest = run(spark.createDataFrame([], ROWS), tmp_path / "export")
    assert (manifest.n_rows, manifest.n_events) == (0, 0)
    assert manifest.shards == (Shard("", 0),) * 4


@pytest.mark.spark
def test_an_export_that_fails_has_no_manifest(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    run(windows_of(spark, [1, 2, 3]), folder)
    monkeypatch.setattr(module, "_shard", lambda folder, number: Shard(f"{number}", 1))
    with pytest.raises(StorageError, match="expected the 3 rows that Spark wrote, found 4 in the files"):
        run(windows_of(spark, [1, 2, 3]), folder)
    with pytest.raises(StorageError, match="holds no whole export"):
        read_manifest(Folder(str(folder)))


@pytest.mark.spark
def test_a_folder_of_somebody_else_is_not_written_to(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"1")
    with pytest.raises(StorageError, match="files of somebody else"):
        run(windows_of(spark, [1]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_manifest_survives_json() -> None:
    assert Manifest.from_json(MANIFEST_OF_TWO.to_json()) == MANIFEST_OF_TWO


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-10], "is no whole manifest"),
        (lambda text: "", "is no whole manifest"),
        (lambda text: "[]", "is no whole manifest"),
        (lambda text: text.replace('"n_rows": 3,', '"n_rows": 4,', 1), "4 rows in all, and other numbers"),
        (lambda text: text.replace('"fold"', '"folds"'), "is no whole manifest"),
        (lambda text: text.replace(SCHEMA_HASH, "0" * 64), "other columns than this version reads.*found 000000000000"),
    ],
)
def test_a_damaged_manifest_is_an_error(tmp_path: Path, change: Callable[[str], str], told: str) -> None:
    folder = Folder(str(tmp_path))
    folder.write(MANIFEST, change(MANIFEST_OF_TWO.to_json()).encode())
    with pytest.raises(StorageError, match=f"(?s){told}.*Export again"):
        read_manifest(folder)


@pytest.mark.spark
def test_a_pinned_version_stays_as_it_was(spark: SparkSession, tmp_path: Path, frame: Callable[..., Any]) -> None:
    table = INTERACTIONS_REBALANCED
    storage = Storage(spark, Config.model_validate({"tables": {"root": str(tmp_path)}}))

    def write(n_copies: int, fold: str) -> None:
        row = {"fold": fold, "user_idx": 1, "item_idx": 2, "event_order": 3, "weight": 1.0, "propensity": 1.0}
        storage.write(table, frame(table, [row | {"n_copies": n_copies}]), fold)

    write(5, "test")
    write(1, "valid")
    write(2, "valid")
    old = storage.version(table) - 1
    rows = read_pinned(spark, storage, table, old, "valid")
    assert [(row.fold, row.n_copies) for row in rows.collect()] == [("valid", 1)]
    with pytest.raises(StorageError, match=r"version 99 of silver\.interactions_rebalanced can no longer be read"):
        read_pinned(spark, storage, table, 99, "valid").collect()
    live = {name.split("/")[-1] for name in storage.read(table).inputFiles()}
    for file in Path(storage.location(table)).rglob("*.parquet"):  # as VACUUM does
        if file.name not in live and "_delta_log" not in file.parts:
            file.unlink()
    with pytest.raises(StorageError, match=f"version {old} of .*VACUUM.*Run the stage again"):
        with missing_version(table.full_name, old):
            rows.collect()
    log: Any = spark._jvm.org.apache.spark.sql.delta.DeltaLog  # type: ignore[union-attr]
    log.forTable(spark._jsparkSession, storage.location(table)).checkpoint()
    for version in range(old + 1):  # as log retention does
        Path(storage.location(table), "_delta_log", f"{version:020}.json").unlink()
    log.clearCache()
    with pytest.raises(StorageError, match=f"version {old} of .*Run the stage again"):
        read_pinned(spark, storage, table, old, "valid").collect()


@pytest.mark.spark
def test_other_errors_are_left_alone(spark: SparkSession) -> None:
    with pytest.raises(Exception, match="DIVIDE_BY_ZERO"), missing_version("t", 1):
        spark.sql("select 1 / 0").collect()


def test_old_exports_are_removed_and_nothing_else(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    now = 1_000_000.0
    for name, age in (("old", 101), ("new", 99), ("future", -50)):
        root.child(name).mark(now - age)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/x").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"1")
    root.child("broken").write(MARKER, b"{")
    assert remove_old(root, 100, now) == ["old"]
    assert root.names() == ["broken", "file", "future", "new", "theirs"]
    assert remove_old(Folder(f"{tmp_path}/absent"), 100, now) == []


def test_a_run_scoped_folder_is_empty_and_goes_away(tmp_path: Path) -> None:
    root = Folder(str(tmp_path))
    root.child("run").mark(1.0)
    root.child("run").write("left over", b"1")
    with run_scoped(root, "run") as folder:
        assert folder.names() == [MARKER]
        assert abs(json.loads(folder.read(MARKER))["created"] - time.time()) < 60
        folder.child("in").write("x", b"1")
    assert root.names() == []
    with pytest.raises(KeyboardInterrupt), run_scoped(root, "run") as folder:
        folder.write("x", b"1")
        raise KeyboardInterrupt
    assert root.names() == []
    with pytest.raises(ValueError, match="the first error"), run_scoped(root, "run") as folder:
        folder.remove_file(MARKER)  # so that it cannot be removed
        folder.write("x", b"1")
        raise ValueError("the first error")
    assert root.names() == ["run"]
    with pytest.raises(StorageError, match="is not removed"), run_scoped(root, "run"):
        raise AssertionError("never reached")
    assert root.child("run").names() == ["x"]
