"""A cluster of processes on this host, without a cluster: Spark's ``local-cluster`` in a process of its own."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def spark_home(folder: Path) -> Path:
    """A Spark home of links to the installed package: executors write their ``work`` beside the links."""
    import pyspark

    home = folder / "spark-home"
    home.mkdir(parents=True)
    for part in Path(pyspark.__file__).parent.iterdir():
        (home / part.name).symlink_to(part)
    return home


def environment(**more: str) -> dict[str, str]:
    """This process's environment, for a process whose driver and workers find lt_spark and its tests."""
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return os.environ | python | {"PYTHONPATH": os.pathsep.join(paths)} | more


def started(pattern: str) -> list[int]:
    """Processes with such a command line that this one started, or those that it started."""
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [pid for pid in map(int, found.stdout.split()) if os.getpid() in ancestors(pid)]


def ancestors(pid: int) -> set[int]:
    """The process that started this one, the one that started that, and so on."""
    found: set[int] = set()
    with suppress(FileNotFoundError):  # it has ended meanwhile
        while pid > 1:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pid = int(fields[1])
            found.add(pid)
    return found


def run_script(script: str, *arguments: str, timeout_s: float = 600, **more: str) -> Any:
    """Run a script of this folder and return what it wrote as JSON in its last line."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *arguments],
        capture_output=True,
        text=True,
        env=environment(**more),
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-8_000:]
    return json.loads(done.stdout.splitlines()[-1])
