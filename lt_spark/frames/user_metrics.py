"""Each user's metrics for each model, over the targets of each segment."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.kernels.metrics import METRICS, list_ranks

_KEY = ["fold", "model_name", "user_idx"]
_SCHEMA = "fold string, model_name string, user_idx int, segment string, k int, n_targets int, " + ", ".join(
    f"`{name}` double" for name in METRICS
)


def user_metrics(lists: DataFrame, targets: DataFrame, model_names: Sequence[str], ks: Sequence[int]) -> DataFrame:
    """Measure every user with targets; one without a list counts as zero.

    A target's rank comes from the user's full list: 1 + the number of other listed items with a score >= its own.
    Targets of a segment are measured by themselves, with those ranks.

    Args:
        lists: (fold, model_name, user_idx, item_idx, score, rank).
        targets: (fold, user_idx, item_idx, segment, segment_top20).
        model_names: models to measure, also where they list nothing.
        ks: list lengths.

    Returns:
        (fold, model_name, user_idx, segment, k, n_targets, precision, recall, f1, hit_rate, ndcg, mrr, map); segment is
        all, head, mid, tail, cold, tail_and_cold, top20_head or top20_tail.
    """
    spark = targets.sparkSession
    models = spark.createDataFrame([(name,) for name in model_names], "model_name string")
    wanted = targets.groupBy("fold", "user_idx").agg(
        F.array_sort(F.collect_list(F.struct("item_idx", "segment", "segment_top20"))).alias("targets")
    )
    listed = lists.groupBy(*_KEY).agg(F.array_sort(F.collect_list(F.struct("rank", "item_idx", "score"))).alias("list"))
    rows = (
        wanted.crossJoin(F.broadcast(models))
        .join(listed, _KEY, "left")
        .select(
            *_KEY,
            F.col("targets.item_idx").alias("target_items"),
            F.col("targets.segment").alias("segments"),
            F.col("targets.segment_top20").alias("top20"),
            F.col("list.item_idx").alias("items"),
            F.col("list.score").alias("scores"),
        )
    )
    lengths = tuple(int(k) for k in ks)

    def measure(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            yield measured(frame, lengths)

    return rows.mapInPandas(measure, _SCHEMA)


def measured(rows: pd.DataFrame, ks: Sequence[int]) -> pd.DataFrame:
    """Measure a batch of users' lists.

    Args:
        rows: fold, model_name, user_idx, and arrays target_items, segments, top20, items, scores (null: no list).
        ks: list lengths.
    """
    pairs = _pairs(rows)
    parts: list[pd.DataFrame] = []
    for segment, keep in _segments(pairs).items():
        of_segment = pairs[keep]
        if of_segment.empty:
            continue
        owner: npt.NDArray[np.int64] = of_segment["row"].to_numpy()
        own, place = np.unique(owner, return_inverse=True)
        nth = np.arange(len(owner)) - np.searchsorted(owner, own)[place]
        ranks = np.zeros((len(own), int(nth.max()) + 1), np.int64)  # (users, most targets), 0 where not listed
        ranks[place, nth] = of_segment["rank"].to_numpy()
        listed_last = np.where(ranks == 0, np.iinfo(np.int64).max, ranks)
        ranks = np.sort(listed_last, axis=1)
        ranks[ranks == np.iinfo(np.int64).max] = 0
        n_targets = np.bincount(place)
        for k in ks:
            part = rows.iloc[own][_KEY].reset_index(drop=True)
            part["segment"], part["k"], part["n_targets"] = segment, np.int32(k), n_targets.astype(np.int32)
            for name, formula in METRICS.items():
                part[name] = formula(ranks, n_targets, k)
            parts.append(part)
    columns = [*_KEY, "segment", "k", "n_targets", *METRICS]
    return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a (user's row, target): row, segment, top20, rank (0 where not listed), in order of row."""
    n_targets = rows["target_items"].map(len).to_numpy()
    row = np.repeat(np.arange(len(rows)), n_targets)
    lists = [np.empty(0, np.int64) if items is None else np.asarray(items) for items in rows["items"]]
    scores = [np.empty(0) if values is None else np.asarray(values) for values in rows["scores"]]
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
    flat = np.concatenate([*lists, np.empty(0, np.int64)]).astype(np.int64)
    ranks = list_ranks(np.concatenate([*scores, np.empty(0)]), offsets)
    listed = pd.DataFrame({"row": np.repeat(np.arange(len(rows)), np.diff(offsets)), "item": flat, "rank": ranks})
    wanted = pd.DataFrame(
        {
            "row": row,
            "item": np.concatenate([*rows["target_items"], np.empty(0, np.int64)]).astype(np.int64),
            "segment": np.concatenate([*rows["segments"], np.empty(0, object)]),
            "top20": np.concatenate([*rows["top20"], np.empty(0, object)]),
        }
    )
    pairs = wanted.merge(listed, on=["row", "item"], how="left")
    pairs["rank"] = pairs["rank"].fillna(0).astype(np.int64)
    return pairs.sort_values("row", kind="stable", ignore_index=True)


def _segments(pairs: pd.DataFrame) -> dict[str, pd.Series]:
    segment, top20 = pairs["segment"], pairs["top20"]
    return {
        "all": segment.notna(),
        **{name: segment == name for name in ("head", "mid", "tail", "cold")},
        "tail_and_cold": segment.isin(["tail", "cold"]),
        "top20_head": top20 == "head",
        "top20_tail": top20 == "tail",
    }
