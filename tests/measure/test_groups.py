"""Groups of users, and who gains and loses: by hand, on a log whose groups can be counted."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from lt_spark.core.config import EvaluateConfig, GateConfig
from lt_spark.core.tables import GROUP_METRICS, USER_ATTRIBUTES, USER_GROUPS, USER_METRICS
from lt_spark.kernels.bootstrap import poisson_weights
from lt_spark.measure.gate import Difference, decide, group_differences
from lt_spark.measure.group_metrics import compared, group_metrics
from lt_spark.measure.groups import user_groups

pytestmark = pytest.mark.spark

N_USERS = 201
HEAD, TAIL, COLD = 0, 1, 2
HOSTILE = 'land `x`."y" 🙂'
EVALUATE = EvaluateConfig(n_replicates=200)
SEED = 3


def n_events(user):
    """50 users with 1 event, 50 with 2, 80 with 5, 20 with 9, and one with none."""
    return [1, 2][user % 2] if user < 100 else 5 if user < 180 else 9 if user < 200 else 0


def n_tail(user):
    return 0 if user < 100 else 1 if user < 180 else 3


def ndcg(model, user):
    """The planted method takes .1 from light users for certain, and gives the others more."""
    noise = 0.01 * (user % 7)
    if model == "als_plain":
        return 0.4 + noise
    if model == "same":
        return 0.4 + noise
    return (0.3 if user < 100 else 0.7) + 0.02 * (user % 5)


def metrics_rows(fold="valid", users=range(N_USERS), models=("als_plain", "blend", "same")):
    return [
        {
            "fold": fold,
            "model_name": model,
            "user_idx": user,
            "segment": segment,
            "k": k,
            "n_targets": 1,
            "ndcg": 0.0 if segment == "tail" else ndcg(model, user) / (1 if k == 10 else 2),
        }
        for model in models
        for user in users
        for segment in ("all", "tail")
        for k in (5, 10)
    ]


def attributes():
    """Rows of user_attributes: an age of most users, and a land with all that a name can be."""
    rows = [(user, "age", f"{20 + user % 40}.0") for user in range(150)]
    rows += [(150, "age", "n/a"), (151, "age", "1e999"), (152, "age", "NaN")]
    lands = {0: 'a"b\\,{}', 1: "Österreich", 2: "other"}
    rows += [(user, HOSTILE, lands[user % 3]) for user in range(120)]
    rows += [(user, HOSTILE, f"rare {user}") for user in range(120, 130)]
    rows += [(user, HOSTILE, "few") for user in range(130, 149)]
    return rows + [(user, "not measured", "x") for user in range(N_USERS)] + [(999, "age", "30")]


def named(rows):
    """Return {grouping: {group: users}}."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["group_by"], Counter())[row["group"]] += 1
    return {group_by: dict(groups) for group_by, groups in counts.items()}


@pytest.fixture(scope="module")
def log(spark):
    events = [
        (user, TAIL if place < n_tail(user) else HEAD) for user in range(N_USERS) for place in range(n_events(user))
    ]
    events += [(999, TAIL)] * 40  # is not measured
    segments = [(HEAD, "head"), (TAIL, "tail"), (COLD, "cold")]

    def of(table, rows):
        return spark.createDataFrame(
            [tuple(row.get(name) for name in table.column_names) for row in rows], table.schema
        )

    return SimpleNamespace(
        metrics=of(USER_METRICS, metrics_rows()).cache(),
        events=spark.createDataFrame(events, "user_idx int, item_idx int"),
        segments=spark.createDataFrame(segments, "item_idx int, segment string"),
        attributes=spark.createDataFrame(attributes(), USER_ATTRIBUTES.schema),
        of=of,
    )


@pytest.fixture(scope="module")
def grouped(log):
    found = user_groups(log.metrics, log.events, log.segments, log.attributes, ("age", HOSTILE), 20, "valid").cache()
    return SimpleNamespace(frame=found, rows=found.collect())


def test_each_user_is_in_one_group_of_each_grouping(grouped):
    assert grouped.frame.columns == USER_GROUPS.column_names
    keys = Counter((row["user_idx"], row["group_by"]) for row in grouped.rows)
    groupings = ("activity", "history_length", "tail_taste", "age", HOSTILE)
    assert keys == Counter((user, group_by) for user in range(N_USERS) for group_by in groupings)
    orders = {(row["group_by"], row["group"], row["group_order"]) for row in grouped.rows}
    assert len({(group_by, order) for group_by, _, order in orders}) == len(orders)
    assert {row["fold"] for row in grouped.rows} == {"valid"}


def test_groups_of_the_log_by_hand(grouped):
    found = named(grouped.rows)
    # below 0, 1, 2, 5, 9 events are 0, 1, 51, 101, 181 of 201 users; the median is at 100.5, the ninth decile at 180.9
    assert found["activity"] == {"light": 101, "medium": 80, "heavy": 20}
    assert found["history_length"] == {"0-1": 51, "2": 50, "5": 80, "9": 20}
    # 1 of 5 and 3 of 9; who has no known event has no taste, and too few for a group are
    assert found["tail_taste"] == {"0.000": 100, "0.200": 80, "0.333 and unknown": 21}


def test_groups_of_columns_by_hand(grouped):
    found = named(grouped.rows)
    # ages 20 to 59, 150 users: four users an age up to 49, three above; the others, and what is no number, are unknown
    assert found["age"] == {"20-27": 32, "28-34": 28, "35-42": 32, "43-49": 28, "50-59": 30, "unknown": 51}
    # 40 of each, one of them called other itself; ten rare ones and the 19 of "few" are too few
    assert found[HOSTILE] == {'a"b\\,{}': 40, "Österreich": 40, "other": 40 + 10 + 19, "unknown": 52}


@pytest.fixture(scope="module")
def measured(log, grouped):
    """Fold valid, and one user alone in fold test."""
    alone = {"fold": "test", "user_idx": 7, "group_by": "activity", "group": "light", "group_order": 1}
    metrics = log.metrics.union(log.of(USER_METRICS, metrics_rows("test", [7])))
    found = group_metrics(metrics, grouped.frame.union(log.of(USER_GROUPS, [alone])), EVALUATE, SEED).cache()
    rows = found.collect()
    return SimpleNamespace(
        frame=found,
        rows=[row for row in rows if row["fold"] == "valid"],
        alone=[row for row in rows if row["fold"] == "test"],
    )


def row_of(measured, model, group_by, group, k=10):
    (row,) = [
        row
        for row in measured.rows
        if (row["model_name"], row["group_by"], row["group"], row["k"]) == (model, group_by, group, k)
    ]
    return row


def test_a_groups_figures_equal_plain_numpy(measured):
    assert measured.frame.columns == GROUP_METRICS.column_names
    users = np.array([user for user in range(N_USERS) if user < 100 or user == 200])  # light
    weights = poisson_weights(users, 200, SEED).astype(float)
    own, base = (np.array([ndcg(model, user) for user in users]) for model in ("blend", "als_plain"))
    row = row_of(measured, "blend", "activity", "light")
    assert row["n_users"] == 101
    assert row["value"] == pytest.approx(own.mean(), abs=1e-12)
    assert row["baseline_value"] == pytest.approx(base.mean(), abs=1e-12)
    assert row["difference"] == pytest.approx((own - base).mean(), abs=1e-12)
    means = weights.T @ (own - base) / weights.sum(axis=0)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert row["share_losing"] == (own < base).mean()
    assert row["share_gaining"] == (own > base).mean()
    short = row_of(measured, "blend", "activity", "light", k=5)
    assert short["difference"] == pytest.approx((own - base).mean() / 2, abs=1e-12)


def test_every_group_has_a_row_a_model_and_k(measured, grouped):
    groups = {(row["group_by"], row["group"]) for row in grouped.rows}
    keys = Counter(
        (row["model_name"], row["k"], row["group_by"], row["group"])
        for row in measured.rows
        if row["p_value"] is not None
    )
    models = ("als_plain", "blend", "same")
    assert keys == Counter((model, k, *group) for model in models for k in (5, 10) for group in groups)
    row = row_of(measured, "same", HOSTILE, 'a"b\\,{}')
    assert (row["difference"], row["difference_low"], row["difference_high"]) == (0.0, 0.0, 0.0)
    assert (row["share_gaining"], row["share_losing"]) == (0.0, 0.0)


def test_change_shows_all_who_gain_and_lose(measured):
    rows = [row for row in measured.rows if (row["model_name"], row["group_by"], row["k"]) == ("blend", "change", 10)]
    rows.sort(key=lambda row: row["group_order"])
    changes = np.sort([round(ndcg("blend", user) - ndcg("als_plain", user), 4) for user in range(N_USERS)])
    at = 0
    for row in rows:
        own = changes[at : at + row["n_users"]]
        low, high = f"{own[0]:.4f}", f"{own[-1]:.4f}"
        assert row["group"] == (f"{low} to {high}" if low < "0" else f"{low}-{high}")
        assert row["difference"] == pytest.approx(own.mean(), abs=1e-9)
        assert [row["share_gaining"], row["share_losing"]] == [(own > 0).mean(), (own < 0).mean()]
        assert (row["difference_low"], row["difference_high"], row["p_value"]) == (None, None, None)
        assert row["n_users"] >= 20
        at += row["n_users"]
    assert at == N_USERS
    assert len(rows) > 5
    (same,) = [row for row in measured.rows if row["model_name"] == "same" and row["group_by"] == "change"
               and row["k"] == 10]  # fmt: skip
    assert (same["group"], same["n_users"], same["share_losing"]) == ("0.0000", N_USERS, 0.0)
    assert not [row for row in measured.rows if row["group_by"] == "change" and row["model_name"] == "als_plain"]


def test_one_user_alone(measured):
    rows = {(row["model_name"], row["group_by"]): row for row in measured.alone if row["k"] == 10}
    assert set(rows) == {("als_plain", "activity"), ("blend", "activity"), ("same", "activity")} | {
        ("blend", "change"),
        ("same", "change"),
    }
    loss = ndcg("blend", 7) - ndcg("als_plain", 7)
    row = rows["blend", "activity"]
    assert row["n_users"] == 1
    assert (row["difference"], row["difference_low"], row["difference_high"]) == pytest.approx((loss, loss, loss))
    assert (row["share_gaining"], row["share_losing"]) == (0.0, 1.0)
    assert rows["blend", "change"]["group"] == f"{loss:.4f}" == "-0.0600"


def test_a_method_that_gains_by_robbing_light_users_is_caught(measured):
    found = compared(measured.frame, 10).where("model_name = 'blend'").collect()
    assert "change" not in {row["group_by"] for row in found}
    groups = group_differences([row.asDict() for row in found], ("activity", "tail_taste"))
    own, base = ([ndcg(model, user) for user in range(N_USERS)] for model in ("blend", "als_plain"))
    gain = float(np.mean(own) - np.mean(base))
    assert gain > 0.08
    overall = {"all": Difference(float(np.mean(own)), float(np.mean(base)), gain - 0.02)}
    shown = decide(overall, GateConfig(), groups)
    assert shown.is_accepted
    # users with one event or two are all robbed, but for the one without any: "light" has him, "2" has not
    assert "loses most: users of history_length 2 -0.0" in shown.reason
    refused = decide(overall, GateConfig(max_group_loss=0.1), groups)
    assert not refused.is_accepted
    assert "the upper bound of the difference of light users -0.0" in refused.reason
    assert decide(overall, GateConfig(max_group_loss=0.5), groups).is_accepted
