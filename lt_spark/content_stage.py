"""What the stage content does with tables; models/content.py says how items are alike."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.models import content as alike
from lt_spark.models.text_bert.pairs import with_keywords
from lt_spark.stages import Context


def kinds(config: Config) -> list[str]:
    """Return those of its models that are in the blend."""
    return [name for name in alike.MODEL_NAMES if name in config.blend.models]


def content_is_on(config: Config) -> bool:
    """Return whether one of its models is in the blend."""
    return bool(kinds(config))


def content(c: Context) -> None:
    """Find items alike by meaning and by words, and recommend by them."""
    wanted = kinds(c.config)
    n_items = c.read(t.ITEMS).count()
    n_wanted = c.config.content.n_neighbours
    sources = c.known.select("item_idx").distinct()
    with c.scratch("vectors") as vectors, c.scratch("words") as words:
        found = []
        if alike.SEMANTIC in wanted:
            near = alike.semantic_neighbours(
                item_vectors(c), sources, c.recommendable, n_wanted, scratch=vectors, n_items=n_items
            )
            found.append((alike.SEMANTIC, near))
        if alike.LEXICAL in wanted:
            weights = _weights(c, f"{words}/counts", f"{words}/weights")
            near = alike.lexical_neighbours(
                weights, sources, c.recommendable, n_wanted, scratch=f"{words}/postings", n_items=n_items
            )
            found.append((alike.LEXICAL, near))
        rows = [near.withColumns({"fold": F.lit(c.fold), "kind": F.lit(kind)}) for kind, near in found]
        both = reduce(DataFrame.unionByName, rows)
        c.write(t.CONTENT_NEIGHBOURS, both.select(*t.CONTENT_NEIGHBOURS.column_names))
    for kind in wanted:
        with c.scratch(kind) as edges:
            rows_of_kind = alike.content_candidates(
                c.known,
                c.read(t.CONTENT_NEIGHBOURS).where(F.col("kind") == kind),
                c.users,
                c.seen,
                c.config,
                n_items,
                model_name=kind,
                fold=c.fold,
                scratch=edges,
            )
            c.write(t.CANDIDATES[kind], rows_of_kind)
        if not c.rows[t.CANDIDATES[kind].full_name]:
            c.notes.append(f"content ({c.fold}): the model {kind} lists nothing: {_WHY_EMPTY[kind]}")


_WHY_EMPTY = {
    alike.SEMANTIC: "items have no vectors (embed.model is empty, or no item has text)",
    alike.LEXICAL: "no two items share a word that few have",
}


def item_vectors(c: Context) -> DataFrame:
    """Return (item_idx, vector) of the vectors that ``models.embeddings`` names; no rows where there are none."""
    return c.storage.read_or_empty(t.EMBEDDINGS[c.config.models.embeddings], c.fold).select("item_idx", "vector")


def item_texts(c: Context) -> DataFrame:
    """Return (item_idx, text): own text, and accepted keywords where the written text was shown to help."""
    texts = alike.documents(c.items)
    if c.config.models.embeddings == "plain" or not es.text_is_accepted(c):
        return texts
    return with_keywords(texts, c.storage.read_or_empty(t.ITEM_ENRICHMENTS))


def _weights(c: Context, counts_folder: str, weights_folder: str) -> DataFrame:
    """Return the weights of the items' words, as read from files: both steps are used more than once."""
    alike.word_counts(item_texts(c), c.config.content).write.mode("overwrite").parquet(counts_folder)
    weights = alike.term_weights(c.spark.read.parquet(counts_folder), c.config.content)
    weights.write.mode("overwrite").parquet(weights_folder)
    return c.spark.read.parquet(weights_folder)
