"""Which map from text to ALS factors finds items that nobody used yet, beside content alone.

    python -m tests.benchmarks.cold_maps DATA_FOLDER

DATA_FOLDER has a folder a data set, as for floors.py. Whole items are held out, as for cold_items.py; valid alone is
looked at. ALS is fitted as the stage als does it, then unused items get factors from their vectors, once by each of

    ridge    the regression of the stage, with other penalties, and items weighted by their events or all alike
    nearest  the mean of the k nearest used items' factors, weighted by cosine^power

each as it comes and brought to one length. Content alone is the sum of cosine^power over a user's history. All rank the
unused items and no others, so every list is full. Prints a markdown table: NDCG@10 and its 95 % interval by user.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import lt_spark
from lt_spark.content_stage import item_vectors
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.kernels import metrics
from lt_spark.models import als as als_model
from lt_spark.models.als_text import fit_map
from lt_spark.stages import Context, plain_settings
from tests.benchmarks.floors import K, init_conf, markdown

Floats = npt.NDArray[np.float64]
OVERRIDES = ("split.method=cold_items",)
FOLD = "valid"
PENALTIES = (0.01, 0.1, 1.0, 10.0)
N_NEAREST = (5, 20, 50)
POWERS = (1, 8, 32)
CONTENT_POWERS = (1, 4, 16)
BIAS = 0.3
"""The constant beside the unit vector, as in the stage."""
HEADS = ("data", "unused items", "users", "what ranks them", f"NDCG@{K} [95 %]", "at one length")


@dataclass(frozen=True)
class Question:
    """What there is to rank and to rank it by; small data sets, held in memory.

    Attributes:
        users: (n_users, rank) factors.
        history: (n_users, n_used) 1 where the user knows the item.
        is_target: (n_users, n_unused).
        used_text, used_factors, n_known: (n_used, d), (n_used, rank), (n_used,).
        unused_text: (n_unused, d).
    """

    users: Floats
    history: Floats
    is_target: npt.NDArray[np.bool_]
    used_text: Floats
    used_factors: Floats
    n_known: Floats
    unused_text: Floats


def question(spark: SparkSession, config: Config) -> Question:
    """Run up to what ALS needs, fit it on valid, and collect all."""
    lt_spark.run(spark, config, purpose="evaluate", last="tune_als")
    now = datetime.now(UTC).replace(tzinfo=None)
    c = Context(spark, config, Storage(spark, config), "als", FOLD, now)
    settings = als_model.als_settings(plain_settings(c), config)
    users, items = als_model.fit_factors(als_model.rebalanced_ratings(c.read(t.INTERACTIONS_REBALANCED)), settings)
    user_factors = {row["user_idx"]: row["vector"] for row in users.collect()}
    factors = {row["item_idx"]: row["vector"] for row in items.collect()}
    text = {row["item_idx"]: row["vector"] for row in item_vectors(c).collect() if any(row["vector"])}
    n_known = {row["item_idx"]: row["n_interactions"] for row in c.read(t.ITEM_SEGMENTS).collect()}
    allowed = {row["item_idx"] for row in c.recommendable.collect()}
    used = sorted(item for item in text if item in factors and n_known[item])
    unused = sorted(item for item in text if not n_known[item] and item in allowed)
    of_user = c.targets.groupBy("user_idx").agg(F.collect_set("item_idx").alias("targets"))
    rows = of_user.join(c.seen, "user_idx").orderBy("user_idx").collect()
    rows = [row for row in rows if row["user_idx"] in user_factors]
    return Question(
        users=np.array([user_factors[row["user_idx"]] for row in rows]),
        history=np.array([np.isin(used, row["seen"]) for row in rows], float),
        is_target=np.array([np.isin(unused, row["targets"]) for row in rows]),
        used_text=np.array([text[item] for item in used], float),
        used_factors=np.array([factors[item] for item in used], float),
        n_known=np.array([n_known[item] for item in used], float),
        unused_text=np.array([text[item] for item in unused], float),
    )


def ranked(asked: Question) -> Iterator[tuple[str, Floats, Floats | None]]:
    """Give (what, NDCG@10 of each user, the same at one length) of content and of each map."""
    alike = np.maximum(asked.used_text @ asked.unused_text.T, 0.0)
    for power in CONTENT_POWERS:
        yield f"content, cosine^{power}", ndcg(asked.history @ alike**power, asked.is_target), None
    maps = [
        (f"ridge {penalty:g}, {kind}", ridge_map(asked, penalty, weight)) for kind, weight, penalty in _ridges(asked)
    ]
    maps += [
        (f"nearest {n}, cosine^{power}", nearest_map(asked, alike, n, power)) for n in N_NEAREST for power in POWERS
    ]
    for what, mapped in maps:
        lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
        unit = np.divide(mapped, lengths, out=np.zeros_like(mapped), where=lengths > 0)
        yield what, *(ndcg(asked.users @ factors.T, asked.is_target) for factors in (mapped, unit))


def ridge_map(asked: Question, penalty: float, weight: Floats) -> Floats:
    """Return (n_unused, rank): the regression of the stage, its normal equations summed here."""
    x, of_unused = (np.c_[text, np.full(len(text), BIAS)] for text in (asked.used_text, asked.unused_text))
    weighted = x * weight[:, None]
    sums = (weighted.T @ x).ravel(), (weighted.T @ asked.used_factors).ravel(), weight.sum(), 0.0
    fitted = fit_map([sums], penalty)
    if fitted is None:
        raise ValueError("no used item has text and factors")
    mapped: Floats = of_unused @ fitted.coefficients
    return mapped


def nearest_map(asked: Question, alike: Floats, n: int, power: int) -> Floats:
    """Return (n_unused, rank): mean factors of the n nearest used items."""
    nth = -np.sort(-alike, axis=0)[min(n, len(alike)) - 1]
    weight = np.where(alike >= nth, alike, 0.0) ** power
    total = weight.sum(axis=0)[:, None]
    return np.divide(
        weight.T @ asked.used_factors, total, out=np.zeros((len(total), asked.users.shape[1])), where=total > 0
    )


def ndcg(scores: Floats, is_target: npt.NDArray[np.bool_]) -> Floats:
    """Return NDCG@10 of each user, (n_users,); scores and is_target (n_users, n_unused)."""
    first = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    ranks = np.where(np.take_along_axis(is_target, first, axis=1), np.arange(1, first.shape[1] + 1), 0)
    return metrics.ndcg(ranks, is_target.sum(axis=1), K)


def _ridges(asked: Question) -> Iterator[tuple[str, Floats, float]]:
    for kind, weight in (("by events", asked.n_known), ("all alike", np.ones_like(asked.n_known))):
        for penalty in PENALTIES:
            yield kind, weight, penalty


def _figure(values: Floats | None) -> str:
    """Return the mean and its 95 % interval, from the standard error."""
    if values is None:
        return ""
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:.4f} [{mean - half:.4f}, {mean + half:.4f}]"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(description="Which map from text to ALS factors finds items that nobody used yet.")
    parser.add_argument("folder", type=Path, help="has a folder a data set, each with interactions.csv and items.csv")
    folders = sorted(path.parent for path in parser.parse_args(argv).folder.glob("*/interactions.csv"))
    if not folders:
        sys.exit("expected folders with interactions.csv and items.csv, found none")
    lines: list[tuple[str, ...]] = []
    for folder in folders:
        with tempfile.TemporaryDirectory(prefix="lt-spark-maps-") as work:
            config = init_conf(folder, Path(work), OVERRIDES).config
            asked = question(start_session(config, "lt-spark cold maps"), config)
        n_users, n_unused = asked.is_target.shape
        for what, values, at_one_length in ranked(asked):
            lines.append((folder.name, f"{n_unused:,}", f"{n_users:,}", what, _figure(values), _figure(at_one_length)))
    print(markdown(HEADS, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
