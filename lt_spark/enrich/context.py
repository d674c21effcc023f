"""Stage context: the language model reads histories by their titles (C_L), and pseudo-events follow from it (S_U+)."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config_text import ContextConfig, EmbedConfig, LanguageModelConfig
from lt_spark.core.tables import CONTEXT_STAGING, EVENT, INTERACTIONS_AUGMENTED, USER_CONTEXTS
from lt_spark.engines.base import Answer, Decoding, Engine, Prompt
from lt_spark.engines.make import load_encoder, load_engine
from lt_spark.engines.model_files import ModelInfo
from lt_spark.enrich import prompts
from lt_spark.enrich.gate import Gate, Judged, Subject
from lt_spark.enrich.render import POOLS, ModelName, hashed
from lt_spark.enrich.two_tries import ask_twice
from lt_spark.frames.known import histories
from lt_spark.frames.spread import spread
from lt_spark.kernels.answer_form import parse_answer
from lt_spark.kernels.hostile import clean_text

_RENDERED = "user_idx int, input_key string, shared string, own string, start string, own_text string, n_titles int"
_MAX_TITLE_CHARS = 200
_CHUNK = 1_024
_EVENT_NAMES = [column.name for column in EVENT]
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class ContextSettings:
    """What reading histories needs on the executors."""

    language_model: LanguageModelConfig
    gate_key: str
    encoder_key: str
    """The encoder and all that decides its vectors: those of readings are kept with them."""
    embed: EmbedConfig
    pack_name: str
    model: ModelName
    model_folder: str
    model_info: ModelInfo | None
    encoder_folder: str
    gate: Gate
    pool_folder: str
    seed: int

    @cached_property
    def pack(self) -> prompts.Pack:
        """The prompt pack."""
        return prompts.load_pack(self.pack_name)

    @cached_property
    def decoding(self) -> Decoding:
        """How the first answer is drawn."""
        section = self.language_model
        return Decoding(section.max_new_tokens, section.temperature, self.seed, prompts.ANSWER_LINES["both"])


def chosen_users(known_interactions: DataFrame, section: ContextConfig) -> DataFrame:
    """Return (user_idx) of the users whose histories are read: the shortest histories first, then user_idx.

    A short history tells a model least by itself, so a reading adds most to it.

    Args:
        known_interactions: the events that the fold may see.
        section: the section ``context``.

    Returns:
        At most ``context.max_users`` rows, users with at least ``context.min_events`` events.
    """
    counts = known_interactions.groupBy("user_idx").count().where(F.col("count") >= section.min_events)
    return counts.orderBy("count", "user_idx").limit(section.max_users).select("user_idx")


def user_titles(known_interactions: DataFrame, users: DataFrame, items: DataFrame, section: ContextConfig) -> DataFrame:
    """Return (user_idx, titles array<string>): each user's newest titles, oldest first; nothing else of the history.

    Users whose items have no titles have no row.
    """
    newest = histories(known_interactions.join(users, "user_idx", "left_semi"), section.max_history)
    places = newest.select("user_idx", F.posexplode("items").alias("place", "item_idx"))
    titles = items.where(F.length(F.trim("title")) > 0).select("item_idx", "title")
    return (
        places.join(titles, "item_idx")
        .groupBy("user_idx")
        .agg(F.array_sort(F.collect_list(F.struct("place", "title"))).alias("seen"))
        .select("user_idx", F.col("seen.title").alias("titles"))
    )


def render(titles: DataFrame, settings: ContextSettings) -> DataFrame:
    """Return each user's prompt, made of titles alone, and its key.

    Returns:
        (user_idx, input_key, shared, own, start, own_text, n_titles).
    """

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pylist(
                [{"user_idx": row["user_idx"], **render_titles(row["titles"], settings)} for row in batch.to_pylist()],
                schema=_RENDERED_ARROW,
            )

    return spread(titles, "user_idx").mapInArrow(rows, _RENDERED)


_RENDERED_ARROW = pa.schema(
    [
        ("user_idx", pa.int32()),
        *((name, pa.string()) for name in ("input_key", "shared", "own", "start", "own_text")),
        ("n_titles", pa.int32()),
    ]
)


def render_titles(titles: Sequence[str], settings: ContextSettings) -> dict[str, Any]:
    """Return the prompt of one history."""
    cleaned = [clean_text(title, _MAX_TITLE_CHARS) for title in titles]
    prompt = prompts.context_prompt(settings.pack, cleaned)
    drawn, model = settings.decoding, settings.model
    parts: list[Any] = [model.engine, model.model, model.revision, settings.pack.version, prompt.text]
    parts += [drawn.max_new_tokens, drawn.temperature, drawn.seed if drawn.temperature else 0]
    parts += [settings.gate_key, settings.encoder_key]
    return {
        "input_key": hashed(parts),
        "shared": prompt.shared,
        "own": prompt.own,
        "start": prompt.start,
        "own_text": " \n ".join(cleaned),
        "n_titles": len(cleaned),
    }


@dataclass
class Reader:
    """The language model, the gate and the encoder at work on histories in one Python worker."""

    settings: ContextSettings
    gate: Gate
    encode: Encode | None
    get_engine: Callable[[], tuple[Engine, int, float]]

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Read histories: rows of ``silver.context_staging`` for rendered rows, in their order."""
        engine, n_loads, _ = self.get_engine()
        settings = self.settings

        def judge(places: Sequence[int], answers: Sequence[Answer]) -> list[Judged]:
            return [self._judge(rows[place], answer) for place, answer in zip(places, answers, strict=True)]

        prompts_of_rows = [Prompt(row["shared"], row["own"], row["start"]) for row in rows]
        retry_temperature = settings.language_model.retry_temperature
        tried = ask_twice(engine, prompts_of_rows, [None] * len(rows), judge, settings.decoding, retry_temperature)
        texts = [
            each.judged.written.text if each.judged.written is not None and not each.judged.failed else None
            for each in tried
        ]
        vectors = self._vectors(texts)
        name, worker = settings.model, f"{socket.gethostname()}:{os.getpid()}"
        return [
            {
                "input_key": row["input_key"],
                "context": text,
                "vector": vector,
                "status": "failed" if each.answer.error else "refused" if each.judged.failed else "accepted",
                "reason": each.answer.error or ", ".join(each.judged.failed) or None,
                "n_titles": row["n_titles"],
                "n_prompt_tokens": each.answer.n_prompt_tokens,
                "n_output_tokens": each.answer.n_output_tokens,
                "seconds": each.answer.seconds,
                "engine": name.engine,
                "model": name.model,
                "revision": name.revision,
                "prompt_version": settings.pack.version,
                "worker": worker,
                "n_loads": n_loads,
            }
            for row, each, text, vector in zip(rows, tried, texts, vectors, strict=True)
        ]

    def _judge(self, row: Mapping[str, Any], answer: Answer) -> Judged:
        written = None if answer.error else parse_answer(answer.text, row["start"])
        return self.gate.check(written, Subject("", row["own_text"]))

    def _vectors(self, texts: Sequence[str | None]) -> list[list[float] | None]:
        if self.encode is None:
            return [None] * len(texts)
        encoded = self.encode([text or "" for text in texts])
        return [vector.tolist() if text else None for text, vector in zip(texts, encoded, strict=True)]


def distinct_inputs(rendered: DataFrame) -> DataFrame:
    """Return a row an input: identical histories are asked once.

    Args:
        rendered: as :func:`render` gives it.
    """
    names = ("user_idx", "shared", "own", "start", "own_text", "n_titles")
    return rendered.groupBy("input_key").agg(*(F.min_by(name, "user_idx").alias(name) for name in names))


def read_histories(pending: DataFrame, settings: ContextSettings, n_tasks: int, profile: Any) -> DataFrame:
    """Let the language model read histories. Write the result at once: each action on it would ask again.

    Args:
        pending: as :func:`distinct_inputs` gives it.
        settings: what reading needs.
        n_tasks: tasks at work at once.
        profile: Spark resource profile of the tasks; None: the session's own.

    Returns:
        ``silver.context_staging``: a row an input.
    """
    ddl = ", ".join(f"{column.name} {column.type}" for column in CONTEXT_STAGING.columns)
    arrow = _staging_arrow()

    def answer(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        reader = make_reader(settings)
        for batch in batches:
            for start in range(0, batch.num_rows, _CHUNK):
                rows = reader.rows(batch.slice(start, _CHUNK).to_pylist())
                yield pa.RecordBatch.from_pylist(rows, schema=arrow)

    asked = pending.select("input_key", "shared", "own", "start", "own_text", "n_titles")
    return asked.repartition(n_tasks).mapInArrow(answer, ddl, profile=profile)


def make_reader(settings: ContextSettings) -> Reader:
    """Return what reads histories in this Python worker; models are loaded once a process."""
    encode = load_encoder(settings.embed, settings.encoder_folder).value.encode if settings.encoder_folder else None

    def get_engine() -> tuple[Engine, int, float]:
        loaded = load_engine(settings.language_model, settings.model_folder, settings.model_info)
        return loaded.value, loaded.n_loads, loaded.seconds

    gate = settings.gate.with_vocabulary(POOLS.get(settings.pool_folder, 0).vocabulary)
    return Reader(settings, gate, encode, get_engine)


def _staging_arrow() -> pa.Schema:
    kinds = {"string": pa.string(), "int": pa.int32(), "double": pa.float64(), "array<float>": pa.list_(pa.float32())}
    return pa.schema([(column.name, kinds[column.type]) for column in CONTEXT_STAGING.columns])


def user_contexts(rendered: DataFrame, answers: DataFrame, fold: str) -> DataFrame:
    """Return ``silver.user_contexts`` of a fold: a row a user whose history was read.

    Args:
        rendered: as :func:`render` gives it.
        answers: ``silver.context_staging``; at most one row an input.
        fold: the fold.
    """
    told = answers.drop("n_titles", "worker", "n_loads")
    joined = rendered.select("user_idx", "input_key", "n_titles").join(told, "input_key")
    return joined.withColumn("fold", F.lit(fold)).select(*USER_CONTEXTS.column_names)


def context_vectors(contexts: DataFrame, known_interactions: DataFrame, embeddings: DataFrame) -> DataFrame:
    """Return (user_idx, vector, source) of the users read: the vector of an accepted reading, else the mean history.

    A reading's vector is shorter where the items' vectors were joined with ones that the user brought: zeros fill it.

    Args:
        contexts: ``silver.user_contexts`` of the fold.
        known_interactions: the events that the fold may see.
        embeddings: (item_idx, vector).
    """
    of_users = known_interactions.join(contexts.select("user_idx"), "user_idx", "left_semi")
    placed = of_users.join(embeddings.select("item_idx", "vector"), "item_idx").select(
        "user_idx", F.posexplode("vector").alias("place", "x")
    )
    mean = placed.groupBy("user_idx", "place").agg(F.avg("x").alias("x"))
    histories_mean = mean.groupBy("user_idx").agg(
        F.transform(F.array_sort(F.collect_list(F.struct("place", "x"))), lambda p: p["x"].cast("float")).alias("mean")
    )
    accepted = (F.col("status") == "accepted") & F.col("vector").isNotNull()
    missing = F.greatest(F.size("mean") - F.size("vector"), F.lit(0))
    filled = F.concat("vector", F.array_repeat(F.lit(0.0).cast("float"), missing))
    return contexts.join(histories_mean, "user_idx").select(
        "user_idx",
        F.when(accepted, filled).otherwise(F.col("mean")).alias("vector"),
        F.when(accepted, "context").otherwise("history").alias("source"),
    )


def augmented_interactions(
    known_interactions: DataFrame, added: DataFrame | None, section: ContextConfig, fold: str
) -> DataFrame:
    """Return ``silver.interactions_augmented`` of a fold: the known events, and the pseudo-events after them.

    Args:
        known_interactions: the events that the fold may see.
        added: (user_idx, item_idx, rank from 1, source) of the pseudo-events; None: there are none.
        section: the section ``context``.
        fold: the fold.

    Returns:
        The known events with weight 1 and source ``log``; pseudo-events with ``event_order`` after the user's last
        one, neither time nor type, and ``context.weight``.
    """
    events = known_interactions.select(
        F.lit(fold).alias("fold"),
        *_EVENT_NAMES,
        F.lit(1.0).alias("weight"),
        F.lit(False).alias("is_augmented"),
        F.lit("log").alias("source"),
    )
    if added is None:
        return events
    last = known_interactions.groupBy("user_idx").agg(F.max("event_order").alias("last_order"))
    own = {
        "fold": F.lit(fold),
        "event_order": (F.col("last_order") + F.col("rank")).cast("int"),
        "order_value": F.lit(None).cast("bigint"),
        "event_ts": F.lit(None).cast("timestamp"),
        "event_type": F.lit(None).cast("string"),
        "value": F.lit(None).cast("double"),
        "event_weight": F.lit(section.weight),
        "weight": F.lit(section.weight),
        "is_augmented": F.lit(True),
    }
    pseudo = added.join(last, "user_idx").select(
        *(own[name].alias(name) if name in own else F.col(name) for name in INTERACTIONS_AUGMENTED.column_names)
    )
    return events.unionByName(pseudo)
