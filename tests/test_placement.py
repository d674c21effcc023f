"""Each task sees the GPU that is its own; the driver touches no model; a worker process loads it once."""

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clusters import environment, run_script, spark_home
from tests.engines.tiny_model import write_tiny_model
from tests.enrich_shop import write_enrich_shop
from tests.prepared_shop import Shop


def seen(tmp_path: Path, executors: int, own: str, *shares: str) -> dict[str, Any]:
    """What the tasks of a cluster with pretended GPUs saw, by the share of a GPU that they asked for."""
    told = run_script("placement_script.py", str(executors), own, *shares, SPARK_HOME=str(spark_home(tmp_path)))
    assert told.pop("torch") is False, "the driver imported torch"
    return dict(told)


def sharers(rows: list[dict[str, Any]]) -> int:
    """The most tasks that had one GPU of one executor at the same time."""
    most = 1
    for row in rows:
        at = row["began"]
        here = [r for r in rows if (r["executor"], r["address"]) == (row["executor"], row["address"])]
        most = max(most, sum(r["began"] <= at < r["ended"] for r in here))
    return most


def overlap(rows: list[dict[str, Any]]) -> bool:
    """Whether two tasks of one executor ran at the same time."""
    return any(
        one["executor"] == other["executor"] and one["began"] < other["ended"] and other["began"] < one["ended"]
        for one, other in combinations(rows, 2)
    )


def check_alone(rows: list[dict[str, Any]], executors: int) -> None:
    assert {row["address"] for row in rows} == {"0", "1"}
    assert len({row["executor"] for row in rows}) == executors
    check_apart(rows)


def check_apart(rows: list[dict[str, Any]]) -> None:
    """Check that tasks ran at the same time, and no two of them on one GPU."""
    assert overlap(rows), "nothing ran at the same time: the test shows nothing"
    assert sharers(rows) == 1


@pytest.mark.spark
@pytest.mark.slow
def test_no_two_tasks_share_a_gpu_though_the_session_would_let_them(tmp_path: Path) -> None:
    told = seen(tmp_path, 1, "0.5", "1.0")["1.0"]
    check_alone(told["rows"], 1)
    assert told["n_tasks"] == 2, "as many as GPUs, of four cores"


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.parametrize("own", ["0.5", "1", "none"])
def test_placement_on_two_executors_whatever_the_session_asks(tmp_path: Path, own: str) -> None:
    told = seen(tmp_path, 2, own, "1.0", "0.5")
    check_alone(told["1.0"]["rows"], 2)
    assert (told["1.0"]["n_tasks"], told["0.5"]["n_tasks"]) == (4, 8)
    # Spark fills an address before it takes the next one
    assert sharers(told["0.5"]["rows"]) == 2


_BLOCKED = """
import sys
BLOCKED = {"torch", "transformers", "openai", "safetensors", "gguf", "peft", "tokenizers", "huggingface_hub"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
import lt_spark, lt_spark.cli, lt_spark.job, lt_spark.passes
from lt_spark.core.code import stage_code
from lt_spark.pipeline import STAGES
for stage in STAGES:
    stage_code(stage.run)
print(len(STAGES))
"""


def test_the_driver_needs_no_library_of_models() -> None:
    done = subprocess.run([sys.executable, "-c", _BLOCKED], capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


_PLAN = """
import sys
import lt_spark.cli
from lt_spark.core.config_files import load_config
from lt_spark.core.session import start_session
from lt_spark.passes import plan
config = load_config(sys.argv[1]).config
planned = plan(start_session(config, "plan"), config)
print(sum(stage.runs for stage in planned if stage.stage in ("embed", "describe", "embed_enriched")))
print(sorted({"torch", "transformers", "openai"} & set(sys.modules)))
"""


@pytest.mark.spark
@pytest.mark.slow
def test_a_plan_imports_no_library_of_models(tmp_path: Path) -> None:
    settings = write_enrich_shop(tmp_path, "http://127.0.0.1:9/v1")
    settings["language_model"] = {"engine": "transformers", "model": write_tiny_model(tmp_path / "Tiny")}
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, "-c", _PLAN, str(conf)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3", "[]"]


@pytest.mark.spark
@pytest.mark.slow
def test_a_worker_process_loads_the_model_once_for_all_waves(spark: Any, tmp_path: Path, tmp_path_factory: Any) -> None:
    shop = Shop(spark, tmp_path_factory, tmp_path / "shop")
    shop.change("language_model", engine="transformers", model=write_tiny_model(tmp_path / "Tiny"), base_url="")
    summary = shop.run()
    report = shop.report()
    assert report["items"] == report["asked"] == shop.n_tail() > 40, "three waves of sixteen"
    assert report["loads_in_a_worker"] == 1
    assert 1 <= report["workers"] <= 2
    assert any("loads of the model a worker process: 1" in note for note in summary.notes)
