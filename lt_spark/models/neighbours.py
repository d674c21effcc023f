"""Item neighbours by co-occurrence, and the candidates that they give."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import Config, NeighboursConfig
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.known import histories
from lt_spark.frames.neighbour_scores import history_candidates
from lt_spark.frames.spread import spread
from lt_spark.kernels.pairs import UNIT, pair_sums

MODEL_NAME = "neighbours"
_PAIR_COLUMNS = ["item_idx", "neighbour_idx", "weight", "n_pairs"]


def item_neighbours(known_interactions: DataFrame, config: NeighboursConfig, fold: str) -> DataFrame:
    """Return each item's most similar items (``silver.item_neighbours``).

    similarity(i -> j) = F(i, j) / sqrt(n_i n_j) x c / (c + shrinkage): F(i, j) the sum over users of the most that a
    pair of theirs gives, lag^-lag_power with i before j, backward x lag^-lag_power with j before i, at most ``max_lag``
    positions apart in their newest ``pair_history`` events; c the users with such a pair; n_i the users with i among
    those events. With lag_power 0, backward 1, shrinkage 0 it is the cosine of co-occurrence (Sarwar et al. 2001);
    nearness and order as in sequential rules (Ludewig and Jannach 2018), shrinkage as in Koren 2008. A user makes at
    most pair_history x max_lag pairs and gives to each once, however often it comes, so that one bot neither makes
    pairs explode nor two items alike.

    Args:
        known_interactions: events of the fold.
        config: section ``neighbours``.
        fold: the fold.
    """
    newest = histories(known_interactions, config.pair_history)
    counts = (
        newest.select(F.explode(F.array_distinct("items")).alias("item_idx"))
        .groupBy("item_idx")
        .agg(F.count(F.lit(1)).alias("n"))
    )
    max_lag, lag_power, backward = config.max_lag, config.lag_power, config.backward

    def sum_pairs(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            lists = batch.column(0)
            offsets = np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())])
            for sums in pair_sums(lists.flatten().to_numpy(), offsets, max_lag, lag_power, backward):
                yield pa.RecordBatch.from_arrays([pa.array(part) for part in sums], _PAIR_COLUMNS)

    pairs = (
        spread(newest, "user_idx")
        .select("items")
        .mapInArrow(sum_pairs, "item_idx int, neighbour_idx int, weight bigint, n_pairs bigint")
        .groupBy("item_idx", "neighbour_idx")
        .agg(F.sum("weight").alias("weight"), F.sum("n_pairs").alias("n_pairs"))
    )
    other = counts.select(F.col("item_idx").alias("neighbour_idx"), F.col("n").alias("n_other"))
    similarity = (
        (F.col("weight") / F.lit(UNIT))
        / F.sqrt(F.col("n") * F.col("n_other"))
        * (F.col("n_pairs") / (F.col("n_pairs") + F.lit(config.shrinkage)))
    )
    best_first = Window.partitionBy("item_idx").orderBy(F.desc("similarity"), "neighbour_idx")
    return (
        pairs.join(counts, "item_idx")
        .join(other, "neighbour_idx")
        .withColumn("similarity", similarity)
        .where(F.col("similarity") > 0)
        .withColumn("rank", F.row_number().over(best_first))
        .where(F.col("rank") <= config.n_neighbours)
        .select(F.lit(fold).alias("fold"), "item_idx", "neighbour_idx", "similarity", "rank")
    )


def neighbours_candidates(
    known_interactions: DataFrame,
    neighbours: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    config: Config,
    n_items: int,
    *,
    fold: str,
    scratch: str,
) -> DataFrame:
    """Return each user's best items by neighbours (``silver.candidates_neighbours``).

    Args:
        known_interactions: events of the fold.
        neighbours: ``silver.item_neighbours`` of the fold.
        users: (user_idx) who get candidates.
        seen: (user_idx, seen) items to leave out.
        recommendable: (item_idx) items that may be recommended.
        config: the configuration.
        n_items: items of the catalogue, for the number of shards.
        fold: the fold.
        scratch: folder for the edges, read by every executor.
    """
    section = config.neighbours
    edges = neighbours.join(
        recommendable.select(F.col("item_idx").alias("neighbour_idx")), "neighbour_idx", "left_semi"
    )
    scored = history_candidates(
        known_interactions,
        edges,
        users,
        seen,
        max_history=section.max_history,
        decay=section.decay,
        n=config.candidates.n,
        n_edges=n_items * section.n_neighbours,
        scratch=scratch,
    )
    return as_candidates(scored, MODEL_NAME, fold)
