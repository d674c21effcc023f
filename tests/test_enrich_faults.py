"""Stage describe among hostile titles, secrets, broken folders, and an engine that dies; what a log is told."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import functions as F
from typer.testing import CliRunner

from lt_spark import cli
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import EngineError
from lt_spark.core.storage import Storage
from lt_spark.enrich import ask
from lt_spark.kernels.hostile import clean_text
from tests.clusters import ROOT, run_script
from tests.engines.tiny_model import write_tiny_model
from tests.enrich_shop import write_enrich_shop
from tests.fake_model import FakeModel, fake_model, sensible_answer
from tests.hostile_titles import HOSTILE
from tests.prepared_shop import Shop

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]
KEY = "sk-planted-5f2c9e7d1b"
LABELS = ("Title:", "Keywords:", "Description:", "Kind:", "Brand:")


@pytest.fixture(scope="module")
def server() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


@pytest.fixture
def shop(spark: Any, server: FakeModel, tmp_path_factory: Any, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(spark, tmp_path_factory, tmp_path / "shop", server)
    server.answer, server.before = sensible_answer, lambda title: None


def described(spark: Any, config: Config) -> dict[str, dict[str, Any]]:
    """The current rows by the item's own id."""
    storage = Storage(spark, config)
    rows = storage.read(t.ITEM_ENRICHMENTS).where("is_current")
    joined = rows.join(storage.read(t.ITEMS).select("item_idx", "item_id", "title"), "item_idx")
    return {row["item_id"]: row.asDict() for row in joined.collect()}


# ---- hostile titles, and a key


@dataclass(frozen=True)
class HostileRun:
    """A shop among whose items are hostile ones, described once in a process of its own."""

    shop: Shop
    said: bytes
    events: Path
    bodies: list[dict[str, Any]]
    headers: list[dict[str, str]]


@pytest.fixture(scope="module")
def hostile(spark: Any, server: FakeModel, tmp_path_factory: Any) -> HostileRun:
    shop = Shop(spark, tmp_path_factory, tmp_path_factory.mktemp("hostile") / "shop", server)
    shutil.rmtree(shop.folder / "tables")
    with (shop.folder / "items.csv").open(encoding="utf-8", newline="") as file:
        items: list[dict[str, Any]] = list(csv.DictReader(file))
    # JSON lines hold what CSV cannot: null, lone surrogates
    items += [{"item_id": f"hostile {name}", "title": title} for name, title in HOSTILE]
    catalogue = shop.folder / "items.jsonl"
    catalogue.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    shop.settings["source"]["items"]["path"] = str(catalogue)
    events = shop.folder / "events"
    events.mkdir()
    spark_settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.dir": f"file:{events}",
    }
    arguments = " ".join(f"--conf {name}={value}" for name, value in spark_settings.items())
    done = shop.run_apart(
        "--to", "describe", PYSPARK_SUBMIT_ARGS=f"{arguments} pyspark-shell", LT_SPARK_LLM_API_KEY=KEY
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said.decode()[-4_000:]
    return HostileRun(shop, said, events, list(server.bodies), list(server.headers))


def logged(folder: Path) -> str:
    """All strings of Spark's event log."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, dict):
            found.extend(value)
            walk(list(value.values()))
        elif isinstance(value, list):
            for part in value:
                walk(part)

    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith("."):
            for line in file.read_text(encoding="utf-8").splitlines():
                walk(json.loads(line))
    return "\n".join(found)


@pytest.mark.slow
def test_hostile_titles_change_no_other_items_row(
    hostile: HostileRun, spark: Any, server: FakeModel, tmp_path_factory: Any, tmp_path: Path
) -> None:
    without = Shop(spark, tmp_path_factory, tmp_path / "without", server)
    without.run()
    compared = ("title", "description", "keywords", "status", "reason", "input_key", "key")
    expected = {item: {name: row[name] for name in compared} for item, row in described(spark, without.config).items()}
    rows = described(spark, hostile.shop.config)
    assert len(expected) == without.n_tail() > 40
    assert {item: {name: rows[item][name] for name in compared} for item in expected} == expected


@pytest.mark.slow
def test_each_hostile_item_has_a_row_or_is_counted(hostile: HostileRun, spark: Any) -> None:
    storage = Storage(spark, hostile.shop.config)
    titles = {
        row["item_id"]: row["title"]
        for row in storage.read(t.ITEMS).where(F.col("item_id").startswith("hostile ")).collect()
    }
    refused = storage.read(t.REJECTED_ROWS).where("source = 'items'").count()
    assert len(titles) + refused == len(HOSTILE)
    rows = {item for item in described(spark, hostile.shop.config) if item.startswith("hostile ")}
    assert rows == {item for item, title in titles.items() if clean_text(title or "", 1_000)}
    assert len(rows) > 90


@pytest.mark.slow
def test_hostile_titles_stay_in_their_line_of_the_prompt(hostile: HostileRun) -> None:
    def form(body: dict[str, Any]) -> tuple[Any, ...]:
        roles = tuple(message["role"] for message in body["messages"])
        lines = [line for message in body["messages"] for line in message["content"].splitlines()]
        return roles, tuple(sorted(Counter(s for line in lines for s in LABELS if line.startswith(s)).items()))

    forms = Counter(form(body) for body in hostile.bodies)
    assert sum(forms.values()) > 130
    blocks = {"Title:": 5, "Keywords:": 4, "Description:": 4}  # four examples, and the item's title
    assert {roles for roles, _ in forms} == {("system", "user")}
    # ordinary items show their kind, as do their examples; hostile ones have none
    assert sorted(map(dict, (labels for _, labels in forms)), key=len) == [blocks, {**blocks, "Kind:": 5}]


@pytest.mark.slow
def test_no_hostile_title_reaches_a_log(hostile: HostileRun) -> None:
    said, events = hostile.said.decode("utf-8", "replace"), logged(hostile.events)
    assert "org.apache.spark" in events and "describe" in said, "the logs are there"
    needles = {"Screws", "HACKED"}
    for _, title in HOSTILE:
        needles |= {text.strip()[:25] for text in (title, clean_text(title, 1_000)) if len(text.strip()) >= 8}
    assert len(needles) > 90
    assert [needle for needle in sorted(needles) if needle in said or needle in events] == []


@pytest.mark.slow
def test_the_key_reaches_the_server_and_nothing_else(hostile: HostileRun) -> None:
    sent = [{name.lower(): value for name, value in headers.items()} for headers in hostile.headers]
    assert {headers.get("authorization") for headers in sent} == {f"Bearer {KEY}"}
    files = [path for path in hostile.shop.folder.rglob("*") if path.is_file()]
    assert any(hostile.events in path.parents for path in files)
    assert any(path.suffix == ".parquet" for path in files)
    assert [path.name for path in files if KEY.encode() in path.read_bytes()] == []
    assert KEY.encode() not in hostile.said


# ---- who is reached


@pytest.mark.slow
def test_nothing_but_this_host_is_reached(spark: Any, tmp_path: Path, tmp_path_factory: Any) -> None:
    shop = Shop(spark, tmp_path_factory, tmp_path / "shop")
    shop.change("language_model", engine="transformers", model=write_tiny_model(tmp_path / "Tiny"), base_url="")
    notes = tmp_path / "notes"
    notes.mkdir()
    paths = f"{Path(__file__).parent / 'only_here'}:{ROOT}"
    ended = run_script("describe_script.py", shop.conf, PYTHONPATH=paths, ONLY_HERE=str(notes))
    assert ended == {"kind": "done", "is_complete": True, "torch": False}
    assert len(shop.rows()) == shop.n_tail()
    told = [line for file in notes.iterdir() for line in file.read_text().splitlines()]
    assert any("describe_script" in line for line in told), "the driver obeyed"
    assert any("pyspark.worker" in line for line in told), "and the workers"
    assert [line for line in told if line.startswith("refused")] == []


# ---- folders that cannot be used


def no_folder(folder: Path) -> None:
    shutil.rmtree(folder)


def pickles_only(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.rename(file.with_name("pytorch_model.bin"))


def code_of_its_own(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))


def cut_short(folder: Path) -> None:
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1_000])


def as_it_was(folder: Path) -> None:
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("spoil", "settings", "told"),
    [
        (no_folder, {}, "is missing or cannot be read"),
        (pickles_only, {}, "only pickled weights, which may run code"),
        (code_of_its_own, {}, "config.json asks for code of its own (auto_map), which is never run"),
        (cut_short, {}, "model.safetensors has 1000 bytes, expected"),
        (as_it_was, {"revision": "2"}, "revision '2' expected, found '1'"),
        (as_it_was, {"sha256": "ab" * 32}, f"sha256 {'ab' * 32} expected, found"),
    ],
)
def test_a_folder_that_cannot_be_used_ends_the_run_before_any_stage(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, settings: dict[str, str], told: str
) -> None:
    model = tmp_path / "Tiny"
    write_tiny_model(model)
    spoil(model)
    conf = write_conf(tmp_path, {"engine": "transformers", "model": str(model), **settings})
    monkeypatch.setattr(ask, "ask", None)
    result = CliRunner().invoke(cli.app, ["run", "-c", conf, "--purpose", "evaluate", "--log-json"])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert told in line
    assert str(model) in line
    assert not (tmp_path / "tables" / "silver" / "items").exists()


def write_conf(folder: Path, language_model: dict[str, Any]) -> str:
    settings = write_enrich_shop(folder, "http://127.0.0.1:9/v1") | {"language_model": language_model}
    path = folder / "conf.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return str(path)


# ---- an engine that dies


@pytest.mark.slow
def test_an_engine_that_dies_in_the_middle_loses_nothing(shop: Shop) -> None:
    seen = Counter[str]()

    def dead(_: str) -> None:
        with shop.server.lock:
            seen["questions"] += 1
            is_dead = seen["questions"] > 20
        if is_dead:
            raise ConnectionAbortedError

    shop.server.before = dead
    with pytest.raises(EngineError, match="answers of a wave failed: the engine does not answer"):
        shop.run()
    good = {row["key"]: row for row in shop.rows() if row["status"] != "failed"}
    assert len(good) == 20
    assert {row["reason"] for row in shop.rows() if row["status"] == "failed"} == {"no connection, or it broke"}
    shop.server.before = lambda title: None
    summary = shop.run(go_on=True)
    assert [event.is_complete for event in summary.stages] == [True]
    rows = {row["key"]: row for row in shop.rows()}
    assert len(rows) == len(shop.rows()) == shop.n_tail()
    assert {row["status"] for row in rows.values()} == {"accepted"}
    assert all(rows[key] == row for key, row in good.items())
    assert set(shop.server.asked.values()) == {1}, "what was answered is not asked again"


@pytest.mark.slow
def test_failed_rows_of_an_engine_that_came_back_are_asked_by_continue(shop: Shop) -> None:
    seen = Counter[str]()

    def faint(_: str) -> None:
        with shop.server.lock:
            seen["questions"] += 1
            is_dead = 20 < seen["questions"] <= 26
        if is_dead:
            raise ConnectionAbortedError

    shop.server.before = faint
    summary = shop.run()
    assert [event.is_complete for event in summary.stages] == [False]
    assert Counter(row["status"] for row in shop.rows()) == {"accepted": shop.n_tail() - 6, "failed": 6}
    summary = shop.run(go_on=True)
    assert [event.is_complete for event in summary.stages] == [True]
    assert {row["status"] for row in shop.rows()} == {"accepted"}
    assert set(shop.server.asked.values()) == {1}
