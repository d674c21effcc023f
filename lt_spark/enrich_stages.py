"""What the stages of the language model do with tables and waves; pipeline.py says when, enrich/ says how."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_sources import ItemColumns, ItemsSource
from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.names import quoted
from lt_spark.core.session import inference_tasks
from lt_spark.core.storage import Storage, absolute
from lt_spark.engines import make, model_files
from lt_spark.enrich import agreement, render
from lt_spark.enrich import embed_enriched as enriching
from lt_spark.enrich.embed import Encoding, embed_items
from lt_spark.enrich.gate import load_words
from lt_spark.enrich.on_executors import model_info
from lt_spark.frames import known as folds
from lt_spark.prepare.disturb import shuffled_idx
from lt_spark.prepare.sources import read_source, source_fingerprint
from lt_spark.stages import Context


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
    needs_fields = describing.enabled and describing.n_shown > 0 and model.engine != "imported"
    if needs_fields and not describing.keyword_fields:
        raise ConfigError(
            "describe.keyword_fields is empty: expected the attributes that say what an item is (such as category or "
            "genre), which the examples teach. Name some, or set describe.n_examples=0 for a model that needs none."
        )
    if describing.enabled and describing.max_cost is not None and not model.price_per_million_tokens:
        raise ConfigError(
            "describe.max_cost is set and language_model.price_per_million_tokens is 0: expected a price, without "
            "which the budget would never be reached. Set it, or describe.max_tokens instead."
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
    if stage == "context" and not config.context.enabled:
        return found
    if stage in ("embed", "describe", "context", "text_bert") and config.embed.model:
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
    if stage == "describe":
        found.append(_reviews_fingerprint(storage))
    return found


def _reviews_fingerprint(storage: Storage) -> str:
    """Return a hash of people's verdicts; empty where there are none."""
    if not storage.exists(t.ITEM_ENRICHMENTS):
        return ""
    verdict = F.xxhash64("key", "reviewed_by", "status", "description", F.array_join("keywords", ","))
    reviewed = storage.read(t.ITEM_ENRICHMENTS).where(F.col("reviewed_by").isNotNull())
    row = reviewed.agg(F.count("key").alias("n"), F.bit_xor(verdict).alias("hash")).first()
    return f"{row['n']} {row['hash']}" if row is not None and row["n"] else ""


def _fingerprint(folder: str) -> str:
    """Return the hash of a model's folder; empty where the driver does not see it (the alias of an archive)."""
    try:
        return model_files.describe_folder(folder).sha256
    except StorageError:
        return ""


def embed(c: Context) -> None:
    """Give each item its vector from its own text."""
    previous = c.read(t.ITEM_EMBEDDINGS) if c.storage.exists(t.ITEM_EMBEDDINGS) else None
    c.write(t.ITEM_EMBEDDINGS, embed_items(c.items, previous, encoding(c), own_vectors(c)))


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
    items, embeddings = c.items, c.read(t.ITEM_EMBEDDINGS)
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


def text_is_accepted(c: Context) -> bool:
    """Return whether the written text may reach the models: it is wanted, and was shown to help."""
    if not (c.config.describe.enabled and c.storage.exists(t.TEXT_VERDICT)):
        return False
    return not c.read(t.TEXT_VERDICT).where(F.col("verdict") == "accepted").isEmpty()


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


def check_models(spark: SparkSession, config: Config, stages: set[str]) -> None:
    """Check the folders of the models that stages load, before the first stage of a run starts.

    Args:
        spark: the session.
        config: the configuration.
        stages: names of the stages that the run will do.

    Raises:
        LtSparkError: a folder is missing, of another revision or hash, or not safe to load; or a library is missing.
    """
    if not config.context.enabled:
        stages = stages - {"context"}
    if config.embed.model and stages & {"embed", "describe", "embed_enriched", "context", "text_bert"}:
        make.check_installed("transformers")
        model_info(spark, encoder_folder(config), config.embed.revision, "")
    section = config.language_model
    if section.engine == "transformers" and stages & {"describe", "context"}:
        make.check_installed(section.engine)
        model_info(spark, language_model_folder(config), section.revision, section.sha256)


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
    own = rows.select(
        F.col(quoted(section.vectors_item)).cast("string").alias("item_id"),
        F.col(quoted(section.vectors_column)).alias("vector"),
    )
    if c.config.disturb.text != "shuffled":
        return own
    items = c.read(t.ITEMS)
    takers = items.select("item_id", shuffled_idx(items).alias("item_idx"))
    moved = takers.join(items.select("item_idx", F.col("item_id").alias("taker")), "item_idx")
    return own.join(moved, "item_id").select(F.col("taker").alias("item_id"), "vector")


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


def gate_key(config: Config) -> str:
    """Return a hash of the gate's limits and lists of words."""
    return render.hashed([config.text_gate.model_dump(mode="json"), load_words(config.text_gate.words_file)])


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


def inference_slots(c: Context) -> tuple[int, Any]:
    """Return the tasks that ask at once, and their resource profile."""
    section = c.config.language_model
    uses_gpu = section.engine == "transformers" and section.device != "cpu"
    return inference_tasks(c.spark, uses_gpu=uses_gpu, gpus_per_task=section.gpus_per_task)


def report(c: Context, measures: Mapping[str, float]) -> None:
    """Add what a stage did in this run to ``silver.enrichment_report``."""
    rows: list[tuple[object, ...]] = [
        (c.storage.run_id, c.stage, c.fold or None, name, float(value)) for name, value in sorted(measures.items())
    ]
    c.storage.write(t.ENRICHMENT_REPORT, c.spark.createDataFrame(rows, t.ENRICHMENT_REPORT.schema))
