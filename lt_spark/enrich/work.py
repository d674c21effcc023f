"""Stage describe, first part: which items are described, the pool of examples, the order of the work."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config_text import DescribeConfig
from lt_spark.core.tables import PROMPT_EXAMPLES

_NO_SEGMENT = "cold"
"""An item that the train fold does not know is cold for it."""


def items_to_describe(
    items: DataFrame, segments: DataFrame, embeddings: DataFrame, section: DescribeConfig
) -> DataFrame:
    """Return the items of the wanted segments.

    Args:
        items: ``silver.items``.
        segments: ``silver.item_segments`` of fold valid.
        embeddings: ``silver.item_embeddings``.
        section: the section ``describe``.

    Returns:
        (item_idx, item_id, title, attributes, vector, content_hash, thinness): a row an item; the smaller ``thinness``
        is, the more a text has to add: items without a keyword field first, then short texts.
    """
    wanted = items.join(segments.select("item_idx", "segment"), "item_idx", "left").where(
        F.coalesce("segment", F.lit(_NO_SEGMENT)).isin(*section.segments)
    )
    n_chars = F.coalesce(F.length("title"), F.lit(0)) + F.coalesce(
        F.aggregate("attributes", F.lit(0), lambda total, a: total + F.coalesce(F.length(a["value"]), F.lit(0))),
        F.lit(0),
    )
    return wanted.join(embeddings.select("item_idx", "vector"), "item_idx", "left").select(
        "item_idx",
        "item_id",
        "title",
        "attributes",
        "vector",
        content_hash().alias("content_hash"),
        F.struct(has_fields(section.keyword_fields).alias("has_keywords"), n_chars.alias("n_chars"), "item_idx").alias(
            "thinness"
        ),
    )


def content_hash() -> Column:
    """Return the hash of an item's own text, over ``title`` and ``attributes`` of ``silver.items``."""
    return F.sha2(F.to_json(F.struct("title", "attributes")), 256)


def has_fields(names: tuple[str, ...]) -> Column:
    """Return whether an item has a value in each of the named attributes; false where none is named."""
    if not names:
        return F.lit(False)
    filled = F.transform(F.filter("attributes", lambda a: F.length(F.trim(a["value"])) > 0), lambda a: a["name"])
    return F.coalesce(F.forall(F.array(*map(F.lit, names)), lambda name: F.array_contains(filled, name)), F.lit(False))


def full_items(items: DataFrame, embeddings: DataFrame, section: DescribeConfig) -> DataFrame:
    """Return the items with full metadata: a title, a vector, and all that an example's answer is made of.

    Args:
        items: ``silver.items``.
        embeddings: ``silver.item_embeddings``.
        section: the section ``describe``: its ``keyword_fields`` and ``description_field``; where it names none, any
            attribute will do.
    """
    needed = (*section.keyword_fields, *((section.description_field,) if section.description_field else ()))
    is_full = (has_fields(needed) if needed else F.size("attributes") > 0) & (F.length(F.trim("title")) > 0)
    has_vector = F.exists("vector", lambda x: x != 0)
    return items.where(is_full).join(embeddings.where(has_vector).select("item_idx"), "item_idx", "left_semi")


def examples_pool(
    items: DataFrame, segments: DataFrame, embeddings: DataFrame, section: DescribeConfig, version: int
) -> DataFrame:
    """Return a new version of the pool: items with full metadata, most known in the train fold first.

    Args:
        items: ``silver.items``.
        segments: ``silver.item_segments`` of fold valid, for what is known in train.
        embeddings: ``silver.item_embeddings``.
        section: the section ``describe``.
        version: the number of the new version.

    Returns:
        ``silver.prompt_examples``: at most ``describe.pool_size`` rows.
    """
    full = full_items(items, embeddings, section)
    known = full.join(segments.select("item_idx", "popularity_rank"), "item_idx", "left")
    first = known.orderBy(F.col("popularity_rank").asc_nulls_last(), "item_idx").limit(section.pool_size)
    # at most pool_size rows: one task may number them
    rank = F.row_number().over(Window.orderBy(F.col("popularity_rank").asc_nulls_last(), "item_idx"))
    return first.select(
        F.lit(version).alias("examples_version"),
        "item_idx",
        rank.cast("int").alias("pool_rank"),
        "title",
        "attributes",
    ).select(*PROMPT_EXAMPLES.column_names)


def in_waves(pending: DataFrame, n_pending: int, wave_items: int) -> DataFrame:
    """Return the rows with ``wave`` (int from 0): about ``wave_items`` rows each, the thinnest texts first.

    Spark cuts the order into ranges by a sample, so that no task sorts all rows.
    """
    n_waves = max(1, -(-n_pending // wave_items))
    if n_waves == 1:
        return pending.withColumn("wave", F.lit(0))
    return pending.repartitionByRange(n_waves, "thinness").withColumn("wave", F.spark_partition_id())


def left_out(work: DataFrame, enrichments: DataFrame) -> DataFrame:
    """Return the rows of the work that are not done: their key is not there, or the engine failed on it.

    Args:
        work: has ``key``, ``item_idx``, ``content_hash``.
        enrichments: ``silver.item_enrichments``.
    """
    done = enrichments.where(F.col("status") != "failed").select("key")
    reviewed = enrichments.where(F.col("reviewed_by").isNotNull()).select("item_idx", "content_hash")
    return work.join(done, "key", "left_anti").join(reviewed, ["item_idx", "content_hash"], "left_anti")


def with_known_answers(pending: DataFrame, enrichments: DataFrame) -> DataFrame:
    """Return the rows with ``known_answer``: what the model said to the same input before; null where it was not asked.

    Args:
        pending: has ``input_key``.
        enrichments: ``silver.item_enrichments``.
    """
    told = enrichments.where((F.col("status") != "failed") & F.col("answer").isNotNull())
    known = told.groupBy("input_key").agg(F.min("answer").alias("known_answer"))
    return pending.join(known, "input_key", "left")


def without_same_text(staging: DataFrame, enrichments: DataFrame) -> DataFrame:
    """Return the staged rows; where a description is word for word another item's, the fallback stands in its place.

    Of several staged rows the one with the least input_key keeps the text. Case and punctuation do not count. Rows of
    the same input, and items whose own text is the same, may share a description; an item's own earlier text is no
    other item's.

    Args:
        staging: ``silver.enrichment_staging``.
        enrichments: ``silver.item_enrichments``.
    """
    letters = F.sha2(F.regexp_replace(F.lower("description"), r"[^\p{L}\p{N}]+", ""), 256)
    accepted = F.col("status") == "accepted"
    of_letters = Window.partitionBy("letters")
    first = F.min(F.when(accepted, F.struct("input_key", "content_hash"))).over(of_letters)
    rows = staging.withColumn("letters", F.when(accepted, letters)).withColumn("first", first)
    names = ("item_idx", "input_key", "content_hash")
    others = enrichments.where(accepted & F.col("is_current")).select(
        letters.alias("letters"), *(F.col(name).alias(f"other_{name}") for name in names)
    )
    differs = [F.col(name) != F.col(f"other_{name}") for name in names]
    staged = rows.where(accepted).select("letters", *names)
    taken = staged.join(others, "letters").where(differs[0] & differs[1] & differs[2]).select("input_key", "item_idx")
    joined = rows.join(taken.distinct().withColumn("is_taken", F.lit(True)), ["input_key", "item_idx"], "left")
    is_second = (F.col("input_key") != F.col("first.input_key")) & (
        F.col("content_hash") != F.col("first.content_hash")
    )
    same = accepted & (F.coalesce("is_taken", F.lit(False)) | is_second)
    keywords = F.when(F.col("has_own_keywords"), F.col("keywords")).otherwise(F.col("fallback_keywords"))
    has_fallback = (F.length("fallback_description") > 0) | (F.size(keywords) > 0)
    instead = {
        "description": F.when(has_fallback, F.col("fallback_description")),
        "keywords": F.when(has_fallback, keywords),
        "status": F.when(has_fallback, "fallback").otherwise("refused"),
        "reason": F.lit("same_text"),
        "checks": F.array_union("checks", F.array(F.lit("same_text"))),
    }
    return joined.withColumn("same", same).select(
        *(
            F.when(F.col("same"), instead[name]).otherwise(F.col(name)).alias(name) if name in instead else F.col(name)
            for name in staging.columns
        )
    )


def current_keys(work: DataFrame, enrichments: DataFrame) -> DataFrame:
    """Return (key) of the rows that belong to the items as they are now: those of the work, a reviewed row before it.

    Args:
        work: has ``key``, ``item_idx``, ``content_hash``.
        enrichments: ``silver.item_enrichments``.
    """
    reviewed = (
        enrichments.where(F.col("reviewed_by").isNotNull())
        .groupBy("item_idx", "content_hash")
        .agg(F.max_by("key", F.struct("reviewed_at", "key")).alias("reviewed_key"))
    )
    return work.join(reviewed, ["item_idx", "content_hash"], "left").select(
        F.coalesce("reviewed_key", "key").alias("key")
    )
