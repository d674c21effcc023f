"""Evaluation: each user's metrics, and each model's with intervals against plain ALS."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import EvaluateConfig
from lt_spark.core.tables import METRICS
from lt_spark.frames.bootstrap import bootstrap_differences
from lt_spark.measure.lists import SEGMENTS, list_metrics

BASELINE = "als_plain"
USER_METRIC_NAMES = ("precision", "recall", "f1", "hit_rate", "ndcg", "mrr", "map")
LIST_METRIC_NAMES = ("tail_share", "coverage", "gini", "mean_popularity", "novelty")


def metrics(
    user_metrics: DataFrame,
    lists: DataFrame,
    item_segments: DataFrame,
    config: EvaluateConfig,
    seed: int,
    fold: str,
) -> DataFrame:
    """Return every metric of every model, segment and k (``silver.metrics``).

    Args:
        user_metrics: ``silver.user_metrics`` of the fold.
        lists: (model_name, user_idx, item_idx, rank) of the fold.
        item_segments: ``silver.item_segments`` of the fold.
        config: section ``evaluate``.
        seed: seed of the bootstrap.
        fold: the fold.
    """
    of_users = bootstrap_differences(
        user_metrics, BASELINE, list(USER_METRIC_NAMES), n_replicates=config.n_replicates, seed=seed
    )
    return of_users.select(*METRICS.column_names).unionByName(_list_rows(lists, item_segments, config.ks, fold))


def _list_rows(lists: DataFrame, item_segments: DataFrame, ks: Sequence[int], fold: str) -> DataFrame:
    wide = list_metrics(lists, item_segments, ks)
    columns = [("all", name, name) for name in LIST_METRIC_NAMES]
    columns += [(segment, "coverage", f"coverage_{segment}") for segment in SEGMENTS]
    named = F.array(
        *(
            F.struct(
                F.lit(segment).alias("segment"),
                F.lit(name).alias("metric"),
                F.col(column).cast("double").alias("value"),
            )
            for segment, name, column in columns
        )
    )
    long = wide.select("model_name", "k", "n_users", F.inline(named)).where(F.col("value").isNotNull())
    # not by a join: that would read all lists twice
    of_baseline = F.max(F.when(F.col("model_name") == BASELINE, F.col("value")))
    compared = long.withColumn("baseline_value", of_baseline.over(Window.partitionBy("segment", "k", "metric")))
    none = F.lit(None).cast("double")
    return compared.select(
        F.lit(fold).alias("fold"),
        "model_name",
        "segment",
        "k",
        "metric",
        "n_users",
        "value",
        none.alias("value_low"),
        none.alias("value_high"),
        "baseline_value",
        (F.col("value") - F.col("baseline_value")).alias("difference"),
        none.alias("difference_low"),
        none.alias("difference_high"),
        none.alias("p_value"),
    )
