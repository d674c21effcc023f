"""The key of a language model's server: it reaches the server, and stands in no event log, table, file or output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lt_spark.core.session import REDACTION
from tests.enrich_shop import write_enrich_shop
from tests.fake_model import fake_model

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(2400)]
KEY = "sk-of-the-tests-8c1f0b"
VARIABLE = "LT_SPARK_LLM_API_KEY"


def files_with(word: str, folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]


def test_a_run_with_a_key_tells_it_to_the_server_alone(tmp_path: Path) -> None:
    log = tmp_path / "events"
    log.mkdir()
    # as a cluster would have it: the executors' environment is a setting of Spark, and the UI's log is kept
    conf = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": log.as_uri(),
        "spark.eventLog.compress": "false",
        f"spark.executorEnv.{VARIABLE}": KEY,
        "spark.redaction.regex": REDACTION,
    }
    options = [word for name, value in conf.items() for word in ("--conf", f"'{name}={value}'")]
    given = os.environ.get("PYSPARK_SUBMIT_ARGS", "pyspark-shell").removesuffix("pyspark-shell").split()
    with fake_model() as server:
        path = tmp_path / "conf.yaml"
        path.write_text(yaml.safe_dump(write_enrich_shop(tmp_path, server.url)), encoding="utf-8")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "lt-spark"), "run", "-c", str(path), "--purpose", "evaluate"]
            + ["--to", "describe", "--debug"],
            capture_output=True,
            text=True,
            env=os.environ | {VARIABLE: KEY, "PYSPARK_SUBMIT_ARGS": " ".join([*given, *options, "pyspark-shell"])},
            timeout=2100,
        )
        sent = [{name.lower(): value for name, value in headers.items()} for headers in server.headers]
        told = {headers.get("authorization") for headers in sent}
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert told == {f"Bearer {KEY}"}, "the key was used"
    assert files_with(f"spark.executorEnv.{VARIABLE}", log), "the setting's name is there"
    assert files_with("redacted", log), "and its value is hidden"
    assert files_with(KEY, tmp_path) == []
    assert KEY not in output
