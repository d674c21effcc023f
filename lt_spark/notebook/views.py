"""What the notebooks show: views of the tables that fit on a page, whatever the size of the data."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import MODELS
from lt_spark.core.errors import DataError
from lt_spark.measure.long_tail import exposures, segment_shares
from lt_spark.notebook.opened import Opened, small

if TYPE_CHECKING:
    import pandas as pd

BASELINE, BLEND = "als_plain", "blend"
SHOWN_K = 10
"""Places of a list that people see."""


def sampled(rows: DataFrame, key: Sequence[str], n: int, seed: int) -> DataFrame:
    """Return a hash sample: the same rows for the same seed, however they lie."""
    return rows.orderBy(F.xxhash64(F.lit(seed), *map(F.col, key)), *key).limit(n)


def shown_counts(opened: Opened, fold: str, k: int = SHOWN_K) -> dict[str, DataFrame]:
    """Return in how many lists each item stands: by plain ALS, and by lt_spark.

    Args:
        opened: the tables, ``silver.recommendations`` and ``silver.candidates_als_plain`` among them.
        fold: a fold that has recommendations.
        k: places that people see.

    Returns:
        For ``als_plain`` and ``blend``: (item_idx, segment, n), a row an item of the catalogue. Both are of the users
        who have a list of the blend.
    """
    segments = opened.read("silver.item_segments", fold)
    blend = opened.read("silver.recommendations", fold)
    users = blend.select("user_idx").distinct()
    plain = opened.read("silver.candidates_als_plain", fold).join(users, "user_idx", "left_semi")
    return {BASELINE: exposures(plain, segments, k), BLEND: exposures(blend, segments, k)}


def never_shown(shown: Mapping[str, DataFrame]) -> "pd.DataFrame":
    """Return which share of each segment's items stands in nobody's first places.

    Args:
        shown: as :func:`shown_counts` gives it.

    Returns:
        ``segment``, ``n_items``, and a share in [0, 1] by each key of ``shown``: a row a segment, head first.
    """
    by_segment = {name: small(segment_shares(counts)).set_index("segment") for name, counts in shown.items()}
    shares = {name: found["n_unused"] / found["n_items"] for name, found in by_segment.items()}
    return next(iter(by_segment.values()))[["n_items"]].assign(**shares).reset_index()


def unused_items(opened: Opened, fold: str, n: int, seed: int) -> DataFrame:
    """Return a hash sample of the items that nobody used: (item_id, title, is_in_catalogue)."""
    unused = opened.read("silver.item_segments", fold).where(F.col("n_interactions") == 0)
    found = opened.read("silver.items").join(unused, "item_idx", "left_semi")
    return sampled(found, ["item_idx"], n, seed).select("item_id", "title", "is_in_catalogue")


def written_texts(opened: Opened) -> DataFrame:
    """Return what the language model wrote of the items as they are now, a row an item, with its title."""
    texts = opened.read("silver.item_enrichments").where("is_current")
    return texts.join(opened.read("silver.items").select("item_idx", "item_id", "title"), "item_idx")


def reasons_counted(texts: DataFrame) -> DataFrame:
    """Return (status, reason, n): how often each check failed, an answer that failed two counted in both."""
    # an engine's error is a sentence, longer than the name of a check
    checks = F.when(F.col("status") == "failed", F.array("reason")).otherwise(F.split("reason", ", "))
    return (
        texts.select("status", F.explode_outer(checks).alias("check"))
        .groupBy("status", F.substring("check", 1, 60).alias("reason"))
        .agg(F.count(F.lit(1)).alias("n"))
        .orderBy(F.desc("n"), "status", "reason")
    )


def side_by_side(texts: DataFrame, statuses: Sequence[str], n: int, seed: int) -> DataFrame:
    """Return a hash sample of texts: the model's answer beside what is used in its place.

    Args:
        texts: as :func:`written_texts` gives them.
        statuses: which of accepted, fallback, refused, failed.
        n: most rows.
        seed: of the sample.
    """
    chosen = sampled(texts.where(F.col("status").isin(*statuses)), ["key"], n, seed)
    return chosen.select(
        "title",
        F.col("answer").alias("the model's answer"),
        F.col("description").alias("what is used"),
        F.array_join("keywords", ", ").alias("keywords"),
        "status",
        F.coalesce("reason", F.lit("")).alias("reason"),
    )


def differences(opened: Opened, fold: str, k: int, metric: str = "ndcg") -> "pd.DataFrame":
    """Return a metric of each model and segment with its interval and its difference from plain ALS.

    Raises:
        DataError: ``silver.metrics`` has none of the fold and k.
    """
    rows = opened.read("silver.metrics", fold).where((F.col("metric") == metric) & (F.col("k") == k))
    found = small(rows.drop("fold", "metric", "k").orderBy("segment", "model_name"))
    if found.empty:
        raise DataError(
            f"silver.metrics has no {metric} of fold {fold} at k {k}: expected one of evaluate.ks "
            f"{list(opened.config.evaluate.ks)} and a fold that was evaluated. Choose another fold or k."
        )
    return found


def list_metrics(opened: Opened, fold: str, k: int) -> "pd.DataFrame":
    """Return tail share, coverage and Gini of each model's lists, a row a model."""
    names = ("tail_share", "coverage", "gini", "novelty")
    rows = opened.read("silver.metrics", fold).where((F.col("segment") == "all") & (F.col("k") == k))
    return small(
        rows.groupBy("model_name").agg(*(_only("metric", name).alias(name) for name in names)).orderBy("model_name")
    )


def group_differences(opened: Opened, fold: str, k: int, model_name: str = BLEND) -> "pd.DataFrame":
    """Return what a model gives each group of users, beside plain ALS: rows of ``silver.group_metrics``."""
    rows = opened.read("silver.group_metrics", fold).where((F.col("model_name") == model_name) & (F.col("k") == k))
    return small(rows.drop("fold", "model_name", "k").orderBy("group_by", "group_order"))


def ledger_rows(opened: Opened, fold: str, k: int, segments: Sequence[str]) -> "pd.DataFrame":
    """Return the NDCG of the ledger's variants against plain ALS, by segment; of each its blend."""
    rows = opened.read("silver.ledger").where(
        (F.col("fold") == fold)
        & (F.col("k") == k)
        & (F.col("metric") == "ndcg")
        & (F.col("model_name") == BLEND)
        & F.col("segment").isin(*segments)
    )
    return small(rows.drop("fold", "k", "metric", "model_name", "config_hash").orderBy("segment", F.desc("value")))


def explained(opened: Opened, n_users: int, n_rows: int, seed: int, user_id: str = "") -> "pd.DataFrame":
    """Return the first recommendations of some users, and why; without the users' ids.

    Args:
        opened: the tables, ``gold.recommendations`` among them.
        n_users: size of the hash sample of users; not looked at where ``user_id`` is given.
        n_rows: first so many places of each list.
        seed: of the sample.
        user_id: a user's own id; empty: the sample.

    Returns:
        ``user`` (1, 2, ... in the sample's order) instead of the id, and the columns of ``gold.recommendations`` that
        explain a row: at most ``MAX_ROWS`` rows, by user and rank.

    Raises:
        DataError: the user has no recommendations. The message does not repeat the id.
    """
    rows = opened.read("gold.recommendations")
    if user_id:
        chosen = rows.where((F.col("user_id") == user_id) & (F.col("rank") <= n_rows)).withColumn("user", F.lit(1))
    else:
        drawn = sampled(rows.select("user_id").distinct(), ["user_id"], n_users, seed)
        hashed = F.xxhash64(F.lit(seed), "user_id")
        order = drawn.agg(F.array_sort(F.collect_list(hashed)).alias("order"))  # n_users long
        chosen = (
            rows.where(F.col("rank") <= n_rows)
            .join(F.broadcast(drawn), "user_id", "left_semi")
            .crossJoin(F.broadcast(order))
            .withColumn("user", F.array_position("order", hashed).cast("int"))
        )
    found = small(chosen.select("user", *_EXPLAINING).orderBy("user", "rank"))
    if user_id and found.empty:
        raise DataError(
            "the user has no rows in gold.recommendations: expected the id byte for byte as in the log, of a user who "
            "is active within produce.active_days. Leave the parameter empty for a sample."
        )
    return found


_EXPLAINING = (
    "rank",
    "title",
    "segment",
    "reason_code",
    "reason",
    "reason_title",
    "reason_share",
    "reason_2_title",
    "reason_2_share",
    "reason_3_title",
    "reason_3_share",
    *(f"share_{name}" for name in MODELS),
)


def _only(by: str, word: str) -> Column:
    return F.max(F.when(F.col(by) == word, F.col("value")))
