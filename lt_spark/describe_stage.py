"""What the stage describe does with tables and waves; enrich/ says how an item is rendered, asked for and judged."""

import time
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.errors import DataError
from lt_spark.core.names import quoted
from lt_spark.core.runs import IN_PROGRESS
from lt_spark.enrich import ask, render, work
from lt_spark.enrich.budget import Budget
from lt_spark.enrich.gate import Gate
from lt_spark.enrich.waves import MAX_WAVES, Tally, time_left, wave_totals
from lt_spark.frames import leakage
from lt_spark.prepare.sources import read_source
from lt_spark.stages import Context

PROBE = 32
"""Items that a dry run asks the model for."""
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


def describe(c: Context) -> None:
    """Let the language model describe tail and cold items, wave by wave, each once."""
    _merge_what_was_left(c)
    tally = Tally()
    with c.scratch("pool") as pool_folder, c.scratch("work") as work_folder, c.scratch("waves") as waves_folder:
        settings = ask_settings(c, pool_folder)
        every = _rendered(c, settings.render, work_folder)
        rendered = _with_title(every)
        pending = _pending(c, rendered)
        n_pending, n_untitled = pending.count(), every.count() - rendered.count()
        if n_pending:
            es.check_engine(c.config)
            section = c.config.describe
            budget = Budget.of(section, c.config.language_model.price_per_million_tokens, _TOKENS_PER_ITEM)
            budget.spend(*_spent_by_stopped_runs(c))
            n_chosen = n_pending if section.max_items is None else min(section.max_items - budget.items, n_pending)
            n_chosen = max(0, n_chosen)
            chosen = pending if n_chosen == n_pending else pending.orderBy("thinness").limit(n_chosen)
            size = max(section.wave_items, -(-n_chosen // MAX_WAVES))
            work.in_waves(chosen, n_chosen, size).write.mode("overwrite").partitionBy("wave").parquet(waves_folder)
            _run_waves(c, settings, waves_folder, -(-n_chosen // size), n_chosen, budget, tally)
        c.storage.delta(t.ITEM_ENRICHMENTS)  # there is a table, even where there was nothing to describe
        _mark_current(c, rendered)
    n_left = n_pending - int(tally.totals["items"] - tally.totals["status_failed"])
    c.is_complete = n_left <= 0
    c.rows[t.ITEM_ENRICHMENTS.full_name] = int(tally.totals["items"])
    if tally.totals["items"]:
        es.report(c, tally.measures() | {"left": float(n_left), "without_title": float(n_untitled)})
        c.notes.append(_told(tally))
    if n_untitled:
        c.notes.append(f"describe: {n_untitled:,} items have no title that can be read: nothing is written of them")
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
        pending = _pending(c, _with_title(_rendered(c, settings.render, work_folder)))
        n_pending = pending.count()
        if not n_pending:
            return None
        es.check_engine(c.config)
        n_tasks, profile = es.inference_slots(c)
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


def ask_settings(c: Context, pool_folder: str) -> ask.AskSettings:
    """Return what asking needs on the executors; the pool of examples is written for them."""
    config = c.config
    pool, version = newest_pool(c)
    render.write_pool(pool, pool_folder)
    name, info = es.model_name(c)
    rendering = render.RenderSettings(
        config.describe,
        config.language_model,
        es.gate_key(config),
        name,
        pool_folder,
        config.core.seed,
        config.text_gate.keywords_from == "neighbours",
    )
    _ = rendering.pack  # read here: a pack of the user's own lies where the driver runs
    return ask.AskSettings(
        rendering,
        config.embed,
        es.language_model_folder(config),
        info,
        es.encoder_folder(config) if config.embed.model else "",
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
        items, segments = c.read(t.ITEMS), c.storage.read(t.ITEM_SEGMENTS, "valid")
        made = work.examples_pool(items, segments, embeddings, section, version)
        # before it is written: a pool that is there is used by every later run. In fold live the log may have grown
        # since fold valid's segments were made
        counts = segments if c.fold == "live" else leakage.item_counts(c.read(t.INTERACTIONS_SPLIT), "valid")
        leakage.check_examples(made, work.full_items(items, embeddings, section), counts)
        c.write(t.PROMPT_EXAMPLES, made)
    pool = c.read(t.PROMPT_EXAMPLES).where(F.col("examples_version") == version)
    pool = pool.join(embeddings.select("item_idx", "vector"), "item_idx")
    if section.n_shown and c.config.language_model.engine != "imported" and pool.isEmpty():
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


def _with_title(rendered: DataFrame) -> DataFrame:
    """Return the items that can be described: a title of nothing that can be read leaves nothing to say."""
    return rendered.where(F.length("title") > 0)


def _imported(c: Context) -> DataFrame:
    """Return (item_id, imported): one text an item, the first of its rows."""
    source = es.imported_source(c.config)
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


def _run_waves(
    c: Context,
    settings: ask.AskSettings,
    folder: str,
    n_waves: int,
    n_items: int,
    budget: Budget,
    tally: Tally,
) -> None:
    n_tasks, profile = es.inference_slots(c)
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
            left_s = time_left(done, n_items, started)
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


def _merge_what_was_left(c: Context) -> None:
    """Merge the last wave of a run that was killed between its two writes."""
    if not c.storage.exists(t.ENRICHMENT_STAGING):
        return
    there = c.storage.read_or_empty(t.ITEM_ENRICHMENTS).select("key")
    if not c.read(t.ENRICHMENT_STAGING).join(there, "key", "left_anti").isEmpty():
        _merge_staged(c)


def _merge_staged(c: Context) -> dict[str, float]:
    """Merge what the last wave left in staging; return its totals."""
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


def _told(tally: Tally) -> str:
    totals = tally.totals
    return (
        f"describe: {totals['items']:,.0f} items by {totals['asked']:,.0f} questions: "
        f"{totals['status_accepted']:,.0f} accepted, {totals['status_fallback']:,.0f} fallback, "
        f"{totals['status_refused']:,.0f} refused, {totals['status_failed']:,.0f} failed; "
        f"{tally.tokens_per_s:,.0f} tokens/s; loads of the model a worker process: {tally.loads_in_a_worker:.0f}, "
        f"in {tally.workers:.0f} processes, {tally.load_seconds:.1f} s"
    )
