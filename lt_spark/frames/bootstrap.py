"""Paired Poisson bootstrap on Spark: each model's metrics, with intervals, against a baseline."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.kernels.bootstrap import interval, weighted_sums

_GROUP = ["fold", "model_name", "segment", "k"]
_USERS_PER_PART = 4_096
_PART_SCHEMA = (
    "fold string, model_name string, segment string, k int, n_users bigint, own array<double>, base array<double>, "
    "sums array<double>"
)
_SCHEMA = (
    "fold string, model_name string, segment string, k int, metric string, n_users bigint, value double, "
    "value_low double, value_high double, baseline_value double, difference double, difference_low double, "
    "difference_high double, p_value double"
)


def bootstrap_differences(
    user_metrics: DataFrame, baseline: str, metrics: Sequence[str], n_replicates: int = 1000, seed: int = 42
) -> DataFrame:
    """Estimate each metric, and its difference from the baseline, with 95 % intervals.

    A user has one Poisson(1) weight a replicate, whatever the model (paired; Chamandy et al. 2012). A task draws the
    weights of some thousand users once and sums all groups by them; the parts' sums are then added group by group, so
    that no task holds all users.

    Args:
        user_metrics: ``silver.user_metrics``.
        baseline: the model to compare with; it has a row wherever another model has one.
        metrics: columns to average.
        n_replicates: replicates.
        seed: seed of the weights.

    Returns:
        (fold, model_name, segment, k, metric, n_users, value, value_low, value_high, baseline_value, difference,
        difference_low, difference_high, p_value): a row a group and metric. The baseline's own difference is 0, p 1.
    """
    names = list(metrics)
    parts = (
        user_metrics.select(*_GROUP, "user_idx", *names)
        .withColumn("part", F.floor(F.col("user_idx") / F.lit(_USERS_PER_PART)).cast("int"))
        .groupBy("fold", "part")
        .applyInPandas(lambda rows: part_sums(rows, baseline, names, n_replicates, seed), _PART_SCHEMA)
    )
    return parts.groupBy(*_GROUP).applyInPandas(lambda rows: group_interval(rows, baseline, names), _SCHEMA)


def part_sums(rows: pd.DataFrame, baseline: str, metrics: Sequence[str], n_replicates: int, seed: int) -> pd.DataFrame:
    """Sum the metrics of some users, plain and by replicate.

    Args:
        rows: rows of ``silver.user_metrics`` of one fold.
        baseline: the model to compare with.
        metrics: columns to sum.
        n_replicates: replicates.
        seed: seed of the weights.

    Returns:
        A row a (fold, model, segment, k): n_users, sums of the metrics of model and baseline, and the replicates' sums
        (n_replicates x (2 m + 1), flattened) of both and of the weights.
    """
    m = len(metrics)
    users, place = np.unique(rows["user_idx"].to_numpy(), return_inverse=True)
    groups = list(rows.assign(_place=place).groupby(["segment", "k", "model_name"], sort=True))
    columns = np.zeros((len(users), len(groups) * (m + 1)))  # a group's metrics, then 1 for each user in it
    for at, (_, group) in enumerate(groups):
        where = group["_place"].to_numpy()
        columns[where, at * (m + 1) : (at + 1) * (m + 1)] = np.column_stack([group[list(metrics)], np.ones(len(where))])
    totals = columns.sum(axis=0).reshape(-1, m + 1)
    sums = weighted_sums(users, columns, n_replicates, seed).reshape(n_replicates, -1, m + 1)
    index = {key: at for at, (key, _) in enumerate(groups)}
    out = []
    for (segment, k, model_name), at in index.items():
        base = index.get((segment, k, baseline))
        if base is None:
            continue
        both = np.concatenate([sums[:, at, :m], sums[:, base, :m], sums[:, at, m:]], axis=1)
        fold = rows["fold"].iloc[0]
        out.append((fold, model_name, segment, k, int(totals[at, m]), totals[at, :m], totals[base, :m], both.ravel()))
    return pd.DataFrame(out, columns=[*_GROUP, "n_users", "own", "base", "sums"])


def group_interval(parts: pd.DataFrame, baseline: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Add up one group's parts and turn them into estimates, intervals and p-values, a row a metric."""
    m = len(metrics)
    n_users = int(parts["n_users"].sum())
    own = np.sum(np.stack(parts["own"].to_list()), axis=0) / n_users
    base = np.sum(np.stack(parts["base"].to_list()), axis=0) / n_users
    sums = np.sum(np.stack(parts["sums"].to_list()), axis=0).reshape(-1, 2 * m + 1)
    bounds = interval(np.concatenate([sums[:, :m], sums[:, :m] - sums[:, m : 2 * m], sums[:, 2 * m :]], axis=1))
    rows = pd.DataFrame({name: [parts[name].iloc[0]] * m for name in _GROUP})
    rows["metric"], rows["n_users"] = list(metrics), n_users
    rows["value"], rows["value_low"], rows["value_high"] = own, bounds.low[:m], bounds.high[:m]
    rows["baseline_value"], rows["difference"] = base, own - base
    rows["difference_low"], rows["difference_high"] = bounds.low[m:], bounds.high[m:]
    rows["p_value"] = 1.0 if parts["model_name"].iloc[0] == baseline else bounds.p_value[m:]
    return rows
