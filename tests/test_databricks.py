"""The asset bundle: a task a stage in the pipeline's order, arguments that the jobs take, and Databricks' own types."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core.config_files import load_config
from lt_spark.job import _parser
from lt_spark.pipeline import EVALUATE, STAGES

ROOT = Path(__file__).resolve().parent.parent


@cache
def bundle() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8")))


def job(name: str) -> dict[str, Any]:
    return dict(bundle()["resources"]["jobs"][name])


def tasks_before(name: str) -> set[str]:
    """The tasks that are done when a task of evaluate begins."""
    tasks = {
        task["task_key"]: [each["task_key"] for each in task.get("depends_on", [])] for task in job("evaluate")["tasks"]
    }
    found: set[str] = set()
    left = list(tasks[name])
    while left:
        found.add(left[-1])
        left += tasks[left.pop()]
    return found


EVALUATED = [stage for stage in STAGES if not stage.folds or set(stage.folds) & set(EVALUATE)]


def test_each_stage_of_the_pass_has_its_task() -> None:
    tasks = {task["task_key"]: task["spark_python_task"]["python_file"] for task in job("evaluate")["tasks"]}
    assert tasks == {stage.name: f"./jobs/{stage.name}.py" for stage in EVALUATED}
    assert all((ROOT / file).is_file() for file in tasks.values())


@pytest.mark.parametrize("stage", EVALUATED, ids=lambda stage: stage.name)
def test_a_task_waits_for_all_that_write_what_it_reads(stage: Any) -> None:
    earlier = EVALUATED[: EVALUATED.index(stage)]
    read = {*stage.reads, *stage.reads_valid}
    writers = {other.name for other in earlier if set(other.writes) & read}
    assert writers - tasks_before(stage.name) == set()


def test_no_two_tasks_hold_the_lock_at_once() -> None:
    """A run holds its tables by a lock, so of any two tasks one waits for the other."""
    before = {stage.name: tasks_before(stage.name) for stage in EVALUATED}
    names = [stage.name for stage in EVALUATED]
    together = {(a, b) for a in names for b in names if a < b and a not in before[b] and b not in before[a]}
    assert together == set()


def test_stages_that_run_a_network_go_where_the_gpus_are() -> None:
    clusters = {task["task_key"]: task["job_cluster_key"] for task in job("evaluate")["tasks"]}
    expected = {stage.name: "${var.network_cluster}" if stage.runs_network else "cpu" for stage in EVALUATED}
    assert clusters == expected
    assert {cluster["job_cluster_key"] for cluster in job("evaluate")["job_clusters"]} == {"cpu", "gpu"}
    assert bundle()["variables"]["network_cluster"]["default"] in ("cpu", "gpu")


def resolved(parameter: str) -> str:
    """A parameter as a task gets it, with the defaults of variables and a stand-in where there is none."""
    file = str(ROOT / "conf" / "databricks.yaml")
    text = parameter.replace("${var.config}", file).replace("{{job.run_id}}", "17")
    text = re.sub(r"\{\{job\.parameters\.(\w+)\}\}", r"my_\1", text)
    return re.sub(r"\$\{var\.(\w+)\}", r"/Volumes/my/\1", text)


@pytest.mark.parametrize("name", ["evaluate", "produce"])
def test_the_jobs_take_these_arguments(name: str) -> None:
    for task in job(name)["tasks"]:
        argv = [resolved(each) for each in task["spark_python_task"]["parameters"]]
        assert not any("{" in each for each in argv), argv
        arguments = _parser(task["task_key"]).parse_args(argv)
        assert arguments.purpose == name
        assert arguments.run_id == "databricks-17", (
            "each task of a run has the same: a repaired one takes the lock over"
        )
        config = load_config(arguments.config, arguments.set).config
        assert (config.tables.catalog, config.tables.silver_schema) == ("my_catalog", "my_silver_schema")
        assert (config.tables.gold_schema, config.files.root) == ("my_gold_schema", "/Volumes/my/files_root")
        assert config.bert.loader == "pyarrow"


def test_variables_and_parameters_that_are_named_exist() -> None:
    text = (ROOT / "databricks.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"\$\{var\.(\w+)\}", text)) == set(bundle()["variables"])
    for name in ("evaluate", "produce"):
        told = {each["name"] for each in job(name)["parameters"]}
        assert told == set(re.findall(r"\{\{job\.parameters\.(\w+)\}\}", text))


@pytest.mark.skipif(
    find_spec("databricks") is None or find_spec("databricks.bundles") is None,
    reason="databricks-bundles is not installed: its licence is Databricks' own, so lt_spark does not bring it",
)
@pytest.mark.parametrize("name", ["evaluate", "produce"])
def test_databricks_own_types_take_the_jobs(name: str) -> None:
    from databricks.bundles.jobs import Job

    assert Job.from_dict(job(name)).as_dict() == job(name)
    wrong = job(name) | {"max_concurrent_run": 1}
    with pytest.raises(Exception, match="max_concurrent_run"):
        Job.from_dict(wrong)
