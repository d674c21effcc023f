from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.tables import ITEM_EMBEDDINGS, ITEM_EMBEDDINGS_ENRICHED, ITEM_ENRICHMENTS, ITEMS
from lt_spark.enrich.embed import Encoding
from lt_spark.enrich.embed_enriched import embed_enriched, enriched_texts

pytestmark = pytest.mark.spark
Frame = Callable[..., DataFrame]
SECTION = EmbedConfig(model="m", fields=("brand",), vectors_share=0.36)


class Info:
    """What a model's folder is known by."""

    name, revision, sha256, kind = "toy", "1", "abc", "encoder"


def encoding(log: Path) -> Encoding:
    """A stand-in encoder, always (0, 1), that writes what it reads to a file."""

    class Toy:  # what is pickled by value for the workers bears no annotations
        def try_encode(self, texts):
            with open(log, "a", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in texts)
            failed = np.array(["too long" in text for text in texts])
            return np.where(failed[:, None], 0, [[0.0, 1.0]] * len(texts)).astype(np.float32), failed

    info: Any = Info()
    return Encoding(SECTION, "folder", info, load=lambda section, folder: Toy())


def asked(log: Path) -> list[str]:
    texts = sorted(log.read_text(encoding="utf-8").splitlines()) if log.exists() else []
    log.unlink(missing_ok=True)
    return texts


def row(item: int, status: str = "accepted", current: bool = True, **given: Any) -> dict[str, Any]:
    text = {"description": "A box of nails.", "keywords": ["nails", "steel"]} | given
    return {"key": f"{item}{status}", "item_idx": item, "status": status, "is_current": current, **text}


@pytest.fixture
def items(frame: Frame) -> DataFrame:
    titles = ["Nails", "Relay", None, "Fuse", "Tape", "Bolt"]
    return frame(ITEMS, [{"item_idx": n, "title": title} for n, title in enumerate(titles)])


@pytest.fixture
def enrichments(frame: Frame) -> DataFrame:
    return frame(
        ITEM_ENRICHMENTS,
        [
            row(0),
            row(0, "refused", description="no", keywords=["no"]),
            row(1, "fallback"),
            row(2, keywords=[], description="A kit. "),
            row(3, current=False),
            row(4, keywords=["glue"], description=None),
            row(5, keywords=[], description=""),
        ],
    )


@pytest.fixture
def embeddings(frame: Frame) -> DataFrame:
    """Plain vectors: two of the text, then one of the user's own."""
    rows = [{"item_idx": n, "content_hash": f"h{n}", "model": "toy@1", "vector": [0.8, 0.0, 0.6]} for n in range(6)]
    return frame(ITEM_EMBEDDINGS, rows)


def test_only_current_accepted_texts_join_the_items_own(items: DataFrame, enrichments: DataFrame) -> None:
    texts = {r["item_idx"]: r["text"] for r in enriched_texts(items, enrichments, SECTION).collect()}
    assert texts == {0: "Nails. A box of nails. nails, steel", 2: "A kit", 4: "Tape. glue"}


def test_only_described_items_get_a_new_vector_and_only_once(
    spark: Any, frame: Frame, items: DataFrame, enrichments: DataFrame, embeddings: DataFrame, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    made = embed_enriched(items, enrichments, embeddings, None, encoding(log), True).collect()
    assert asked(log) == ["A kit", "Nails. A box of nails. nails, steel", "Tape. glue"]
    found = {r["item_idx"]: r for r in made}
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    assert [n for n in found if found[n]["has_text"]] == [n for n in found if n in (0, 2, 4)]
    # sqrt(1 - .36) of the text's new vector (0, 1), then the user's own part as it was
    np.testing.assert_allclose(found[0]["vector"], [0.0, 0.8, 0.6], atol=1e-6)
    np.testing.assert_allclose(found[1]["vector"], [0.8, 0.0, 0.6], atol=1e-6)
    assert found[1]["content_hash"] == "h1" and found[0]["content_hash"] not in ("h0", "")

    names = ITEM_EMBEDDINGS_ENRICHED.column_names
    table = spark.createDataFrame([tuple(r[name] for name in names) for r in made], ITEM_EMBEDDINGS_ENRICHED.schema)
    again = embed_enriched(items, enrichments, embeddings, table, encoding(log), True)
    assert sorted(again.select(names).collect()) == sorted(table.collect())
    assert asked(log) == []

    changed = enrichments.where("item_idx != 4").unionByName(frame(ITEM_ENRICHMENTS, [row(4, keywords=["gum"])]))
    assert embed_enriched(items, changed, embeddings, table, encoding(log), True).count() == 6
    assert asked(log) == ["Tape. A box of nails. gum"]


def test_a_refused_text_leaves_every_vector_plain(
    items: DataFrame, enrichments: DataFrame, embeddings: DataFrame, tmp_path: Path
) -> None:
    rows = embed_enriched(items, enrichments, embeddings, None, encoding(tmp_path / "log"), False).collect()
    assert asked(tmp_path / "log") == []
    assert len(rows) == 6 and not any(r["has_text"] for r in rows)
    np.testing.assert_allclose([r["vector"] for r in rows], [[0.8, 0.0, 0.6]] * 6, atol=1e-6)


def test_a_text_that_failed_leaves_the_plain_vector(
    frame: Frame, items: DataFrame, embeddings: DataFrame, tmp_path: Path
) -> None:
    enrichments = frame(ITEM_ENRICHMENTS, [row(0, description="too long")])
    rows = embed_enriched(items, enrichments, embeddings, None, encoding(tmp_path / "log"), True).collect()
    found = {r["item_idx"]: r for r in rows}
    np.testing.assert_allclose(found[0]["vector"], [0.8, 0.0, 0.6], atol=1e-6)
    assert not found[0]["has_text"] and found[0]["content_hash"] == ""
