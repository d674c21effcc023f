"""Neighbour agreement: does title and text bring items that share users nearer than the title alone?"""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config_text import EmbedEnrichedConfig
from lt_spark.frames.known import hash_uniform, histories
from lt_spark.frames.shards import Keeper, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.kernels.bootstrap import interval, partial_sums
from lt_spark.kernels.pairs import pair_sums

Floats = npt.NDArray[np.float64]

N_NEIGHBOURS = 10
"""Strongest neighbours of an item that are looked at."""
N_OTHERS = 1_000
"""Random items that a neighbour's nearness is compared with."""
MIN_ITEMS = 30
"""With fewer items the interval means nothing: the text is refused."""
_MAX_HISTORY = 50
_MAX_LAG = 10
_TIE = 1e-9
_CHUNK_PAIRS = 2_048
_N_REPLICATES = 1_000
_OTHERS = pa.schema([("item_idx", pa.int32()), ("plain", pa.list_(pa.float32())), ("enriched", pa.list_(pa.float32()))])
_SCHEMA = "item_idx int, plain double, enriched double"


def strongest_neighbours(known_interactions: DataFrame, described: DataFrame) -> DataFrame:
    """Return the strongest neighbours of some items by co-occurrence.

    similarity(i, j) = c / sqrt(n_i n_j) x c / (c + 1): c the users with i and j at most 10 positions apart among their
    50 newest events, n_i the users with i among those: the cosine of co-occurrence (Sarwar et al. 2001), held back
    where it rests on one user (Koren 2008). A user makes at most 500 pairs.

    Args:
        known_interactions: events of fold valid.
        described: (item_idx) the items.

    Returns:
        (item_idx, neighbour_idx): at most 10 rows an item.
    """
    newest = histories(known_interactions, _MAX_HISTORY)
    counts = newest.select(F.explode(F.array_distinct("items")).alias("item_idx")).groupBy("item_idx").count()
    pairs = (
        spread(newest, "user_idx")
        .select("items")
        .mapInArrow(_pairs, "item_idx int, neighbour_idx int, n_pairs bigint")
        .join(described.select("item_idx"), "item_idx", "left_semi")
        .groupBy("item_idx", "neighbour_idx")
        .agg(F.sum("n_pairs").alias("c"))
    )
    other = counts.select(F.col("item_idx").alias("neighbour_idx"), F.col("count").alias("n_other"))
    c = F.col("c")
    similarity = c / F.sqrt(F.col("count") * F.col("n_other")) * c / (c + 1)
    best_first = Window.partitionBy("item_idx").orderBy(F.desc("similarity"), "neighbour_idx")
    return (
        pairs.join(counts, "item_idx")
        .join(other, "neighbour_idx")
        .withColumn("similarity", similarity)
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= N_NEIGHBOURS)
        .select("item_idx", "neighbour_idx")
    )


def neighbour_agreement(
    embeddings: DataFrame,
    enriched: DataFrame,
    known_interactions: DataFrame,
    section: EmbedEnrichedConfig,
    seed: int,
    *,
    scratch: str,
) -> DataFrame:
    """Measure how near items lie to the items that share their users, by plain and by enriched vectors.

    Of a described item i, each of its strongest neighbours j is placed among m = 1,000 random items of the catalogue
    that have a vector, the same for all: r is the number of them nearer to i than j is (a tie counts one half), and

        agreement(i) = mean over j of 1 - ln(1 + r) / ln(1 + m)

    in [0, 1]: 1 where every neighbour is nearest; in chance order about 0.14. The first places count most, as in a
    recommendation list, and yet every neighbour says something, where recall@10 is 0 for most items of the tail.
    On amazon_scientific, tail items given their true categories as text: t of the gain 5.8 (area under the curve 6.3,
    recall@10 -1.3, reciprocal rank -2.8); given another item's: -19.6 (-13.4, -8.6, -9.2). The cost is linear in the
    described items. Both sides of a pair have enriched vectors where they have a text.

    Args:
        embeddings: ``silver.item_embeddings``.
        enriched: rows of ``silver.item_embeddings_enriched`` as if the text were accepted.
        known_interactions: events of fold valid: the verdict is a choice.
        section: section ``embed_enriched``.
        seed: seed of the samples.
        scratch: folder that the driver and every executor reach, this call's alone.

    Returns:
        (item_idx, plain, enriched): a row for each described item that has neighbours, at most
        ``embed_enriched.max_items``, a hash sample.
    """
    vectors = embeddings.select("item_idx", F.col("vector").alias("plain")).join(
        enriched.select("item_idx", F.col("vector").alias("enriched"), "has_text"), "item_idx"
    )
    drawn = hash_uniform("agreement", seed, "item_idx")
    others = vectors.where(F.exists("plain", lambda x: x != 0)).orderBy(drawn, "item_idx").limit(N_OTHERS)
    write_shards(others.drop("has_text"), "item_idx", 1, scratch)
    seen = known_interactions.select("item_idx").distinct()
    described = (
        enriched.where("has_text")
        .join(seen, "item_idx", "left_semi")
        .select("item_idx", hash_uniform("described", seed, "item_idx").alias("drawn"))
        .orderBy("drawn", "item_idx")
        .limit(section.max_items)
    )
    near = vectors.select(
        F.col("item_idx").alias("neighbour_idx"),
        F.col("plain").alias("near_plain"),
        F.col("enriched").alias("near_enriched"),
    )
    pairs = strongest_neighbours(known_interactions, described).join(vectors, "item_idx").join(near, "neighbour_idx")
    columns = ["item_idx", "neighbour_idx", "plain", "enriched", "near_plain", "near_enriched"]
    return (
        spread(pairs.select(*columns), "item_idx", "neighbour_idx")
        .mapInArrow(partial(_agreements, folder=scratch), _SCHEMA)
        .groupBy("item_idx")
        .agg(F.mean("plain").alias("plain"), F.mean("enriched").alias("enriched"))
    )


def log_rank(near: Floats, others: Floats, is_self: npt.NDArray[np.bool_]) -> Floats:
    """Return 1 - ln(1 + r) / ln(1 + m) of each pair.

    Args:
        near: (n,) similarity of the pair.
        others: (n, m) similarities of the item with the random items.
        is_self: (n, m) random items that are of the pair itself: they are left out of r and of m.

    Returns:
        (n,) in [0, 1]; 1 where there is nobody to compare with.
    """
    ahead = others - near[:, None]
    # equal vectors tie, whatever the order of the sums
    beats = np.where(is_self, 0.0, (ahead > _TIE) + 0.5 * (np.abs(ahead) <= _TIE))
    m = np.maximum(1, (~is_self).sum(axis=1))
    return np.asarray(1.0 - np.log1p(beats.sum(axis=1)) / np.log1p(m))


def verdict(agreement: pd.DataFrame, section: EmbedEnrichedConfig, seed: int) -> tuple[object, ...]:
    """Decide whether the text may reach the models (the row of ``silver.text_verdict``).

    It is accepted where the lower bound of the mean gain (paired Poisson bootstrap over items, 1,000 replicates,
    95 %) is above ``embed_enriched.min_agreement_gain``, or where a person said so.

    Args:
        agreement: (item_idx, plain, enriched) as :func:`neighbour_agreement` gives them, at most
            ``embed_enriched.max_items`` rows.
        section: section ``embed_enriched``.
        seed: seed of the bootstrap.
    """
    n = len(agreement)
    measured: tuple[float | None, ...] = (None,) * 5
    is_accepted = False
    if n == 0:
        reason = "no accepted texts of items that share users with others: nothing to measure"
    else:
        values = agreement[["plain", "enriched"]].to_numpy(np.float64)
        gains = values[:, 1] - values[:, 0]
        bounds = interval(partial_sums(agreement["item_idx"].to_numpy(), gains[:, None], _N_REPLICATES, seed))
        plain, enriched, gain = float(values[:, 0].mean()), float(values[:, 1].mean()), float(gains.mean())
        low, high = float(bounds.low[0]), float(bounds.high[0])
        measured = (plain, enriched, gain, low, high)
        least = section.min_agreement_gain
        is_accepted = n >= MIN_ITEMS and low > least
        said = f"neighbour agreement {plain:.4f} by own text, {enriched:.4f} with the written text"
        bound = f"gain {gain:+.4f} [{low:+.4f}, {high:+.4f}] over {n} items"
        need = f"embed_enriched.min_agreement_gain {least:g}"
        if n < MIN_ITEMS:
            reason = f"{said}: {bound}, too few to tell (at least {MIN_ITEMS})"
        elif is_accepted:
            reason = f"{said}: {bound}; the lower bound is above {need}"
        else:
            reason = f"{said}: {bound}; the lower bound is not above {need}, so the text stays out of the models"
    if section.override != "none":
        is_accepted = section.override == "accept"
        reason = f"embed_enriched.override {section.override}; measured: {reason}"
    return ("accepted" if is_accepted else "refused", reason, n, *measured)


def _pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        lists = batch.column(0)
        offsets = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
        for sums in pair_sums(lists.flatten().to_numpy(), offsets, _MAX_LAG, 0.0, 1.0):
            parts = [pa.array(part) for part in (sums.items, sums.neighbours, sums.counts)]
            yield pa.RecordBatch.from_arrays(parts, ["item_idx", "neighbour_idx", "n_pairs"])


def _agreements(batches: Iterable[pa.RecordBatch], folder: str) -> Iterator[pa.RecordBatch]:
    """Measure the pairs of a task: (item_idx, neighbour_idx, plain, enriched, near_plain, near_enriched)."""
    for whole in batches:
        others, *yardsticks = _others.get(folder, 0)
        for start in range(0, whole.num_rows, _CHUNK_PAIRS):
            batch = whole.slice(start, _CHUNK_PAIRS)
            items, neighbours = batch.column(0).to_numpy(), batch.column(1).to_numpy()
            is_self = (items[:, None] == others) | (neighbours[:, None] == others)  # (pairs, m)
            values = []
            for place, yardstick in enumerate(yardsticks):
                item, near = _matrix(batch.column(2 + place)), _matrix(batch.column(4 + place))
                values.append(log_rank((item * near).sum(axis=1), item @ yardstick.T, is_self))
            columns = [batch.column(0), *(pa.array(value, pa.float64()) for value in values)]
            yield pa.RecordBatch.from_arrays(columns, ["item_idx", "plain", "enriched"])


def _read(folder: str, shard: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the random items' item_idx (m,), plain and enriched vectors (m, d)."""
    rows = read_shard(folder, shard, _OTHERS)
    return (rows["item_idx"].to_numpy(), *(_matrix(rows[name].combine_chunks()) for name in ("plain", "enriched")))


_others = Keeper(_read)


def _matrix(lists: Any) -> Floats:
    """Turn an Arrow array of equally long lists into (n, d)."""
    flat = lists.flatten().to_numpy().astype(np.float64)
    return np.asarray(flat.reshape(len(lists), -1))
