"""The tuned tower on the executors: vectors of items and of users' histories, and the candidates that they give."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.files import Folder
from lt_spark.engines import placement
from lt_spark.engines.loaded import Loaded, once
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.spread import spread
from lt_spark.frames.top_k import top_k
from lt_spark.models.text_bert.saved import Manifest, load
from lt_spark.models.text_bert.texts import history_text, item_text
from lt_spark.models.text_bert.tower import Base, Tower

MODEL_NAME = "text_bert"
CHUNK_ROWS = 1_024
"""Texts that are sorted by length together."""
Encode = Callable[[pa.Array, "Tuned"], Any]


@dataclass(frozen=True)
class Tuned:
    """A saved tower, and how many tasks ask it; small, and sent with the task.

    Attributes:
        folder: where it was saved, as executors read it.
        manifest: what lies there.
        base: the base model.
        n_tasks: tasks at work at once; 0: ``spark.sql.shuffle.partitions``.
        profile: Spark resource profile of the tasks; None: the session's own.
    """

    folder: str
    manifest: Manifest
    base: Base
    n_tasks: int = 0
    profile: Any = None


def loaded(tuned: Tuned) -> Loaded[Tower]:
    """Return this process's tower, loaded at the first call only."""
    section = tuned.manifest.section
    place = placement.device("cpu" if section.int8 else section.device)
    key = ("text_bert", tuned.folder, tuned.manifest.sha256, section.int8, place.partition(":")[0])
    tower = once(key, lambda: _load(tuned))
    if tower.value.device != place:
        # Spark may give the next task of this process another of the executor's GPUs
        tower.value.move(place)
    return tower


def _load(tuned: Tuned) -> Tower:
    if not tuned.manifest.section.int8:
        return load(Folder(tuned.folder), tuned.base)
    tower = load(Folder(tuned.folder), tuned.base, "cpu")
    tower.to_int8()
    return tower


def item_vectors(texts: DataFrame, tuned: Tuned, fold: str) -> DataFrame:
    """Return each item's vector (``silver.item_embeddings_tuned``); write it at once, or Spark encodes again.

    Args:
        texts: (item_idx, text): any item, cold ones too.
        tuned: the tower.
        fold: the fold that it was trained for.

    Returns:
        (fold, item_idx, content_hash, model, vector): a row an item; zeros where it has no text.
    """
    manifest = tuned.manifest
    content = F.sha2(F.concat_ws("\x1f", F.lit(manifest.sha256), F.coalesce("text", F.lit(""))), 256)
    asked = _dealt(texts.select("item_idx", "text"), tuned, "item_idx")
    encoded = _encoded(asked, tuned, encode_items, "item_idx", keeps="text")
    return encoded.select(
        F.lit(fold).alias("fold"),
        "item_idx",
        content.alias("content_hash"),
        F.lit(manifest.model).alias("model"),
        "vector",
    )


def user_vectors(histories: DataFrame, tuned: Tuned) -> DataFrame:
    """Return (user_idx, vector) of histories (user_idx, texts: newest first), as ``pairs.history_texts`` gives them."""
    asked = _dealt(histories.select("user_idx", "texts"), tuned, "user_idx")
    return _encoded(asked, tuned, encode_histories, "user_idx").select("user_idx", "vector")


def text_bert_candidates(
    users: DataFrame,
    seen: DataFrame,
    vectors: DataFrame,
    recommendable: DataFrame,
    n: int,
    *,
    fold: str,
    scratch: str,
    n_items: int,
) -> DataFrame:
    """Return each user's best items by cosine (``silver.candidates_text_bert``); cold items score by their text.

    Args:
        users: (user_idx, vector).
        seen: (user_idx, seen) items to leave out.
        vectors: ``silver.item_embeddings_tuned`` of the fold; zeros, of items without text, are not ranked.
        recommendable: (item_idx) items that may be recommended.
        n: items a user.
        fold: the fold.
        scratch: folder for the item vectors, read by every executor.
        n_items: items of the catalogue, for the number of shards.
    """
    queries = _filled(users).join(seen, "user_idx", "left").select("user_idx", "vector", "seen")
    items = _filled(vectors).join(recommendable, "item_idx", "left_semi").select("item_idx", "vector")
    return as_candidates(top_k(queries, items, n, scratch=scratch, n_items=n_items), MODEL_NAME, fold)


def encode_items(texts: pa.Array, tuned: Tuned) -> Any:
    """Return (n, size) vectors of item texts as they stand in the tables."""
    section = tuned.manifest.section
    return loaded(tuned).value.encode_items([item_text(text, section) for text in texts.to_pylist()])


def encode_histories(texts: pa.Array, tuned: Tuned) -> Any:
    """Return (n, size) vectors of histories, each a list of item texts, the newest first."""
    section = tuned.manifest.section
    cleaned = [[item_text(text, section) for text in newest_first] for newest_first in texts.to_pylist()]
    return loaded(tuned).value.encode_histories([history_text(history, section) for history in cleaned])


def encode_batches(batches: Iterable[pa.RecordBatch], tuned: Tuned, encode: Encode) -> Iterator[pa.RecordBatch]:
    """Encode a task's Arrow batches (index, texts), chunk by chunk; a task without rows loads nothing.

    Yields:
        The batch's columns, and ``vector``.
    """
    for batch in batches:
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            chunk = batch.slice(start, CHUNK_ROWS)
            vectors = encode(chunk.column(1), tuned)
            offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
            lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(vectors.ravel(), pa.float32()))
            yield pa.RecordBatch.from_arrays([*chunk.columns, lists], [*chunk.schema.names, "vector"])


def _encoded(rows: DataFrame, tuned: Tuned, encode: Encode, index: str, keeps: str = "texts") -> DataFrame:
    kind = dict(rows.dtypes)[keeps]

    def encode_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return encode_batches(batches, tuned, encode)

    return rows.mapInArrow(encode_rows, f"{index} int, {keeps} {kind}, vector array<float>", profile=tuned.profile)


def _dealt(rows: DataFrame, tuned: Tuned, key: str) -> DataFrame:
    return rows.repartition(tuned.n_tasks, key) if tuned.n_tasks else spread(rows, key)


def _filled(rows: DataFrame) -> DataFrame:
    return rows.where(F.exists("vector", lambda x: x != 0))
