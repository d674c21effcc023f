"""A cluster of this machine, what was packaged for it, and one undisturbed run of everything in local mode."""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.standalone import Standalone
from tests.cluster.whole_shop import PARTITIONS, write_everything, write_models
from tests.clusters import ROOT, spark_home

SUBMIT_S = 5_400.0
"""Longest time that one submit may take."""
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"


@dataclass(frozen=True)
class Package:
    """What ``make package`` built, and a Python that knows lt_spark from there alone."""

    folder: Path
    archive: Path
    python: Path
    home: Path
    models: tuple[str, str]

    def conf(self, folder: Path) -> Path:
        """Write the shop's files and its conf into a folder; return the conf's path."""
        path = folder / "conf.yaml"
        path.write_text(yaml.safe_dump(write_everything(folder, *self.models)), encoding="utf-8")
        return path

    def command(self, master: str, job: str, conf: Path, *arguments: str) -> list[str]:
        """Return a spark-submit of one job, which finds lt_spark in the zip."""
        return [
            *(str(self.home / "bin" / "spark-submit"), "--master", master),
            *("--properties-file", str(self.folder / "spark.conf"), "--py-files", str(self.archive)),
            *(str(self.folder / "jobs" / f"{job}.py"), "--config", str(conf), *arguments),
        ]

    def environment(self) -> dict[str, str]:
        """Return an environment that says nothing of the checkout."""
        said = {"PYTHONPATH", "PYSPARK_SUBMIT_ARGS", "LT_SPARK_MASTER", "VIRTUAL_ENV"}
        kept = {name: value for name, value in os.environ.items() if name not in said}
        python = {"PYSPARK_PYTHON": str(self.python), "PYSPARK_DRIVER_PYTHON": str(self.python)}
        return kept | python | {"SPARK_HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def start(self, master: str, job: str, conf: Path, *arguments: str) -> "subprocess.Popen[str]":
        """Start a submit, in a process group of its own, outside of the checkout."""
        return subprocess.Popen(
            self.command(master, job, conf, *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=conf.parent,
            env=self.environment(),
            start_new_session=True,
        )

    def submit(self, master: str, job: str, conf: Path, *arguments: str) -> str:
        """Submit a job, wait for its end, and return what it printed; it must end well."""
        process = self.start(master, job, conf, *arguments)
        said, _ = process.communicate(timeout=SUBMIT_S)
        assert process.returncode == 0, f"{job}: {said[-4_000:]}"
        return said


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Build the package outside of the checkout, as ``make package`` does."""
    from lt_spark.core.session import local_delta_jars

    folder = tmp_path_factory.mktemp("package")
    built = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "package.py"), "--out", str(folder)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    settings = {
        "spark.jars": ",".join(local_delta_jars()),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "1500m",
        "spark.driver.extraJavaOptions": QUICK_JAVA,
        "spark.executor.memory": "900m",
        "spark.executor.extraJavaOptions": QUICK_JAVA,
        "spark.executor.cores": "1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.sql.adaptive.enabled": "false",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.sql.session.timeZone": "UTC",
        # the plans are small: to interpret them takes less than to compile them
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        **PARTITIONS,
    }
    lines = [f"{name} {value}" for name, value in settings.items()]
    (folder / "spark.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (archive,) = folder.glob("*.zip")
    return Package(folder, archive, bare_python(folder / "python"), spark_home(folder), write_models(folder / "models"))


def bare_python(folder: Path) -> Path:
    """Make a Python with the packages of this one, and without lt_spark, which an editable install puts on the path."""
    venv.create(folder, with_pip=False)
    (own,) = folder.glob("lib/python*/site-packages")
    (there,) = {Path(entry) for entry in sys.path if entry.endswith("site-packages")}
    # a path that a .pth file adds has its own .pth files left unread
    (own / "packages.pth").write_text(f"{there}\n", encoding="utf-8")
    python = folder / "bin" / "python"
    # -I: the path of this process's environment is not looked at
    asked = [str(python), "-I", "-c", "import pyspark, lt_spark"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=folder)
    assert "No module named 'lt_spark'" in done.stderr, done.stderr
    return python


@pytest.fixture(scope="session")
def cluster(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """A master and two workers."""
    started = Standalone(package.home, tmp_path_factory.mktemp("cluster") / "cluster", package.python)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def undisturbed(package: Package, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conf of a run of everything on ``local[2]``, which nothing disturbed."""
    conf = package.conf(tmp_path_factory.mktemp("local"))
    package.submit("local[2]", "run_pipeline", conf)
    return conf


@pytest.fixture
def storage_of(spark: Any) -> Any:
    """Return a function that opens the tables of a conf."""
    from lt_spark.core.config_files import load_config
    from lt_spark.core.storage import Storage

    return lambda conf: Storage(spark, load_config(str(conf)).config)
