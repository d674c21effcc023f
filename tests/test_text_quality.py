"""The measure of the texts: what is hidden never shows, the truth scores 1, another item's answer about 0."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError
from lt_spark.core.storage import Storage
from lt_spark.text_quality import _compare, measure_quality
from tests.enrich_shop import encoder_folder
from tests.fake_model import MODEL, FakeModel, fake_model, title_of

N_ITEMS, SIZE = 48, 384
KINDS = ("garden tool, spade", "kitchen ware, kettle", "office paper, envelope", "wall paint, brush")
Measured = dict[tuple[str, str], Any]


def settings(folder: Path, url: str) -> dict[str, Any]:
    return {
        "tables": {"root": str(folder / "t")},
        "files": {"root": str(folder / "f")},
        "source": {
            "interactions": {"path": "log.csv"},
            "items": {"path": "items.csv", "columns": {"text": ["kind", "about", "maker"]}},
        },
        "embed": {"model": encoder_folder()},
        "describe": {"keyword_fields": ["kind"], "description_field": "about", "input_fields": ["maker"]},
        "language_model": {"engine": "openai", "model": MODEL, "base_url": url, "max_retries": 0},
        "text_gate": {"min_similarity": -1.0},
    }


def measure(spark: Any, config: Config, **given: Any) -> list[dict[str, Any]]:
    options = {"hide": (), "n_items": 20, "kinds": ("nearest",), "skip": 0, "run_id": "quality-1"} | given
    return measure_quality(spark, config, **options)


def by_method(rows: list[dict[str, Any]]) -> Measured:
    return {(row["method"], row["measure"]): row for row in rows}


def config_of(**sections: Any) -> Config:
    given = settings(Path("nowhere"), "http://127.0.0.1:9/v1")
    return Config.model_validate(given | {name: given.get(name, {}) | values for name, values in sections.items()})


@pytest.mark.parametrize(
    ("sections", "options", "told"),
    [
        ({}, {"hide": ("knid",)}, r"--hide knid: expected an attribute .*\(kind, about, maker\).* Did you mean 'kind'"),
        ({}, {"hide": ("maker",)}, r"at least one of describe.keyword_fields \(kind\).*found maker"),
        ({"embed": {"fields": ["maker", "kind"]}}, {}, r"embed.fields has \['kind'\], which are hidden"),
        ({}, {"kinds": ("nearest", "fxied")}, "expected nearest or fixed, found 'fxied'. Did you mean 'fixed'"),
        ({"language_model": {"engine": "imported"}}, {}, "engine is imported: expected an engine that can be asked"),
        ({"describe": {"keyword_fields": []}}, {}, "describe.keyword_fields is empty"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_is_asked(
    sections: dict[str, Any], options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        measure(None, config_of(**sections), **options)


def answered(item_idx: int, title: str, kind: str, answer: str, **values: Any) -> dict[str, Any]:
    """A row of the measure: an item, and what came back of it."""
    common = {"status": "accepted", "keywords": None, "has_own_keywords": False, "fallback_keywords": ["voted"]}
    attributes = [{"name": "kind", "value": kind}, {"name": "maker", "value": "Acme"}]
    return common | {"item_idx": item_idx, "title": title, "attributes": attributes, "answer": answer} | values


def test_shares_by_hand() -> None:
    rows = [
        # new hidden words: tool, spade ("garden" is the title's); new keywords: spade, rake
        answered(1, "Garden helper", "garden tool, spade", " garden, spade, rake\nDescription: An Acme tool.",
                 keywords=["spade"], has_own_keywords=True, fallback_keywords=["tool", "spade"]),
        # new hidden: kettle, ware; keywords: kettle; only the description was refused
        answered(2, "Kitchen thing", "kitchen ware, kettle", " kettle\nDescription: It.", status="fallback",
                 keywords=["kettle"], has_own_keywords=True, fallback_keywords=["tool"]),
        # no form: nothing written
        answered(3, "Brush", "paint", "I cannot help.", status="fallback", keywords=["voted"]),
        # the engine failed
        answered(4, "Box", "paper", "", status="failed"),
        # nothing new is hidden: not measured
        answered(5, "Spade", "spade", " spade\nDescription: A spade."),
    ]  # fmt: skip
    found = by_method(_compare(rows, config_of(), ("kind", "about"), "Keywords:"))
    value = {key: row["value"] for key, row in found.items()}
    assert {row["n"] for row in found.values()} == {4, 2}
    approx = pytest.approx
    assert value["keywords", "recall"] == approx((1 / 2 + 1 / 2 + 0 + 0) / 4)
    assert value["keywords", "precision"] == approx((1 / 2 + 1 + 0 + 0) / 4)
    assert value["keywords that the gate let pass", "recall"] == approx((1 / 2 + 1 / 2) / 2)
    assert value["keywords that the gate let pass", "precision"] == approx((1 + 1) / 2)
    assert found["keywords that the gate let pass", "recall"]["n"] == 2
    # each is judged by the next one's: kettle; nothing; nothing; garden, spade, rake
    assert value["another item's keywords", "recall"] == 0
    assert value["vote of the five nearest titles", "recall"] == approx((2 / 2 + 0 + 0 + 0) / 4)
    assert value["vote of the five nearest titles", "precision"] == approx((2 / 2 + 0 + 0 + 0) / 4)
    # "An Acme tool.": tool is new and hidden; Acme is shown
    assert value["description", "recall"] == approx((1 / 2) / 4)
    assert value["title alone", "recall of all hidden words"] == approx((1 / 3 + 1 / 3 + 0 + 0) / 4)
    assert value["title and keywords", "recall of all hidden words"] == approx((2 / 3 + 2 / 3 + 0 + 0) / 4)
    assert value["the gate", "share of keywords passed"] == approx(2 / 4)
    assert value["the gate", "share accepted whole"] == approx(1 / 4)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())


@pytest.fixture(scope="module")
def server() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


def kind_of(item_idx: int) -> str:
    return KINDS[item_idx % len(KINDS)]


@pytest.fixture(scope="module")
def tables(spark: Any, server: FakeModel, tmp_path_factory: Any) -> Path:
    """Items of four kinds; two of them lack the kind, and one its title."""
    folder = tmp_path_factory.mktemp("quality")
    storage = Storage(spark, Config.model_validate(settings(folder, server.url)), "made")

    def write(table: t.Table, rows: list[dict[str, Any]], fold: str | None = None) -> None:
        given = [tuple(row.get(name) for name in table.column_names) for row in rows]
        storage.write(table, spark.createDataFrame(given, table.schema), fold)

    def attributes(item: int) -> list[tuple[str, str | None]]:
        kind = None if item in (5, 6) else kind_of(item)
        return [("kind", kind), ("about", f"A secret {kind_of(item)} text."), ("maker", f"Maker{item % 3}")]

    write(
        t.ITEMS,
        [
            {"item_idx": i, "item_id": f"i{i}", "title": "" if i == 7 else f"Thing {i}", "attributes": attributes(i)}
            for i in range(N_ITEMS)
        ],
    )
    # by kind, and a little by item, so that no two are the same
    near = [[1.0 if place in (i % 4, 4 + i) else 0.0 for place in range(SIZE)] for i in range(N_ITEMS)]
    write(t.ITEM_EMBEDDINGS, [{"item_idx": i, "vector": vector} for i, vector in enumerate(near)])
    ranks = [{"fold": "valid", "item_idx": i, "popularity_rank": i + 1, "segment": "head"} for i in range(N_ITEMS)]
    write(t.ITEM_SEGMENTS, ranks, "valid")
    write(t.INTERACTIONS_SPLIT, [])  # the pool of examples is held against it
    return folder


@pytest.fixture
def ask(spark: Any, server: FakeModel, tables: Path) -> Callable[..., Any]:
    """Measure with a server that answers by the item's number; return the measures and the prompts."""

    def asked(answer: Callable[[int], str], **options: Any) -> tuple[Measured, list[str]]:
        server.answer = lambda text: answer(int(title_of(text).split()[1]))
        before = len(server.bodies)
        rows = measure(spark, Config.model_validate(settings(tables, server.url)), **options)
        prompts = ["\n".join(m["content"] for m in body["messages"]) for body in server.bodies[before:]]
        return by_method(rows), prompts

    return asked


def truth(item: int) -> str:
    return f" {kind_of(item)}\nDescription: A handy thing for everyday use at home."


def sample(skip: int, n: int) -> list[int]:
    """The first items by the hash of their ids, of those that have what is hidden."""
    full = [i for i in range(N_ITEMS) if i not in (5, 6, 7)]
    ordered = sorted(full, key=lambda i: hashlib.sha256(f"enrich-quality:i{i}".encode()).hexdigest())
    return ordered[skip : skip + n]


@pytest.mark.spark
@pytest.mark.slow
def test_the_truth_scores_one_and_what_is_hidden_never_shows(ask: Callable[..., Any]) -> None:
    found, prompts = ask(truth)
    assert found["keywords", "recall"]["value"] == found["keywords", "precision"]["value"] == 1
    assert found["keywords", "recall"]["n"] == 20
    assert found["vote of the five nearest titles", "recall"]["value"] == 1, "neighbours know"
    assert found["title alone", "recall of all hidden words"]["value"] == 0
    assert {row["examples"] for row in found.values()} == {"nearest"}
    assert ("gain by the text", "neighbour agreement") not in found, "there is no log"
    assert sorted(int(title_of(prompt).split()[1]) for prompt in prompts) == sorted(sample(0, 20)), "each once"
    for prompt in prompts:
        asked = prompt[prompt.rindex("Title:") :]
        item = int(title_of(prompt).split()[1])
        assert f"Maker{item % 3}" in asked
        assert not any(word in asked.lower() for word in (*kind_of(item).replace(",", "").split(), "secret"))
        examples = prompt[: prompt.rindex("Title:")]
        assert f"Title: Thing {item}\n" not in examples and examples.count("Keywords: ") == 4


@pytest.mark.spark
@pytest.mark.slow
def test_another_items_answer_scores_nothing(ask: Callable[..., Any]) -> None:
    found, _ = ask(lambda item: truth(item + 1))
    assert found["keywords", "recall"]["value"] == found["keywords", "precision"]["value"] == 0
    assert found["vote of the five nearest titles", "recall"]["value"] == 1, "whatever the model says"


@pytest.mark.spark
@pytest.mark.slow
def test_fixed_examples_leave_themselves_out_and_the_first_are_skipped(ask: Callable[..., Any]) -> None:
    found, prompts = ask(truth, kinds=("fixed",), n_items=30, skip=12)
    asked = {int(title_of(prompt).split()[1]) for prompt in prompts}
    titles = [[line for line in prompt.splitlines() if line.startswith("Title: ")] for prompt in prompts]
    (shown,) = {frozenset(int(line.split()[2]) for line in lines[:-1]) for lines in titles}
    assert len(shown) == 16, "the same for all"
    assert asked == set(sample(12, 30)) - shown
    assert len(asked) < 30, "the sample held some of them"
    assert all(f"Title: Thing {item}\n" in prompt for prompt in prompts for item in shown)
    assert found["keywords", "recall"]["n"] == len(asked)
    assert {row["examples"] for row in found.values()} == {"fixed"}


@pytest.mark.spark
@pytest.mark.slow
def test_nothing_to_hide_is_told(spark: Any, server: FakeModel, tables: Path, tmp_path: Path) -> None:
    shutil.copytree(tables, tmp_path / "shop")
    given = settings(tmp_path / "shop", server.url)
    given["source"]["items"]["columns"]["text"].append("none")
    given["describe"]["keyword_fields"] = ["none"]
    with pytest.raises(DataError, match=r"no item has all of \['none'\] \(describe.keyword_fields\)"):
        measure(spark, Config.model_validate(given))


@pytest.mark.spark
@pytest.mark.slow
def test_with_a_log_the_agreement_of_neighbours_is_told(spark: Any, server: FakeModel, tmp_path: Path) -> None:
    from lt_spark.passes import run
    from tests.enrich_shop import write_enrich_shop

    given = write_enrich_shop(tmp_path, server.url)
    config = Config.model_validate(given)
    run(spark, config, purpose="evaluate", last="segment")
    words = {0: "garden tool", 1: "kitchen ware", 2: "office paper", 3: "wall paint"}
    server.answer = lambda text: (
        f" {words[int(title_of(text).split()[1]) % 4]}\nDescription: A handy thing for everyday use at home."
    )
    found = by_method(measure(spark, config, n_items=40))
    assert found["keywords", "recall"]["value"] == 1
    for name in ("title alone", "title and accepted text", "gain by the text"):
        assert found[name, "neighbour agreement"]["n"] > 0
    gain = found["title and accepted text", "neighbour agreement"]["value"]
    gain -= found["title alone", "neighbour agreement"]["value"]
    assert found["gain by the text", "neighbour agreement"]["value"] == pytest.approx(gain)
