"""Poisson weights, their sums, and what follows from them."""

from math import exp, factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels.bootstrap import interval, partial_sums, poisson_weights


def test_weights_are_poisson():
    weights = poisson_weights(np.arange(4_000), 500, seed=3)
    assert weights.mean() == pytest.approx(1, abs=5 * 1 / np.sqrt(weights.size))
    assert weights.var() == pytest.approx(1, abs=0.01)
    for n in range(5):
        share = exp(-1) / factorial(n)
        allowance = 5 * np.sqrt(share / weights.size)
        assert (weights == n).mean() == pytest.approx(share, abs=allowance)


def test_users_and_replicates_are_independent():
    weights = poisson_weights(np.arange(2_000), 30, seed=5).astype(float)
    between = np.corrcoef(weights.T) - np.eye(30)
    assert np.abs(between).max() < 5 / np.sqrt(2_000)
    neighbours = poisson_weights(np.arange(20), 3_000, seed=5).astype(float)
    assert np.abs(np.corrcoef(neighbours) - np.eye(20)).max() < 5 / np.sqrt(3_000)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12), st.integers(0, 2**64), st.integers(1, 20))
def test_a_weight_depends_on_user_replicate_and_seed_alone(users, seed, n_replicates):
    together = poisson_weights(np.array(users), n_replicates, seed)
    for row, user in enumerate(users):
        assert (poisson_weights(np.array([user]), n_replicates, seed)[0] == together[row]).all()
    tail = poisson_weights(np.array(users), n_replicates - 1, seed, first=1)
    assert (tail == together[:, 1:]).all()


def test_another_seed_gives_other_weights():
    assert (poisson_weights(np.arange(50), 50, 1) != poisson_weights(np.arange(50), 50, 2)).mean() > 0.5


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_sums_of_parts_add_up(seed, cut):
    random = np.random.default_rng(seed)
    users, values = random.permutation(1_000)[:30], random.random((30, 2))
    whole = partial_sums(users, values, 40, seed=9)
    parts = partial_sums(users[:cut], values[:cut], 40, 9) + partial_sums(users[cut:], values[cut:], 40, 9)
    np.testing.assert_allclose(parts, whole, atol=1e-12)
    weights = poisson_weights(users, 40, 9)
    np.testing.assert_allclose(whole[7], [*(weights[:, 7] @ values), weights[:, 7].sum()], atol=1e-12)


def test_chunks_change_nothing(monkeypatch):
    users, values = np.arange(100), np.arange(100.0)[:, None]
    whole = partial_sums(users, values, 10, 1)
    monkeypatch.setattr("lt_spark.kernels.bootstrap._CHUNK_WEIGHTS", 70)
    np.testing.assert_allclose(partial_sums(users, values, 10, 1), whole, atol=1e-9)


def test_interval_by_hand():
    """Replicate means -1, 1, 2, 3, 4: one of five is not above zero."""
    sums = np.array([[-2, 2], [1, 1], [4, 2], [3, 1], [4, 1], [9, 0]])
    found = interval(sums, level=0.5)
    assert (found.low[0], found.high[0]) == (1, 3)
    assert found.p_value[0] == pytest.approx(2 * (1 + 1) / (5 + 1))


def test_p_value_of_nothing_and_of_certainty():
    assert interval(np.array([[0.0, 1.0]] * 9)).p_value[0] == 1
    assert interval(np.array([[2.0, 1.0]] * 9)).p_value[0] == pytest.approx(2 / (9 + 1))
    empty = interval(np.zeros((3, 2)))
    assert np.isnan(empty.low[0]) and empty.p_value[0] == 1


def test_interval_covers_like_the_normal_one():
    """For a mean of many users the bootstrap's interval is mean +- 1.96 standard errors."""
    values = np.random.default_rng(11).exponential(size=3_000)
    found = interval(partial_sums(np.arange(3_000), values[:, None], 4_000, seed=2))
    error = 1.96 * values.std() / np.sqrt(values.size)
    assert found.low[0] == pytest.approx(values.mean() - error, abs=0.15 * error)
    assert found.high[0] == pytest.approx(values.mean() + error, abs=0.15 * error)
