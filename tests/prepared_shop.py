"""The small shop with all tables that stage describe reads, made once a session; tests work on copies of it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from tests.clusters import environment
from tests.enrich_shop import write_enrich_shop
from tests.fake_model import FakeModel

WAVE = 16
_NOWHERE = "http://127.0.0.1:9/v1"
_CLI = "from lt_spark.cli import main; main()"


@cache
def _prepared(spark: Any, folder: Path) -> tuple[Path, dict[str, Any]]:
    """Make the tables; nothing is asked yet, so no server is needed."""
    settings = write_enrich_shop(folder, _NOWHERE, wave_items=WAVE)
    run(spark, Config.model_validate(settings), purpose="evaluate", last="segment")
    return folder, settings


class Shop:
    """A copy of the prepared shop, the server it asks, and what stands in its tables."""

    def __init__(self, spark: Any, factory: Any, folder: Path, server: FakeModel | None = None) -> None:
        self._copy(spark, *_prepared(spark, factory.getbasetemp() / "prepared"), folder)
        if server is not None:
            self.server = server
            self.change("language_model", base_url=server.url)
            server.asked.clear()
            server.bodies.clear()
            server.headers.clear()

    def _copy(self, spark: Any, source: Path, settings: dict[str, Any], folder: Path) -> None:
        shutil.copytree(source, folder)
        moved = yaml.safe_dump(settings).replace(str(source), str(folder))
        self.spark, self.folder, self.settings = spark, folder, yaml.safe_load(moved)

    def change(self, section: str, **values: Any) -> None:
        self.settings[section] = self.settings.get(section, {}) | values

    @property
    def config(self) -> Config:
        return Config.model_validate(self.settings)

    @property
    def conf(self) -> str:
        path = self.folder / "conf.yaml"
        path.write_text(yaml.safe_dump(self.settings), encoding="utf-8")
        return str(path)

    def run(self, **options: Any) -> Any:
        return run(self.spark, self.config, **({"purpose": "evaluate", "stages": ["describe"]} | options))

    def command(self, *options: str) -> list[str]:
        """The command line that does what ``run`` does, in a process of its own."""
        only = options or ("--only", "describe")
        return [sys.executable, "-c", _CLI, "run", "-c", self.conf, "--purpose", "evaluate", "--log-json", *only]

    def run_apart(self, *options: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        """Run ``lt-spark run`` in a process of its own, with more environment variables."""
        return subprocess.run(self.command(*options), capture_output=True, env=environment(**more), timeout=600)

    def rows(self) -> list[dict[str, Any]]:
        rows = Storage(self.spark, self.config).read_or_empty(t.ITEM_ENRICHMENTS)
        return [row.asDict() for row in rows.collect()]

    def report(self) -> dict[str, float]:
        rows = Storage(self.spark, self.config).read(t.ENRICHMENT_REPORT).collect()
        return {row["measure"]: row["value"] for row in rows}

    def n_tail(self) -> int:
        segments = Storage(self.spark, self.config).read(t.ITEM_SEGMENTS, "valid")
        return int(segments.where(F.col("segment").isin("tail", "cold")).count())

    def at_question(self, number: int, do: Callable[[], None]) -> None:
        """Do something once, when the server is asked for the numbered time, before it answers."""
        seen = iter(range(1, 1_000_000))

        def before(_: str) -> None:
            with self.server.lock:
                is_now = next(seen) == number
            if is_now:
                do()

        self.server.before = before
