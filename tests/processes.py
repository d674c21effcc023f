"""Processes below another one on this host, found in /proc, for tests that kill them."""

import os
import signal
from pathlib import Path


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
