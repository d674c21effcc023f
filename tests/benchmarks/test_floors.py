"""What the floors' report says of figures above and below a floor, and of figures that are not there."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lt_spark.core.config import Config

_spec = spec_from_file_location("floors", Path(__file__).parent / "floors.py")
assert _spec is not None and _spec.loader is not None
floors = module_from_spec(_spec)
_spec.loader.exec_module(floors)

OVERALL, TAIL, COVERAGE = (
    max(floor[place] or 0 for models in floors.FLOORS.values() for floor in models.values()) for place in range(3)
)
"""The highest floors: figures that are just these meet every floor."""


def metrics(overall: float, tail: float) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The same figures for every model."""
    interval = {"value_low": 0.0, "value_high": 1.0, "difference": 0.01, "p_value": 0.5}
    interval |= {"difference_low": -0.1, "difference_high": 0.1}
    return {
        (model, segment, "ndcg"): {"value": value, **interval}
        for model in floors.MODELS
        for segment, value in (("all", overall), ("top20_tail", tail))
    } | {
        (model, "top20_tail", "coverage"): {"value": COVERAGE, **dict.fromkeys(interval)} | {"difference": 0.1}
        for model in floors.MODELS
    }


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Report over the given data sets and figures: the exit code and the text."""

    def tell(names: list[str], overall: float, tail: float) -> tuple[int, str]:
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "interactions.csv").touch()
        found = metrics(overall, tail)
        monkeypatch.setattr(floors, "init_conf", lambda *_: SimpleNamespace(config=Config()))
        monkeypatch.setattr(floors, "start_session", lambda *_: None)
        monkeypatch.setattr(floors, "measure", lambda *_: {"valid": found, "test": found})
        code = floors.main([str(tmp_path), "--out", str(tmp_path / "report.md")])
        return code, (tmp_path / "report.md").read_text()

    return tell


def test_every_floor_met(told: Callable[..., tuple[int, str]]) -> None:
    code, text = told(list(floors.FLOORS), OVERALL, TAIL)
    assert code == 0
    assert "every floor is met" in text
    assert "NOT MET" not in text


def test_a_floor_that_is_missed_is_named(told: Callable[..., tuple[int, str]]) -> None:
    code, text = told(list(floors.FLOORS), OVERALL - 0.0001, TAIL)
    assert code == 1
    assert "floors not met or not measured: amazon_scientific blend NDCG@10, all" in text
    assert text.count("NOT MET") == 1


def test_what_was_not_measured_has_not_met_its_floor(told: Callable[..., tuple[int, str]]) -> None:
    code, text = told(["amazon_scientific"], OVERALL, TAIL)
    assert code == 1
    assert "ml_latest_small blend NDCG@10, tail" in text
    assert "not there: ml_latest_small" in text


def test_a_folder_without_the_data_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected the folders amazon_scientific"):
        floors.main([str(tmp_path)])
