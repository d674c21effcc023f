"""The benchmark of the sequence model's settings trains what it says, and its differences are paired by user."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import bert_variants, blend_with_bert
from tests.models.bert.small_export import SmallExport, section


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for fold in ("valid", "test"):
        SmallExport(tmp_path / fold, seed=fold == "test").write()
    settings = section(epochs=4, dropout=0.0).model_dump(mode="json")
    (tmp_path / "bert.json").write_text(json.dumps(settings))
    return tmp_path


def job(folder: Path, variant: str, seed: int = 1, *, on_test: bool = False) -> bert_variants.Job:
    return bert_variants.Job(str(folder), variant, bert_variants.VARIANTS[variant], seed, on_test, "cpu")


def test_rows_hold_means_and_paired_differences(folder: Path) -> None:
    done = [bert_variants.learn(job(folder, name, seed)) for name in ("base", "ids alone") for seed in (1, 2)]
    base, int8, ids = bert_variants.rows(done)
    mean = np.nanmean(np.mean([each.valid for each in done[:2]], axis=0), axis=1)
    assert f"| {mean[0]:.4f} / {mean[1]:.4f} |" in base
    assert int8.startswith("| base in int8 |") and "users/s" in int8
    change = np.nanmean(np.mean([each.valid for each in done[2:]], axis=0), axis=1) - mean
    assert f"| {change[0]:+.4f} [" in ids and f"| {change[1]:+.4f} [" in ids


@pytest.mark.slow
def test_test_is_asked_only_when_it_is_wanted(folder: Path) -> None:
    assert bert_variants.learn(job(folder, "masked")).test is None
    done = bert_variants.learn(job(folder, "base", on_test=True))
    assert done.test.shape == done.valid.shape
    assert not np.array_equal(done.test, done.valid)


def test_blends_are_compared_user_by_user() -> None:
    users = np.arange(4, dtype=np.int32)

    def found(*values: float) -> Any:
        keys = [(fold, "blend", each) for fold in ("valid", "test") for each in blend_with_bert.SEGMENTS]
        return dict.fromkeys(keys, (users, np.array(values)))

    text = "\n".join(blend_with_bert.told(found(0.5, 0.5, 0.5, 0.5), found(0.4, 0.4, 0.4, 0.4)))
    assert "| test | **with - without** | +0.1000 [+0.1000, +0.1000] |" in text
    assert "| valid | blend without | 0.4000 | 0.4000 |" in text
    other = dict.fromkeys(found(1, 1, 1, 1), (users + 1, np.ones(4)))
    with pytest.raises(SystemExit, match="different users"):
        blend_with_bert.told(found(1, 1, 1, 1), other)
