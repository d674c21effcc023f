"""The scripts of tools/: demo data and spark-defaults, without a network."""

import hashlib
import re
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core.errors import LtSparkError

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def _module(name: str) -> Any:
    spec = spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = _module("get_demo_data")
package = _module("package")
defaults = _module("write_spark_defaults")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in demo.FILES:
            archive.writestr(demo.MEMBERS + name, f"rows of {name}")
    return path


def test_demo_data_is_unpacked_whole_and_once(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "data" / "ml-100k"
    monkeypatch.setattr(demo, "SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    out.mkdir(parents=True)
    (out / "ml-100k.inter").write_text("half")  # what an interrupted copy by hand would leave
    assert demo.main(["--out", str(out), "--wheel", str(wheel)]) == 0
    assert (out / "ml-100k.inter").read_text() == "rows of ml-100k.inter"
    assert [path.name for path in out.parent.iterdir()] == ["ml-100k"]
    monkeypatch.setattr(demo, "download", lambda folder: pytest.fail("downloaded again"))
    capsys.readouterr()
    assert demo.main(["--out", str(out)]) == 0
    assert "already there" in capsys.readouterr().out


def test_another_wheel_is_refused(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--out", str(tmp_path / "data" / "ml-100k"), "--wheel", str(wheel)]) == 2
    said = capsys.readouterr().err
    assert demo.SHA256 in said and hashlib.sha256(wheel.read_bytes()).hexdigest() in said
    assert not (tmp_path / "data").exists()


def test_a_wheel_without_the_files_leaves_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.whl"
    zipfile.ZipFile(empty, "w").close()
    with pytest.raises(KeyError, match=r"ml-100k\.inter"):
        demo.unpack(empty, tmp_path / "data" / "ml-100k")
    assert list((tmp_path / "data").iterdir()) == []


def _settings(text: str) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: value for name, value in pairs}


def test_spark_defaults_of_a_local_master() -> None:
    settings = _settings(defaults.spark_defaults(["/jars/a b.jar", "/jars/c.jar"], "local[2]", "/venv/bin/python"))
    assert settings["spark.jars"] == "/jars/a b.jar,/jars/c.jar"
    assert settings["spark.pyspark.python"] == "/venv/bin/python"
    assert settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension"
    assert settings["spark.sql.catalog.spark_catalog"] == "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    assert settings["spark.databricks.delta.snapshotPartitions"] == "1"


@pytest.mark.parametrize("master", ["yarn", "spark://127.0.0.1:7077", "local-cluster[2,1,1024]"])
def test_no_local_settings_for_a_cluster(master: str) -> None:
    settings = _settings(defaults.spark_defaults(["/jars/a.jar"], master, "python3"))
    assert settings["spark.master"] == master
    names = {"spark.master", "spark.jars", "spark.sql.extensions", "spark.sql.catalog.spark_catalog"}
    assert set(settings) == {*names, "spark.pyspark.python", "spark.redaction.regex"}


def test_keys_are_redacted_beside_what_spark_redacts() -> None:
    regex = re.compile(_settings(defaults.spark_defaults(["a.jar"], "yarn", "python3"))["spark.redaction.regex"])
    kept = ["spark.executorEnv.LT_SPARK_LLM_API_KEY", "spark.my.apikey", "a.api-key", "spark.hadoop.fs.s3a.access.key"]
    kept += ["spark.ssl.keyPassword", "spark.x.token", "spark.my.secret", "spark.credentials"]
    assert [name for name in kept if not regex.search(name)] == []
    assert not regex.search("spark.sql.shuffle.partitions")


def test_jars_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "conf" / "spark-defaults.conf"
    assert defaults.main(["--out", str(out), "--jars", str(tmp_path)]) == 2
    assert "found none" in capsys.readouterr().err
    assert not out.exists()
    (tmp_path / "delta-spark_2.13-4.0.1.jar").touch()
    assert defaults.main(["--out", str(out), "--jars", str(tmp_path)]) == 0
    assert _settings(out.read_text())["spark.jars"] == str(tmp_path / "delta-spark_2.13-4.0.1.jar")


def test_jars_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "local_delta_jars", lambda: [])
    monkeypatch.setattr(defaults, "RESOLVE", "import sys; sys.exit('java: unresolved dependency: io.delta')")
    with pytest.raises(
        LtSparkError, match=r"(?s)cannot be had:\n  java: unresolved dependency: io\.delta\n.*--jars FOLDER"
    ):
        defaults.find_jars(None)


def test_a_package_has_the_jobs_and_confs_of_now_and_nothing_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "checkout", tmp_path / "dist"
    for name in ("jobs/als.py", "jobs/__pycache__/als.pyc", "conf/base.yaml", "conf/domains/a.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("now")
    (root / "conf" / "spark-defaults.conf").write_text("paths of this machine")
    (out / "jobs").mkdir(parents=True)
    (out / "jobs" / "gone.py").write_text("of an earlier build")
    monkeypatch.setattr(package, "ROOT", root)
    package.copy_entries(out)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["conf/base.yaml", "conf/domains/a.yaml", "jobs/als.py"]


def test_the_zip_is_the_wheel_under_a_name_that_executors_take(tmp_path: Path) -> None:
    wheel = tmp_path / "lt_spark-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("lt_spark/__init__.py", "")
    made = package.zip_of(wheel)
    assert made == tmp_path / "lt_spark-1.2.3.zip"
    assert zipfile.ZipFile(made).namelist() == ["lt_spark/__init__.py"]
