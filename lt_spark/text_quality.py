"""Is the written text any good? Attributes that the catalogue has are hidden, asked for, and compared."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError, nearest
from lt_spark.core.runs import RunLock
from lt_spark.core.storage import Storage
from lt_spark.describe_stage import ask_settings, newest_pool
from lt_spark.enrich import agreement, ask, render, work
from lt_spark.enrich import embed_enriched as enriching
from lt_spark.enrich.prompts import KEYWORDS
from lt_spark.enrich.render import item_text
from lt_spark.frames.known import known
from lt_spark.kernels.answer_form import BOTH, parse_answer
from lt_spark.kernels.overlap import Share, mean_share, precision, recall
from lt_spark.kernels.words import stems
from lt_spark.kernels.words import words as words_of
from lt_spark.stages import Context

_STAGE = "describe"
_KINDS = ("nearest", "fixed")
Row = dict[str, Any]
Words = Callable[[Row], set[str]]
Share3 = Callable[[Any, Any, Any], float]


def measure_quality(
    spark: SparkSession,
    config: Config,
    *,
    hide: Sequence[str],
    n_items: int,
    kinds: Sequence[str],
    skip: int,
    run_id: str,
) -> list[dict[str, object]]:
    """Hide attributes of items that have them, ask the language model with the rest, and compare.

    The items are the first by the hex SHA-256 of ``enrich-quality:`` and the item's id, so that they are the same
    for everyone. New words are those that the prompt does not show; the hidden ones are the words of
    ``describe.keyword_fields``.

    Args:
        spark: a session with Delta Lake.
        config: the configuration; its tables must have items and their vectors.
        hide: attributes to hide; empty: ``describe.keyword_fields`` and ``describe.description_field``.
        n_items: how many items.
        kinds: ways to choose examples: nearest, fixed.
        skip: so many first items are left out (for development, so that the measured ones stay unseen).
        run_id: of scratch folders.

    Returns:
        Rows of (examples, method, measure, value, low, high, n): means over items with 95 % intervals.

    Raises:
        ConfigError: an attribute is unknown, no keyword field is hidden, the encoder reads a hidden one, a kind is
            unknown, or the engine cannot be asked.
        DataError: no item has what is to be hidden.
    """
    section = config.describe
    hidden = tuple(hide) or (*section.keyword_fields, *filter(None, [section.description_field]))
    es.check_config(config.model_copy(update={"describe": section.model_copy(update={"enabled": True})}))
    _check(config, hidden, kinds)
    storage = Storage(spark, config, run_id)
    c = Context(spark, config, storage, _STAGE, "valid", datetime.now(UTC).replace(tzinfo=None))
    es.check_engine(config)
    items = _sample(c.read(t.ITEMS), section.keyword_fields, n_items, skip)
    if items.isEmpty():
        raise DataError(
            f"no item has all of {list(section.keyword_fields)} (describe.keyword_fields): expected items with what is "
            "to be hidden."
        )
    if not storage.exists(t.PROMPT_EXAMPLES):
        with RunLock(storage, config):
            newest_pool(c)  # writes the pool's first version
    rows: list[dict[str, object]] = []
    for kind in kinds:
        rows += _measure(c, items, hidden, kind)
    return rows


def _check(config: Config, hidden: Sequence[str], kinds: Sequence[str]) -> None:
    for kind in kinds:
        if kind not in _KINDS:
            raise ConfigError(f"--examples: expected {' or '.join(_KINDS)}, found {kind!r}.{nearest(kind, _KINDS)}")
    if config.language_model.engine == "imported":
        raise ConfigError(
            "language_model.engine is imported: expected an engine that can be asked, transformers or openai. Set one."
        )
    names = config.source.items.columns.text
    for name in hidden:
        if name not in names:
            raise ConfigError(
                f"--hide {name}: expected an attribute of source.items.columns.text ({', '.join(names) or 'none'})."
                f"{nearest(name, names)}"
            )
    if not set(hidden) & set(config.describe.keyword_fields):
        raise ConfigError(
            f"--hide: expected at least one of describe.keyword_fields ({', '.join(config.describe.keyword_fields)}), "
            f"whose words are what is asked for; found {', '.join(hidden)}. Hide one of them too."
        )
    read = sorted(set(config.embed.fields) & set(hidden))
    if read:
        raise ConfigError(
            f"embed.fields has {read}, which are hidden: the vectors would tell them to the choice of examples. Embed "
            "without them in a tables.root of its own."
        )


def _sample(items: DataFrame, fields: tuple[str, ...], n_items: int, skip: int) -> DataFrame:
    order = F.sha2(F.concat(F.lit("enrich-quality:"), F.col("item_id")), 256)
    full = items.where(work.has_fields(fields) & (F.length(F.trim("title")) > 0)).withColumn("order", order)
    return full.orderBy("order").offset(skip).limit(n_items)


def _measure(c: Context, items: DataFrame, hidden: Sequence[str], kind: str) -> list[dict[str, object]]:
    section = c.config.describe.model_copy(update={"examples": kind})
    config = c.config.model_copy(update={"describe": section})
    told = Context(c.spark, config, c.storage, c.stage, c.fold, c.now)
    shown = F.filter("attributes", lambda a: ~a["name"].isin(*hidden))
    segments = c.storage.read_or_empty(t.ITEM_SEGMENTS, "valid")
    everywhere = segments.withColumn("segment", F.lit("tail"))
    with c.scratch("pool") as pool_folder, c.scratch("prompts") as prompts, c.scratch("answers") as answers:
        settings = ask_settings(told, pool_folder)
        settings = replace(settings, is_retried=False)
        if kind == "fixed":  # the examples of all show their own answers
            items = items.join(render.fixed_items(c.spark, settings.render), "item_idx", "left_anti")
        seen = items.drop("order").withColumn("attributes", shown)
        wanted = section.model_copy(update={"segments": ("tail", "cold")})
        asked = work.items_to_describe(seen, everywhere, c.read(t.ITEM_EMBEDDINGS), wanted)
        render.render(asked, settings.render).write.mode("overwrite").parquet(prompts)
        rendered = c.spark.read.schema(render.RENDERED).parquet(prompts)
        rendered = rendered.withColumn("known_answer", F.lit(None).cast("string"))
        n_tasks, profile = es.inference_slots(told)
        ask.ask(rendered, settings, n_tasks, profile).write.mode("overwrite").parquet(answers)
        staged = c.spark.read.parquet(answers)
        found = (
            items.select("item_idx", "item_id", "title", "attributes", "order")
            .join(staged, "item_idx")
            .orderBy("order")
            .collect()  # at most n_items
        )
        rows = _compare([row.asDict(recursive=True) for row in found], c.config, hidden, f"{KEYWORDS}:")
        rows += _agreement(told, staged)
    return [{"examples": kind, **row} for row in rows]


def _compare(rows: list[Row], config: Config, hidden: Sequence[str], start: str) -> list[dict[str, object]]:
    """Compare what was written with what was hidden, and with other ways to guess it."""
    asked = _with_sets(rows, config, hidden, start, stems)
    seed = config.core.seed
    accepted = [row for row in asked if row["gated"] is not None]
    methods: list[tuple[str, list[Row], Words]] = [
        ("keywords", asked, lambda row: row["written"]),
        ("keywords that the gate let pass", accepted, lambda row: row["gated"]),
        ("another item's keywords", asked, lambda row: row["others"]),
        ("vote of the five nearest titles", asked, lambda row: row["voted"]),
    ]
    if config.describe.ask_for == "both":
        methods.append(("description", asked, lambda row: row["told"]))
    common = _common_words(asked)
    telling: Callable[[Share3], Share3] = lambda share: lambda said, truth, seen: share(said, truth, seen | common)  # noqa: E731
    out: list[dict[str, object]] = []
    for method, chosen, words in methods:
        out.append(_row(method, "recall", chosen, words, recall, seed))
        out.append(_row(method, "precision", chosen, words, precision, seed))
        out.append(_row(method, "recall of telling words", chosen, words, telling(recall), seed))
        out.append(_row(method, "precision of telling words", chosen, words, telling(precision), seed))
    blind: Callable[[Any, Any, Any], float] = lambda answered, truth, visible: recall(answered, truth, ())  # noqa: E731
    out.append(_row("title alone", "recall of all hidden words", asked, lambda row: row["visible"], blind, seed))
    both: Words = lambda row: row["visible"] | row["written"]  # noqa: E731
    out.append(_row("title and keywords", "recall of all hidden words", asked, both, blind, seed))
    idx = [row["item_idx"] for row in asked]
    passed = mean_share(idx, [float(row["gated"] is not None) for row in asked], seed)
    out.append(_told("the gate", "share of keywords passed", passed))
    whole = mean_share(idx, [float(row["status"] == "accepted") for row in asked], seed)
    out.append(_told("the gate", "share accepted whole", whole))
    _with_sets(rows, config, hidden, start, words_of)  # a plural is then another word
    for method, chosen, words in methods:
        out.append(_row(method, "recall of words as written", chosen, words, recall, seed))
        out.append(_row(method, "precision of words as written", chosen, words, precision, seed))
    return out


def _with_sets(
    rows: list[Row], config: Config, hidden: Sequence[str], start: str, split: Callable[[str], list[str]]
) -> list[Row]:
    """Put the sets of words into the rows, and return those rows whose hidden words are not all to be seen."""
    fields = set(config.describe.keyword_fields)
    parts = BOTH if config.describe.ask_for == "both" else ("keywords",)
    for row in rows:
        item = item_text(row["title"], row["attributes"])
        row["hidden"] = set(split(" ".join(v for name, v in item.fields if name in fields)))
        shown = [value for name, value in item.fields if name not in hidden]
        row["visible"] = set(split(" ".join([item.title, *shown])))
        written = None if row["status"] == "failed" else parse_answer(row["answer"] or "", start, parts)
        row["written"] = set(split(" ".join(written.keywords))) if written else set()
        row["told"] = set(split(written.description)) if written else set()
        row["gated"] = set(split(" ".join(row["keywords"] or ()))) if row["has_own_keywords"] else None
        row["voted"] = set(split(" ".join(row["fallback_keywords"] or ())))
    asked = [row for row in rows if row["hidden"] - row["visible"]]
    for row, other in zip(asked, [*asked[1:], *asked[:1]], strict=True):
        row["others"] = other["written"]
    return asked


def _common_words(rows: list[Row]) -> set[str]:
    """Return the hidden words that at least half of the items share: who says them says nothing of an item."""
    counts = Counter(word for row in rows for word in row["hidden"])
    return {word for word, n in counts.items() if 2 * n >= len(rows)}


def _row(
    method: str, measure: str, rows: list[Row], words: Words, share: Callable[[Any, Any, Any], float], seed: int
) -> dict[str, object]:
    values = [share(words(row), row["hidden"], row["visible"]) for row in rows]
    return _told(method, measure, mean_share([row["item_idx"] for row in rows], values, seed))


def _told(method: str, measure: str, share: Share) -> dict[str, object]:
    return {
        "method": method, "measure": measure, "value": share.value, "low": share.low, "high": share.high, "n": share.n
    }  # fmt: skip


def _agreement(c: Context, staged: DataFrame) -> list[dict[str, object]]:
    """Return the neighbour agreement of title alone and of title and accepted text, where there is a log."""
    if not c.storage.exists(t.INTERACTIONS_SPLIT):
        return []
    items, embeddings, section = c.read(t.ITEMS), c.read(t.ITEM_EMBEDDINGS), c.config.embed_enriched
    with c.scratch("enriched") as folder, c.scratch("others") as others:
        enriching.embed_enriched(items, staged, embeddings, None, es.encoding(c), True).write.parquet(folder)
        measured = agreement.neighbour_agreement(
            embeddings,
            c.spark.read.parquet(folder),
            known(c.storage.read(t.INTERACTIONS_SPLIT), "valid"),
            section,
            c.config.core.seed,
            scratch=others,
        ).toPandas()  # at most embed_enriched.max_items rows
    if measured.empty:
        return []
    idx = measured["item_idx"].tolist()
    values = {
        "title alone": measured["plain"],
        "title and accepted text": measured["enriched"],
        "gain by the text": measured["enriched"] - measured["plain"],
    }
    return [
        _told(name, "neighbour agreement", mean_share(idx, column.tolist(), c.config.core.seed))
        for name, column in values.items()
    ]
