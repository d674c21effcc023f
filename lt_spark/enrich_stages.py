"""What the stages of the language model do with tables and waves; pipeline.py says when, enrich/ says how."""

import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config, ItemColumns, ItemsSource
from lt_spark.core.errors import ConfigError, DataError, StorageError
from lt_spark.core.names import quoted
from lt_spark.core.runs import IN_PROGRESS
from lt_spark.core.session import inference_tasks
from lt_spark.core.storage import Storage, absolute
from lt_spark.engines import make, model_files
from lt_spark.enrich import agreement, ask, render, work
from lt_spark.enrich import embed_enriched as enriching
from lt_spark.enrich.budget import Budget
from lt_spark.enrich.embed import Encoding, embed_items
from lt_spark.enrich.gate import Gate
from lt_spark.enrich.on_executors import model_info
from lt_spark.enrich.waves import Tally, wave_totals
from lt_spark.frames import known as folds
from lt_spark.prepare.sources import read_source, source_fingerprint
from lt_spark.stages import Context

PROBE = 32
"""Items that a dry run asks the model for."""
MAX_WAVES = 200
"""A wave's MERGE reads the keys that are there: so many waves at most keep a stage's cost linear."""
_TOKENS_PER_ITEM = 500.0
"""A careful guess for the first wave of a budget of tokens; from then on the tokens so far count."""


@dataclass(frozen=True)
class Estimate:
    """What describing all that is left would take, by a probe."""

    items: int
    probed: int
    tokens: float
    hours: float
    cost: float


def embed_is_on(config: Config) -> bool:
    """Return whether items get vectors."""
    return bool(config.embed.model or config.embed.vectors_path)


def describe_is_on(config: Config) -> bool:
    """Return whether items are described."""
    return config.describe.enabled


def check_config(config: Config) -> None:
    """Check what settings of several sections ask of each other.

    Raises:
        ConfigError: what is missing, and what to do.
    """
    model, describing = config.language_model, config.describe
    if describing.enabled and not embed_is_on(config):
        raise ConfigError(
            "describe.enabled is true and embed.model is empty: expected a sentence encoder, which finds each item's "
            "examples and judges the texts. Get one with `lt-spark models fetch`, and set embed.model."
        )
    needs_fields = describing.enabled and describing.n_examples > 0 and model.engine != "imported"
    if needs_fields and not describing.keyword_fields:
        raise ConfigError(
            "describe.keyword_fields is empty: expected the attributes that say what an item is (such as category or "
            "genre), which the examples teach. Name some, or set describe.n_examples=0 for a model that needs none."
        )
    if config.context.enabled and model.engine == "imported":
        raise ConfigError(
            "context.enabled is true and language_model.engine is imported: expected an engine that reads histories. "
            "Use transformers or openai, or set context.enabled=false."
        )
    if config.context.enabled and not (config.embed.model and describing.enabled):
        raise ConfigError(
            "context.enabled is true: expected embed.model and describe.enabled too, whose vectors it reads. Set them, "
            "or context.enabled=false."
        )
    if config.context.enabled and model.engine == "openai" and not config.privacy.allow_remote_histories:
        from lt_spark.engines.openai_engine import is_remote

        if is_remote(model.base_url):
            raise ConfigError(
                "context.enabled is true and language_model.base_url is not on this host: titles of users' histories "
                "would leave it. Set privacy.allow_remote_histories=true if that is allowed, or context.enabled=false."
            )


def outside(spark: SparkSession, config: Config, storage: Storage, stage: str) -> list[str]:
    """Return fingerprints of what a stage reads beside its tables: models, files, people's verdicts."""
    found: list[str] = []
    if stage in ("embed", "describe", "context") and config.embed.model:
        found.append(_fingerprint(encoder_folder(config)))
    if (
        stage in ("describe", "context")
        and config.language_model.engine == "transformers"
        and config.language_model.model
    ):
        found.append(_fingerprint(language_model_folder(config)))
    if stage == "embed" and config.embed.vectors_path:
        found.append(source_fingerprint(spark, vectors_source(config), "items"))
    if stage == "describe" and config.describe.enabled and config.language_model.engine == "imported":
        found.append(source_fingerprint(spark, imported_source(config), "items"))
    if stage == "describe" and storage.exists(t.ITEM_ENRICHMENTS):
        verdict = F.xxhash64("key", "reviewed_by", "status", "description", F.array_join("keywords", ","))
        reviewed = storage.read(t.ITEM_ENRICHMENTS).where(F.col("reviewed_by").isNotNull())
        row = reviewed.agg(F.count("key").alias("n"), F.bit_xor(verdict).alias("hash")).first()
        found.append(f"{row['n']} {row['hash']}" if row is not None and row["n"] else "")
    return found


def _fingerprint(folder: str) -> str:
    """Return the hash of a model's folder; empty where the driver does not see it (the alias of an archive)."""
    try:
        return model_files.describe_folder(folder).sha256
    except StorageError:
        return ""


def embed(c: Context) -> None:
    """Give each item its vector from its own text."""
    previous = c.read(t.ITEM_EMBEDDINGS) if c.storage.exists(t.ITEM_EMBEDDINGS) else None
    c.write(t.ITEM_EMBEDDINGS, embed_items(c.read(t.ITEMS), previous, encoding(c), own_vectors(c)))


def encoding(c: Context) -> Encoding:
    """Return which encoder makes the vectors; its folder is checked on the way."""
    section = c.config.embed
    if not section.model:
        return Encoding(section, "", None)
    make.check_installed("transformers")
    folder = encoder_folder(c.config)
    info = model_info(c.spark, folder, section.revision, "")
    n_tasks, profile = inference_tasks(c.spark, uses_gpu=True, gpus_per_task=c.config.language_model.gpus_per_task)
    return Encoding(section, folder, info, n_tasks, profile)


def embed_enriched(c: Context) -> None:
    """Measure whether the written text brings items that share users nearer, and join it to the vectors if it does."""
    items, embeddings = c.read(t.ITEMS), c.read(t.ITEM_EMBEDDINGS)
    enrichments = c.storage.read_or_empty(t.ITEM_ENRICHMENTS)
    if not c.config.describe.enabled:
        enrichments = enrichments.limit(0)
    previous = c.read(t.ITEM_EMBEDDINGS_ENRICHED) if c.storage.exists(t.ITEM_EMBEDDINGS_ENRICHED) else None
    encoder, section, seed = encoding(c), c.config.embed_enriched, c.config.core.seed
    with c.scratch("enriched") as folder, c.scratch("others") as others:
        made = enriching.embed_enriched(items, enrichments, embeddings, previous, encoder, True)
        made.write.mode("overwrite").parquet(folder)
        as_if = c.spark.read.parquet(folder)
        train = folds.known(c.read(t.INTERACTIONS_SPLIT), "valid")
        measured = agreement.neighbour_agreement(embeddings, as_if, train, section, seed, scratch=others)
        row = agreement.verdict(measured.toPandas(), section, seed)  # at most embed_enriched.max_items rows
        c.write_rows(t.TEXT_VERDICT, [row])
        accepted = row[0] == "accepted"
        rows = as_if if accepted else enriching.embed_enriched(items, enrichments, embeddings, None, encoder, False)
        c.write(t.ITEM_EMBEDDINGS_ENRICHED, rows)
    if c.config.describe.enabled:
        c.notes.append(f"embed_enriched: the written text is {row[0]} for the models: {row[1]}")


def describe(c: Context) -> None:
    """Let the language model describe tail and cold items, wave by wave, each once."""
    _merge_staged(c)
    tally = Tally()
    with c.scratch("pool") as pool_folder, c.scratch("work") as work_folder, c.scratch("waves") as waves_folder:
        settings = ask_settings(c, pool_folder)
        rendered = _rendered(c, settings.render, work_folder)
        pending = _pending(c, rendered)
        n_pending = pending.count()
        if n_pending:
            check_engine(c.config)
            section = c.config.describe
            budget = Budget.of(section, c.config.language_model.price_per_million_tokens, _TOKENS_PER_ITEM)
            budget.spend(*_spent_by_stopped_runs(c))
            n_todo = n_pending if section.max_items is None else min(section.max_items - budget.items, n_pending)
            n_todo = max(0, n_todo)
            todo = pending if n_todo == n_pending else pending.orderBy("thinness").limit(n_todo)
            size = max(section.wave_items, -(-n_todo // MAX_WAVES))
            work.in_waves(todo, n_todo, size).write.mode("overwrite").partitionBy("wave").parquet(waves_folder)
            _run_waves(c, settings, waves_folder, -(-n_todo // size), n_todo, budget, tally)
        c.storage.delta(t.ITEM_ENRICHMENTS)  # there is a table, even where there was nothing to describe
        _mark_current(c, rendered)
    n_left = n_pending - int(tally.totals["items"] - tally.totals["status_failed"])
    c.is_complete = n_left <= 0
    c.rows[t.ITEM_ENRICHMENTS.full_name] = int(tally.totals["items"])
    if tally.totals["items"]:
        _report(c, tally.measures() | {"left": float(n_left)})
        c.notes.append(_told(tally))
    if n_left > 0:
        c.notes.append(
            f"describe: complete=false: {n_left:,} items are left, by the budget or because the engine failed on "
            "them; `lt-spark run --continue` goes on"
        )


def estimate(c: Context) -> Estimate | None:
    """Return what describing all that is left would take, by a probe of 32 items; None where nothing is left.

    Writes nothing but scratch files.
    """
    with c.scratch("pool") as pool_folder, c.scratch("work") as work_folder:
        settings = ask_settings(c, pool_folder)
        pending = _pending(c, _rendered(c, settings.render, work_folder))
        n_pending = pending.count()
        if not n_pending:
            return None
        check_engine(c.config)
        n_tasks, profile = inference_slots(c)
        probe = pending.orderBy("input_key").limit(PROBE)
        answers = ask.ask(probe, settings, n_tasks, profile)
        row = answers.agg(
            F.count(F.lit(1)).alias("n"),
            F.sum(F.col("n_prompt_tokens") + F.col("n_output_tokens")).alias("tokens"),
            F.sum("seconds").alias("seconds"),
        ).first()
    if row is None or not row["n"]:
        return None
    scale = n_pending / row["n"]
    tokens = float(row["tokens"]) * scale
    return Estimate(
        n_pending,
        int(row["n"]),
        tokens,
        float(row["seconds"]) * scale / n_tasks / 3600,
        tokens * c.config.language_model.price_per_million_tokens / 1e6,
    )


def check_engine(config: Config) -> None:
    """Check that the engine can answer, before any task starts.

    Raises:
        ConfigError: what is missing, and what to do.
    """
    section = config.language_model
    make.check_installed(section.engine)
    if section.engine == "openai":
        from lt_spark.engines.openai_engine import check

        check(section)


def encoder_folder(config: Config) -> str:
    """Return the encoder's folder as executors read it."""
    return model_files.resolve(config.embed.model, absolute(config.files.root))


def language_model_folder(config: Config) -> str:
    """Return the language model's folder as executors read it; empty for other engines than ``transformers``."""
    section = config.language_model
    if section.engine != "transformers":
        return ""
    if not section.model:
        raise ConfigError(
            "language_model.model is empty: expected the folder of a model, found nothing. Get one with `lt-spark "
            "models fetch`, and name its folder in the conf."
        )
    return model_files.resolve(section.model, absolute(config.files.root))


def vectors_source(config: Config) -> ItemsSource:
    """Return where the user's vectors are, as a source of (item, vector)."""
    section = config.embed
    columns = ItemColumns(item=section.vectors_item, title=section.vectors_column)
    return ItemsSource(path=section.vectors_path, format=section.vectors_format, columns=columns)


def own_vectors(c: Context) -> DataFrame | None:
    """Return (item_id, vector) that the user brings, or None."""
    section = c.config.embed
    if not section.vectors_path:
        return None
    rows = read_source(c.spark, vectors_source(c.config), "items")
    return rows.select(
        F.col(quoted(section.vectors_item)).cast("string").alias("item_id"),
        F.col(quoted(section.vectors_column)).alias("vector"),
    )


def model_name(c: Context) -> tuple[render.ModelName, model_files.ModelInfo | None]:
    """Return who answers, as it stands in the tables, and what lies in its folder, which is checked on the way.

    Raises:
        ConfigError: where the folder is missing, of another revision or hash, or holds pickles only.
    """
    section = c.config.language_model
    if section.engine == "transformers":
        make.check_installed(section.engine)
        info = model_info(c.spark, language_model_folder(c.config), section.revision, section.sha256)
        return render.ModelName(section.engine, info.name, info.revision or info.sha256[:16]), info
    return render.ModelName(section.engine, section.model or section.engine, section.revision), None


# ---- the parts of describe


def ask_settings(c: Context, pool_folder: str) -> ask.AskSettings:
    """Return what asking needs on the executors; the pool of examples is written for them."""
    config = c.config
    pool, version = newest_pool(c)
    render.write_pool(pool, pool_folder)
    name, info = model_name(c)
    rendering = render.RenderSettings(
        config.describe, config.language_model, config.text_gate, name, pool_folder, config.core.seed
    )
    return ask.AskSettings(
        rendering,
        config.embed,
        language_model_folder(config),
        info,
        encoder_folder(config) if config.embed.model else "",
        Gate(config.text_gate, frozenset()),
        c.storage.run_id,
        version,
    )


def newest_pool(c: Context) -> tuple[DataFrame, int]:
    """Return the pool's newest version with today's vectors, and its number; a new version where asked for."""
    section = c.config.describe
    embeddings = c.read(t.ITEM_EMBEDDINGS)
    pools = c.storage.read_or_empty(t.PROMPT_EXAMPLES)
    newest = pools.agg(F.max("examples_version").alias("newest")).first()
    version = int(newest["newest"] or 0) if newest is not None else 0
    if version == 0 or c.renew_examples:
        version += 1
        made = work.examples_pool(
            c.read(t.ITEMS), c.storage.read(t.ITEM_SEGMENTS, "valid"), embeddings, section, version
        )
        c.write(t.PROMPT_EXAMPLES, made)
    pool = c.read(t.PROMPT_EXAMPLES).where(F.col("examples_version") == version)
    pool = pool.join(embeddings.select("item_idx", "vector"), "item_idx")
    if section.n_examples and c.config.language_model.engine != "imported" and pool.isEmpty():
        wanted = [*section.keyword_fields, *([section.description_field] if section.description_field else [])]
        named = c.read(t.ITEMS).select(F.explode("attributes.name").alias("name")).distinct().limit(20).collect()
        raise DataError(
            f"describe: no item can be an example: expected items with a title and each of {wanted} "
            f"(describe.keyword_fields, describe.description_field), found none; the catalogue's attributes are "
            f"{sorted(row['name'] for row in named)}. Correct the names, or set describe.n_examples=0."
        )
    return pool, version


def _rendered(c: Context, settings: render.RenderSettings, folder: str) -> DataFrame:
    """Write each item's prompt and keys as scratch files, and return them."""
    items = work.items_to_describe(
        c.read(t.ITEMS), c.storage.read(t.ITEM_SEGMENTS, "valid"), c.read(t.ITEM_EMBEDDINGS), c.config.describe
    )
    if settings.model.engine == "imported":
        items = items.join(_imported(c), "item_id")
    render.render(items, settings).write.mode("overwrite").parquet(folder)
    return c.spark.read.schema(render.RENDERED).parquet(folder)


def imported_source(config: Config) -> ItemsSource:
    """Return where the imported texts are, as a source of (item, text).

    Raises:
        ConfigError: where no path is set.
    """
    section = config.describe
    if not section.imported_path:
        raise ConfigError(
            "describe.imported_path is empty: expected a file or table of texts for language_model.engine imported, "
            "found nothing. Set it in the conf."
        )
    columns = ItemColumns(item=section.imported_item, title=section.imported_text)
    return ItemsSource(path=section.imported_path, format=section.imported_format, columns=columns)


def _imported(c: Context) -> DataFrame:
    """Return (item_id, imported): one text an item, the first of its rows."""
    source = imported_source(c.config)
    rows = read_source(c.spark, source, "items")
    n_broken = rows.where(F.col("_error").isNotNull()).count()
    if n_broken:
        c.notes.append(f"describe: {n_broken:,} records of describe.imported_path cannot be read and are left out")
    item, text = (F.col(quoted(name)).cast("string") for name in (source.columns.item, source.columns.title))
    fine = rows.where(F.col("_error").isNull()).select(
        item.alias("item_id"), text.alias("imported"), F.struct("_file", "_record").alias("place")
    )
    return (
        fine.where(F.length(F.trim("imported")) > 0)
        .groupBy("item_id")
        .agg(F.min_by("imported", "place").alias("imported"))
    )


def _pending(c: Context, rendered: DataFrame) -> DataFrame:
    enrichments = c.storage.read_or_empty(t.ITEM_ENRICHMENTS)
    return work.with_known_answers(work.left_out(rendered, enrichments), enrichments)


def inference_slots(c: Context) -> tuple[int, Any]:
    """Return the tasks that ask at once, and their resource profile."""
    section = c.config.language_model
    uses_gpu = section.engine == "transformers" and section.device != "cpu"
    return inference_tasks(c.spark, uses_gpu=uses_gpu, gpus_per_task=section.gpus_per_task)


def _run_waves(
    c: Context,
    settings: ask.AskSettings,
    folder: str,
    n_waves: int,
    n_items: int,
    budget: Budget,
    tally: Tally,
) -> None:
    n_tasks, profile = inference_slots(c)
    started = time.monotonic()
    for number in range(n_waves):
        wave = c.spark.read.parquet(folder).where(F.col("wave") == number).drop("wave")
        left = budget.items_left()
        if left == 0:
            return
        if left is not None:
            wave = wave.orderBy("thinness").limit(left)
        began = time.monotonic()
        c.storage.write(t.ENRICHMENT_STAGING, ask.ask(wave, settings, n_tasks, profile), stage_key=c.stage_key)
        totals = _merge_staged(c)
        tally.add(totals, time.monotonic() - began)
        budget.spend(int(totals["items"]), int(totals["prompt_tokens"] + totals["output_tokens"]))
        done = int(tally.totals["items"])
        if done:
            left_s = (time.monotonic() - started) / done * (n_items - done)
            c.tell(
                f"{done:,} of {n_items:,} items, {tally.tokens_per_s:,.0f} tokens/s, "
                f"{tally.accepted_share:.0%} accepted, about {left_s:,.0f} s left"
            )


def _spent_by_stopped_runs(c: Context) -> tuple[int, int]:
    """Return the items and tokens of runs that were stopped before they were done: this run ends their budget."""
    if not c.storage.exists(t.ITEM_ENRICHMENTS) or not c.storage.exists(t.STAGE_RUNS):
        return 0, 0
    ended = c.storage.read(t.STAGE_RUNS).where((F.col("stage") == c.stage) & (F.col("stage_key") != IN_PROGRESS))
    rows = c.read(t.ITEM_ENRICHMENTS).join(ended.select("run_id").distinct(), "run_id", "left_anti")
    tokens = F.sum(F.col("n_prompt_tokens") + F.col("n_output_tokens"))
    row = rows.agg(F.count("key").alias("items"), F.coalesce(tokens, F.lit(0)).alias("tokens")).first()
    return (int(row["items"]), int(row["tokens"])) if row is not None else (0, 0)


def _merge_staged(c: Context) -> dict[str, float]:
    """Merge what the last wave left in staging, of a killed run too; return its totals."""
    if not c.storage.exists(t.ENRICHMENT_STAGING):
        return {}
    staged = work.without_same_text(c.read(t.ENRICHMENT_STAGING), c.storage.read_or_empty(t.ITEM_ENRICHMENTS))
    first = F.row_number().over(Window.partitionBy("input_key").orderBy("key"))
    row = staged.withColumn("place", first).agg(*wave_totals()).first()
    totals = {name: float(value) for name, value in row.asDict().items()} if row is not None else {}
    if totals.get("items"):
        c.storage.merge_new(t.ITEM_ENRICHMENTS, staged, "old.status = 'failed'", c.stage_key)
    return totals


def _mark_current(c: Context, rendered: DataFrame) -> None:
    """Mark the rows that belong to the items as they are now; writes nothing where the marks are right."""
    enrichments = c.read(t.ITEM_ENRICHMENTS)
    current = work.current_keys(rendered, enrichments).distinct().withColumn("now", F.lit(True))
    marked = enrichments.join(current, "key", "left").select(
        "key", "is_current", F.coalesce("now", F.lit(False)).alias("now")
    )
    wrong = marked.where(F.col("is_current") != F.col("now")).select("key", "now")
    if wrong.isEmpty():
        return
    merge = c.storage.delta(t.ITEM_ENRICHMENTS).alias("old").merge(wrong.alias("new"), "old.key = new.key")
    merge.whenMatchedUpdate(set={"is_current": "new.now"}).execute()


def _report(c: Context, measures: dict[str, float]) -> None:
    rows: list[tuple[object, ...]] = [
        (c.storage.run_id, c.stage, c.fold or None, name, float(value)) for name, value in sorted(measures.items())
    ]
    c.storage.write(t.ENRICHMENT_REPORT, c.spark.createDataFrame(rows, t.ENRICHMENT_REPORT.schema))


def _told(tally: Tally) -> str:
    totals = tally.totals
    return (
        f"describe: {totals['items']:,.0f} items by {totals['asked']:,.0f} questions: "
        f"{totals['status_accepted']:,.0f} accepted, {totals['status_fallback']:,.0f} fallback, "
        f"{totals['status_refused']:,.0f} refused, {totals['status_failed']:,.0f} failed; "
        f"{tally.tokens_per_s:,.0f} tokens/s; loads of the model in a worker process: {tally.loads_in_a_worker:.0f}, in "
        f"{tally.workers:.0f} processes, {tally.load_seconds:.1f} s"
    )
