"""Content: items alike by meaning (vectors) and by words (TF-IDF), and the candidates that they give.

Cold and tail items are found by what they are, not by who used them. Both kinds of neighbours give candidates by the
same sum as those of co-occurrence: over the history, similarity x decay^age; of the cosine of vectors, a power.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.core.config_models import ContentConfig
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.neighbour_scores import EDGES_PER_SHARD, history_candidates
from lt_spark.frames.shards import Keeper, all_shards, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.frames.top_k import top_k
from lt_spark.kernels.edges import Edges, best_first, edges_of, weighted_sum
from lt_spark.kernels.hostile import clean_text
from lt_spark.kernels.words import stem, words

SEMANTIC, LEXICAL = "semantic", "lexical"
MODEL_NAMES = (SEMANTIC, LEXICAL)
_PAIRS = "item_idx int, neighbour_idx int, similarity double, rank int"
_POSTINGS = pa.schema([("term", pa.int64()), ("neighbour_idx", pa.int32()), ("weight", pa.float32())])
_CHARS_PER_WORD = 12
_NONE = np.empty(0, np.int32)


def documents(items: DataFrame) -> DataFrame:
    """Return what is read of each item for its words: its title and the values of its attributes.

    Args:
        items: ``silver.items``.

    Returns:
        (item_idx, text): a row an item.
    """
    values = F.concat_ws(" . ", F.transform("attributes", lambda attribute: attribute["value"]))
    return items.select("item_idx", F.concat_ws(" . ", "title", values).alias("text"))


def word_counts(texts: DataFrame, config: ContentConfig) -> DataFrame:
    """Return how often each item has each of its words. Write it before it is used twice: each use cuts the texts anew.

    Words are cut by Unicode's rules; where a script has no blanks they are pairs of characters.

    Args:
        texts: (item_idx, text).
        config: section ``content``.

    Returns:
        (item_idx int, term bigint, n int): a row an item and word; the word as a hash.
    """
    max_words = config.max_words

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _counted(batch, max_words)

    filled = texts.where(F.trim("text") != "").select("item_idx", "text")
    counted = spread(filled, "item_idx").mapInArrow(count, "item_idx int, term string, n int")
    return counted.select("item_idx", F.xxhash64("term").alias("term"), "n")


def term_weights(counts: DataFrame, config: ContentConfig) -> DataFrame:
    """Return the TF-IDF weights of each item's words, of unit length (Salton and Buckley 1988).

    w(t, i) = (1 + ln tf) (1 + ln((1 + n) / (1 + df))), n the items with words, df those with t. Words of one item
    alone, and of more than ``max_document_share`` of the items (or ``max_document_items``), are left out, so that the
    cost of neighbours is linear in the items.

    Args:
        counts: (item_idx, term, n), as :func:`word_counts` gives them.
        config: section ``content``.

    Returns:
        (item_idx int, term bigint, weight float): a row an item and word.
    """
    n_items = counts.agg(F.countDistinct("item_idx").alias("n_items"))
    most = F.least(F.lit(config.max_document_share) * F.col("n_items"), F.lit(config.max_document_items))
    idf = F.lit(1.0) + F.log((F.col("n_items") + 1) / (F.col("df") + 1))
    terms = (
        counts.groupBy("term")
        .agg(F.count(F.lit(1)).alias("df"))
        .crossJoin(F.broadcast(n_items))
        .where((F.col("df") >= 2) & (F.col("df") <= F.greatest(most, F.lit(2))))
        .select("term", idf.alias("idf"))
    )
    weight = (F.lit(1.0) + F.log(F.col("n"))) * F.col("idf")
    length = F.sqrt(F.sum(F.col("raw") * F.col("raw")).over(Window.partitionBy("item_idx")))
    return (
        counts.join(terms, "term")
        .withColumn("raw", weight)
        .select("item_idx", "term", (F.col("raw") / length).cast("float").alias("weight"))
    )


def lexical_neighbours(
    weights: DataFrame, sources: DataFrame, recommendable: DataFrame, n: int, *, scratch: str, n_items: int
) -> DataFrame:
    """Return each item's nearest items by the cosine of their TF-IDF weights.

    The words' lists of items are written as files and read once a Python worker, as the edges of neighbours are.

    Args:
        weights: (item_idx, term, weight), as :func:`term_weights` gives them.
        sources: (item_idx) items whose neighbours are wanted.
        recommendable: (item_idx) items that may be neighbours.
        n: neighbours an item.
        scratch: folder that the driver and every executor reach, this call's alone.
        n_items: items of the catalogue, for the number of shards.

    Returns:
        (item_idx, neighbour_idx, similarity in (0, 1], rank from 1): ties by neighbour_idx.
    """
    n_shards = max(1, -(-n_items * n // EDGES_PER_SHARD))
    postings = weights.join(recommendable, "item_idx", "left_semi")
    postings = postings.select("term", F.col("item_idx").alias("neighbour_idx"), "weight")
    write_shards(postings, "neighbour_idx", n_shards, scratch)

    def find(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _nearest(batch, scratch, n)

    entries = F.array_sort(F.collect_list(F.struct("term", "weight"))).alias("entries")
    asked = weights.join(sources, "item_idx", "left_semi").groupBy("item_idx").agg(entries)
    asked = all_shards(
        asked.select("item_idx", F.col("entries.term").alias("terms"), F.col("entries.weight").alias("weights")),
        n_shards,
    )
    parts = spread(asked, "shard", "item_idx").sortWithinPartitions("shard").mapInArrow(find, _PAIRS)
    return _ranked(parts, n) if n_shards > 1 else parts


def semantic_neighbours(
    vectors: DataFrame, sources: DataFrame, recommendable: DataFrame, n: int, *, scratch: str, n_items: int
) -> DataFrame:
    """Return each item's nearest items by the cosine of their vectors, exactly.

    Args:
        vectors: (item_idx, vector of unit length, or zeros where the item has no text).
        sources: (item_idx) items whose neighbours are wanted.
        recommendable: (item_idx) items that may be neighbours.
        n: neighbours an item.
        scratch: folder that the driver and every executor reach, this call's alone.
        n_items: items of the catalogue, for the number of shards.

    Returns:
        (item_idx, neighbour_idx, similarity above 0, rank from 1): ties by neighbour_idx.
    """
    filled = vectors.where(F.exists("vector", lambda x: x != 0)).select("item_idx", "vector")
    asked = filled.join(sources, "item_idx", "left_semi").select(
        F.col("item_idx").alias("user_idx"), "vector", F.array("item_idx").alias("seen")
    )
    found = top_k(asked, filled.join(recommendable, "item_idx", "left_semi"), n, scratch=scratch, n_items=n_items)
    return found.where(F.col("score") > 0).select(
        F.col("user_idx").alias("item_idx"),
        F.col("item_idx").alias("neighbour_idx"),
        F.col("score").alias("similarity"),
        "rank",
    )


def content_candidates(
    known_interactions: DataFrame,
    neighbours: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    config: Config,
    n_items: int,
    *,
    model_name: str,
    fold: str,
    scratch: str,
) -> DataFrame:
    """Return each user's best items by neighbours of one kind (``silver.candidates_semantic``, ``_lexical``).

    Args:
        known_interactions: events of the fold.
        neighbours: (item_idx, neighbour_idx, similarity) of that kind, of items that may be recommended.
        users: (user_idx) who get candidates.
        seen: (user_idx, seen) items to leave out.
        config: the configuration.
        n_items: items of the catalogue, for the number of shards.
        model_name: semantic or lexical.
        fold: the fold.
        scratch: folder for the edges, read by every executor.
    """
    section = config.content
    if model_name == SEMANTIC:
        neighbours = neighbours.withColumn("similarity", F.pow("similarity", F.lit(section.semantic_power)))
    scored = history_candidates(
        known_interactions,
        neighbours,
        users,
        seen,
        max_history=section.max_history,
        decay=section.decay,
        n=config.candidates.n,
        n_edges=n_items * section.n_neighbours,
        scratch=scratch,
    )
    return as_candidates(scored, model_name, fold)


def _counted(batch: pa.RecordBatch, max_words: int) -> pa.RecordBatch:
    """Return (item_idx, term, n) of a batch (item_idx, text): the first ``max_words`` words of each text."""
    items: list[int] = []
    terms: list[str] = []
    counts: list[int] = []
    for item, text in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
        found = Counter(stem(word) for word in words(clean_text(text, max_words * _CHARS_PER_WORD))[:max_words])
        items += [item] * len(found)
        terms += found.keys()
        counts += found.values()
    arrays = [pa.array(items, pa.int32()), pa.array(terms, pa.string()), pa.array(counts, pa.int32())]
    return pa.RecordBatch.from_arrays(arrays, ["item_idx", "term", "n"])


def _nearest(batch: pa.RecordBatch, folder: str, n: int) -> pa.RecordBatch:
    """Return the neighbours of a batch (item_idx, terms, weights, shard) within each row's shard."""
    sources, shards = batch.column(0).to_numpy(), batch.column(3).to_numpy()
    owners, items, totals, ranks = [_NONE], [_NONE], [np.empty(0, np.float64)], [_NONE]
    for row in range(batch.num_rows):
        edges = _postings.get(folder, int(shards[row]))
        terms, weights = (batch.column(at)[row].values.to_numpy() for at in (1, 2))
        found = weighted_sum(edges, terms, weights.astype(np.float64))
        order = best_first(found.items, found.totals, sources[row : row + 1], n)
        owners.append(np.full(len(order), sources[row], np.int32))
        items.append(found.items[order])
        totals.append(found.totals[order])
        ranks.append(np.arange(1, len(order) + 1, dtype=np.int32))
    arrays = [
        pa.array(np.concatenate(owners)),
        pa.array(np.concatenate(items)),
        pa.array(np.concatenate(totals)),
        pa.array(np.concatenate(ranks)),
    ]
    return pa.RecordBatch.from_arrays(arrays, ["item_idx", "neighbour_idx", "similarity", "rank"])


def _ranked(pairs: DataFrame, n: int) -> DataFrame:
    by_similarity = Window.partitionBy("item_idx").orderBy(F.desc("similarity"), "neighbour_idx")
    return pairs.withColumn("rank", F.row_number().over(by_similarity)).where(F.col("rank") <= n)


def _read(folder: str, shard: int) -> Edges:
    table = read_shard(folder, shard, _POSTINGS)
    return edges_of(*(table[name].to_numpy() for name in _POSTINGS.names))


_postings = Keeper(_read)
