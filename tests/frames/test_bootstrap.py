"""Differences from a baseline, against the same sums in plain numpy."""

import numpy as np
import pytest

from lt_spark.frames.bootstrap import bootstrap_differences
from lt_spark.kernels.bootstrap import poisson_weights

pytestmark = pytest.mark.spark

SCHEMA = "fold string, model_name string, user_idx int, segment string, k int, ndcg double, recall double"
NUMBERS = (
    "value",
    "value_low",
    "value_high",
    "baseline_value",
    "difference",
    "difference_low",
    "difference_high",
    "p_value",
)


@pytest.fixture(scope="module")
def measured(spark):
    """Two models of 60 users in two segments; the tail has every third user."""
    random = np.random.default_rng(2)
    rows = [
        ("valid", model, user, segment, 10, float(random.random() + lift), float(random.integers(0, 2)))
        for model, lift in (("als_plain", 0.0), ("blend", 0.2))
        for user in range(60)
        for segment in ("all", "tail")
        if segment == "all" or user % 3 == 0
    ]
    return rows, spark.createDataFrame(rows, SCHEMA)


def by_key(found):
    """Return {(model, segment, metric): row}; a key comes once."""
    rows = found.collect()
    keyed = {(row["model_name"], row["segment"], row["metric"]): row for row in rows}
    assert len(keyed) == len(rows)
    return keyed


def test_equals_plain_numpy(measured):
    rows, user_metrics = measured
    found = by_key(bootstrap_differences(user_metrics, "als_plain", ["ndcg", "recall"], n_replicates=200, seed=6))
    assert len(found) == 2 * 2 * 2
    for segment in ("all", "tail"):
        users = np.array([row[2] for row in rows if row[1] == "blend" and row[3] == segment])
        weights = poisson_weights(users, 200, 6).astype(float)
        for column, metric in ((5, "ndcg"), (6, "recall")):
            value, base = (
                np.array([row[column] for row in rows if row[1] == model and row[3] == segment])
                for model in ("blend", "als_plain")
            )
            row = found["blend", segment, metric]
            assert row["n_users"] == len(users)
            assert row["value"] == pytest.approx(value.mean(), abs=1e-12)
            assert row["baseline_value"] == pytest.approx(base.mean(), abs=1e-12)
            assert row["difference"] == pytest.approx(value.mean() - base.mean(), abs=1e-12)
            for prefix, per_user in (("value", value), ("difference", value - base)):
                means = weights.T @ per_user / weights.sum(axis=0)
                bounds = np.quantile(means, [0.025, 0.975])
                assert (row[f"{prefix}_low"], row[f"{prefix}_high"]) == pytest.approx(tuple(bounds), abs=1e-12)
            extreme = min((means <= 0).sum(), (means >= 0).sum())
            assert row["p_value"] == pytest.approx(min(1, 2 * (1 + extreme) / (200 + 1)), abs=1e-12)


def test_the_baseline_differs_from_itself_by_nothing(measured):
    found = by_key(bootstrap_differences(measured[1], "als_plain", ["ndcg"], n_replicates=50, seed=1))
    own = found["als_plain", "all", "ndcg"]
    assert (own["difference"], own["difference_low"], own["difference_high"], own["p_value"]) == (0, 0, 0, 1)
    assert own["value"] == own["baseline_value"]


def test_partitions_change_nothing(measured):
    user_metrics = measured[1]
    whole = by_key(bootstrap_differences(user_metrics.coalesce(1), "als_plain", ["ndcg"], n_replicates=50, seed=1))
    parts = by_key(bootstrap_differences(user_metrics.repartition(7), "als_plain", ["ndcg"], n_replicates=50, seed=1))
    assert set(whole) == set(parts)
    for key, row in whole.items():
        for name in NUMBERS:
            assert parts[key][name] == pytest.approx(row[name], abs=1e-12)


def test_users_are_paired(spark):
    """A model that is better by .1 for every user is surely better, however much the users differ."""
    random = np.random.default_rng(3)
    rows = [
        ("valid", model, user, "all", 10, level + lift, 0.0)
        for user, level in enumerate(random.normal(scale=10, size=50).tolist())
        for model, lift in (("als_plain", 0.0), ("blend", 0.1))
    ]
    found = by_key(
        bootstrap_differences(spark.createDataFrame(rows, SCHEMA), "als_plain", ["ndcg"], n_replicates=100, seed=1)
    )
    row = found["blend", "all", "ndcg"]
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((0.1, 0.1), abs=1e-9)
    assert row["p_value"] == pytest.approx(2 / (100 + 1))
