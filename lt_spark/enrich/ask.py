"""Stage describe, third part: the model asked on the executors, its answers judged, one more try, then the fallback."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.tables import ENRICHMENT_STAGING
from lt_spark.engines.base import Answer, Decoding, Engine, Prompt
from lt_spark.engines.make import load_encoder, load_engine
from lt_spark.engines.model_files import ModelInfo
from lt_spark.enrich.fallback import sentence_of
from lt_spark.enrich.gate import Gate, Judged, Subject
from lt_spark.enrich.prompts import ItemText
from lt_spark.enrich.render import POOLS, RenderSettings
from lt_spark.enrich.two_tries import ask_twice
from lt_spark.kernels.answer_form import BOTH, parse_answer, parse_plain
from lt_spark.kernels.written import Written

CHUNK = 1_024
"""Rows that are sorted by length, batched and judged together."""
_MAX_ANSWER_CHARS = 8_000
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class AskSettings:
    """What asking needs on the executors.

    Attributes:
        render: what the prompts were made by.
        embed: the encoder of the items' vectors, which judges the texts too.
        model_folder: the language model's folder; empty for a server.
        model_info: what the driver found there; None for a server.
        encoder_folder: the encoder's folder; empty: no similarity is judged.
        gate: the gate, its lists of words read on the driver; the workers add the pool's vocabulary.
        run_id: goes into each row.
        examples_version: goes into each row.
        is_retried: whether a refused answer gets a second try.
    """

    render: RenderSettings
    embed: EmbedConfig
    model_folder: str
    model_info: ModelInfo | None
    encoder_folder: str
    gate: Gate
    run_id: str
    examples_version: int
    is_retried: bool = True


@dataclass
class Asker:
    """The language model, the gate and the encoder at work in one Python worker."""

    settings: AskSettings
    gate: Gate
    encode: Encode | None
    get_engine: Callable[[], tuple[Engine, int, float]]
    """Loads the engine where it is first needed: (engine, loads so far in this process, seconds of loading)."""
    decoding: Decoding
    """How the first answer is drawn."""

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer rows of one wave.

        Args:
            rows: the columns of ``RENDERED`` with ``known_answer`` and ``items``: the (key, item_idx, content_hash)
                that share the input.

        Returns:
            The columns of ``silver.enrichment_staging``: a row an item.
        """
        render = self.settings.render
        known = [row["imported"] if row["imported"] is not None else row["known_answer"] for row in rows]
        engine, n_loads, load_s = self.get_engine() if None in known else (None, 0, 0.0)
        accepted: list[str] = []

        def judge(places: Sequence[int], answers: Sequence[Answer]) -> list[Judged]:
            return self._judge([rows[place] for place in places], answers, accepted)

        retry_temperature = render.language_model.retry_temperature if self.settings.is_retried else None
        prompts = [Prompt(row["shared"], row["own"], row["start"]) for row in rows]
        tried = ask_twice(engine, prompts, known, judge, self.decoding, retry_temperature)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        out = []
        for row, text, each in zip(rows, known, tried, strict=True):
            result = self._result(row, each.answer, each.judged, each.n_tries, engine)
            result |= {
                "is_asked": text is None,
                "worker": worker,
                "n_loads": n_loads,
                "load_s": load_s,
                "checks": list(each.first_failed),
            }
            for item in row["items"]:
                out.append(result | {name: item[name] for name in ("key", "item_idx", "content_hash")})
        return out

    def _judge(self, rows: Sequence[Mapping[str, Any]], answers: Sequence[Answer], accepted: list[str]) -> list[Judged]:
        """Judge answers; descriptions that pass are added to ``accepted``, which later ones must differ from."""
        written = [self._parse(row, answer) for row, answer in zip(rows, answers, strict=True)]
        vectors: list[npt.NDArray[np.float32] | None] = [None] * len(rows)
        if self.encode is not None:
            encoded = self.encode([w.text if w is not None else "" for w in written])
            vectors = [vector if w is not None else None for vector, w in zip(encoded, written, strict=True)]
        judged = []
        for row, text, vector in zip(rows, written, vectors, strict=True):
            # of vectors joined with ones that the user brought the first part is the text's
            size = None if vector is None else vector.shape[0]
            own = None if row["vector"] is None else np.asarray(row["vector"][:size], dtype=np.float32)
            near = None if row.get("near") is None else frozenset(row["near"])
            subject = Subject(row["title"], row["own_text"], own, near)
            # a bounded look back, so that the cost stays linear; word for word repeats are found over all waves later
            outcome = self.gate.check(text, subject, text_vector=vector, others=[*row["others"], *accepted[-_EARLIER:]])
            if text is not None and text.description and not outcome.failed:
                accepted.append(text.description)
            judged.append(self._with_sentence(row, outcome))
        return judged

    def _parse(self, row: Mapping[str, Any], answer: Answer) -> Written | None:
        if answer.error:
            return None
        written = parse_answer(answer.text, row["start"], self._parts(row))
        return written if written is not None or row["imported"] is None else parse_plain(answer.text)

    def _parts(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        is_short = self.settings.render.describe.ask_for == "keywords" and row["imported"] is None
        return ("keywords",) if is_short else BOTH

    def _with_sentence(self, row: Mapping[str, Any], judged: Judged) -> Judged:
        """Return the answer with a sentence of the pack where keywords alone were asked for: of those that it kept."""
        if judged.written is None or self._parts(row) == BOTH:
            return judged
        keywords = judged.written.keywords
        render = self.settings.render
        sentence = sentence_of(render.pack, render.describe, ItemText(row["title"]), keywords)
        return replace(judged, written=Written(keywords, sentence))

    def _result(
        self, row: Mapping[str, Any], answer: Answer, judged: Judged, n_tries: int, engine: Engine | None
    ) -> dict[str, Any]:
        settings = self.settings
        written = judged.written
        instead = Written(tuple(row["fallback_keywords"] or ()), row["fallback_description"] or "")
        own_keywords = not answer.error and judged.has_keywords
        if own_keywords and judged.written is not None:
            instead = Written(judged.written.keywords, instead.description)
        if answer.error:
            status, reason = "failed", answer.error
        elif not judged.failed and written is not None:
            status, reason = "accepted", None
        else:
            status, reason = ("fallback" if instead.text else "refused"), ", ".join(judged.failed)
        shown = written if status == "accepted" else instead if status == "fallback" else None
        name = settings.render.model
        return {
            "description": shown.description if shown else None,
            "keywords": list(shown.keywords) if shown else None,
            "has_own_keywords": own_keywords,
            "status": status,
            "reason": reason,
            "answer": None if answer.error else storable(answer.text),
            "n_tries": n_tries,
            "n_prompt_tokens": answer.n_prompt_tokens,
            "n_output_tokens": answer.n_output_tokens,
            "seconds": answer.seconds,
            "similarity": judged.similarity,
            "engine": name.engine,
            "model": name.model,
            "revision": name.revision,
            "device": engine.device if engine is not None else None,
            "prompt_version": settings.render.pack.version,
            "examples_version": settings.examples_version,
            "input_key": row["input_key"],
            "is_current": True,
            "reviewed_by": None,
            "reviewed_at": None,
            "run_id": settings.run_id,
            "fallback_description": row["fallback_description"],
            "fallback_keywords": row["fallback_keywords"],
        }


_EARLIER = 200


def storable(answer: str) -> str:
    """Return an answer as it may lie in a table: without what cannot be seen, at most 8,000 characters."""
    lines = answer[:_MAX_ANSWER_CHARS].splitlines()
    return "\n".join("".join(char for char in line if char.isprintable()) for line in lines)


def ask(wave: DataFrame, settings: AskSettings, n_tasks: int, profile: Any = None) -> DataFrame:
    """Ask the language model for a wave's rows; identical inputs are asked once.

    The result must be written at once: each action on it would ask again.

    Args:
        wave: the columns of ``RENDERED`` and ``known_answer``.
        settings: what asking needs.
        n_tasks: tasks at work at once: the rows are dealt out evenly.
        profile: Spark resource profile of the tasks; None: the session's own.

    Returns:
        The columns of ``silver.enrichment_staging``: a row an item.
    """
    schema = ENRICHMENT_STAGING.schema
    ddl = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in schema.fields)
    distinct = wave.groupBy("input_key").agg(
        *(
            F.min_by(name, "item_idx").alias(name)
            for name in (
                "shared", "own", "start", "title", "own_text", "vector", "others", "near", "fallback_description",
                "fallback_keywords", "imported", "known_answer",
            )
        ),
        F.array_sort(F.collect_list(F.struct("key", "item_idx", "content_hash"))).alias("items"),
    )  # fmt: skip
    arrow = _arrow_schema()

    def answer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        asker = make_asker(settings)
        for batch in batches:
            for start in range(0, batch.num_rows, CHUNK):
                rows = asker.rows(batch.slice(start, CHUNK).to_pylist())
                yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    # dealt out in turns: every task gets as many rows, whatever the shuffle did before
    dealt = distinct.repartition(n_tasks)
    return dealt.mapInArrow(answer, ddl, profile=profile)


def make_asker(settings: AskSettings) -> Asker:
    """Return what asks in this Python worker; models are loaded once a process, the language model at first need."""
    render = settings.render
    pool = POOLS.get(render.pool_folder, 0)
    encode: Encode | None = None
    if settings.encoder_folder:
        encode = load_encoder(settings.embed, settings.encoder_folder).value.encode

    def get_engine() -> tuple[Engine, int, float]:
        loaded = load_engine(render.language_model, settings.model_folder, settings.model_info)
        return loaded.value, loaded.n_loads, loaded.seconds

    gate = settings.gate.with_vocabulary(pool.vocabulary)
    return Asker(settings, gate, encode, get_engine, render.calibrated(pool))


def _arrow_schema() -> pa.Schema:
    """Return the Arrow schema of ``silver.enrichment_staging``, without a session at hand."""
    kinds = {
        "string": pa.string(),
        "int": pa.int32(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "array<string>": pa.list_(pa.string()),
    }
    return pa.schema([(column.name, kinds[column.type]) for column in ENRICHMENT_STAGING.columns])
