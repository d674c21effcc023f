"""What the stage context does with tables and waves; enrich/context.py says how histories are read."""

import time
from contextlib import ExitStack
from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.errors import EngineError
from lt_spark.describe_stage import newest_pool
from lt_spark.enrich import context as reading
from lt_spark.enrich.gate import Gate
from lt_spark.enrich.render import write_pool
from lt_spark.enrich.waves import MAX_WAVES, MIN_FAILED, time_left
from lt_spark.enrich.work import in_waves
from lt_spark.frames.known import check_known, seen
from lt_spark.frames.top_k import top_k
from lt_spark.stages import Context

_TAIL = ("tail", "cold")


def context(c: Context) -> None:
    """Read histories, and write the augmented events; where it is off they are the known events."""
    section = c.config.context
    if not section.enabled:
        _forget_staging(c)
        if c.storage.exists(t.USER_CONTEXTS):
            c.write(t.USER_CONTEXTS, c.read(t.USER_CONTEXTS).limit(0))
        c.write(t.INTERACTIONS_AUGMENTED, reading.augmented_interactions(c.known, None, section, c.fold))
        return
    users = reading.chosen_users(c.known, section)
    with ExitStack() as stack:
        folder, waves, vectors, pool = (
            stack.enter_context(c.scratch(name)) for name in ("histories", "waves", "vectors", "pool")
        )
        settings = _settings(c, pool)
        titles = reading.user_titles(c.known, users, c.read(t.ITEMS), section)
        reading.render(titles, settings).write.mode("overwrite").parquet(folder)
        rendered = c.spark.read.parquet(folder)
        _read_in_waves(c, rendered, settings, waves)
        c.write(t.USER_CONTEXTS, reading.user_contexts(rendered, _with_failed(c, _answers(c)), c.fold))
        added = _added(c, vectors) if section.n_items else None
        c.write(t.INTERACTIONS_AUGMENTED, reading.augmented_interactions(c.known, added, section, c.fold))
    _forget_staging(c)
    events = c.read(t.INTERACTIONS_AUGMENTED)
    check_known(events.where(~F.col("is_augmented")), c.read(t.INTERACTIONS_SPLIT), c.fold)
    _tell_of(c)


def _forget_staging(c: Context) -> None:
    """Empty the staging: answers that no user's row holds are not kept, they are of people's histories."""
    if c.storage.exists(t.CONTEXT_STAGING):
        c.storage.delta(t.CONTEXT_STAGING).delete()


def _settings(c: Context, pool_folder: str) -> reading.ContextSettings:
    config = c.config
    # the pool as describe left it: renewing it is describe's work
    write_pool(newest_pool(replace(c, renew_examples=False))[0], pool_folder)
    name, info = es.model_name(c)
    settings = reading.ContextSettings(
        config.language_model,
        es.gate_key(config),
        es.encoding(c).identity,
        config.embed,
        config.describe.pack,
        name,
        es.language_model_folder(config),
        info,
        es.encoder_folder(config),
        Gate(config.text_gate, frozenset()),
        pool_folder,
        config.core.seed,
    )
    _ = settings.pack  # read here: a pack of the user's own lies where the driver runs
    return settings


def _answers(c: Context) -> DataFrame:
    """Return what is known already, a row an input: earlier contexts of all folds, and what lies in staging."""
    names = t.CONTEXT_STAGING.column_names
    staged = c.storage.read_or_empty(t.CONTEXT_STAGING)
    told = staged.where("status != 'failed'")
    if c.storage.exists(t.USER_CONTEXTS):
        earlier = c.storage.read(t.USER_CONTEXTS).withColumns({"worker": F.lit(None), "n_loads": F.lit(None)})
        told = told.unionByName(earlier.select(*names).where("status != 'failed'"))
    return told.dropDuplicates(["input_key"])


def _with_failed(c: Context, answers: DataFrame) -> DataFrame:
    """Return the answers, and the failures of those that have none."""
    failed = c.storage.read_or_empty(t.CONTEXT_STAGING).where("status = 'failed'").dropDuplicates(["input_key"])
    return answers.unionByName(failed.join(answers.select("input_key"), "input_key", "left_anti"))


def _read_in_waves(c: Context, rendered: DataFrame, settings: reading.ContextSettings, folder: str) -> None:
    answers = _answers(c).select("input_key")
    unknown = rendered.join(answers, "input_key", "left_anti")
    pending = reading.distinct_inputs(unknown).withColumn("thinness", F.col("user_idx"))
    n_pending = pending.count()
    c.storage.delta(t.CONTEXT_STAGING)
    if not n_pending:
        return
    es.check_engine(c.config)
    size = max(c.config.describe.wave_items, -(-n_pending // MAX_WAVES))
    in_waves(pending, n_pending, size).write.mode("overwrite").partitionBy("wave").parquet(folder)
    n_tasks, profile = es.inference_slots(c)
    started, done, n_failed = time.monotonic(), 0, _n_failed(c)
    for number in range(-(-n_pending // size)):
        wave = c.spark.read.parquet(folder).where(F.col("wave") == number)
        n_rows = c.storage.write(
            t.CONTEXT_STAGING, reading.read_histories(wave, settings, n_tasks, profile), stage_key=c.stage_key
        )
        before, n_failed = n_failed, _n_failed(c)
        if n_failed - before == n_rows >= MIN_FAILED:
            raise EngineError(
                f"all {n_rows} readings of a wave failed: the engine does not answer. The reasons stand in "
                "silver.context_staging (column reason). Mend it, and run the same command again: what is done is kept."
            )
        done += n_rows
        left = time_left(done, n_pending, started)
        c.tell(f"{done:,} of {n_pending:,} histories, about {left:,.0f} s left")


def _n_failed(c: Context) -> int:
    return c.read(t.CONTEXT_STAGING).where("status = 'failed'").count()


def _added(c: Context, scratch: str) -> DataFrame:
    """Return (user_idx, item_idx, rank, source): tail and cold items nearest to each reading, new to the user."""
    section = c.config.context
    embeddings = c.read(t.ITEM_EMBEDDINGS_ENRICHED)
    vectors = reading.context_vectors(c.read(t.USER_CONTEXTS), c.known, embeddings)
    tail = c.read(t.ITEM_SEGMENTS).where(F.col("segment").isin(*_TAIL)).select("item_idx")
    filled = embeddings.join(tail, "item_idx", "left_semi").where(F.exists("vector", lambda x: x != 0))
    items = filled.join(c.recommendable, "item_idx", "left_semi").select("item_idx", "vector")
    asked = vectors.join(seen(c.known), "user_idx", "left").select("user_idx", "vector", "seen")
    ranked = top_k(asked, items, section.n_items, scratch=scratch, n_items=c.read(t.ITEMS).count())
    return ranked.where(F.col("score") > 0).join(vectors.select("user_idx", "source"), "user_idx")


def _tell_of(c: Context) -> None:
    contexts = c.read(t.USER_CONTEXTS)
    tokens = F.sum("n_prompt_tokens").alias("prompt"), F.sum("n_output_tokens").alias("output")
    by_status = contexts.groupBy("status").agg(F.count(F.lit(1)).alias("n"), *tokens).collect()
    counts = {row["status"]: row["n"] for row in by_status}
    n_added = c.read(t.INTERACTIONS_AUGMENTED).where("is_augmented").count()
    es.report(
        c,
        {f"status_{status}": float(counts.get(status, 0)) for status in ("accepted", "refused", "failed")}
        | {
            "prompt_tokens": float(sum(row["prompt"] for row in by_status)),
            "output_tokens": float(sum(row["output"] for row in by_status)),
            "pseudo_events": float(n_added),
        },
    )
    told = ", ".join(f"{n:,} {status}" for status, n in sorted(counts.items())) or "none"
    c.notes.append(f"context ({c.fold}): histories read: {told}; {n_added:,} pseudo-events")
    c.is_complete = not counts.get("failed")
    if not c.is_complete:
        c.notes.append(
            f"context ({c.fold}): complete=false: the engine failed on {counts['failed']:,} histories; "
            "`lt-spark run --continue` asks again"
        )
