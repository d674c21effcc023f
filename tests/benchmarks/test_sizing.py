"""What the sizes of stages are made of: work by stage from an event log, a line through two sizes, the tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.sizing import line_through, report, work_by_stage


def job(stages: list[int], description: str | None) -> str:
    properties = {} if description is None else {"spark.job.description": description}
    return json.dumps({"Event": "SparkListenerJobStart", "Stage IDs": stages, "Properties": properties})


def task(stage: int, ms: int, shuffle: int = 0, spilled: int = 0, most: int = 0) -> str:
    metrics = {
        "Executor Run Time": ms,
        "Disk Bytes Spilled": spilled,
        "Peak Execution Memory": most,
        "Shuffle Write Metrics": {"Shuffle Bytes Written": shuffle},
    }
    return json.dumps({"Event": "SparkListenerTaskEnd", "Stage ID": stage, "Task Metrics": metrics})


def test_tasks_count_for_the_stage_that_their_job_is_described_by() -> None:
    lines = [
        job([0, 1], "lt_spark als (valid)"),
        job([2], "lt_spark clean"),
        job([3], "something else"),
        job([4], None),
        # a shuffle that a second job uses again is of the first
        job([1, 5], "lt_spark blend (test)"),
        task(0, 100, shuffle=7, most=50),
        task(1, 20, shuffle=1, spilled=3, most=80),
        task(2, 5),
        task(3, 1_000),
        task(4, 1_000),
        task(5, 9),
        json.dumps({"Event": "SparkListenerTaskEnd", "Stage ID": 0}),  # of a task that failed
        json.dumps({"Event": "SparkListenerApplicationEnd"}),
    ]
    assert work_by_stage(lines) == {
        ("als", "valid"): {"ms": 120, "shuffle": 8, "spilled": 3, "most": 80},
        ("clean", ""): {"ms": 5, "shuffle": 0, "spilled": 0, "most": 0},
        ("blend", "test"): {"ms": 9, "shuffle": 0, "spilled": 0, "most": 0},
    }


def test_a_line_goes_through_the_last_two_points_and_not_below_zero() -> None:
    assert line_through([1, 2, 4], [100.0, 10.0, 20.0], 10) == pytest.approx(50.0)
    assert line_through([1, 2], [10.0, 4.0], 10) == 0.0


def written(folder: Path, events: int, seconds: dict[str, float]) -> Path:
    rows: list[dict[str, Any]] = [
        {"stage": stage, "fold": fold, "seconds": value / 2, "task_seconds": value}
        | {"shuffle_bytes": events * 500, "spilled_bytes": 0, "task_bytes": 5e8, "java_bytes": 3e9, "python_bytes": 0}
        for stage, value in seconds.items()
        for fold in ("valid", "test")
    ]
    path = folder / f"{events}.json"
    path.write_text(json.dumps({"events": events, "stages": rows}))
    return path


def test_the_report_adds_up_folds_and_draws_no_line_through_memory(tmp_path: Path) -> None:
    small = written(tmp_path, 1_000_000, {"clean": 10.0, "als": 20.0})
    large = written(tmp_path, 3_000_000, {"clean": 20.0, "als": 60.0})
    lines = report([large, small], [10_000_000])
    assert lines[:7] == [
        "**1 M events, measured**",
        "",
        "| stage | folds | time, s | work of tasks, s | shuffled, GB | spilled, GB "
        "| most memory of a task, GB | Python workers, GB | Java, GB |",
        "|---|---|---|---|---|---|---|---|---|",
        "| clean | 2 | 10 | 20 | 1.00 | 0.00 | 0.50 | 0.00 | 3.00 |",
        "| als | 2 | 20 | 40 | 1.00 | 0.00 | 0.50 | 0.00 | 3.00 |",
        "| all |  | 30 | 60 | 2.00 | 0.00 |  |  |  |",
    ]
    place = lines.index("**time, s**")
    assert lines[place + 2 : place + 7] == [
        "| stage | 1 M | 3 M | 10 M, extrapolated |",
        "|---|---|---|---|",
        "| clean | 10 | 20 | 55 |",
        "| als | 20 | 60 | 200 |",
        "| all | 30 | 80 | 255 |",
    ]
    assert "| all | 2.00 | 6.00 | 20.00 |" in lines, "a kilobyte an event and stage"
    assert [line for line in lines if "extrapolated" in line and "memory" in line] == []


def test_one_size_gives_no_line(tmp_path: Path) -> None:
    lines = report([written(tmp_path, 1_000_000, {"clean": 10.0})], [10_000_000])
    assert not any("extrapolated" in line for line in lines)
