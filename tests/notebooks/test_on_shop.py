"""The notebooks that only read, over Spark Connect, on the tables of one whole run on the small shop."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from nbclient.exceptions import CellExecutionError

from lt_spark.core import tables as t
from lt_spark.core.session import NEEDS_CLASSIC
from lt_spark.kernels.metrics import gini
from tests.notebooks.connect_server import start_connect_server
from tests.notebooks.executed import Shown, execute
from tests.small_shop import N_ITEMS

pytestmark = pytest.mark.spark
IN_CATALOG = "tables.catalog=spark_catalog; tables.silver_schema=shop_silver; tables.gold_schema=shop_gold"


@pytest.fixture(scope="module")
def remote(spark: Any) -> str:
    return start_connect_server(spark)


@pytest.fixture(scope="module")
def conf(shop: Any, tmp_path_factory: Any) -> str:
    path = tmp_path_factory.mktemp("conf") / "shop.yaml"
    path.write_text(yaml.safe_dump(shop[1].model_dump(mode="json")), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def catalog(shop: Any) -> Iterator[str]:
    """The shop's tables under three-level names; returns the settings that say so."""
    spark, _, storage, _ = shop
    for layer in ("silver", "gold"):
        spark.sql(f"CREATE SCHEMA shop_{layer}")
    for table in t.ALL_TABLES:
        if storage.exists(table):
            place = storage.location(table)
            spark.sql(f"CREATE TABLE shop_{table.layer}.{table.name} USING delta LOCATION '{place}'")
    yield IN_CATALOG
    for layer in ("silver", "gold"):
        spark.sql(f"DROP SCHEMA shop_{layer} CASCADE")


def no_user_is_named(shown: Shown, storage: Any) -> None:
    ids = {row["user_id"] for row in storage.read(t.USERS).select("user_id").collect()}
    assert len(ids) > 50
    words = set(re.findall(r"\w+", shown.text))
    assert words & ids == set()
    assert words & {"user_id", "user_idx", "user_hash"} == set()


def figures_of_the_tail_are_right(shown: Shown, storage: Any) -> None:
    rows = storage.read(t.ITEM_SEGMENTS, "live").collect()
    used = gini([row["n_interactions"] for row in rows])
    unused = [row for row in rows if not row["n_interactions"]]
    assert f"{len(unused)} of {len(rows)} items ({len(unused) / len(rows):.1%}) have no event." in shown.text
    assert 0.2 < used < 0.9
    for segment in ("head", "mid", "tail", "cold"):
        events = [row["n_interactions"] for row in rows if row["segment"] == segment]
        line = re.search(rf"\b{segment}\b\s+(\d+)\s+(\d+)\s+(\d+)", shown.of_cell("segments"))
        assert line is not None, segment
        assert tuple(map(int, line.groups())) == (len(events), sum(events), events.count(0))
    lists = [row["item_idx"] for row in storage.read(t.RECOMMENDATIONS, "live").where("rank <= 10").collect()]
    for segment in ("head", "mid", "tail", "cold"):
        of_segment = [row["item_idx"] for row in rows if row["segment"] == segment]
        never = len(set(of_segment) - set(lists)) / len(of_segment)
        line = re.search(rf"\b{segment}\b\s+(\d+)\s+([\d.]+)%\s+([\d.]+)%", shown.of_cell("shown"))
        assert line is not None, segment
        assert float(line[3]) == pytest.approx(100 * never, abs=0.06)
    assert len(rows) == N_ITEMS + 2


def test_01_shows_the_tail_over_spark_connect(shop: Any, conf: str, remote: str, tmp_path: Path) -> None:
    _, _, storage, _ = shop
    shown = execute("01", tmp_path, config=conf, remote=remote)
    assert "read over Spark Connect of Spark 4" in shown.text
    figures_of_the_tail_are_right(shown, storage)
    assert [shown.pictures(cell) for cell in ("segments", "lorenz", "shown")] == [1, 1, 2]
    unused = storage.read(t.ITEM_SEGMENTS, "live").where("n_interactions = 0").join(storage.read(t.ITEMS), "item_idx")
    assert all(row["title"] in shown.of_cell("unused") for row in unused.limit(10).collect())
    no_user_is_named(shown, storage)


@pytest.mark.slow
def test_01_opens_a_session_of_its_own(shop: Any, conf: str, tmp_path: Path) -> None:
    _, _, storage, _ = shop
    shown = execute("01", tmp_path, config=conf)
    assert "read in a classic session of Spark 4" in shown.text
    figures_of_the_tail_are_right(shown, storage)
    no_user_is_named(shown, storage)


@pytest.mark.slow
def test_all_that_only_read_do_so_by_names_of_a_catalog(
    shop: Any, conf: str, remote: str, catalog: str, tmp_path: Path
) -> None:
    _, _, storage, _ = shop
    shown = {n: execute(n, tmp_path, config=conf, settings=catalog, remote=remote) for n in ("01", "03", "04", "05")}
    for each in shown.values():
        assert "Tables in catalog spark_catalog, read over Spark Connect" in each.text
        no_user_is_named(each, storage)
    figures_of_the_tail_are_right(shown["01"], storage)
    assert "The language model wrote nothing here" in shown["03"].text
    assert "There is no ledger yet" in shown["04"].text
    assert {cell: shown["04"].pictures(cell) for cell in ("models", "segments")} == {"models": 1, "segments": 1}
    measured = storage.read(t.METRICS, "test").where("metric = 'ndcg' AND k = 10 AND segment = 'all'").collect()
    assert {row["model_name"] for row in measured} >= {"blend", "als_plain", "neighbours"}
    figures = " ".join(shown["04"].of_cell("models").split())
    for row in measured:
        assert f"all {row['model_name']} {row['n_users']} {row['value']:.4f}" in figures
    # groups by age, town, activity, history length and taste for the tail: two pictures each
    groupings = {row["group_by"] for row in storage.read(t.GROUP_METRICS, "test").collect()} - {"change"}
    assert {"activity", "town"} <= groupings
    assert shown["04"].pictures("groups") == 2 * len(groupings)
    assert (shown["05"].pictures("reasons"), shown["05"].pictures("explained")) == (1, 2)
    reasons = storage.read(t.GOLD_RECOMMENDATIONS).select("reason").distinct().collect()
    said = [row["reason"] for row in reasons if row["reason"] in shown["05"].of_cell("explained")]
    assert len(said) >= 2  # of two users


@pytest.mark.slow
def test_05_explains_one_user_and_does_not_name_them(shop: Any, conf: str, remote: str, tmp_path: Path) -> None:
    _, _, storage, _ = shop
    rows = storage.read(t.GOLD_RECOMMENDATIONS).where("user_id = 'u017' AND rank <= 3").orderBy("rank").collect()
    shown = execute("05", tmp_path, config=conf, remote=remote, user_id="u017", n_rows="3")
    assert len(rows) == 3
    assert all(
        row["title"] in shown.of_cell("explained") and row["reason"] in shown.of_cell("explained") for row in rows
    )
    assert shown.pictures("explained") == 1
    no_user_is_named(shown, storage)


@pytest.mark.slow
def test_02_says_at_once_that_it_needs_a_classic_session(conf: str, remote: str, tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError) as raised:
        execute("02", tmp_path, config=conf, remote=remote)
    told = re.sub(r"\x1b\[[\d;]*m", "", str(raised.value))  # without colours
    assert "LtSparkError: the pipeline does not run over Spark Connect: expected a classic Spark session" in told
    assert all(reason in told for reason in NEEDS_CLASSIC)
    assert "check_classic(opened.spark)" in told  # the cell that opens, before any that runs


@pytest.mark.slow
def test_03_shows_what_was_refused_beside_what_was_accepted(
    shop: Any, conf: str, remote: str, frame: Any, tmp_path: Path
) -> None:
    from lt_spark.core.config import Config
    from lt_spark.core.storage import Storage

    spark, _, storage, _ = shop
    root = str(tmp_path / "tables")
    own = Storage(spark, Config.model_validate({"tables": {"root": root}}))
    own.write(t.ITEMS, storage.read(t.ITEMS))
    texts = [
        ("accepted", None, "<b>right</b>", "right"),
        ("fallback", "length, echo", "much too long", "made of metadata"),
        ("failed", "timed out", None, "of neighbours"),
    ]
    rows = [
        {
            "key": str(n),
            "item_idx": n,
            "is_current": True,
            "status": status,
            "reason": reason,
            "answer": answer,
            "description": used,
            "keywords": ["word"],
        }
        for n, (status, reason, answer, used) in enumerate(texts)
    ]
    old = {"key": "old", "item_idx": 1, "is_current": False, "status": "accepted", "answer": "of another day"}
    own.write(t.ITEM_ENRICHMENTS, frame(t.ITEM_ENRICHMENTS, [*rows, old]))
    shown = execute("03", tmp_path, config=conf, settings=f"tables.root={root}", remote=remote)
    assert "1 accepted, 1 failed, 1 fallback" in shown.of_cell("counts")
    assert shown.pictures("counts") == 1
    assert "&lt;b&gt;right&lt;/b&gt;" in shown.of_cell("accepted")  # shown as it is, not obeyed
    assert "much too long" not in shown.of_cell("accepted")
    for word in ("much too long", "made of metadata", "length, echo", "timed out", "of neighbours"):
        assert word in shown.of_cell("refused")
    assert "of another day" not in shown.text
