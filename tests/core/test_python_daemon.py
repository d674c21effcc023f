"""Which archives the workers leave out, and where the daemon is used at all."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyspark
import pytest

from lt_spark.core import session
from lt_spark.core.config import Config
from lt_spark.core.python_daemon import ALSO, without_archives

HOME = Path(pyspark.__file__).parent
SITE = str(HOME.parent)


def test_archives_of_the_installed_pyspark_are_left_out() -> None:
    zipped, jar = str(HOME / "python/lib/pyspark.zip"), str(HOME / "jars/spark-core_2.13-4.0.1.jar")
    path = [zipped, "/mine/more.zip", SITE, jar, ""]
    assert without_archives(path) == ["/mine/more.zip", SITE, ""]


def test_another_pyspark_keeps_its_archives() -> None:
    path = ["/opt/spark/python/lib/pyspark.zip", SITE]
    assert without_archives(path) == path


def test_without_an_installed_pyspark_the_path_stays(tmp_path: Path) -> None:
    path = [str(HOME / "python/lib/pyspark.zip"), str(tmp_path)]
    assert without_archives(path) == path


@pytest.mark.parametrize(
    ("master", "submit", "is_used"),
    [
        ("local[2]", "pyspark-shell", True),
        ("local[2]", "--master spark://there:7077 pyspark-shell", False),
        ("local[2]", "--conf spark.master=yarn pyspark-shell", False),
        ("local-cluster[2,1,1024]", "pyspark-shell", False),
        ("spark://there:7077", "pyspark-shell", False),
    ],
)
def test_it_is_used_where_the_workers_are_of_this_host(
    monkeypatch: pytest.MonkeyPatch, master: str, submit: str, is_used: bool
) -> None:
    monkeypatch.setenv("LT_SPARK_MASTER", master)
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", submit)
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    assert session._workers_find_daemon() is is_used


def test_it_is_not_used_where_workers_do_not_find_lt_spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = tmp_path / "python"
    stranger.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    stranger.chmod(0o755)
    monkeypatch.setenv("LT_SPARK_MASTER", "local[2]")
    monkeypatch.setenv("PYSPARK_SUBMIT_ARGS", "pyspark-shell")
    monkeypatch.setenv("PYSPARK_PYTHON", str(stranger))
    assert not session._workers_find_daemon()
    monkeypatch.setenv("PYSPARK_PYTHON", str(tmp_path / "none"))
    assert not session._workers_find_daemon()


def test_a_module_in_a_zip_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_SPARK_MASTER", "local[2]")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setattr(session, "__file__", "/x/lt_spark.zip/lt_spark/core/session.py")
    assert not session._workers_find_daemon()


@pytest.mark.spark
def test_a_worker_knows_no_archive(spark: Any) -> None:
    def see(batches: Any) -> Any:
        import sys

        import pandas as pd

        for _ in batches:
            found = [entry for entry in (*sys.path, *sys.path_importer_cache) if entry.endswith((".zip", ".jar"))]
            yield pd.DataFrame({"entry": [entry for entry in found if "spark" in entry or "py4j" in entry]})

    assert [row["entry"] for row in spark.range(1).mapInPandas(see, "entry string").collect()] == []


IMPORTS = "import sys; from lt_spark.core.python_daemon import import_ahead; import_ahead(); print(*sys.modules)"


def modules_after_import_ahead(also: str) -> set[str]:
    environment = {**os.environ, ALSO: also}
    # this Python, and a line of this file
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    (line,) = ended.stdout.splitlines()
    return set(line.split())


def test_workers_begin_with_pandas_and_what_is_not_there_is_no_error() -> None:
    found = modules_after_import_ahead("no_such_module")
    assert {"pandas", "pyarrow"} <= found
    assert "torch" not in found


@pytest.mark.slow
def test_workers_that_ask_a_network_begin_with_it() -> None:
    found = modules_after_import_ahead("lt_spark.engines.ahead")
    assert {"torch", "transformers.models.bert.modeling_bert"} <= found


def test_a_session_without_networks_asks_for_none() -> None:
    plain = {"models": ["als", "neighbours", "popularity"]}
    assert session.asks_networks(Config())
    assert not session.asks_networks(Config.model_validate({"blend": plain, "embed": {"model": ""}}))
