"""Stage embed: a vector of each item's own text, made again only where the text changed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.tables import ITEM_EMBEDDINGS
from lt_spark.engines import make
from lt_spark.engines.model_files import ModelInfo
from lt_spark.enrich.own_vectors import place_vectors
from lt_spark.frames.spread import spread
from lt_spark.kernels.hostile import clean_text

CHUNK_ROWS = 1_024
"""Texts that are sorted by length together."""
_CHARS_PER_TOKEN = 16
"""A text is cut to so many characters a token before it is read: the encoder would see no more of it."""
_ENCODED = "text_hash string, encoded array<float>, is_failed boolean"
_BATCH = pa.schema(
    [("text_hash", pa.string()), ("encoded", pa.list_(pa.float32())), ("is_failed", pa.bool_())],
)
_OWN_NAME = "own vectors"


class TextEncoder(Protocol):
    """What makes vectors of texts; see :class:`lt_spark.engines.encoder.Encoder`."""

    def try_encode(self, texts: list[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return (n, size) vectors, and (n,) whether a text failed."""
        ...


Load = Callable[[EmbedConfig, str], TextEncoder]
"""Returns a process's encoder of a section and folder: the same one at every call."""


def loaded(section: EmbedConfig, folder: str) -> TextEncoder:
    """Return this process's encoder, loaded once."""
    encoder: TextEncoder = make.load_encoder(section, folder).value
    return encoder


@dataclass(frozen=True)
class Encoding:
    """Which encoder makes the vectors, and on how many tasks.

    Attributes:
        section: section ``embed``.
        folder: the encoder's folder, as executors read it.
        info: what lies there; None: there is no encoder, and vectors are the user's own.
        n_tasks: tasks at work at once; 0: ``spark.sql.shuffle.partitions``.
        profile: Spark resource profile of the tasks; None: the session's own.
        load: returns a process's encoder.
    """

    section: EmbedConfig
    folder: str
    info: ModelInfo | None
    n_tasks: int = 0
    profile: Any = None
    load: Load = loaded

    @property
    def model(self) -> str:
        """The encoder and its revision; empty where there is none."""
        return f"{self.info.name}@{self.info.revision or self.info.sha256[:16]}" if self.info else ""

    @property
    def identity(self) -> str:
        """All that decides a text's vector, for its hash; the size of a batch does not."""
        section = self.section
        parts = (self.info.sha256 if self.info else "", section.pooling, str(section.max_tokens), section.dtype)
        return "|".join((self.model, *parts))


def item_texts(items: DataFrame, section: EmbedConfig) -> DataFrame:
    """Return what is embedded of each item: its title, then ``name: value`` of each attribute of ``embed.fields``.

    Args:
        items: ``silver.items``.
        section: section ``embed``.

    Returns:
        (item_idx, text): a row an item; the empty text where it has neither. As in the source: cleaned where it is
        encoded.
    """
    parts = [_filled(F.col("title"))]
    for name in section.fields:
        value = _filled(F.get(F.filter("attributes", _named(name)), 0)["value"])
        parts.append(F.concat(F.lit(f"{name}: "), value))
    return items.select("item_idx", F.concat_ws(". ", *parts).alias("text"))


def embed_items(
    items: DataFrame, previous: DataFrame | None, encoding: Encoding, own_vectors: DataFrame | None = None
) -> DataFrame:
    """Return each item's vector (``silver.item_embeddings``); write it at once, or Spark encodes again.

    Without own vectors it is the text's unit vector t. With them it is sqrt(1 - share) t ++ sqrt(share) o, o the own
    unit vector, so that the inner product of two items is (1 - share) cos(t, t') + share cos(o, o'); a part that an
    item lacks is zeros. Rows of ``previous`` with the same model and content hash are kept; equal texts are encoded
    once.

    Args:
        items: ``silver.items``.
        previous: ``silver.item_embeddings`` as it was, or None.
        encoding: the encoder.
        own_vectors: (item_id, vector) that the user brings, or None. They are checked first, by a Spark job.

    Returns:
        A row an item, all vectors of one length. No rows where there is neither encoder nor own vectors. A text that
        exceeded the memory has zeros and an empty content hash: it is tried again the next time.

    Raises:
        DataError: the own vectors cannot be used.
    """
    section = encoding.section
    own = place_vectors(own_vectors, items, section) if own_vectors is not None else None
    model = " + ".join([*([encoding.model] if encoding.info else []), *([_OWN_NAME] if own else [])])
    texts = item_texts(items, section).withColumn("text_hash", text_hash(encoding))
    content = F.col("text_hash")
    if own is not None:
        texts = texts.join(own.rows, "item_idx", "left")
        content = sha("text_hash", F.lit(f"{section.vectors_share} {own.size}"), F.col("own").cast("string"))
    texts = texts.withColumns({"content_hash": content, "model": F.lit(model)})
    if not model:
        texts = texts.limit(0)
    kept, asked = apart(texts, previous)
    if encoding.info is None:
        made = asked.withColumns({"encoded": F.array().cast("array<float>"), "is_failed": F.lit(False)})
    else:
        made = asked.join(encode_texts(asked, encoding), "text_hash")
    vector = F.col("encoded")
    if own is not None:
        share = section.vectors_share if encoding.info else 1.0
        vector = joined(vector, unit(F.col("own"), own.size), share)
    rows = made.select(
        "item_idx",
        F.when(F.col("is_failed"), "").otherwise(F.col("content_hash")).alias("content_hash"),
        "model",
        vector.alias("vector"),
    )
    return rows if kept is None else rows.unionByName(kept.select(ITEM_EMBEDDINGS.column_names))


def apart(texts: DataFrame, previous: DataFrame | None) -> tuple[DataFrame | None, DataFrame]:
    """Part what is there already from what has to be made.

    Args:
        texts: (item_idx, content_hash, model, ...) as they should be.
        previous: the table as it was, with the same columns, or None.

    Returns:
        The rows of ``previous`` that still hold, or None, and the rows of ``texts`` without one.
    """
    if previous is None:
        return None, texts
    key = ["item_idx", "content_hash", "model"]
    return previous.join(texts.select(*key), key, "left_semi"), texts.join(previous.select(*key), key, "left_anti")


def text_hash(encoding: Encoding) -> Column:
    """Return the hex SHA-256 of the column ``text`` under an encoder; empty where there is none."""
    return sha(F.lit(encoding.identity), "text") if encoding.info else F.lit("")


def encode_texts(texts: DataFrame, encoding: Encoding) -> DataFrame:
    """Encode each distinct text once.

    Args:
        texts: (text_hash, text, ...).
        encoding: the encoder.

    Returns:
        (text_hash, encoded array<float>, is_failed): a row a distinct text.
    """
    rows = texts.select("text_hash", "text")
    dealt = rows.repartition(encoding.n_tasks, "text_hash") if encoding.n_tasks else spread(rows, "text_hash")
    section, folder, load = encoding.section, encoding.folder, encoding.load

    def encode(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return encode_batches(batches, section, folder, load)

    return dealt.dropDuplicates(["text_hash"]).mapInArrow(encode, _ENCODED, profile=encoding.profile)


def encode_batches(
    batches: Iterable[pa.RecordBatch], section: EmbedConfig, folder: str, load: Load = loaded
) -> Iterator[pa.RecordBatch]:
    """Encode a task's Arrow batches (text_hash, text), chunk by chunk; a task without rows loads nothing."""
    max_chars = section.max_tokens * _CHARS_PER_TOKEN
    for batch in batches:
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            chunk = batch.slice(start, CHUNK_ROWS)
            texts = [clean_text(text, max_chars) for text in chunk.column(1).to_pylist()]
            vectors, failed = load(section, folder).try_encode(texts)
            offsets = np.arange(len(texts) + 1, dtype=np.int32) * vectors.shape[1]
            lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(vectors.ravel(), pa.float32()))
            yield pa.RecordBatch.from_arrays([chunk.column(0), lists, pa.array(failed)], schema=_BATCH)


def unit(vector: Column, size: int) -> Column:
    """Return a vector divided by its length; zeros of ``size`` where it is null or zero."""
    zeros = F.array_repeat(F.lit(0.0).cast("float"), size)
    length = F.sqrt(F.aggregate(vector, F.lit(0.0), lambda total, x: total + x * x))
    return F.when(length > 0, F.transform(vector, lambda x: (x / length).cast("float"))).otherwise(zeros)


def joined(text: Column, own: Column, share: float) -> Column:
    """Return sqrt(1 - share) text ++ sqrt(share) own."""
    return F.concat(scaled(text, sqrt(1.0 - share)), scaled(own, sqrt(share)))


def scaled(vector: Column, factor: float) -> Column:
    """Return a vector times a number, as array<float>."""
    return F.transform(vector, lambda x: (x * F.lit(factor)).cast("float"))


def sha(*parts: Column | str) -> Column:
    """Return the hex SHA-256 of parts; a null counts as empty."""
    columns = [F.col(part) if isinstance(part, str) else part for part in parts]
    return F.sha2(F.concat_ws("\x1f", *(F.coalesce(part, F.lit("")) for part in columns)), 256)


def _filled(text: Column) -> Column:
    """Return a text, null where it is blank."""
    return F.when(F.trim(text) != "", text)


def _named(name: str) -> Callable[[Column], Column]:
    return lambda attribute: attribute["name"] == name
