"""The stage context on a handful of users: who is read, what a prompt shows, what is added, what is asked again."""

import csv
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark import context_stage as cs
from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, EngineError
from lt_spark.core.storage import Storage
from lt_spark.frames.known import known
from lt_spark.passes import run
from lt_spark.stages import Context
from tests.enrich_shop import encoder_folder, write_enrich_shop
from tests.fake_model import MODEL, FakeModel, fake_model, sensible_answer, title_of

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]
SIZE = 384
# item: title, segment of fold valid, its direction; item 7 is known to nobody before the held-out events
ITEMS = {
    0: ("Cordless drill", "head", 0),
    1: ("Wood screws", "mid", 0),
    2: ("Steel hammer", "tail", 0),
    3: ("Spirit level", "cold", 0),
    4: ("Bread pan", "head", 1),
    5: ("Baking basket", "tail", 1),
    6: ("Dough scraper", "cold", 1),
    7: ("Unheard of lamp", "head", 0),
    8: ("No direction", "tail", None),
}
# user: (item, split) in the order of the events
LOG = {
    0: [(0, "train"), (1, "train"), (7, "valid"), (2, "test")],
    1: [(4, "train"), (7, "valid")],
    2: [(4, "train"), (5, "train"), (4, "train"), (7, "test")],
    3: [(0, "train"), (1, "train"), (2, "train"), (4, "train")],
    4: [(0, "train"), (1, "train")],
    5: [(0, "train"), (1, "train"), (0, "train"), (1, "train"), (0, "train")],
}
START = datetime(2026, 1, 1)


def answer(text: str) -> str | None:
    """Bakers get an advert, which the gate refuses; the others a reading."""
    if title_of(text) == "Bread pan":
        return " bread\nDescription: Buys what is found at https://example.com for baking."
    return f" power tools\nDescription: Buys {title_of(text).lower()} and other tools for building at home."


@pytest.fixture(scope="module")
def server() -> Iterator[FakeModel]:
    with fake_model() as model:
        model.answer = answer
        yield model


def settings(folder: Path, url: str, **context: Any) -> dict[str, Any]:
    return {
        "tables": {"root": str(folder / "t")},
        "files": {"root": str(folder / "f")},
        "source": {"interactions": {"path": str(folder / "log.csv")}},
        "embed": {"model": encoder_folder()},
        "describe": {"enabled": True, "keyword_fields": ["kind"], "wave_items": 2},
        "language_model": {"engine": "openai", "model": MODEL, "base_url": url, "max_retries": 0, "timeout_s": 20.0},
        "context": {"enabled": True, "max_users": 4, "n_items": 2, "weight": 0.25} | context,
    }


class Shop:
    """The tables that the stages before left, and the stage itself."""

    def __init__(self, spark: Any, server: FakeModel, folder: Path) -> None:
        self.spark, self.server, self.folder = spark, server, folder
        self.notes: list[str] = []
        self.n_before = len(server.bodies)

    def config(self, **context: Any) -> Config:
        return Config.model_validate(settings(self.folder, self.server.url, **context))

    @property
    def storage(self) -> Storage:
        return Storage(self.spark, self.config(), "run-1")

    def run(self, fold: str = "valid", tell: Any = None, renew: bool = False, **context: Any) -> Context:
        config = self.config(**context)
        c = Context(self.spark, config, Storage(self.spark, config, "run-1"), "context", fold, START, "key")
        c.tell, c.renew_examples = tell or (lambda text: None), renew
        cs.context(c)
        return c

    def prompts(self) -> list[str]:
        """What was asked since the shop was opened."""
        return ["\n".join(m["content"] for m in body["messages"]) for body in self.server.bodies[self.n_before :]]

    def contexts(self, fold: str = "valid") -> dict[int, Any]:
        return {row["user_idx"]: row for row in self.storage.read(t.USER_CONTEXTS, fold).collect()}

    def events(self, fold: str, is_augmented: bool) -> list[Any]:
        rows = self.storage.read(t.INTERACTIONS_AUGMENTED, fold).where(F.col("is_augmented") == is_augmented)
        return rows.orderBy("user_idx", "event_order").collect()

    def write(self, table: t.Table, rows: list[dict[str, Any]], fold: str | None = None) -> None:
        names = table.column_names
        given = [tuple(row.get(name) for name in names) for row in rows]
        self.storage.write(table, self.spark.createDataFrame(given, table.schema), fold)

    def write_log(self, log: dict[int, list[tuple[int, str]]]) -> None:
        rows = []
        for user, events in log.items():
            for order, (item, split) in enumerate(events, start=1):
                when = START + timedelta(days=order)
                row = {"user_idx": user, "item_idx": item, "event_order": order, "split": split, "value": 2.0}
                rows.append(row | {"order_value": order, "event_ts": when, "event_type": "view", "event_weight": 1.0})
        self.write(t.INTERACTIONS_SPLIT, rows)


def vector(direction: int | None, length: float = 1.0) -> list[float]:
    return [length if place == direction else 0.0 for place in range(SIZE)]


def last_bought(prompt: str) -> str:
    """The history that a prompt asks about: what stands behind the last example, the reminder aside."""
    lines = prompt[prompt.rindex("\nDescription:") + 1 :].splitlines()[1:]
    return "\n".join(line for line in lines if line and not line.startswith("Reply with the answer alone."))


@pytest.fixture(scope="module")
def made(spark: Any, server: FakeModel, tmp_path_factory: Any) -> Path:
    shop = Shop(spark, server, tmp_path_factory.mktemp("made"))
    (shop.folder / "log.csv").write_text("user_id,item_id,timestamp\n")
    kinds = {0: "power tools", 1: "bread"}
    shop.write(
        t.ITEMS,
        [
            {"item_idx": i, "item_id": f"sku-{i:05d}", "title": title, "attributes": [("kind", kinds.get(place, ""))]}
            for i, (title, _, place) in ITEMS.items()
        ],
    )
    # the later of a direction the longer, so that it is nearer to a history of that direction
    vectors = [
        {"item_idx": i, "vector": vector(place, 1 + i / 10)} for i, (_, _, place) in ITEMS.items()
    ]  # fmt: skip
    shop.write(t.ITEM_EMBEDDINGS, vectors)
    shop.write(t.ITEM_EMBEDDINGS_ENRICHED, vectors)
    segments = [{"fold": "valid", "item_idx": i, "segment": segment} for i, (_, segment, _) in ITEMS.items()]
    shop.write(t.ITEM_SEGMENTS, segments, "valid")
    pool = [{"examples_version": 1, "item_idx": i, "pool_rank": i + 1, "title": ITEMS[i][0]} for i in (0, 4)]
    pool = [row | {"attributes": [("kind", kinds[row["item_idx"] // 4])]} for row in pool]
    shop.write(t.PROMPT_EXAMPLES, pool)
    shop.write_log(LOG)
    return shop.folder


@pytest.fixture(scope="module")
def read(spark: Any, server: FakeModel, made: Path) -> tuple[Shop, list[str]]:
    """The shop after its histories of fold valid were read, and the prompts."""
    shop = Shop(spark, server, made)
    shop.notes = shop.run().notes
    return shop, shop.prompts()


@pytest.fixture
def shop(spark: Any, server: FakeModel, read: tuple[Shop, list[str]], tmp_path: Path) -> Iterator[Shop]:
    """A copy of the shop that was read."""
    shutil.copytree(read[0].folder, tmp_path / "shop")
    yield Shop(spark, server, tmp_path / "shop")
    server.answer = answer


def test_the_shortest_histories_are_read_each_text_once(read: tuple[Shop, list[str]]) -> None:
    shop, prompts = read
    found = shop.contexts()
    assert set(found) == {0, 4, 2, 3}, "user 1 has one event, user 5 the longest history"
    assert sorted(last_bought(prompt).splitlines() for prompt in prompts) == [
        ["Bought: Bread pan", "Bought: Baking basket", "Bought: Bread pan"],  # refused, and once more
        ["Bought: Bread pan", "Bought: Baking basket", "Bought: Bread pan"],
        ["Bought: Cordless drill", "Bought: Wood screws"],  # of two users
        ["Bought: Cordless drill", "Bought: Wood screws", "Bought: Steel hammer", "Bought: Bread pan"],
        ["Bought: Cordless drill", "Bought: Wood screws", "Bought: Steel hammer", "Bought: Bread pan"],
    ]
    assert {user: (row["status"], row["reason"], row["n_titles"]) for user, row in found.items()} == {
        0: ("accepted", None, 2),
        4: ("accepted", None, 2),
        2: ("refused", "contact", 3),
        3: ("refused", "contact", 4),
    }
    assert found[0]["context"] == "Buys wood screws and other tools for building at home. power tools"
    assert found[0]["context"] == found[4]["context"] and found[0]["input_key"] == found[4]["input_key"]
    assert len(found[0]["vector"]) == SIZE and found[2]["vector"] is None
    assert [note.split(";")[0] for note in shop.notes] == [
        "context (valid): histories read: 2 accepted, 2 refused"
    ]  # fmt: skip
    assert shop.storage.read(t.CONTEXT_STAGING).isEmpty(), "no history lies about"
    report = {row["measure"]: row["value"] for row in shop.storage.read(t.ENRICHMENT_REPORT, "valid").collect()}
    counts = {"status_accepted": 2, "status_refused": 2, "status_failed": 0, "prompt_tokens": 600, "output_tokens": 120}
    assert report == counts | {"pseudo_events": len(shop.events("valid", True))}


def test_no_id_no_time_and_no_future_in_a_prompt(read: tuple[Shop, list[str]]) -> None:
    for prompt in read[1]:
        titles = [line for line in last_bought(prompt).splitlines() if line]
        assert all(line.startswith("Bought: ") for line in titles)
        assert not any(char.isdigit() for char in "".join(titles))
        assert not any(word in prompt for word in ("sku-", "2026", "user_", "Unheard"))
    assert {header.lower() for header in read[0].server.headers[0]} <= {
        "host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length",
        "authorization", "x-stainless-lang", "x-stainless-package-version", "x-stainless-os", "x-stainless-arch",
        "x-stainless-runtime", "x-stainless-runtime-version", "x-stainless-async", "x-stainless-retry-count",
        "x-stainless-read-timeout", "x-stainless-timeout",
    }  # fmt: skip


def test_pseudo_events_are_tail_items_new_to_the_user(read: tuple[Shop, list[str]]) -> None:
    shop, _ = read
    pseudo = shop.events("valid", True)
    # of a refused reading the mean of the history speaks: user 2 knows item 5, and item 6 lies in the same direction;
    # user 3 has item 2, item 3 is nearer to three tools than items 6 and 5 to one pan
    by_history = [
        (row["user_idx"], row["event_order"], row["item_idx"]) for row in pseudo if row["source"] == "history"
    ]
    assert by_history == [(2, 4, 6), (3, 5, 3), (3, 6, 6)]
    by_reading = [row for row in pseudo if row["source"] == "context"]
    assert {row["user_idx"] for row in by_reading} <= {0, 4}
    histories = {user: [item for item, split in events if split == "train"] for user, events in LOG.items()}
    for row in pseudo:
        assert ITEMS[row["item_idx"]][1] in ("tail", "cold") and row["item_idx"] != 8
        assert row["item_idx"] not in histories[row["user_idx"]]
        assert row["event_order"] > len(histories[row["user_idx"]])
        assert (row["weight"], row["event_weight"], row["event_ts"]) == (0.25, 0.25, None)
    assert len({(row["user_idx"], row["event_order"]) for row in pseudo}) == len(pseudo)


def rows_of(frame: Any) -> list[Any]:
    return frame.select(*[column.name for column in t.EVENT]).orderBy("user_idx", "event_order").collect()


def test_the_log_is_all_there_and_nothing_of_the_future(read: tuple[Shop, list[str]]) -> None:
    shop, _ = read
    real = shop.events("valid", False)
    split = shop.storage.read(t.INTERACTIONS_SPLIT)
    written = shop.storage.read(t.INTERACTIONS_AUGMENTED, "valid").where("not is_augmented")
    assert rows_of(written) == rows_of(known(split, "valid"))
    assert {(row["weight"], row["source"]) for row in real} == {(1.0, "log")}
    assert 7 not in {row["item_idx"] for row in shop.storage.read(t.INTERACTIONS_AUGMENTED, "valid").collect()}


def test_nothing_is_asked_twice_and_who_is_gone_is_gone(shop: Shop) -> None:
    before = shop.contexts()
    shop.write_log({user: events for user, events in LOG.items() if user != 4})
    c = shop.run(renew=True)
    titles = ["Bought: Cordless drill", "Bought: Wood screws"]
    asked = [last_bought(prompt).splitlines() for prompt in shop.prompts()]
    assert asked == [[*titles, *titles, titles[0]]], "user 5 moved up, and is the one new history"
    after = shop.contexts()
    assert set(after) == {0, 2, 3, 5}
    assert {user: after[user] for user in (0, 2, 3)} == {user: before[user] for user in (0, 2, 3)}
    assert 4 not in {row["user_idx"] for row in shop.events("valid", True)}
    versions = shop.storage.read(t.PROMPT_EXAMPLES).select("examples_version").distinct().collect()
    assert [row[0] for row in versions] == [1], "the pool is renewed by describe alone"
    assert c.is_complete


@pytest.mark.parametrize("fold", ["valid", "test", "live"])
def test_off_is_the_known_log(shop: Shop, fold: str) -> None:
    if fold == "valid":
        shop.storage.merge_new(  # what a killed run left
            t.CONTEXT_STAGING,
            shop.spark.createDataFrame(
                [tuple("x" if name == "input_key" else None for name in t.CONTEXT_STAGING.column_names)],
                t.CONTEXT_STAGING.schema,
            ),
        )
    shop.run(fold, enabled=False)
    assert shop.events(fold, True) == []
    written = shop.storage.read(t.INTERACTIONS_AUGMENTED, fold)
    assert rows_of(written) == rows_of(known(shop.storage.read(t.INTERACTIONS_SPLIT), fold))
    assert written.where("weight != 1 or source != 'log' or is_augmented").isEmpty()
    assert shop.contexts(fold) == {}, "readings are of people's histories: none is kept"
    assert shop.storage.read(t.CONTEXT_STAGING).isEmpty()
    assert shop.prompts() == []


class Killed(Exception):
    pass


def test_what_a_killed_run_read_is_not_asked_again(spark: Any, server: FakeModel, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "shop", ignore=shutil.ignore_patterns("user_contexts", "context_staging"))
    shop = Shop(spark, server, tmp_path / "shop")

    def kill(text: str) -> None:
        assert text.startswith("2 of 3 histories")
        raise Killed

    with pytest.raises(Killed):
        shop.run(tell=kill)
    first = shop.prompts()
    staged = {row["input_key"] for row in shop.storage.read(t.CONTEXT_STAGING).collect()}
    assert len(staged) == 2
    shop.n_before = len(server.bodies)
    shop.run()
    rest = shop.prompts()
    assert not {last_bought(p) for p in first} & {last_bought(p) for p in rest}
    assert len({last_bought(p) for p in first + rest}) == 3
    assert set(shop.contexts()) == {0, 4, 2, 3}
    assert staged < {row["input_key"] for row in shop.contexts().values()}
    assert shop.storage.read(t.CONTEXT_STAGING).isEmpty()


def test_what_the_engine_failed_on_is_told_and_asked_again(
    spark: Any, server: FakeModel, made: Path, tmp_path: Path
) -> None:
    shutil.copytree(made, tmp_path / "shop", ignore=shutil.ignore_patterns("user_contexts", "context_staging"))
    shop = Shop(spark, server, tmp_path / "shop")
    server.answer = lambda text: None if title_of(text) == "Wood screws" else answer(text)
    c = shop.run()
    assert not c.is_complete
    assert "complete=false: the engine failed on 2 histories" in c.notes[-1]
    assert {user: row["status"] for user, row in shop.contexts().items()} == {
        0: "failed", 4: "failed", 2: "refused", 3: "refused"
    }  # fmt: skip
    assert {row["source"] for row in shop.events("valid", True) if row["user_idx"] in (0, 4)} == {"history"}
    server.answer, shop.n_before = answer, len(server.bodies)
    c = shop.run()
    assert c.is_complete and len(shop.prompts()) == 1
    assert {row["status"] for user, row in shop.contexts().items() if user in (0, 4)} == {"accepted"}


def test_a_dead_engine_stops_the_stage_at_its_wave(
    spark: Any, server: FakeModel, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "shop", ignore=shutil.ignore_patterns("user_contexts", "context_staging"))
    shop = Shop(spark, server, tmp_path / "shop")
    monkeypatch.setattr(cs, "MIN_FAILED", 1)

    def die(text: str) -> None:
        server.answer = lambda text: None

    try:
        with pytest.raises(EngineError, match="all 1 readings of a wave failed: the engine does not answer"):
            shop.run(tell=die)
        server.answer, shop.n_before = answer, len(server.bodies)
        shop.run()
    finally:
        server.answer = answer
    assert len({last_bought(prompt) for prompt in shop.prompts()}) == 1, "the wave before is kept"
    assert not {"failed"} & {row["status"] for row in shop.contexts().values()}


def test_histories_leave_this_host_only_where_that_is_allowed(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_enrich_shop(tmp_path, "")
    remote = settings(tmp_path, "https://llm.example.com/v1")
    remote["source"] = {"interactions": {"path": str(tmp_path / "interactions.csv")}}
    with pytest.raises(ConfigError, match="titles of users' histories would leave it. Set privacy.allow_remote_hist"):
        run(spark, Config.model_validate(remote), purpose="evaluate")
    assert not (tmp_path / "t").exists(), "before anything ran"
    es.check_config(Config.model_validate(remote | {"privacy": {"allow_remote_histories": True}}))
    es.check_config(Config.model_validate(settings(tmp_path, "http://127.0.0.1:8000/v1")))
    es.check_config(Config.model_validate(remote | {"context": {"enabled": False}}))
    for wrong, told in (
        ({"language_model": {"engine": "imported"}}, "engine is imported"),
        ({"describe": {"enabled": False}}, "expected embed.model and describe.enabled too"),
        ({"embed": {}}, "embed.model is empty"),
    ):
        with pytest.raises(ConfigError, match=told):
            es.check_config(Config.model_validate(settings(tmp_path, "http://127.0.0.1:8000/v1") | wrong))


def test_a_whole_run_reads_each_fold_by_what_it_may_know(spark: Any, tmp_path: Path) -> None:
    planted = "Lighthouse keeper"
    with fake_model() as server:
        config = _planted_shop(tmp_path, server, planted)
        summary = run(spark, config, last="context")
        storage = Storage(spark, config)
        assert {event.fold for event in summary.stages if event.stage == "context"} == {"valid", "test", "live"}
        texts = ["\n".join(m["content"] for m in body["messages"]) for body in server.bodies]
        histories = [last_bought(text) for text in texts if "\nBought:" in text]
        assert histories and all(line.startswith("Bought: ") for h in histories for line in h.splitlines() if line)
        assert not any(f"u{n:03d}" in h for h in histories for n in range(80))
        split = storage.read(t.INTERACTIONS_SPLIT)
        (item,) = (row["item_idx"] for row in storage.read(t.ITEMS).where(F.col("title") == planted).collect())
        ((user, held_out),) = (
            (row["user_idx"], row["split"]) for row in split.where(F.col("item_idx") == item).collect()
        )
        assert held_out == "test"
        for fold in ("valid", "test", "live"):
            lengths = {r["user_idx"]: r["count"] for r in known(split, fold).groupBy("user_idx").count().collect()}
            shortest = sorted((n, who) for who, n in lengths.items() if n >= 2)[: config.context.max_users]
            assert {row["user_idx"] for row in storage.read(t.USER_CONTEXTS, fold).collect()} == {
                who for _, who in shortest
            }
            rows = storage.read(t.INTERACTIONS_AUGMENTED, fold)
            assert rows_of(rows.where("not is_augmented")) == rows_of(known(split, fold))
            real = rows.where((F.col("user_idx") == user) & (F.col("item_idx") == item) & ~F.col("is_augmented"))
            assert real.isEmpty() == (fold != "live")
        n_planted = sum(planted in history for history in histories)
        assert n_planted == 1, "in fold live alone"
        asked = len(server.bodies)
        run(spark, config, last="context", force=True, stages=["context"])
        assert len(server.bodies) == asked, "nothing is asked again"


def _planted_shop(folder: Path, server: FakeModel, planted: str) -> Config:
    """A shop in which one user's newest event is of an item that nobody else has."""
    given = write_enrich_shop(folder, server.url)
    with (folder / "items.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow(["planted", planted, "wall paint, paint"])
    with (folder / "interactions.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            ["newcomer", item, int(datetime(2022, 1, day, tzinfo=UTC).timestamp())]
            for day, item in ((1, "00"), (2, "04"), (3, "08"), (4, "planted"))
        )

    def said(text: str) -> str | None:
        if "Bought:" not in text:
            return sensible_answer(text)
        return f" garden tool, tool\nDescription: Buys {title_of(text).lower()} and more for the garden and the house."

    server.answer = said
    return Config.model_validate(given | {"context": {"enabled": True, "max_users": 12, "n_items": 2}})
