"""The Dockerfile: linted, and made of files that are there. No image is built here: that takes a Docker engine."""

import hashlib
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pyspark
import pytest

from lt_spark.core.session import local_delta_jars

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def copied() -> list[str]:
    """What the image takes from the build's context."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path through to the builder: the last line that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch(path, pattern) or path.startswith(f"{pattern}/")):
            sent = line.startswith("!")
    return sent


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed: make install brings it where it has a build")
def test_the_linter_finds_nothing() -> None:
    done = subprocess.run([str(HADOLINT), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_what_is_copied_is_there_and_sent() -> None:
    assert len(copied()) >= 8
    for source in copied():
        assert (ROOT / source).exists() and is_sent(source), source


@pytest.mark.parametrize("path", [".git/config", ".venv/bin/python", "data/ml-100k", "warehouse/demo", "conf/my.yaml"])
def test_nothing_else_is_sent(path: str) -> None:
    assert not is_sent(path)


def test_the_image_runs_as_nobody_special() -> None:
    users = re.findall(r"^USER (.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["185"], "a number, so that Kubernetes can tell that it is not root"


@pytest.mark.skipif(not pyspark.__version__.startswith("4.0."), reason="the image has Spark 4.0")
def test_the_jars_are_those_that_this_environment_has() -> None:
    lines = (ROOT / "tools" / "delta_jars.sha256").read_text().splitlines()
    expected = {name: told for told, name in (line.split() for line in lines)}
    found = {Path(jar).name: hashlib.sha256(Path(jar).read_bytes()).hexdigest() for jar in local_delta_jars()}
    assert found == expected
