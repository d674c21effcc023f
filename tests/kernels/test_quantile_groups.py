"""Quantile groups, by hand and against numpy's quantiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels.quantile_groups import joined_groups, quantile_groups

DECILES = range(1, 10)


def test_ten_values_are_ten_deciles():
    assert quantile_groups(np.ones(10), DECILES).tolist() == list(range(10))


def test_a_value_that_many_share_leaves_the_groups_that_it_spans_empty():
    # 60 of 100 users at the first value, then 20 and 20: below them are 0, 60 and 80
    assert quantile_groups(np.array([60, 20, 20]), DECILES).tolist() == [0, 6, 8]
    assert quantile_groups(np.array([60, 20, 20]), (5, 9)).tolist() == [0, 1, 1]


def test_a_cut_is_exact():
    # .3 x 10 is 3: the fourth of ten users lies above the third cut, the third does not
    assert quantile_groups(np.array([3, 7]), (3,)).tolist() == [0, 1]
    assert quantile_groups(np.array([2, 8]), (3,)).tolist() == [0, 0]


def test_one_user_and_one_value_are_one_group():
    assert quantile_groups(np.array([1]), DECILES).tolist() == [0]
    assert quantile_groups(np.array([1000]), DECILES).tolist() == [0]
    assert quantile_groups(np.array([]), DECILES).tolist() == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.sampled_from([(5, 9), tuple(DECILES), (2, 4, 6, 8)]))
def test_equals_numpys_inverted_cdf(values, tenths):
    """A value is above a cut where numpy's quantile of that share is smaller."""
    distinct, counts = np.unique(values, return_counts=True)
    # numpy multiplies share x n in floats, so the shares are put where no rounding can move them
    cuts = [np.sort(values)[-(-q * len(values) // 10) - 1] for q in tenths]
    assert quantile_groups(counts, tenths).tolist() == [sum(cut < value for cut in cuts) for value in distinct]
    near = np.quantile(values, [q / 10 - 1e-9 for q in tenths], method="inverted_cdf")
    assert near.tolist() == cuts


@pytest.mark.parametrize(
    ("groups", "counts", "least", "expected"),
    [
        ([0, 0, 1, 2], [10, 10, 20, 20], 20, [0, 0, 1, 2]),
        ([0, 1, 2], [5, 20, 20], 20, [0, 0, 1]),  # a small first one takes the next in
        ([0, 1, 2], [20, 20, 5], 20, [0, 1, 1]),  # a small last one joins the one before
        ([0, 1, 2, 3], [20, 5, 5, 5], 20, [0, 0, 0, 0]),
        ([0, 1, 2, 3], [20, 12, 8, 20], 20, [0, 1, 1, 2]),
        ([0, 3, 9], [1, 1, 1], 20, [0, 0, 0]),  # fewer than enough in all
        ([0, 3, 9], [1, 1, 1], 1, [0, 1, 2]),
        ([0], [1], 20, [0]),
    ],
)
def test_small_groups_are_joined_with_their_neighbours(groups, counts, least, expected):
    assert joined_groups(np.array(groups), np.array(counts), least).tolist() == expected


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 50))
def test_no_group_is_too_small_unless_all_are(counts, least):
    groups = quantile_groups(np.array(counts), DECILES)
    joined = joined_groups(groups, np.array(counts), least)
    sizes = np.bincount(joined, weights=counts)
    assert (sizes >= min(least, sum(counts))).all()
    assert (np.diff(joined) >= 0).all() and set(joined) == set(range(len(sizes)))
    # cells of one group stay together
    assert all(joined[i] == joined[i + 1] for i in range(len(groups) - 1) if groups[i] == groups[i + 1])
