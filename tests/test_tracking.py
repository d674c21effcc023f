"""What of a run goes to MLflow, and what never does: told to a stand-in, and to the real one where it is installed."""

import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lt_spark import tracking
from lt_spark.core import storage
from lt_spark.core.config import Config
from lt_spark.passes import RunSummary, StageEvent

CONFIG = Config.model_validate(
    {
        "als": {"rank": 8},
        "tables": {"root": "/data/shop"},
        "source": {"interactions": {"path": "log.csv", "where": "user_id <> 'jane@example.org'"}},
    }
)
SUMMARY = RunSummary(
    run_id="run'1",
    purpose="both",
    seconds=80.0,
    stages=[
        StageEvent("up_to_date", "clean", None, 1, 4),
        StageEvent("done", "als", "valid", 2, 4, 2.5, {"silver.candidates_als": 7}),
        StageEvent("done", "evaluate", "test", 3, 4, 1.5, {"silver.metrics": 3, "silver.user_metrics": 9}),
        StageEvent("done", "publish", "live", 4, 4, 1.0, {"gold.tail_health": 2}),
    ],
    tables=dict.fromkeys(["silver.candidates_als", "silver.metrics", "silver.items", "gold.tail_health"], "/somewhere"),
    metrics=[],
    verdict="accepted: tail NDCG is higher",
    notes=["first", "second"],
)


def metric(model: str, segment: str, name: str, k: int, value: float | None) -> dict[str, Any]:
    return {"fold": "test", "model_name": model, "segment": segment, "metric": name, "k": k, "value": value}


METRICS = [
    metric("blend", "all", "ndcg", 10, 0.25),
    metric("blend", "top20_tail", "ndcg", 10, 0.125),
    metric("als_plain", "all", "tail_share", 10, 0.5),
    metric("blend", "all", "ndcg", 20, 0.75),
    metric("blend", "all", "mrr", 10, 0.5),
    metric("blend", "cold", "ndcg", 10, None),
]
HEALTH = [
    {"model_name": "blend", "k": 10, "tail_share": 0.375, "coverage": None, "gini": 0.5, "n_items_reached": 40,
     "n_users": 12, "run_id": "run'1"},
    {"model_name": "blend", "k": 10, "tail_share": 0.0, "coverage": 0.0, "gini": 0.0, "n_items_reached": 0,
     "n_users": 0, "run_id": "yesterday's"},
]  # fmt: skip


class Column(str):
    """Stands in for a column, of which it is asked only whether it is something."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> Any:
        return str(self), other


class Rows:
    """Stands in for a DataFrame and its rows."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __getitem__(self, name: str) -> "Column":
        return Column(name)

    def where(self, condition: tuple[str, Any]) -> "Rows":
        name, value = condition
        return Rows([row for row in self.rows if row[name] == value])

    def collect(self) -> list[Any]:
        return [types.SimpleNamespace(asDict=row.copy) for row in self.rows]


class Tables:
    """Stands in for the storage: metrics of fold test, health of fold live."""

    def __init__(self, *_: object) -> None:
        """Take what the storage takes."""

    def read(self, table: Any, fold: str | None = None) -> Rows:
        return Rows(METRICS if table.name == "metrics" and fold == "test" else HEALTH)


class MLflow(types.ModuleType):
    """Records what it is told, as MLflow's functions of that name take it."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, dict[str, Any]] = {}
        self.open: list[str] = []
        self.most_params = 0

    def active_run(self) -> str | None:
        return self.open[-1] if self.open else None

    def search_runs(self, filter_string: str, max_results: int, output_format: str) -> list[Any]:
        name, _, value = filter_string.partition(" = ")
        key = name.removeprefix("tags.").strip("`")
        quote = value[0]
        found = [each for each, run in self.runs.items() if run["tags"].get(key) == value.strip(quote)]
        return [types.SimpleNamespace(info=types.SimpleNamespace(run_id=each)) for each in found[:max_results]]

    @contextmanager
    def start_run(self, run_id: str | None, run_name: str | None, nested: bool) -> Iterator[None]:
        assert nested or not self.open, "MLflow refuses a second run beside the open one"
        run_id = run_id or f"m{len(self.runs)}"
        self.runs.setdefault(run_id, {"tags": {}, "params": {}, "metrics": {}, "nested": nested})
        self.open.append(run_id)
        yield
        self.open.pop()

    def set_tags(self, tags: dict[str, str]) -> None:
        self.runs[self.open[-1]]["tags"] |= tags

    def log_params(self, params: dict[str, str]) -> None:
        self.most_params = max(self.most_params, len(params))
        before = self.runs[self.open[-1]]["params"]
        assert all(before.get(name, value) == value for name, value in params.items()), "MLflow changes no param"
        before |= params

    def log_metrics(self, metrics: dict[str, float]) -> None:
        self.runs[self.open[-1]]["metrics"] |= metrics


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> MLflow:
    stand_in = MLflow()
    stand_in.__spec__ = types.SimpleNamespace(name="mlflow")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    monkeypatch.setenv(tracking.URI, "file:/nowhere")
    monkeypatch.setattr(storage, "Storage", Tables)
    monkeypatch.setattr(tracking, "_version", lambda storage, table: len(table.name))
    monkeypatch.setattr(tracking, "commit_of", lambda folder: "0123abcd")
    return stand_in


def track(summary: RunSummary = SUMMARY, config: Config = CONFIG) -> str:
    spark: Any = None
    return tracking.track_run(spark, config, summary)


def test_a_run_is_logged_whole(mlflow: MLflow) -> None:
    assert track() == ""
    (run,) = mlflow.runs.values()
    assert run["params"] == {"als.rank": "8", "tables.root": "/data/shop", "source.interactions.path": "log.csv"}
    assert run["metrics"] == {
        "test/blend/all/ndcg_at_10": 0.25,
        "test/blend/top20_tail/ndcg_at_10": 0.125,
        "test/als_plain/all/tail_share_at_10": 0.5,
        "live/blend/tail_share_at_10": 0.375,
        "live/blend/gini_at_10": 0.5,
        "live/blend/n_items_reached_at_10": 40.0,
        "live/blend/n_users_at_10": 12.0,
        "seconds/als/valid": 2.5,
        "seconds/evaluate/test": 1.5,
        "seconds/publish/live": 1.0,
    }
    versions = {name: value for name, value in run["tags"].items() if name.startswith("version.")}
    # tables that were written, and of these the run's own
    expected = {"silver.candidates_als": 14, "silver.metrics": 7, "gold.tail_health": 11}
    assert versions == {f"version.{name}": str(length) for name, length in expected.items()}
    assert run["tags"]["lt_spark.verdict"] == "accepted: tail NDCG is higher"
    assert run["tags"]["lt_spark.purpose"] == "both"
    assert run["tags"]["lt_spark.notes"] == "first | second"
    assert run["tags"]["mlflow.source.git.commit"] == "0123abcd"
    assert not run["nested"] and not mlflow.open


def test_no_condition_on_rows_is_told(mlflow: MLflow) -> None:
    track()
    assert "jane" not in str(mlflow.runs)


def test_jobs_of_one_run_are_one_run_there(mlflow: MLflow) -> None:
    plain = replace(SUMMARY, run_id="r1", stages=SUMMARY.stages[:2])
    track(plain)
    track(replace(plain, stages=SUMMARY.stages[2:]))
    track(replace(plain, run_id="r2"))
    assert [run["tags"]["lt_spark.run_id"] for run in mlflow.runs.values()] == ["r1", "r2"]
    assert {"seconds/als/valid", "seconds/publish/live"} <= mlflow.runs["m0"]["metrics"].keys()


def test_a_run_that_is_open_already_gets_a_child(mlflow: MLflow) -> None:
    with mlflow.start_run(None, "theirs", nested=False):
        track()
        assert mlflow.open == ["m0"], "theirs stays open"
    assert mlflow.runs["m1"]["nested"]


def test_metrics_of_an_earlier_run_are_not_this_runs(mlflow: MLflow) -> None:
    track(replace(SUMMARY, stages=SUMMARY.stages[:2]))
    assert list(mlflow.runs["m0"]["metrics"]) == ["seconds/als/valid"]


def test_many_settings_go_in_parts(mlflow: MLflow, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {f"als.key_{number}": "1" for number in range(230)}
    monkeypatch.setattr(tracking, "changed_settings", lambda config: many)
    track()
    assert mlflow.runs["m0"]["params"] == many
    assert mlflow.most_params == 100


def test_nothing_done_is_nothing_logged(mlflow: MLflow) -> None:
    assert track(replace(SUMMARY, stages=SUMMARY.stages[:1])) == ""
    assert mlflow.runs == {}


def test_a_server_that_is_away_is_a_note(mlflow: MLflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: Any) -> None:
        raise ConnectionError("no route to the server\nsecond line")

    monkeypatch.setattr(mlflow, "search_runs", away)
    assert track() == "the run was not logged to MLflow, or only in part: ConnectionError: no route to the server"


def test_without_the_variable_mlflow_is_not_even_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tracking.URI, raising=False)
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: pytest.fail("looked for"))
    assert track() == ""


def test_mlflow_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.URI, "file:/nowhere")
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    assert "mlflow is not installed: the run was not logged (pip install mlflow-skinny)" in track()


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert tracking.commit_of(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "a.txt").write_text("a")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "v1", "-m", "a tag is no commit")
    commit = git("rev-parse", "HEAD")
    assert tracking.commit_of(tmp_path) == commit
    (tmp_path / "a.txt").write_text("b")
    assert tracking.commit_of(tmp_path) == f"{commit}-dirty"


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed; it is no dependency of lt_spark")
def test_the_real_mlflow_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv(tracking.URI, (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(storage, "Storage", Tables)
    monkeypatch.setattr(tracking, "_version", lambda storage, table: 3)
    mlflow.set_tracking_uri(None)
    plain = replace(SUMMARY, run_id="r1")
    assert track(plain) == ""
    assert track(plain) == ""
    (run,) = mlflow.search_runs(output_format="list")
    assert run.data.params["als.rank"] == "8"
    assert run.data.metrics["test/blend/top20_tail/ndcg_at_10"] == 0.125
    assert run.data.tags["version.silver.metrics"] == "3"
    assert run.info.status == "FINISHED"
