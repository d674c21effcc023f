"""The scripts of jobs/: arguments, output, exit codes. The pipeline itself is replaced by a stand-in."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import lt_spark
from lt_spark import job
from lt_spark.core import session
from lt_spark.core.config import Config
from lt_spark.core.errors import DataError

JOBS = Path(__file__).resolve().parent.parent / "jobs"


@dataclass
class Calls:
    """What the stand-in pipeline was asked for, and what it does."""

    asked: list[dict[str, Any]] = field(default_factory=list)
    events: list[SimpleNamespace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: Exception | None = None

    def run(self, spark: object, config: Config, *, listener: Callable[[Any], None], **asked: Any) -> Any:
        self.asked.append({"config": config, **asked})
        for event in self.events:
            listener(event)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(stages=self.events, notes=self.notes)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    stand_in = Calls()
    monkeypatch.setattr(lt_spark, "run", stand_in.run, raising=False)
    monkeypatch.setattr(session, "start_session", lambda config, name: None)
    return stand_in


def test_arguments_reach_the_pipeline(calls: Calls, tmp_path: Path) -> None:
    conf = tmp_path / "conf.yaml"
    conf.write_text("als:\n  rank: 8\n")
    argv = ["--config", str(conf), "--set", "als.alpha=2.5", "--set", "core.seed=7", "--purpose", "produce"]
    assert job.run_job(("als", "publish"), [*argv, "--force", "--continue", "--run-id", "r1"]) == 0
    (asked,) = calls.asked
    config = asked.pop("config")
    assert (config.als.rank, config.als.alpha, config.core.seed) == (8, 2.5, 7)
    expected = {"purpose": "produce", "stages": ("als", "publish"), "force": True, "run_id": "r1"}
    assert asked == expected | {"go_on": True, "renew_examples": False}


def test_all_folds_and_stages_by_default(calls: Calls) -> None:
    assert job.run_job(None, []) == 0
    asked = calls.asked[0]
    assert (asked["purpose"], asked["stages"], asked["force"], asked["run_id"]) == ("both", None, False, None)


def _event(kind: str, stage: str, fold: str | None, seconds: float, rows: dict[str, int]) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, stage=stage, fold=fold, seconds=seconds, rows=rows, is_complete=True)


def test_a_line_a_stage_as_it_ends(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.events = [
        _event("start", "split", None, 0.0, {}),
        _event("done", "split", None, 1.25, {"silver.interactions_split": 12_345}),
        _event("up_to_date", "als", "valid", 0.0, {}),
    ]
    calls.error = DataError("the next stage failed")
    assert job.run_job(("split", "als"), ["--set", "tables.root=/data/shop"]) == 2
    first, second = capsys.readouterr().out.splitlines()
    expected = "split done in 1.2 s, interactions_split 12,345 rows, at /data/shop/silver/interactions_split"
    assert first == expected
    assert second == "als (valid) up to date"


def test_notes_are_told_last(calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls.notes = ["warning: the accepted settings are 40 days old"]
    monkeypatch.setattr(job, "track_run", lambda spark, config, summary: "the run was not logged")
    assert job.run_job(None, []) == 0
    expected = ["note: warning: the accepted settings are 40 days old", "note: the run was not logged"]
    assert capsys.readouterr().out.splitlines() == expected


def test_the_users_mistake_is_one_message_and_exit_code_2(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.run_job(("als",), ["--set", "als.rnak=8"]) == 2
    said = capsys.readouterr().err
    assert "als.rnak" in said and "'rank'" in said and "Traceback" not in said
    calls.error = DataError("the log has no events")
    assert job.run_job(("clean",), []) == 2
    assert capsys.readouterr().err == "clean: the log has no events\n"


def test_our_mistake_is_exit_code_1(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.error = ZeroDivisionError("division by zero\nsecond line")
    assert job.run_job(("tune",), []) == 1
    said = capsys.readouterr().err
    assert said.startswith("tune: unforeseen ZeroDivisionError: division by zero\n")
    assert "--debug" in said and "Traceback" not in said and "second line" not in said
    assert job.run_job(("tune",), ["--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_argument_is_exit_code_2(calls: Calls) -> None:
    with pytest.raises(SystemExit) as stopped:
        job.run_job(("tune",), ["--purpose", "both ways"])
    assert stopped.value.code == 2
    assert calls.asked == []


def test_each_script_runs_the_stage_of_its_name() -> None:
    scripts = sorted(JOBS.glob("*.py"))
    assert len(scripts) == 25
    for script in scripts:
        tree = ast.parse(script.read_text())
        called = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_job"]
        expected = None if script.stem == "run_pipeline" else (script.stem,)
        assert [ast.literal_eval(call.args[0]) for call in called] == [expected]
        assert f"jobs/{script.name} " in (ast.get_docstring(tree) or "")
