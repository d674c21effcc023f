"""Runs and processes that tests kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml


def below(pid: int, words: str) -> list[int]:
    """Return the descendants of a process whose command line has the words, oldest first."""
    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text()
                commands[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it ended just now
            # the name in brackets may hold blanks
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    found = []
    for process in sorted(parents):
        ancestor = process
        while ancestor and ancestor != pid:
            ancestor = parents.get(ancestor, 0)
        if ancestor == pid and process != pid and words in commands[process]:
            found.append(process)
    return found


def python_workers(pid: int) -> list[int]:
    """Return the Python workers below a Spark driver: what its daemons forked, not the daemons."""
    daemons = below(pid, "pyspark.worker")
    return [worker for daemon in daemons for worker in below(daemon, "pyspark.worker")]


def kill(*processes: int) -> None:
    """Kill processes with -9; those that are gone are no error."""
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def killed_run(folder: Path, settings: dict[str, Any], stage: str, after_s: float, *arguments: str) -> None:
    """Start ``lt-spark run`` and kill its whole process group some time after a stage began."""
    conf = folder / "conf.yaml"
    conf.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "from lt_spark.cli import main; main()",
        "run",
        "-c",
        str(conf),
        "--log-json",
        *arguments,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        began = any(line.startswith("{") and json.loads(line)["stage"] == stage for line in process.stderr)
        assert began, f"the run ended before stage {stage}"
        time.sleep(after_s)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
