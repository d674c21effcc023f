"""How far blend weights of few users hold for others: fitted on a part of fold valid, judged on another half of it.

    python -m tests.benchmarks.blend_fit TABLES_ROOT [N_USERS]

Reads the candidates that a run left in fold valid under ``tables.root`` (Delta tables, read without Spark). Draws pairs
from one half of the users, fits on them, and judges by the goal of ``tune`` (NDCG@10 of all + of the tail) on the other
half: weights as fitted or shrunk towards their mean by 50, 100, 200 pairs, and the power of popularity that is best on
the sample, or the mean of those best on bootstrap replicates. Prints the goal, and each way's change against weights as
fitted with the best power: mean over the draws, and how many of them it won. Fold test is not read.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
from deltalake import DeltaTable

from lt_spark.core.config import TuneConfig
from lt_spark.rank import tune
from lt_spark.rank.tune import Sample, Weights, goal, search, to_sample

SIZES, DRAWS, SHRINKAGES = (100, 250, 500, 1000), 12, (0.0, 50.0, 100.0, 200.0)
CONFIG = TuneConfig()


def read(root: str, table: str, columns: list[str], fold: str | None = "valid") -> pd.DataFrame:
    """Return some columns of a table's fold."""
    files = DeltaTable(f"{root}/silver/{table}").file_uris([("fold", "=", fold)] if fold else None)
    return pd.concat([pq.ParquetFile(file.removeprefix("file://")).read(columns).to_pandas() for file in files])


def load(root: str, n_users: int, seed: int = 0) -> tuple[Sample, list[str]]:
    """Return valid's (user, target) pairs with their candidates, and the models."""
    models = list(read(root, "blend_weights", ["model_name"], None)["model_name"].unique())
    segments = read(root, "item_segments", ["item_idx", "n_interactions", "segment_top20"])
    largest = np.log1p(segments["n_interactions"].max())
    segments["log_popularity"] = np.log1p(segments["n_interactions"]) / largest
    split = read(root, "interactions_split", ["user_idx", "item_idx", "split"], None)
    targets = split[split["split"] == "valid"].drop_duplicates(["user_idx", "item_idx"]).merge(segments, on="item_idx")
    draw = np.random.default_rng(seed)
    users = draw.permutation(np.sort(targets["user_idx"].unique()))[:n_users]
    halves = pd.DataFrame({"user_idx": users, "half": draw.integers(0, 2, len(users))})
    targets = targets.merge(halves, on="user_idx").assign(is_tail=lambda rows: rows["segment_top20"] == "tail")
    parts = []
    for model in models:
        rows = read(root, f"candidates_{model}", ["user_idx", "item_idx", "score"]).merge(halves, on="user_idx")
        low, high = (rows.groupby("user_idx")["score"].transform(name) for name in ("min", "max"))
        rows["feature"] = ((rows["score"] - low) / (high - low).where(high > low)).fillna(1.0)
        parts.append(rows.assign(model_name=model)[["user_idx", "item_idx", "model_name", "feature"]])
    listed = pd.concat(parts).merge(segments[["item_idx", "log_popularity"]], on="item_idx")
    pairs = targets.rename(columns={"item_idx": "pair_item"})[["user_idx", "pair_item", "is_tail", "half"]]
    rows = pairs.merge(listed, on="user_idx", how="left").rename(columns={"user_idx": "pair_user"})
    return to_sample(rows, models), models


def some(sample: Sample, chosen: npt.NDArray[np.int64]) -> Sample:
    """Return some pairs of a sample."""
    halves = np.ones(len(sample.is_tail), np.int8)
    halves[chosen] = 0
    marked = replace(sample, halves=halves)
    return marked.without(1)


def best_power(sample: Sample, models: npt.NDArray[np.float64], config: TuneConfig) -> float:
    """Return the power that is best on the sample itself."""
    return max(tune._POWERS, key=lambda power: (goal(sample, Weights(models, power), config), -power))


def ways(sample: Sample, models: list[str]) -> Iterator[tuple[str, Weights]]:
    """Fit in each way."""
    bagged = tune._power
    for name, power in (("best", best_power), ("bagged", bagged)):
        for shrinkage in SHRINKAGES:
            tune._power, tune._SHRINKAGE = power, shrinkage
            yield f"{shrinkage:.0f} {name}", search(sample, models, CONFIG)
    tune._power = bagged


def main(root: str, n_users: int = 2000) -> None:
    """Print a line a size of the sample."""
    sample, models = load(root, n_users)
    n = len(sample.is_tail)
    print(f"{n} pairs, {int(sample.is_tail.sum())} of the tail; models {', '.join(models)}")
    for size in (*(size for size in SIZES if size < n // 2), n // 2):
        goals: dict[str, list[float]] = {}
        for number in range(DRAWS):
            order = np.random.default_rng(number).permutation(n)
            fitted, judged = some(sample, np.sort(order[:size])), some(sample, np.sort(order[n // 2 :]))
            for way, weights in ways(fitted, models):
                goals.setdefault(way, []).append(goal(judged, weights, CONFIG))
        plain = np.array(goals.pop("0 best"))
        told = [
            f"{way} {100 * (np.mean(found) / plain.mean() - 1):+.1f}% ({int((np.array(found) > plain).sum())}/{DRAWS})"
            for way, found in goals.items()
        ]
        print(f"{size:5d} pairs: {plain.mean():.4f}; {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
