"""What ``clean`` makes of triples: item, relation, entity."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from lt_spark.core.config import Config
from lt_spark.core.errors import DataError, SourceError
from lt_spark.models.content import documents
from lt_spark.prepare.clean import clean, verify_report

pytestmark = pytest.mark.spark

PLACE = "_file string, _record bigint, _error string"
ITEMS = [("1", "Heat", "crime"), ("2", "Ronin", None), ("3", "", None)]


def conf(**triples: Any) -> Config:
    source = {
        "interactions": {"columns": {"user": "u", "item": "i", "time": "t"}},
        "items": {"path": "items.csv", "columns": {"item": "i", "title": "title", "text": ["genre"]}},
        "triples": {"path": "a.kg", **triples},
        "links": {"path": "a.link"},
    }
    return Config.model_validate({"source": source, "clean": {"max_title_chars": 20, "max_rejected_share": 0.5}})


@pytest.fixture
def cleaned(spark: SparkSession) -> Callable[..., Any]:
    """Clean a log of items 1, 2 and 9 with triples, and links unless they are None."""

    def run(triples: list[tuple[Any, ...]], links: list[tuple[Any, ...]] | None, config: Config) -> Any:
        def frame(rows: list[tuple[Any, ...]], columns: str, file: str) -> Any:
            placed = [(*row, file, place, None) for place, row in enumerate(rows, 2)]
            return spark.createDataFrame(placed, f"{columns}, {PLACE}")

        log = [("a", "1", "1700000000"), ("a", "2", "1700000001"), ("b", "9", "1700000002")]
        return clean(
            frame(log, "u string, i string, t string", "log.csv"),
            frame(ITEMS, "i string, title string, genre string", "items.csv"),
            None,
            None,
            None,
            config,
            datetime(2024, 6, 1, tzinfo=UTC),
            "key",
            None,
            frame(triples, "head_id string, relation_id string, tail_id string", "a.kg"),
            None if links is None else frame(links, "item_id string, entity_id string", "a.link"),
        )

    return run


def attributes(items: Any) -> dict[str, list[tuple[str, str]]]:
    """Each item's attributes by its own id."""
    return {row["item_id"]: [tuple(pair) for pair in row["attributes"]] for row in items.collect()}


def told(result: Any, source: str) -> dict[str, int]:
    return {row["measure"]: row["n_rows"] for row in result.clean_report.collect() if row["source"] == source}


@pytest.mark.slow
def test_facts_stand_behind_an_items_own_attributes(cleaned: Callable[..., Any]) -> None:
    triples = [
        ("m.heat", "actor", "Pacino"),
        ("m.heat", "actor", "De Niro"),
        ("m.heat", "actor", "De Niro"),  # said twice
        ("m.ronin", "actor", "De Niro"),
        ("m.heat", "genre", "drama"),  # the catalogue's own word stays
        ("m.nine", "actor", "who is not in the catalogue"),
        ("m.other", "actor", "of no item"),
    ]
    links = [("1", "m.heat"), ("2", "m.ronin"), ("9", "m.nine"), ("9", "m.nine"), ("77", "m.other")]
    result = cleaned(triples, links, conf())
    assert attributes(result.items) == {
        "1": [("genre", "crime"), ("actor", "De Niro, Pacino")],
        "2": [("actor", "De Niro")],
        "3": [],
        "9": [("actor", "who is not in the ca")],
    }
    assert result.rejected_rows.collect() == []
    of_triples = told(result, "triples")
    assert (of_triples["rows_in"], of_triples["kept"], of_triples["items"], of_triples["items_matched"]) == (7, 7, 4, 3)
    assert told(result, "links")["kept"] == 5
    verify_report(result.clean_report.collect(), conf())
    texts = {row["item_idx"]: row["text"] for row in documents(result.items).collect()}
    assert any("De Niro" in text and "Ronin" in text for text in texts.values())


@pytest.mark.slow
def test_without_links_triples_begin_with_the_items_own_ids(cleaned: Callable[..., Any]) -> None:
    result = cleaned([("1", "actor", "Pacino"), ("m.heat", "actor", "De Niro")], None, conf())
    assert attributes(result.items)["1"] == [("genre", "crime"), ("actor", "Pacino")]


def test_relations_are_chosen_and_entities_counted(cleaned: Callable[..., Any]) -> None:
    triples = [("1", "actor", name) for name in ("c", "a", "b")] + [("1", "writer", "w"), ("2", "writer", "w")]
    result = cleaned(triples, None, conf(relations=["actor"], max_values=2))
    assert attributes(result.items)["1"] == [("genre", "crime"), ("actor", "a, b")]
    assert attributes(result.items)["2"] == []
    assert told(result, "triples")["not_selected"] == 2
    wanted = cleaned(triples, None, conf(where="tail_id = 'w'"))
    assert attributes(wanted.items)["2"] == [("writer", "w")]
    assert told(wanted, "triples")["not_selected"] == 3


def test_what_cannot_be_used_is_refused_with_a_reason(cleaned: Callable[..., Any]) -> None:
    triples = [
        ("1", "actor", "Pacino"),
        ("", "actor", "x"),
        ("1", None, "x"),
        ("1", "actor", " \x00 "),
        ("1", "by", "y"),
    ]
    result = cleaned(triples, [("1", "1"), ("2", "")], conf())
    refused = {(row["source"], row["record"], row["reason"]) for row in result.rejected_rows.collect()}
    assert refused == {
        ("triples", 3, "head id is empty"),
        ("triples", 4, "relation is empty"),
        ("triples", 5, "tail is empty"),
        ("links", 3, "entity is empty"),
    }
    with pytest.raises(DataError, match=r"source.triples: 3 of 5 rows refused"):
        verify_report(result.clean_report.collect(), conf())


@pytest.mark.slow
def test_hostile_text_is_text(cleaned: Callable[..., Any]) -> None:
    hostile = "ignore all\n rules`; DROP"
    result = cleaned([("1", hostile, hostile), ("2", "名", "東京 🙂")], None, conf())
    names = [name for name, _ in attributes(result.items)["1"]]
    assert all("\n" not in name and len(name) <= 20 for name in names)
    assert attributes(result.items)["2"] == [("名", "東京 🙂")]


@pytest.mark.slow
def test_triples_of_other_items_stop_the_run(cleaned: Callable[..., Any]) -> None:
    result = cleaned([("m.heat", "actor", "Pacino")], None, conf())
    rows: list[Row] = result.clean_report.collect()
    with pytest.raises(DataError, match="no triple begins with an item"):
        verify_report(rows, conf())


def test_a_missing_column_is_named(cleaned: Callable[..., Any]) -> None:
    with pytest.raises(SourceError, match=r"source.triples.columns.head is 'heads', a column that 'a.kg' lacks"):
        cleaned([("1", "actor", "x")], None, conf(columns={"head": "heads"}))
