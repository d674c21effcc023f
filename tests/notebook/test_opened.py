"""Tables opened in a notebook: settings, folders, names, folds."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.storage import Storage
from lt_spark.notebook import opened as module
from lt_spark.notebook.opened import Opened, open_tables, small, told, value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``conf/mine.yaml`` and ``notebooks/``, which is the current one; the notebook has a session."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("tables: {root: warehouse/mine}\n")
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(module, "of_notebook", lambda name: SimpleNamespace(version="4.0.0"))
    return tmp_path


def test_the_folder_of_the_settings_becomes_the_current_one(project: Path) -> None:
    opened = open_tables("conf/mine.yaml", "als.rank=7;  evaluate.ks=[5, 10];")
    assert Path.cwd() == project
    assert (opened.config.als.rank, opened.config.evaluate.ks) == (7, (5, 10))
    assert opened.storage.location(t.ITEMS) == str(project / "warehouse" / "mine" / "silver" / "items")
    assert told(opened) == "Tables under warehouse/mine, read in a classic session of Spark 4.0.0."


def test_a_file_that_is_nowhere_is_told(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"conf/yours.yaml is not in .*notebooks, nor in a folder above it"):
        open_tables("conf/yours.yaml")
    assert Path.cwd().name == "notebooks"


def test_a_whole_path_leaves_the_current_folder(project: Path) -> None:
    open_tables(str(project / "conf" / "mine.yaml"))
    assert Path.cwd().name == "notebooks"


def test_a_wrong_setting_is_told(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"als\.rnk"):
        open_tables("conf/mine.yaml", "als.rnk=7")


def test_without_a_session_of_its_own_a_notebook_gets_one(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def start(config: Config, name: str) -> Any:
        asked.append((config.tables.root, name))
        return SimpleNamespace(version="4.0.0")

    monkeypatch.setattr(module, "of_notebook", lambda name: None)
    monkeypatch.setattr(module, "start_session", start)
    open_tables("conf/mine.yaml")
    assert asked == [("warehouse/mine", "lt_spark notebook")]


@pytest.mark.spark
def test_tables_are_read_by_name_and_fold(spark: Any, frame: Any, tmp_path: Path) -> None:
    config = Config.model_validate({"tables": {"root": str(tmp_path)}})
    storage = Storage(spark, config)
    opened = Opened(config, spark, storage)
    assert not opened.has("silver.item_segments")
    with pytest.raises(StorageError, match=r"silver\.item_segments is not at .*Run the stage that writes it first"):
        opened.newest_fold("silver.item_segments")
    with pytest.raises(ConfigError, match=r"no table 'silver\.item_segment'.*Did you mean 'silver\.item_segments'"):
        opened.read("silver.item_segment")
    for fold in ("valid", "test"):
        storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, [{"fold": fold, "item_idx": n} for n in range(3)]), fold)
    assert opened.has("silver.item_segments")
    assert opened.newest_fold("item_segments") == "test"
    rows = opened.read("silver.item_segments", "valid").orderBy("item_idx")
    assert {row["fold"] for row in rows.collect()} == {"valid"}
    assert list(small(rows, at_most=2)["item_idx"]) == [0, 1]
    assert value(rows.select("item_idx").where("item_idx = 2")) == 2
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, []), "valid")
    storage.write(t.ITEM_SEGMENTS, frame(t.ITEM_SEGMENTS, []), "test")
    with pytest.raises(StorageError, match="has no rows: expected one of the folds valid, test, live"):
        opened.newest_fold("silver.item_segments")


def test_nothing_of_the_environment_was_left_behind() -> None:
    assert "SPARK_REMOTE" not in os.environ
