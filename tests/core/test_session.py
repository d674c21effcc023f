"""Which Java a local session takes, and what is said where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyspark
import pytest

from lt_spark.core import session
from lt_spark.core.config import Config
from lt_spark.core.errors import LtSparkError
from lt_spark.core.versions import delta_jars

_BESIDE = Path(sys.prefix) / "java/bin/java"
JAVA = str(_BESIDE) if _BESIDE.exists() else shutil.which("java") or f"{os.environ.get('JAVA_HOME')}/bin/java"


def java_in(folder: Path, says: str) -> Path:
    """Write a ``java`` that says a version on its standard error, as Java does."""
    (folder / "bin").mkdir(parents=True)
    java = folder / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    java.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without a Java beside it, and a PATH with nothing but the shell."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("PATH", str(tmp_path / "path/bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.mark.parametrize("version", ["17.0.15", "21.0.1", "21", "17-ea"])
def test_java_17_and_21_are_taken(tmp_path: Path, version: str) -> None:
    java_in(tmp_path / "path", f'openjdk version "{version}" 2025-04-15')
    session._find_java()
    assert "JAVA_HOME" not in os.environ


def test_java_home_stands_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java_in(tmp_path / "path", 'openjdk version "17.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(java_in(tmp_path / "old", 'java version "1.8.0_391"')))
    with pytest.raises(LtSparkError, match=r"JAVA_HOME \(.*old\): expected Java 17 or 21.*found 1\.8\.0_391\. Install"):
        session._find_java()


def test_the_runtime_beside_python_stands_before_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java_in(tmp_path / "old", 'java version "1.8.0_391"')))
    beside = java_in(tmp_path / "prefix/java", "whatever")
    session._find_java()
    assert os.environ["JAVA_HOME"] == str(beside)


def test_no_java_says_what_to_do() -> None:
    with pytest.raises(LtSparkError, match=r"the PATH: expected Java 17 or 21.*found no java.*make install"):
        session._find_java()


def test_a_java_that_says_nothing_is_refused(tmp_path: Path) -> None:
    java_in(tmp_path / "path", "hello")
    with pytest.raises(LtSparkError, match="names no version"):
        session._find_java()


def test_the_delta_jars_of_the_local_cache_are_all_there_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    jars = tmp_path / ".ivy2.5.2/jars"
    jars.mkdir(parents=True)
    *names, last = delta_jars(pyspark.__version__)
    for name in names:
        (jars / f"io.delta_{name}").touch()
    assert session.local_delta_jars() == []
    (jars / f"some.group_{last}").touch()
    assert len(session.local_delta_jars()) == len(names) + 1


class FakeContext:
    """Of a SparkContext what ``inference_tasks`` asks: the master, the slots, local properties."""

    defaultParallelism = 4  # noqa: N815
    master = "local[4]"

    def __init__(self) -> None:
        self.properties: dict[str, str] = {}

    def setLocalProperty(self, name: str, value: str) -> None:  # noqa: N802
        self.properties[name] = value


@pytest.mark.parametrize(("has_gpu", "uses_gpu", "n_tasks"), [(False, True, 4), (True, False, 4), (True, True, 1)])
def test_in_local_mode_one_task_has_the_machines_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, uses_gpu: bool, n_tasks: int
) -> None:
    place = tmp_path / "nvidia0"
    if has_gpu:
        place.touch()
    monkeypatch.setattr(session, "_GPU_DEVICE", place)
    context = FakeContext()
    spark: Any = SimpleNamespace(sparkContext=context)
    assert session.inference_tasks(spark, uses_gpu=uses_gpu, gpus_per_task=1.0) == (n_tasks, None)
    assert context.properties == ({session.MACHINE_GPU: "true"} if n_tasks == 1 else {})


def test_java_knows_the_options_of_a_local_session() -> None:
    options = session.LOCAL_DEFAULTS["spark.driver.extraJavaOptions"].split()
    assert options
    said = subprocess.run([JAVA, *options, "-version"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr


def test_on_databricks_the_clusters_own_session_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    own, checked = SimpleNamespace(version=pyspark.__version__), []
    builder = SimpleNamespace(getOrCreate=lambda: own)  # asked for anything else, it fails
    stand_in = SimpleNamespace(getActiveSession=lambda: None, builder=builder)
    monkeypatch.setattr(session, "SparkSession", stand_in)
    monkeypatch.setattr(session, "check_delta", checked.append)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    assert session.start_session(Config(), "lt_spark produce") is own
    assert checked == [own]


class OfConnect:
    """Stands in for a session of Spark Connect."""


OfConnect.__module__ = "pyspark.sql.connect.session"


def test_the_pipeline_says_at_once_why_it_does_not_run_over_spark_connect() -> None:
    import lt_spark
    from lt_spark.core.config import Config

    spark: Any = OfConnect()
    for begin in (lt_spark.run, lt_spark.plan):
        with pytest.raises(
            LtSparkError, match="does not run over Spark Connect: expected a classic Spark session"
        ) as told:
            begin(spark, Config())
        assert all(f"\n  - {reason}\n" in str(told.value) for reason in session.NEEDS_CLASSIC)


@pytest.mark.spark
def test_a_classic_session_is_one(spark: Any) -> None:
    assert not session.is_connect(spark)
    session.check_classic(spark)
