"""What each stage takes at a given size: time, work, shuffle, spill, memory. docs/sizing.md is made of it.

    python -m tests.benchmarks.sizing measure --events 1000000 --out FOLDER [--memory 8g] [KEY=VALUE ...]
    python -m tests.benchmarks.sizing report FOLDER/1000000.json FOLDER/4000000.json --for 10000000 --for 100000000
    OPENBLAS_NUM_THREADS=1 python -m tests.benchmarks.sizing scores --length 64 --length 384

``measure`` makes a log of ``tests/benchmarks/generate.py`` (an event's user is one of events / 16.7, its item one of
events / 62.5), runs the pipeline on it, one stage at a time, and writes FOLDER/EVENTS.json: a row a stage and fold.
What tasks did comes from Spark's event log, by the description of their jobs; the time from ``--log-json``; resident
memory is that of the driver, which is the executor too, and of its Python workers, sampled each second.

``report`` prints tables in Markdown, the folds of a stage together: what was measured, and, of what may be added up,
what a line through the two largest sizes gives for others.

``scores`` measures the part that is no line, for it grows by users x items: how many of them one thread scores and
ranks a second, for vectors of a length, in one shard of items.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lt_spark.kernels import topk
from tests.processes import below

EVENTS_PER_USER, EVENTS_PER_ITEM = 16.7, 62.5
_DESCRIPTION = re.compile(r"lt_spark (\w+)(?: \((\w+)\))?")
_CLI = "from lt_spark.cli import main; main()"
ADDED_UP = {
    "seconds": "time, s",
    "task_seconds": "work of tasks, s",
    "shuffle_bytes": "shuffled, GB",
    "spilled_bytes": "spilled, GB",
}
"""Measures that grow with the log, and may be added up over folds and stages."""
HELD = {
    "task_bytes": "most memory of a task, GB",
    "python_bytes": "Python workers, GB",
    "java_bytes": "Java, GB",
}
"""Measures that depend on partitions and on what Java was given: no line through them says anything of other sizes."""
WORK = ("ms", "shuffle", "spilled", "most")
Row = dict[str, Any]


def work_by_stage(lines: Iterable[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return what tasks did, by stage and fold of the pipeline, from the lines of a Spark event log.

    Returns:
        Milliseconds of tasks, bytes shuffled (written), bytes spilled to disk, and the most bytes of execution memory
        that a task took; fold '' where a stage has none.
    """
    job_of: dict[int, tuple[str, str]] = {}
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(WORK, 0))
    for line in lines:
        event = json.loads(line)
        if event["Event"] == "SparkListenerJobStart":
            said = _DESCRIPTION.match(event.get("Properties", {}).get("spark.job.description") or "")
            if said:
                for stage in event["Stage IDs"]:
                    job_of.setdefault(stage, (said[1], said[2] or ""))
        elif event["Event"] == "SparkListenerTaskEnd" and event["Stage ID"] in job_of:
            metrics = event.get("Task Metrics") or {}
            row = found[job_of[event["Stage ID"]]]
            row["ms"] += metrics.get("Executor Run Time", 0)
            row["shuffle"] += metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
            row["spilled"] += metrics.get("Disk Bytes Spilled", 0)
            row["most"] = max(row["most"], metrics.get("Peak Execution Memory", 0))
    return dict(found)


class Memory:
    """The most resident memory, since it was last asked, of a process's Java and of all its Python workers together."""

    def __init__(self, pid: int) -> None:
        """Begin to sample what runs below a process."""
        self._pid, self._most, self._lock = pid, [0, 0], threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._sample, daemon=True).start()

    def _sample(self) -> None:
        while not self._ended.wait(1.0):
            now = [sum(map(resident, below(self._pid, words))) for words in ("java", "pyspark.worker")]
            with self._lock:
                self._most = [max(pair) for pair in zip(self._most, now, strict=True)]

    def take(self) -> tuple[int, int]:
        """Return (bytes of Java, bytes of Python workers), and begin anew."""
        with self._lock:
            most, self._most = self._most, [0, 0]
        return most[0], most[1]

    def stop(self) -> None:
        """End the sampling."""
        self._ended.set()


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def measure(events: int, out: Path, memory: str, changes: Sequence[str]) -> Path:
    """Make the log, run the pipeline on it, and return the path of what was measured."""
    data, logs = out / f"data-{events}", out / f"events-{events}"
    users, items = int(events / EVENTS_PER_USER), int(events / EVENTS_PER_ITEM)
    if not (data / "items" / "_SUCCESS").exists():
        sizes = ("--events", events, "--users", users, "--items", items, "--seed", 1, "--out", data)
        subprocess.run([sys.executable, "-m", "tests.benchmarks.generate", *map(str, sizes)], check=True)
    logs.mkdir(parents=True, exist_ok=True)
    conf = out / f"conf-{events}.yaml"
    settings = {
        "source": {
            "interactions": {"path": str(data / "interactions"), "columns": {"event_type": "event_type"}},
            "items": {"path": str(data / "items"), "columns": {"text": ["category", "brand"]}},
        },
        "tables": {"root": str(out / f"tables-{events}")},
        "files": {"root": str(out / f"files-{events}")},
        "run": {"side_by_side": 1},
        # a grid of one point: the others take as long each
        "als_plain": {"ranks": [64], "alphas": [1.0]},
        # the sequence model is for a GPU
        "blend": {"models": ["als", "neighbours", "lexical", "popularity"]},
        "gate": {"override": "accept"},
    }
    conf.write_text(yaml.safe_dump(settings), encoding="utf-8")
    spark = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": logs.as_uri(), "spark.eventLog.compress": "false"}
    spark |= {"spark.eventLog.rolling.enabled": "false", "spark.driver.memory": memory}
    asked = " ".join(f"--conf {name}={value}" for name, value in spark.items())
    command = [sys.executable, "-c", _CLI, "run", "-c", str(conf), "--log-json"]
    command += [word for change in changes for word in ("--set", change)]
    environment = os.environ | {"PYSPARK_SUBMIT_ARGS": f"{asked} pyspark-shell"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    began, sampled, rows, said = time.monotonic(), Memory(process.pid), [], []
    for line in process.stderr:
        said.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("kind") == "start":
            sampled.take()
        elif event.get("kind") == "done":
            java, python = sampled.take()
            row = {name: event[name] for name in ("stage", "fold", "seconds")} | {"rows": event.get("rows", {})}
            rows.append(row | {"java_bytes": java, "python_bytes": python})
    sampled.stop()
    if process.wait():
        raise RuntimeError(f"the run failed:\n{''.join(said)[-4_000:]}")
    (log,) = [path for path in logs.iterdir() if not path.name.endswith(".inprogress")]
    with log.open(encoding="utf-8") as lines:
        work = work_by_stage(lines)
    for row in rows:
        done = work.get((row["stage"], row["fold"] or ""), dict.fromkeys(WORK, 0))
        row |= {"task_seconds": done["ms"] / 1e3, "task_bytes": done["most"]}
        row |= {"shuffle_bytes": done["shuffle"], "spilled_bytes": done["spilled"]}
    path = out / f"{events}.json"
    told = {"events": events, "users": users, "items": items, "memory": memory, "settings": list(changes)}
    told |= {"cores": os.cpu_count(), "seconds": time.monotonic() - began, "stages": rows}
    path.write_text(json.dumps(told, indent=1), encoding="utf-8")
    return path


def line_through(sizes: Sequence[float], values: Sequence[float], at: float) -> float:
    """Return what the line through the last two points has at a place; at least 0."""
    (n1, n2), (y1, y2) = sizes[-2:], values[-2:]
    return max(0.0, y2 + (at - n2) * (y2 - y1) / (n2 - n1))


def by_stage(rows: Sequence[Row]) -> dict[str, Row]:
    """Return what each stage took, its folds together: sums of what may be added up, else the most."""
    found: dict[str, Row] = {}
    for row in rows:
        stage = found.setdefault(row["stage"], {"folds": 0} | dict.fromkeys(ADDED_UP | HELD, 0.0))
        stage["folds"] += 1
        for name in ADDED_UP:
            stage[name] += row[name]
        for name in HELD:
            stage[name] = max(stage[name], row[name])
    return found


def report(paths: Sequence[Path], sizes: Sequence[int]) -> list[str]:
    """Return tables in Markdown: one a measured size, then, of two sizes and more, one a measure for other sizes."""
    runs = sorted((json.loads(path.read_text(encoding="utf-8")) for path in paths), key=lambda run: run["events"])
    measured = [run["events"] for run in runs]
    tables = [by_stage(run["stages"]) for run in runs]
    lines = []
    for n, stages in zip(measured, tables, strict=True):
        heads = ["stage", "folds", *(ADDED_UP | HELD).values()]
        rows = [
            [stage, str(row["folds"]), *(_cell(name, row[name]) for name in ADDED_UP | HELD)]
            for stage, row in stages.items()
        ]
        total = [_cell(name, sum(row[name] for row in stages.values())) for name in ADDED_UP]
        lines += _table(f"{n / 1e6:g} M events, measured", heads, [*rows, ["all", "", *total, *[""] * len(HELD)]])
    if len(runs) < 2 or not sizes:
        return lines
    shared = [stage for stage in tables[-1] if all(stage in stages for stages in tables)]
    for name, title in ADDED_UP.items():
        found = {stage: [stages[stage][name] for stages in tables] for stage in shared}
        found["all"] = [sum(values) for values in zip(*found.values(), strict=True)]
        heads = ["stage", *(f"{n / 1e6:g} M" for n in measured), *(f"{n / 1e6:g} M, extrapolated" for n in sizes)]
        rows = [
            [stage, *(_cell(name, value) for value in [*values, *(line_through(measured, values, n) for n in sizes)])]
            for stage, values in found.items()
        ]
        lines += _table(title, heads, rows)
    return lines


def _cell(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.endswith("seconds") else f"{value / 1e9:,.2f}"


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return [f"**{title}**", "", body[0], "|---" * len(heads) + "|", *body[1:], ""]


def scores_per_second(n_items: int, length: int, k: int = 100, n_users: int = 1_024, seed: int = 1) -> float:
    """Return how many users x items the exact top-k scores and ranks a second, by the best of three looks."""
    draw = np.random.default_rng(seed)
    users, items = (draw.standard_normal((n, length), dtype=np.float32) for n in (n_users, n_items))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        topk.top_k(users, items, k)
        seconds.append(time.perf_counter() - began)
    return n_users * n_items / min(seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or report; return the exit code."""
    parser = argparse.ArgumentParser(description="What each stage takes at a given size.")
    kinds = parser.add_subparsers(dest="what", required=True)
    one = kinds.add_parser("measure")
    one.add_argument("--events", type=int, required=True)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--memory", default="8g", help="Spark's driver memory (default 8g)")
    one.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="settings of lt_spark")
    two = kinds.add_parser("report")
    two.add_argument("files", type=Path, nargs="+")
    two.add_argument("--for", dest="sizes", type=int, action="append", default=[], help="events; repeatable")
    three = kinds.add_parser("scores")
    three.add_argument("--items", type=int, default=200_000)
    three.add_argument("--length", type=int, action="append", required=True, help="numbers of a vector; repeatable")
    arguments = parser.parse_args(argv)
    if arguments.what == "scores":
        for length in arguments.length:
            print(f"{length} numbers: {scores_per_second(arguments.items, length) / 1e6:,.0f} M scores a second")
    elif arguments.what == "measure":
        print(measure(arguments.events, arguments.out.resolve(), arguments.memory, arguments.changes))
    else:
        print("\n".join(report(arguments.files, arguments.sizes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
