"""Who gains and who loses by a model, group by group, against plain ALS."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import EvaluateConfig
from lt_spark.core.config_groups import CHANGE
from lt_spark.core.tables import GROUP_METRICS
from lt_spark.frames.bootstrap import bootstrap_differences
from lt_spark.measure.evaluate import BASELINE
from lt_spark.measure.groups import cut_groups

_PAIR = ["fold", "model_name", "k"]
_GROUP = ["group_by", "group", "group_order"]
_GROUP_SCHEMA = "group_by string, `group` string, group_order int"


def group_metrics(user_metrics: DataFrame, user_groups: DataFrame, config: EvaluateConfig, seed: int) -> DataFrame:
    """Return NDCG of each group by model and k, with its difference from plain ALS (``silver.group_metrics``).

    Differences have intervals by the paired Poisson bootstrap over the group's users. Beside the groupings of
    ``user_groups`` stands ``change``: each model's users in deciles of what it did to them, from those who lose most to
    those who gain most. It is a description after the fact: its groups are made of the differences that they show, so
    it has no intervals, and nothing is decided by it.

    Args:
        user_metrics: ``silver.user_metrics``.
        user_groups: ``silver.user_groups`` of the same folds.
        config: section ``evaluate``.
        seed: seed of the bootstrap.
    """
    pairs = _pairs(user_metrics)
    # one column names a group: JSON, as names may hold any separator
    named = user_groups.select("fold", "user_idx", F.to_json(F.struct(*_GROUP)).alias("segment"))
    of_groups = pairs.join(named, ["fold", "user_idx"])
    differences = bootstrap_differences(
        of_groups.withColumnRenamed("own", "ndcg"), BASELINE, ["ndcg"], n_replicates=config.n_replicates, seed=seed
    )
    shares = of_groups.groupBy(*_PAIR, "segment").agg(*_shares())
    found = differences.join(shares, [*_PAIR, "segment"]).withColumn("segment", F.from_json("segment", _GROUP_SCHEMA))
    columns = [name for name in GROUP_METRICS.column_names if name not in _GROUP]
    grouped = found.select(*columns, "segment.*")
    return grouped.unionByName(_change(pairs, config.min_group_users)).select(*GROUP_METRICS.column_names)


def compared(metrics: DataFrame, k: int) -> DataFrame:
    """Return what the gate looks at: groups on valid at ``k``, without ``change``, a row a model and group.

    Args:
        metrics: ``silver.group_metrics``.
        k: list length.
    """
    is_wanted = (F.col("fold") == "valid") & (F.col("k") == k) & (F.col("group_by") != CHANGE)
    columns = ["group_by", "group", "baseline_value", "difference", "difference_low", "difference_high"]
    return metrics.where(is_wanted).select("model_name", *columns).orderBy("model_name", "group_by", "group")


def _pairs(user_metrics: DataFrame) -> DataFrame:
    """Return (fold, model_name, k, user_idx, own, base): each user's NDCG by a model and by plain ALS."""
    whole = user_metrics.where(F.col("segment") == "all").select(*_PAIR, "user_idx", F.col("ndcg").alias("own"))
    base = whole.where(F.col("model_name") == BASELINE).select("fold", "k", "user_idx", F.col("own").alias("base"))
    return whole.join(base, ["fold", "k", "user_idx"])


def _shares() -> list[Column]:
    own, base = F.col("own"), F.col("base")
    return [
        F.avg(F.when(own > base, 1.0).otherwise(0.0)).alias("share_gaining"),
        F.avg(F.when(own < base, 1.0).otherwise(0.0)).alias("share_losing"),
    ]


def _mean(value: Column) -> Column:
    """Return the mean to 12 decimals, the same in whatever order the rows come."""
    return F.avg(value.cast("decimal(18, 12)")).cast("double")


def _change(pairs: DataFrame, min_users: int) -> DataFrame:
    """Return the rows of ``change``: differences to four decimals, in deciles."""
    moved = pairs.where(F.col("model_name") != BASELINE).select(
        "*",
        F.lit(CHANGE).alias("group_by"),
        F.round(F.col("own") - F.col("base"), 4).alias("value"),
        F.lit(None).cast("string").alias("text"),
    )
    none = F.lit(None).cast("double")
    return (
        cut_groups(moved, [*_PAIR, "group_by"], min_users)
        .groupBy(*_PAIR, *_GROUP)
        .agg(
            F.count(F.lit(1)).alias("n_users"),
            _mean(F.col("own")).alias("value"),
            _mean(F.col("base")).alias("baseline_value"),
            _mean(F.col("own") - F.col("base")).alias("difference"),
            none.alias("difference_low"),
            none.alias("difference_high"),
            none.alias("p_value"),
            *_shares(),
        )
    )
