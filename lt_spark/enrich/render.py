"""Stage describe, second part: nearest examples, prompts, keys, and what stands in for a bad answer."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lt_spark.core.config_text import DescribeConfig, LanguageModelConfig
from lt_spark.engines.base import Decoding, Prompt
from lt_spark.enrich import prompts
from lt_spark.enrich.fallback import MIN_VOTES, fallback, vote
from lt_spark.enrich.fixed import FixedExamples, fixed_examples
from lt_spark.enrich.prompts import ItemText
from lt_spark.frames.shards import Keeper, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.kernels import topk
from lt_spark.kernels.hostile import clean_text
from lt_spark.kernels.words import stem, words
from lt_spark.kernels.written import Written

N_VOTERS = 5
"""Nearest items whose keywords vote for a fallback."""
N_NEAR = 20
"""Nearest items whose keywords an answer may use."""
KEYWORD_TOKENS = 40
"""Most tokens of an answer that has keywords alone."""
_MAX_OWN_CHARS = 20_000
_ATTRIBUTES = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string())]))
_POOL = pa.schema(
    [
        ("item_idx", pa.int32()),
        ("pool_rank", pa.int32()),
        ("title", pa.string()),
        ("attributes", _ATTRIBUTES),
        ("vector", pa.list_(pa.float32())),
    ]
)
RENDERED = (
    "item_idx int, key string, input_key string, content_hash string, shared string, own string, start string, "
    "title string, own_text string, vector array<float>, others array<string>, near array<string>, "
    "fallback_description string, "
    "fallback_keywords array<string>, imported string, "
    "thinness struct<has_keywords: boolean, n_chars: int, item_idx: int>"
)


@dataclass(frozen=True)
class ModelName:
    """Who answers: the engine, the model's name and its revision; part of each row's key."""

    engine: str
    model: str
    revision: str


@dataclass(frozen=True)
class RenderSettings:
    """What rendering needs on the executors.

    Attributes:
        gate_key: hash of the gate's limits and lists.
        by_neighbours: whether keywords must be words of the nearest items' keywords.
    """

    describe: DescribeConfig
    language_model: LanguageModelConfig
    gate_key: str
    model: ModelName
    pool_folder: str
    seed: int
    by_neighbours: bool = True

    @cached_property
    def pack(self) -> prompts.Pack:
        """The prompt pack."""
        return prompts.load_pack(self.describe.pack)

    @cached_property
    def decoding(self) -> Decoding:
        """How the first answer is drawn; ``calibrated`` adds the pool's share."""
        section, asked = self.language_model, self.describe
        n_tokens = section.max_new_tokens
        return Decoding(
            n_tokens if asked.ask_for == "both" else min(n_tokens, KEYWORD_TOKENS),
            section.temperature,
            self.seed,
            prompts.ANSWER_LINES[asked.ask_for],
            presence_penalty=asked.presence_penalty if asked.examples == "fixed" else 0.0,
        )

    def calibrated(self, pool: "Pool") -> Decoding:
        """Return how the first answer is drawn; with fixed examples calibrated where the engine shows its scores."""
        asked = self.describe
        if asked.examples != "fixed" or self.model.engine != "transformers" or not asked.calibration:
            return self.decoding
        return replace(self.decoding, calibration=asked.calibration, others=pool.fixed(self).others)


class Pool:
    """The pool of examples in a worker's memory: at most ``describe.pool_size`` items."""

    def __init__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the pool's rows, most known first."""
        ordered = sorted(rows, key=lambda row: row["pool_rank"])
        self.item_idx = np.array([row["item_idx"] for row in ordered], dtype=np.int32)
        self.items = [item_text(row["title"], row["attributes"]) for row in ordered]
        width = len(ordered[0]["vector"]) if ordered else 0
        self.vectors: npt.NDArray[np.float32] = np.array([row["vector"] for row in ordered], dtype=np.float32).reshape(
            len(ordered), width
        )
        self._fixed: tuple[RenderSettings, FixedExamples] | None = None

    def fixed(self, settings: RenderSettings) -> FixedExamples:
        """The examples that are the same for all; chosen once."""
        if self._fixed is None or self._fixed[0] != settings:
            chosen = fixed_examples(self.item_idx, self.items, self.vectors, settings.pack, settings.describe)
            self._fixed = settings, chosen
        return self._fixed[1]

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The stems of all words in the pool's attribute values."""
        return frozenset(stem(w) for item in self.items for _, value in item.fields for w in words(value))

    def nearest(
        self, item_idx: Sequence[int], vectors: Sequence[Sequence[float] | None], k: int
    ) -> list[list[tuple[float, ItemText]]]:
        """Return each item's k nearest items of the pool, nearest first, never itself; none where it has no vector."""
        if not self.items:
            return [[] for _ in item_idx]
        width = self.vectors.shape[1]
        asked = np.zeros((len(item_idx), width), dtype=np.float32)
        for row, vector in enumerate(vectors):
            if vector is not None and len(vector) == width:
                asked[row] = vector
        positions, scores = topk.top_k(asked, self.vectors, k + 1)
        found = []
        for row, own in enumerate(item_idx):
            near = [
                (float(score), self.items[place])
                for place, score in zip(positions[row], scores[row], strict=True)
                if place >= 0 and self.item_idx[place] != own
            ]
            found.append(near[:k] if asked[row].any() else [])
        return found


def write_pool(pool: DataFrame, folder: str) -> None:
    """Write the pool where each worker reads it once."""
    write_shards(pool.select(*_POOL.names), "item_idx", 1, folder)


def _read_pool(folder: str, shard: int) -> Pool:
    return Pool(read_shard(folder, shard, _POOL).to_pylist())


POOLS: Keeper[Pool] = Keeper(_read_pool)
"""The pool that this worker process read last."""


def item_text(title: str | None, attributes: Sequence[Mapping[str, Any]] | None) -> ItemText:
    """Return an item's text: its title and its filled attributes."""
    filled = [(a["name"], a["value"]) for a in attributes or () if a["value"] and a["value"].strip()]
    return ItemText(title or "", tuple(filled))


def render(work: DataFrame, settings: RenderSettings) -> DataFrame:
    """Return each item's prompt, keys and fallback.

    Args:
        work: as ``items_to_describe`` gives it; with a column ``imported`` where texts are imported.
        settings: what the prompts are made by.

    Returns:
        The columns of ``RENDERED``, a row an item.
    """
    columns = ["item_idx", "item_id", "title", "attributes", "vector", "content_hash", "thinness"]
    columns += ["imported"] if "imported" in work.columns else []

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        pool = POOLS.get(settings.pool_folder, 0)
        for batch in batches:
            rendered = render_rows(batch.to_pylist(), pool, settings)
            yield pa.RecordBatch.from_pylist(rendered, schema=_RENDERED_ARROW)

    return spread(work.select(*columns), "item_idx").mapInArrow(rows, RENDERED)


def fixed_items(spark: SparkSession, settings: RenderSettings) -> DataFrame:
    """Return (item_idx) of the examples that are the same for all; chosen on an executor, where the pool is."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        chosen = POOLS.get(settings.pool_folder, 0).fixed(settings).item_idx if any(b.num_rows for b in batches) else ()
        yield pa.RecordBatch.from_arrays([pa.array(chosen, pa.int32())], ["item_idx"])

    return spark.range(1, numPartitions=1).mapInArrow(rows, "item_idx int")


_RENDERED_ARROW = pa.schema(
    [
        ("item_idx", pa.int32()),
        *((name, pa.string()) for name in ("key", "input_key", "content_hash", "shared", "own", "start")),
        ("title", pa.string()),
        ("own_text", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("others", pa.list_(pa.string())),
        ("near", pa.list_(pa.string())),
        ("fallback_description", pa.string()),
        ("fallback_keywords", pa.list_(pa.string())),
        ("imported", pa.string()),
        (
            "thinness",
            pa.struct([("has_keywords", pa.bool_()), ("n_chars", pa.int32()), ("item_idx", pa.int32())]),
        ),
    ]
)


def render_rows(rows: Sequence[Mapping[str, Any]], pool: Pool, settings: RenderSettings) -> list[dict[str, Any]]:
    """Return the rows of ``RENDERED`` for rows of the work."""
    section = settings.describe
    near = pool.nearest(
        [row["item_idx"] for row in rows], [row["vector"] for row in rows], max(section.n_shown, N_NEAR)
    )
    fixed = pool.fixed(settings) if section.examples == "fixed" else None
    decoding = settings.calibrated(pool)
    rendered = []
    for row, neighbours in zip(rows, near, strict=True):
        item = item_text(row["title"], row["attributes"])
        if fixed is None:
            examples: Sequence[ItemText] = [example for _, example in reversed(neighbours[: section.n_shown])]
            answers: Sequence[Written] = [prompts.example_answer(settings.pack, section, each) for each in examples]
        else:
            examples, answers = fixed.items, fixed.answers
        prompt = prompts.item_prompt(settings.pack, section, item, examples, answers)
        instead = fallback(settings.pack, section, item, vote(neighbours[:N_VOTERS], section))
        imported = row.get("imported")
        input_key = _input_key(prompt, settings, decoding, imported)
        rendered.append(
            {
                "item_idx": row["item_idx"],
                "key": hashed([row["item_id"], input_key, settings.gate_key]),
                "input_key": input_key,
                "content_hash": row["content_hash"],
                "shared": prompt.shared,
                "own": prompt.own,
                "start": prompt.start,
                "title": clean_text(item.title, _MAX_OWN_CHARS),
                "own_text": clean_text(" \n ".join([item.title, *(v for _, v in item.fields)]), _MAX_OWN_CHARS),
                "vector": row["vector"],
                "others": [answer.description for answer in answers],
                "near": near_words([example for _, example in neighbours], settings),
                "fallback_description": instead.description,
                "fallback_keywords": list(instead.keywords),
                "imported": imported,
                "thinness": row["thinness"],
            }
        )
    return rendered


def near_words(neighbours: Sequence[ItemText], settings: RenderSettings) -> list[str] | None:
    """Return the stems of the neighbours' keywords; None where any word of the catalogue's will do.

    Fixed examples tell nothing of the item: what a model says by them is believed where at least two neighbours agree.
    """
    if not settings.by_neighbours:
        return None
    called = (prompts.own_keywords(settings.describe, example) for example in neighbours)
    counts = Counter(told for keywords in called for told in {stem(w) for each in keywords for w in words(each)})
    least = MIN_VOTES if settings.describe.examples == "fixed" else 1
    return sorted(told for told, n in counts.items() if n >= least)


def _input_key(prompt: Prompt, settings: RenderSettings, drawn: Decoding, imported: str | None) -> str:
    """Return a hash of all that decides an answer: the model, how it draws, and the prompt, or the imported text."""
    model = settings.model
    asked: list[Any] = [prompt.text, drawn.max_new_tokens, drawn.temperature, drawn.seed if drawn.temperature else 0]
    if settings.describe.ask_for != "both":
        asked.append(settings.describe.ask_for)
    if drawn.presence_penalty or drawn.others:
        asked += [drawn.presence_penalty, drawn.calibration, hashed([other.text for other in drawn.others])]
    return hashed(
        [model.engine, model.model, model.revision, settings.pack.version, asked if imported is None else imported]
    )


def hashed(parts: Any) -> str:
    """Return the hex SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
