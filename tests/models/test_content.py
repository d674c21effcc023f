"""Items alike by words and by meaning, against cosines by hand."""

from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_models import ContentConfig
from lt_spark.models import content

pytestmark = pytest.mark.spark
Frame = Callable[..., Any]
# "red" is in 3 of 5 texts, "lamp" and "desk" in 2, "blue" in 2; the other words are of one text alone
TEXTS = [
    (0, "red lamp"),
    (1, "Red LAMPS!"),
    (2, "blue desk"),
    (3, "red desk, oak"),
    (4, "blue sky"),
    (5, "  "),
    (6, None),
]


@pytest.fixture
def texts(spark: Any) -> Any:
    return spark.createDataFrame(TEXTS, "item_idx int, text string")


def items_of(spark: Any, *numbers: int) -> Any:
    return spark.createDataFrame([(number,) for number in numbers], "item_idx int")


def similarities(rows: Any) -> dict[tuple[int, int], float]:
    return {(row["item_idx"], row["neighbour_idx"]): row["similarity"] for row in rows.collect()}


def lexical(spark: Any, texts: Any, folder: Path, allowed: Any = None, n: int = 10, **settings: Any) -> Any:
    config = ContentConfig(max_document_share=1.0, **settings)
    weights = content.term_weights(content.word_counts(texts, config), config)
    everything = items_of(spark, *range(7))
    allowed = everything if allowed is None else allowed
    return content.lexical_neighbours(weights, everything, allowed, n, scratch=str(folder), n_items=7)


def test_lexical_similarity_is_the_cosine_of_tf_idf(spark: Any, texts: Any, tmp_path: Path) -> None:
    found = similarities(lexical(spark, texts, tmp_path / "a"))
    red, lamp, desk, blue = (1 + log((1 + 5) / (1 + df)) for df in (3, 2, 2, 2))
    assert found[0, 1] == pytest.approx(1.0, abs=1e-6)
    assert found[0, 3] == pytest.approx(red * red / (sqrt(red**2 + lamp**2) * sqrt(red**2 + desk**2)), abs=1e-6)
    assert found[2, 4] == pytest.approx(blue / sqrt(blue**2 + desk**2), abs=1e-6)
    assert (0, 2) not in found
    assert not any(0 in pair and 0 == pair[1] == pair[0] for pair in found)
    assert {item for pair in found for item in pair} == {0, 1, 2, 3, 4}


def test_common_words_and_words_of_one_item_say_nothing(spark: Any, texts: Any, tmp_path: Path) -> None:
    config = ContentConfig(max_document_share=0.5)
    weights = content.term_weights(content.word_counts(texts, config), config)
    of_item = {row["item_idx"]: 0 for row in weights.collect()}
    for row in weights.collect():
        of_item[row["item_idx"]] += 1
    # red is in 3 of 5 texts, more than half; oak and sky in one
    assert of_item == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}


def test_only_items_that_may_be_recommended_are_neighbours(spark: Any, texts: Any, tmp_path: Path) -> None:
    found = similarities(lexical(spark, texts, tmp_path / "a", items_of(spark, 1, 2)))
    assert {pair[1] for pair in found} == {1, 2}


@pytest.mark.slow
def test_shards_give_the_same_neighbours(
    spark: Any, texts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lexical(spark, texts, tmp_path / "a", n=1).collect()
    monkeypatch.setattr(content, "EDGES_PER_SHARD", 2)
    in_shards = lexical(spark, texts, tmp_path / "b", n=1).collect()
    assert sorted(whole) == sorted(row for row in in_shards)
    assert len(whole) == 5


def test_scripts_without_blanks_have_neighbours(spark: Any, tmp_path: Path) -> None:
    said = [(0, "不锈钢螺丝"), (1, "不锈钢扳手"), (2, "木工胶水"), (3, "ไขควง"), (4, "ไขควงไฟฟ้า"), (5, "木工")]
    found = similarities(lexical(spark, spark.createDataFrame(said, "item_idx int, text string"), tmp_path / "a"))
    assert {(0, 1), (2, 5), (3, 4)} <= set(found)
    assert (0, 2) not in found


def test_semantic_similarity_is_the_cosine_of_the_vectors(spark: Any, tmp_path: Path) -> None:
    vectors = spark.createDataFrame(
        [(0, [1.0, 0.0]), (1, [0.6, 0.8]), (2, [0.0, 1.0]), (3, [0.0, 0.0]), (4, [-1.0, 0.0])],
        "item_idx int, vector array<float>",
    )
    everything = items_of(spark, *range(5))
    rows = content.semantic_neighbours(
        vectors, items_of(spark, 0, 1, 3), everything, 2, scratch=str(tmp_path / "v"), n_items=5
    )
    found = similarities(rows)
    assert found == pytest.approx({(0, 1): 0.6, (1, 2): 0.8, (1, 0): 0.6}, abs=1e-6)


def test_candidates_are_the_sum_over_the_history(spark: Any, frame: Frame, tmp_path: Path) -> None:
    events = frame(
        t.INTERACTIONS_SPLIT,
        [{"user_idx": 0, "item_idx": item, "event_order": place} for place, item in enumerate((1, 2), start=1)],
    )
    neighbours = spark.createDataFrame(
        [(1, 3, 0.5), (2, 3, 0.4), (2, 4, 0.6), (1, 2, 0.9)], "item_idx int, neighbour_idx int, similarity double"
    )
    rows = content.content_candidates(
        events,
        neighbours,
        spark.createDataFrame([(0,)], "user_idx int"),
        spark.createDataFrame([(0, [1, 2])], "user_idx int, seen array<int>"),
        Config.model_validate({"content": {"decay": 0.5}}),
        5,
        model_name="lexical",
        fold="test",
        scratch=str(tmp_path / "edges"),
    ).collect()
    assert [(row["model_name"], row["fold"], row["item_idx"]) for row in rows] == [
        ("lexical", "test", 3),
        ("lexical", "test", 4),
    ]
    assert [row["score"] for row in rows] == pytest.approx([0.5 * 0.5 + 0.4, 0.6], abs=1e-6)
    assert rows[0]["because"][0]["item_idx"] == 2


def test_a_document_is_title_and_values(frame: Frame) -> None:
    attributes = [{"name": "brand", "value": "Åse"}, {"name": "kind", "value": None}]
    items = frame(t.ITEMS, [{"item_idx": 0, "title": "Lamp", "attributes": attributes}, {"item_idx": 1}])
    said = {row["item_idx"]: row["text"] for row in content.documents(items).collect()}
    assert said[0] == "Lamp . Åse"
    assert said[1].strip() == ""
