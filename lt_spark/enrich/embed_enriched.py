"""Stage embed_enriched: a vector of each item's own and accepted text, where the text was shown to help."""

from math import sqrt

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.tables import ITEM_EMBEDDINGS_ENRICHED
from lt_spark.enrich.embed import Encoding, apart, encode_texts, item_texts, scaled, sha, text_hash


def enriched_texts(items: DataFrame, enrichments: DataFrame, section: EmbedConfig) -> DataFrame:
    """Return own text + description + keywords of the items that have an accepted text.

    Of current rows count accepted descriptions and keywords that passed. A fallback is the neighbours' vote, nothing
    that a model wrote, and the vote of the five nearest titles brings so little (docs/embeddings.md) that it would only
    blur what the verdict is about.

    Args:
        items: ``silver.items``.
        enrichments: ``silver.item_enrichments``.
        section: section ``embed``.

    Returns:
        (item_idx, text): a row an item with an accepted text.
    """
    is_accepted = F.col("status") == "accepted"
    description = F.when(is_accepted & (F.trim("description") != ""), F.col("description"))
    keywords = F.when(
        (is_accepted | F.col("has_own_keywords")) & (F.size("keywords") > 0), F.concat_ws(", ", "keywords")
    )
    written = (
        enrichments.where(F.col("is_current"))
        .withColumn("written", F.concat_ws(". ", F.regexp_replace(description, r"\.\s*$", ""), keywords))
        .where(F.col("written") != "")
        .groupBy("item_idx")
        .agg(F.min_by("written", "key").alias("written"))
    )
    own = F.when(F.col("text") != "", F.col("text"))
    texts = item_texts(items, section).join(written, "item_idx")
    return texts.select("item_idx", F.concat_ws(". ", own, "written").alias("text"))


def embed_enriched(
    items: DataFrame,
    enrichments: DataFrame,
    embeddings: DataFrame,
    previous: DataFrame | None,
    encoding: Encoding,
    is_accepted: bool,
) -> DataFrame:
    """Return each item's enriched vector (``silver.item_embeddings_enriched``); write it at once.

    An item without an accepted text keeps its plain vector, and so does every item where the text was refused. Of
    vectors joined with own ones only the text's part is made anew.

    Args:
        items: ``silver.items``.
        enrichments: ``silver.item_enrichments``.
        embeddings: ``silver.item_embeddings``, of the same encoder and section.
        previous: ``silver.item_embeddings_enriched`` as it was, or None; rows whose texts and model are the same are
            kept.
        encoding: the encoder; where there is none, all vectors are the plain ones.
        is_accepted: whether the text may be used.

    Returns:
        A row for each row of ``embeddings``.
    """
    plain = embeddings.select("item_idx", "content_hash", "model", "vector", F.lit(False).alias("has_text"))
    if encoding.info is None or not is_accepted:
        return plain
    texts = (
        enriched_texts(items, enrichments, encoding.section)
        .withColumn("text_hash", text_hash(encoding))
        .join(plain.drop("has_text").withColumnRenamed("content_hash", "plain_hash"), "item_idx")
        .withColumn("content_hash", sha("plain_hash", "text_hash"))
    )
    kept, asked = apart(texts, previous.where("has_text") if previous is not None else None)
    encoded = asked.join(encode_texts(asked, encoding), "text_hash")
    # (the text's part ++ the own vectors' part)
    own = F.slice("vector", F.size("encoded") + 1, F.size("vector"))
    text = F.when(F.size(own) > 0, scaled(F.col("encoded"), sqrt(1.0 - encoding.section.vectors_share)))
    vector = F.when(F.col("is_failed"), F.col("vector")).otherwise(F.concat(F.coalesce(text, F.col("encoded")), own))
    made = encoded.select(
        "item_idx",
        F.when(F.col("is_failed"), "").otherwise(F.col("content_hash")).alias("content_hash"),
        "model",
        vector.alias("vector"),
        (~F.col("is_failed")).alias("has_text"),
    )
    rest = plain.join(texts.select("item_idx"), "item_idx", "left_anti")
    rows = rest.unionByName(made)
    return rows if kept is None else rows.unionByName(kept.select(ITEM_EMBEDDINGS_ENRICHED.column_names))
