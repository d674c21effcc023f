"""The weight search on samples small enough to reckon by hand."""

import numpy as np
import pandas as pd
import pytest

from lt_spark.core.config import TuneConfig
from lt_spark.rank.features import ALL_USERS
from lt_spark.rank.tune import Sample, Weights, goal, search, to_sample, weights_rows

CONFIG = TuneConfig(k=10)


def row(user: int, target: int, item: float | None, model: str | None, feature: float, tail: bool, half: int = 0):  # type: ignore[no-untyped-def]
    return {
        "pair_user": user,
        "pair_item": target,
        "is_tail": tail,
        "half": half,
        "item_idx": item,
        "log_popularity": 0.5,
        "model_name": model,
        "feature": feature,
    }


def sample_of(*rows: dict[str, object]) -> Sample:
    return to_sample(pd.DataFrame(list(rows)), ["a", "b"])


def two_users() -> Sample:
    """Model b finds both targets at the top; model a puts another item first."""
    rows = []
    for user in (1, 2):
        rows += [
            row(user, 10, 10, "a", 0.4, user == 2, user % 2),
            row(user, 10, 11, "a", 1.0, user == 2, user % 2),
            row(user, 10, 10, "b", 1.0, user == 2, user % 2),
            row(user, 10, 11, "b", 0.0, user == 2, user % 2),
        ]
    return sample_of(*rows)


def test_goal_is_ndcg_of_all_and_of_the_tail() -> None:
    second = 1 / np.log2(3)
    only_a = Weights(np.array([1.0, 0.0]), 0.0)
    assert goal(two_users(), only_a, CONFIG) == pytest.approx(second + 1.0 * second)
    only_b = Weights(np.array([0.0, 1.0]), 0.0)
    assert goal(two_users(), only_b, CONFIG) == pytest.approx(1.0 + 1.0)


def test_a_tie_counts_against_the_target() -> None:
    sample = sample_of(row(1, 10, 10, "a", 0.5, False), row(1, 10, 11, "a", 0.5, False))
    assert goal(sample, Weights(np.array([1.0, 1.0]), 0.0), CONFIG) == pytest.approx(1 / np.log2(3))


def test_a_pair_without_candidates_counts_as_zero() -> None:
    sample = sample_of(row(1, 10, 10, "a", 1.0, False), row(2, 10, None, None, np.nan, False))
    assert len(sample.is_tail) == 2
    assert goal(sample, Weights(np.array([1.0, 1.0]), 0.0), CONFIG) == pytest.approx(1 / 2)


def test_the_better_model_has_the_larger_weight() -> None:
    found = search(two_users(), ["a", "b"], CONFIG)
    assert goal(two_users(), found, CONFIG) == pytest.approx(2.0)
    assert found.models.max() == 1.0


def test_popularity_power_lifts_the_rare_target() -> None:
    sample = Sample(
        features=np.array([[0.9], [1.0]], np.float32),
        log_popularity=np.array([0.0, 1.0], np.float32),
        pairs=np.array([0, 0]),
        is_target=np.array([True, False]),
        is_tail=np.array([True]),
        halves=np.array([0], np.int8),
        users=np.array([7]),
    )
    found = search(sample, ["a"], CONFIG)
    assert found.popularity_power > 0
    assert goal(sample, found, CONFIG) == pytest.approx(2.0)


def test_a_user_counts_once_however_many_targets() -> None:
    second = 1 / np.log2(3)
    rows = [
        row(1, target, item, "a", feature, False) for target in (10, 11) for item, feature in ((10, 1.0), (11, 0.5))
    ]
    other = [row(2, 10, 10, "a", 0.5, True), row(2, 10, 11, "a", 1.0, True)]
    found = goal(sample_of(*rows, *other), Weights(np.array([1.0, 0.0]), 0.0), CONFIG)
    assert found == pytest.approx(((1.0 + second) / 2 + second) / 2 + second)


def test_few_users_leave_the_weights_near_their_mean() -> None:
    def weight_of_a(n_users: int) -> float:
        """Model b alone is right, of every user."""
        rows = []
        for user in range(n_users):
            rows += [row(user, 10, 11, "a", 1.0, False), row(user, 10, 10, "b", 1.0, False)]
        return float(search(sample_of(*rows), ["a", "b"], CONFIG).models[0])

    few, more, many = weight_of_a(5), weight_of_a(100), weight_of_a(2000)
    assert few > 0.8 > more > 0.1 > many > 0


def test_the_power_is_the_mean_of_what_replicates_find_best() -> None:
    """A power of .3 is best for one half of the users, none for the other."""
    rows = []
    for user in range(90):
        rare = user % 2 == 0
        for item, feature, popular in ((10, 0.8, not rare), (11, 1.0 if rare else 0.7, rare)):
            rows.append(row(user, 10, item, "a", feature, False) | {"log_popularity": float(popular)})
    found = search(to_sample(pd.DataFrame(rows), ["a"]), ["a"], TuneConfig(k=1))
    assert 0.05 < found.popularity_power < 0.25
    assert (
        found.popularity_power == search(to_sample(pd.DataFrame(rows), ["a"]), ["a"], TuneConfig(k=1)).popularity_power
    )


def test_a_half_is_fitted_without_its_own_users() -> None:
    sample = two_users()
    assert len(sample.without(0).is_tail) == 1
    assert len(sample.without(ALL_USERS).is_tail) == 2
    rows = weights_rows(sample, ["a", "b"], CONFIG)
    assert {(half, name) for half, name, *_ in rows} == {(h, n) for h in (0, 1, -1) for n in ("a", "b")}
