"""All five notebooks, top to bottom, on one whole run of the demo; those that only read over Spark Connect too."""

import re
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config_files import load_config
from lt_spark.core.storage import Storage
from tests.notebooks.connect_server import start_connect_server
from tests.notebooks.executed import ROOT, Shown, execute

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(3_600)]
LOG = ROOT / "data" / "ml-100k" / "ml-100k.inter"
READ_ONLY = ("01", "03", "04", "05")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: Any) -> tuple[Path, str, Shown]:
    """Notebook 02 on the demo's data, with users' ids that no other number can be taken for; where, settings, shown."""
    folder = tmp_path_factory.mktemp("demo")
    head, *lines = LOG.read_text(encoding="utf-8").splitlines(keepends=True)
    log = folder / "log.inter"
    log.write_text(head + "".join(f"viewer{line}" for line in lines), encoding="utf-8")
    places = {"source.interactions.path": log, "tables.root": folder / "tables", "files.root": folder / "files"}
    settings = "; ".join(f"{key}={place}" for key, place in places.items())
    return folder, settings, execute("02", folder, timeout_s=3_600, settings=settings)


@pytest.fixture(scope="module")
def tables(ran: Any, spark: Any) -> Storage:
    return Storage(spark, load_config(str(ROOT / "conf" / "demo.yaml"), ran[1].split("; ")).config)


def checked(number: str, shown: Shown, tables: Storage) -> None:
    assert re.findall(r"viewer\d+|user_idx|user_id", shown.text) == []
    {"01": check_01, "03": check_03, "04": check_04, "05": check_05}[number](shown, tables)


def check_01(shown: Shown, tables: Storage) -> None:
    counts = tables.read(t.ITEM_SEGMENTS, "live").groupBy("segment").count().collect()
    for row in counts:
        assert re.search(rf"\b{row['segment']}\s+{row['count']:,}\s", shown.of_cell("segments")), row
    assert [shown.pictures(cell) for cell in ("segments", "lorenz", "shown")] == [1, 1, 2]


def check_03(shown: Shown, tables: Storage) -> None:
    texts = tables.read(t.ITEM_ENRICHMENTS).where("is_current").collect()
    accepted = [row for row in texts if row["status"] == "accepted"]
    assert len(texts) == 8
    assert f"{len(accepted)} accepted" in shown.of_cell("counts")
    assert all(row["description"] in shown.of_cell("accepted") for row in accepted)
    none = "No text was refused: every answer passed the gate."
    assert (none in shown.of_cell("refused")) == (len(accepted) == len(texts))
    assert "neighbour agreement" in shown.of_cell("text-verdict")


def check_04(shown: Shown, tables: Storage) -> None:
    rows = tables.read(t.METRICS, "test").where("metric = 'ndcg' AND segment IN ('all', 'top20_tail')").collect()
    assert len(rows) == 16  # eight models
    said = " ".join(shown.of_cell("models").split())
    for row in rows:
        figures = f"{row['n_users']:,} {row['value']:.4f} {row['value_low']:.4f} {row['value_high']:.4f}"
        assert f"{row['segment']} {row['model_name']} {figures}" in said
    groups = tables.read(t.GROUP_METRICS, "test").where("model_name = 'blend'").select("group_by").distinct().count()
    assert [shown.pictures(cell) for cell in ("models", "segments", "groups")] == [1, 1, 2 * (groups - 1)]


def check_05(shown: Shown, tables: Storage) -> None:
    titles = {row["title"] for row in tables.read(t.GOLD_RECOMMENDATIONS).select("title").distinct().collect()}
    said = shown.of_cell("explained")
    assert len([title for title in titles if title in said]) >= 10
    assert (shown.pictures("reasons"), shown.pictures("explained")) == (1, 2)


def test_02_runs_the_pipeline_and_tells_of_it(ran: Any, tables: Storage) -> None:
    shown = ran[2]
    assert "read in a classic session" in shown.text
    stages = tables.read(t.STAGE_RUNS).where("stage_key <> 'in progress'").select("stage", "fold").distinct().count()
    assert f"{stages} of {stages} stages done" in shown.of_cell("run")
    decided = tables.read(t.ACCEPTED_SETTINGS).first()
    assert f"{decided['verdict']}: {decided['reason']}" in shown.of_cell("verdict")
    assert "gold.recommendations" in shown.of_cell("tables")
    assert re.findall(r"viewer\d+", shown.text) == []


@pytest.mark.parametrize("number", READ_ONLY)
def test_it_runs_in_a_session_of_its_own(number: str, ran: Any, tables: Storage, tmp_path: Path) -> None:
    shown = execute(number, tmp_path, settings=ran[1])
    assert "read in a classic session" in shown.text
    checked(number, shown, tables)


def test_they_run_over_spark_connect(ran: Any, tables: Storage, tmp_path: Path) -> None:
    remote = start_connect_server(tables.spark)
    for number in READ_ONLY:
        shown = execute(number, tmp_path, settings=ran[1], remote=remote)
        assert "read over Spark Connect" in shown.text
        checked(number, shown, tables)
