"""Metrics by hand, and against ir_measures (trec_eval)."""

from math import log2

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Success, nDCG

from lt_spark.kernels import metrics as m

ORACLES = {"precision": P, "recall": R, "hit_rate": Success, "ndcg": nDCG, "mrr": RR, "map": AP}


def test_by_hand():
    """Two of three targets found, at ranks 1 and 3."""
    ranks, n_targets, k = np.array([1, 3]), 3, 4
    assert m.precision(ranks, n_targets, k) == 2 / 4
    assert m.recall(ranks, n_targets, k) == 2 / 3
    assert m.f1(ranks, n_targets, k) == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))
    assert m.hit_rate(ranks, n_targets, k) == 1
    assert m.mrr(ranks, n_targets, k) == 1
    assert m.average_precision(ranks, n_targets, k) == pytest.approx(1 / 3 * (1 / 1 + 2 / 3))
    ideal = 1 / log2(2) + 1 / log2(3) + 1 / log2(4)
    assert m.ndcg(ranks, n_targets, k) == pytest.approx((1 / log2(2) + 1 / log2(4)) / ideal)


def test_more_targets_than_places():
    """NDCG reaches 1, average precision does not: its denominator is all targets."""
    ranks = np.array([1, 2])
    assert m.ndcg(ranks, 5, 2) == pytest.approx(1)
    assert m.average_precision(ranks, 5, 2) == pytest.approx((1 / 1 + 2 / 2) / 5)


def test_a_rank_beyond_k_is_no_hit():
    for formula in m.METRICS.values():
        assert formula(np.array([4]), 1, 3) == 0


def test_users_without_a_hit_or_a_target_count_zero():
    for formula in m.METRICS.values():
        assert formula(np.array([], dtype=int), 2, 3) == 0
        assert formula(np.array([0, 0]), 2, 3) == 0
        assert formula(np.array([], dtype=int), 0, 3) == 0


def test_many_users_at_once_equal_one_by_one():
    ranks = np.array([[1, 3, 7], [2, 0, 0], [0, 0, 0]])
    n_targets = np.array([4, 1, 2])
    for formula in m.METRICS.values():
        one_by_one = [formula(row[row > 0], n, 5) for row, n in zip(ranks, n_targets, strict=True)]
        np.testing.assert_allclose(formula(ranks, n_targets, 5), one_by_one, rtol=1e-15)


def test_ties_are_pessimistic():
    assert m.target_ranks(np.array([1.0, 1.0, 1.0]), np.array([True, False, False])).tolist() == [3]
    assert m.target_ranks(np.array([5.0, 1.0, 1.0, 0.0]), np.array([False, False, True, True])).tolist() == [3, 4]
    assert m.target_ranks(np.array([2.0, 2.0]), np.array([True, True])).tolist() == [2, 2]


def test_nan_sinks_below_all():
    scores = np.array([np.nan, -1e300, 3.0])
    assert m.target_ranks(scores, np.array([True, True, False])).tolist() == [2, 3]


@given(st.lists(st.lists(st.one_of(st.integers(-3, 3), st.just(float("nan"))), max_size=8), max_size=6))
def test_list_ranks_count_the_others(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    expected = []
    for scores in lists:
        values = [-np.inf if np.isnan(score) else score for score in scores]
        expected += [
            1 + sum(other >= value for place, other in enumerate(values) if place != at)
            for at, value in enumerate(values)
        ]
    flat = np.array([score for scores in lists for score in scores], dtype=float)
    assert m.list_ranks(flat, offsets).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("k", [1, 5, 10])
def test_equals_ir_measures(seed, k):
    """Lists of 0 to 25 items, one to twelve targets, some outside the list."""
    random = np.random.default_rng(seed)
    qrels, run, own = [], [], {}
    for user in range(8):
        targets = set(random.choice(40, random.integers(1, 13), replace=False).tolist())
        listed = random.choice(40, random.integers(0, 26), replace=False)
        scores = random.permutation(len(listed)).astype(float)
        qrels += [ir_measures.Qrel(str(user), str(item), 1) for item in targets]
        run += [ir_measures.ScoredDoc(str(user), str(item), score) for item, score in zip(listed, scores, strict=True)]
        is_target = np.array([item in targets for item in listed.tolist()], dtype=bool)
        ranks = m.target_ranks(scores, is_target)
        own[str(user)] = {name: m.METRICS[name](ranks, len(targets), k) for name in ORACLES}
    names = {oracle @ k: name for name, oracle in ORACLES.items()}
    seen = set()
    for found in ir_measures.iter_calc(list(names), qrels, run):
        seen.add(found.query_id)
        assert own[found.query_id][names[found.measure]] == pytest.approx(found.value, abs=1e-12), found
    assert seen  # an oracle that says nothing proves nothing


def test_gini_by_hand():
    assert m.gini(np.array([4, 4, 4])) == 0
    assert m.gini(np.array([0, 0, 0, 9])) == pytest.approx(1 - 1 / 4)
    # mean absolute difference over twice the mean, over all ordered pairs
    assert m.gini(np.array([3, 1])) == pytest.approx((abs(3 - 1) * 2 / 4) / (2 * 2))
    assert m.gini(np.array([])) == 0
    assert m.gini(np.array([0, 0])) == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_gini_is_the_mean_absolute_difference(counts):
    x = np.array(counts, dtype=float)
    expected = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    assert m.gini(x) == pytest.approx(expected, abs=1e-12)


def test_novelty_and_coverage_by_hand():
    assert m.novelty(np.array([8, 2, 0]), 8).tolist() == [0, log2(8 / 2), log2(8 / 0.5)]
    assert m.coverage(np.array([0, 3, 1, 0])) == 2 / 4
    assert m.coverage(np.array([])) == 0
