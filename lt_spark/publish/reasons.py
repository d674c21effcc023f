"""The parts of a recommendation as scalar columns: shares of models and of history items, and what the items share."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import MODELS

N_ITEMS = 3
LEAST_SHARE = 0.1
"""An item of the history is named as the reason where it has at least this share of the score."""
N_SHARED = 3
_MAX_KEYWORD_CHARS = 40
_MAX_VALUE_CHARS = 200
"""A longer value is a text, no list of keywords."""
_MAX_KEYWORDS = 50


def share_column(model_name: str) -> str:
    """Return the name of the column that holds a model's share of the score."""
    return f"share_{model_name}"


def model_columns(models: Column) -> dict[str, Column]:
    """Return each model's share of the score by column name: 0 where it did not speak for the item.

    Args:
        models: array<struct<model_name, share>> of ``silver.recommendations``.
    """
    return {
        share_column(name): F.coalesce(
            F.get(F.filter(models, _named(name)), F.lit(0))["share"].cast("double"), F.lit(0.0)
        )
        for name in MODELS
    }


def with_history_items(rows: DataFrame, items: DataFrame) -> DataFrame:
    """Add ``reason_<n>_item_id``, ``reason_<n>_title`` and ``reason_<n>_share``, n from 1: null where there is none.

    Args:
        rows: with ``because``.
        items: ``silver.items``.
    """
    for place in range(1, N_ITEMS + 1):
        told = items.select(
            F.col("item_idx").alias("_reason_idx"),
            F.col("item_id").alias(f"reason_{place}_item_id"),
            F.col("title").alias(f"reason_{place}_title"),
        )
        reason = F.get("because", F.lit(place - 1))
        rows = (
            rows.withColumns({"_reason_idx": reason["item_idx"], f"reason_{place}_share": reason["share"]})
            .join(told, "_reason_idx", "left")
            .drop("_reason_idx")
        )
    return rows


def item_keywords(items: DataFrame, enrichments: DataFrame | None, separators: str) -> DataFrame:
    """Return what items can have in common: accepted keywords (K_L) and the short values of their attributes.

    Args:
        items: ``silver.items``.
        enrichments: ``silver.item_enrichments``; None: no keywords were written, or they may not be used.
        separators: characters that part the values of an attribute.

    Returns:
        (item_idx, keywords array<string>): small letters, each once, at most 50, at most 40 characters each.
    """
    pattern = "[" + "".join(f"\\{sign}" for sign in separators if sign.strip()) + "]" if separators.strip() else "\x00"
    values = F.filter(
        F.transform("attributes", lambda attribute: attribute["value"]),
        lambda value: value.isNotNull() & (F.length(value) <= F.lit(_MAX_VALUE_CHARS)),
    )
    own = F.coalesce(F.flatten(F.transform(values, lambda value: F.split(value, pattern))), F.array())
    written = items.select("item_idx", F.array().cast("array<string>").alias("written"))
    if enrichments is not None:
        passed = F.col("is_current") & ((F.col("status") == "accepted") | F.col("has_own_keywords"))
        written = enrichments.where(passed).groupBy("item_idx").agg(F.min_by("keywords", "key").alias("written"))
    both = F.concat(F.coalesce("written", F.array().cast("array<string>")), own)
    words = F.transform(both, lambda word: F.lower(F.trim(word)))
    fit = F.filter(words, lambda word: (F.length(word) > 0) & (F.length(word) <= F.lit(_MAX_KEYWORD_CHARS)))
    joined = items.select("item_idx", "attributes").join(written, "item_idx", "left")
    return joined.select("item_idx", F.slice(F.array_distinct(fit), 1, _MAX_KEYWORDS).alias("keywords"))


def with_shared_keywords(rows: DataFrame, keywords: DataFrame) -> DataFrame:
    """Add ``shared_keywords``: what the item and the first item of its reasons have in common, comma separated.

    At most 3, in the item's own order; null where they have nothing in common, or there is no such item.

    Args:
        rows: with ``item_idx`` and ``because``.
        keywords: as :func:`item_keywords` gives them.
    """
    of_reason = keywords.select(F.col("item_idx").alias("_reason_idx"), F.col("keywords").alias("_reason_keywords"))
    shared = F.slice(F.array_intersect("keywords", "_reason_keywords"), 1, N_SHARED)
    return (
        rows.withColumn("_reason_idx", F.get("because", F.lit(0))["item_idx"])
        .join(keywords, "item_idx", "left")
        .join(of_reason, "_reason_idx", "left")
        .withColumn("shared_keywords", F.when(F.size(shared) > 0, F.array_join(shared, ", ")))
        .drop("keywords", "_reason_keywords", "_reason_idx")
    )


def reason_code(models: Column, first_share: Column, segment: Column) -> Column:
    """Return why in a word, of a recommendation that nobody pinned.

    because_of: an item of the history has at least a tenth of the score. Else by the model with the largest share:
    popular, what_you_did_last (sequence models), alike (meaning or words; factors of an item that nobody has used yet,
    which are made from its text), similar_taste (factors; neighbours of many small parts).

    Args:
        models: array<struct<model_name, share>>, strongest first.
        first_share: share of the first item of the history, null where there is none.
        segment: of the item.
    """
    strongest = F.get(models, F.lit(0))["model_name"]
    return (
        F.when(first_share >= F.lit(LEAST_SHARE), F.lit("because_of"))
        .when(strongest == "popularity", F.lit("popular"))
        .when(strongest.isin("bert", "text_bert"), F.lit("what_you_did_last"))
        .when(strongest.isin("semantic", "lexical") | (segment == "cold"), F.lit("alike"))
        .otherwise(F.lit("similar_taste"))
    )


def reason_words(code: Column, named: Column, on: Column, shared: Column) -> Column:
    """Return the reason in words.

    Args:
        code: as :func:`reason_code` gives it.
        named: title (or id) of the first item of the history.
        on: date of its event as text, null where the log has no real time.
        shared: ``shared_keywords``.
    """
    dated = F.coalesce(F.concat(F.lit(" on "), on), F.lit(""))
    both = F.coalesce(F.concat(F.lit(" (both: "), shared, F.lit(")")), F.lit(""))
    return (
        F.when(code == "because_of", F.concat(F.lit("because of «"), named, F.lit("»"), dated, both))
        .when(code == "popular", F.lit("popular with many users"))
        .when(code == "what_you_did_last", F.lit("follows from what you did last"))
        .when(code == "alike", F.lit("its description is like what you chose before"))
        .otherwise(F.lit("chosen by users of similar taste"))
    )


def _named(name: str):  # type: ignore[no-untyped-def]
    return lambda part: part["model_name"] == F.lit(name)
