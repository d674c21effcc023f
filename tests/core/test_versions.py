"""Which Spark and Delta Lake are let in, and what is said of the others."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

import lt_spark
from lt_spark import cli, job
from lt_spark.core import versions
from lt_spark.core.errors import LtSparkError


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_HOME", raising=False)


def has_pyspark(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """Let PySpark be of a version."""
    module: Any = ModuleType("pyspark.version")
    module.__version__ = version
    monkeypatch.setitem(sys.modules, "pyspark.version", module)


def has_no_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [])


def has_home(monkeypatch: pytest.MonkeyPatch, folder: Path, jar: str) -> None:
    (folder / "jars").mkdir()
    (folder / "jars" / jar).touch()
    monkeypatch.setenv("SPARK_HOME", str(folder))


@pytest.mark.parametrize("version", ["4.0.0", "4.0.5", "4.1.4", "4.3.0", "4.1.0.dev1", "5.0.0"])
def test_spark_from_4_0_on_is_let_in(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    has_pyspark(monkeypatch, version)
    assert versions.check_pyspark() == version


@pytest.mark.parametrize("version", ["3.5.9", "3.4.1", "2.4.8"])
def test_an_older_spark_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    has_pyspark(monkeypatch, version)
    with pytest.raises(
        LtSparkError, match=rf"{sys.executable}\): expected Spark 4.0 or 4.1, found {version}\. pip install 'lt-spark\["
    ):
        versions.check_pyspark()


def test_a_missing_spark_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    has_no_pyspark(monkeypatch)
    with pytest.raises(LtSparkError, match=r"PySpark is not installed for this Python .*pip install 'lt-spark\[local"):
        versions.check_pyspark()


def test_a_missing_delta_names_the_one_for_this_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    has_pyspark(monkeypatch, "4.1.4")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "delta" else found(name))
    with pytest.raises(
        LtSparkError, match=r"(?s)'delta-spark==4\.3\.1'.*--packages io\.delta:delta-spark_4\.1_2\.13:4\.3\.1 \.\.\."
    ):
        versions.check_pyspark()


def test_a_spark_home_of_another_line_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    has_pyspark(monkeypatch, "4.0.5")
    has_home(monkeypatch, tmp_path, "spark-core_2.12-3.5.9.jar")
    with pytest.raises(LtSparkError, match=r"SPARK_HOME \(.*\) is Spark 3\.5\.9, and PySpark .* is 4\.0\.5: .*Unset"):
        versions.check_pyspark()


@pytest.mark.parametrize("jar", ["spark-core_2.13-4.0.1.jar", "spark-core_unnumbered.jar"])
def test_a_spark_home_of_the_same_line_or_that_does_not_tell_is_let_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, jar: str
) -> None:
    has_pyspark(monkeypatch, "4.0.5")
    has_home(monkeypatch, tmp_path, jar)
    assert versions.check_pyspark() == "4.0.5"


@pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"], ["tables"], ["stages"], ["ledger"]])
def test_the_command_line_says_it_in_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lt-spark.yaml").write_text("source: {interactions: {path: log.csv}}\n")
    has_pyspark(monkeypatch, "3.5.9")
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert result.stderr.startswith("LtSparkError: PySpark of this Python")
    assert "found 3.5.9" in result.stderr and "Traceback" not in result.stderr


def test_jobs_say_it_in_one_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    has_pyspark(monkeypatch, "3.5.9")
    assert job.run_job(("rebalance",), []) == job.USER_MISTAKE
    assert capsys.readouterr().err.startswith("rebalance: PySpark of this Python")


def test_a_notebook_is_told_before_the_pipeline_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    has_pyspark(monkeypatch, "3.5.9")
    monkeypatch.setitem(sys.modules, "lt_spark.passes", None)  # an import would fail
    for name in ("run", "plan", "probe"):
        with pytest.raises(LtSparkError, match="expected Spark 4.0 or 4.1"):
            getattr(lt_spark, name)


@pytest.mark.parametrize(
    ("jar", "made_for"),
    [
        ("io.delta_delta-spark_2.12-3.3.2.jar", "3.5"),
        ("delta-spark_2.13-3.3.2.jar", "3.5"),
        ("io.delta_delta-spark_2.13-4.0.1.jar", "4.0"),
        ("delta-spark_2.13-4.1.0.jar", "4.1"),
        ("delta-spark_4.0_2.13-4.1.0.jar", "4.0"),
        ("delta-spark_4.1_2.13-4.4.0.jar", "4.1"),
        ("delta-spark_2.13-4.4.0.jar", ""),
        ("dbr-platform.jar", ""),
        ("", ""),
    ],
)
def test_delta_is_made_for_a_line_of_spark(jar: str, made_for: str) -> None:
    for version in ("4.0.5", "4.1.4"):
        if made_for in ("", versions.line(version)):
            versions.check_delta_jar(jar, version)
        else:
            with pytest.raises(LtSparkError) as error:
                versions.check_delta_jar(jar, version)
            assert f"made for Spark {made_for}: expected one for Spark {versions.line(version)}" in str(error.value)
            assert versions.delta_package(version) in str(error.value)


def test_of_a_spark_that_was_never_run_any_delta_is_let_in() -> None:
    versions.check_delta_jar("delta-spark_2.13-4.0.1.jar", "4.3.0")


def test_delta_follows_spark() -> None:
    assert versions.delta_package("4.0.1") == "io.delta:delta-spark_2.13:4.0.1"
    assert versions.delta_package("4.1.4") == "io.delta:delta-spark_4.1_2.13:4.3.1"
    assert versions.delta_jars("4.1.4") == ("delta-spark_4.1_2.13-4.3.1.jar", "delta-storage-4.3.1.jar")
    assert versions.delta_jars("4.0.5")[2] == "antlr4-runtime-4.13.1.jar"
