"""FA*IR held against its published table and against lists drawn by coins; caps and pins by hand and by property."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels import fair
from lt_spark.kernels.fair import Limits, least_protected, reranked, with_pins

# Zehlike et al. 2017, table of the minimum number of protected candidates, alpha = .1, k = 1 .. 12
PUBLISHED = {
    0.1: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    0.2: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
    0.3: [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2],
    0.4: [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3],
    0.5: [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4],
    0.6: [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
    0.7: [0, 1, 1, 2, 2, 3, 3, 4, 5, 5, 6, 6],
}
# adjusted tables and their fail probabilities as the authors' own package tests them (fairsearchcore, test_fair.py)
OF_THE_PACKAGE = [
    (10, 0.2, 0.15, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1], 0.13421772800000065),
    (
        30,
        0.3,
        0.05,
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4],
        0.04877730797178359,
    ),
]


@pytest.mark.parametrize("share", PUBLISHED)
def test_the_published_table(share: float) -> None:
    assert least_protected(12, share, 0.1).tolist() == PUBLISHED[share]


@pytest.mark.parametrize(("n", "share", "alpha"), [(60, 0.2, 0.1), (200, 0.55, 0.05), (33, 0.9, 0.3)])
def test_the_table_is_scipys_quantile(n: int, share: float, alpha: float) -> None:
    binom = pytest.importorskip("scipy.stats").binom
    assert least_protected(n, share, alpha).tolist() == binom.ppf(alpha, np.arange(1, n + 1), share).tolist()


def test_a_distribution_function_that_meets_alpha_is_not_above_it() -> None:
    # F(0; 1, .2) = .8 and F(0; 3, .5) = 1/8 are not above alpha: one protected item is wanted
    assert least_protected(1, 0.2, 0.8).tolist() == [1]
    assert least_protected(3, 0.5, 0.125).tolist() == [0, 0, 1]


@pytest.mark.parametrize(("n", "share", "alpha", "least", "fails"), OF_THE_PACKAGE)
def test_adjusted_tables_are_those_of_the_authors_package(
    n: int, share: float, alpha: float, least: list[int], fails: float
) -> None:
    found = least_protected(n, share, fair.adjusted_alpha(n, share, alpha))
    assert found.tolist() == least
    assert fair.fail_probability(found, share) == pytest.approx(fails, abs=1e-12)


def test_fail_probability_by_hand() -> None:
    # one of the first two and two of the first four: fails 00.., then 1000 and 0100
    least, p = np.array([0, 1, 1, 2]), 0.3
    assert fair.fail_probability(least, p) == pytest.approx((1 - p) ** 2 + 2 * p * (1 - p) ** 3)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.floats(0.05, 0.95), st.floats(0.01, 0.9))
def test_fail_probability_is_the_share_of_all_coin_lists(n: int, share: float, alpha: float) -> None:
    least = least_protected(n, share, alpha)
    fails = 0.0
    for drawn in itertools.product((0, 1), repeat=n):
        if (np.cumsum(drawn) < least).any():
            fails += share ** sum(drawn) * (1 - share) ** (n - sum(drawn))
    assert fair.fail_probability(least, share) == pytest.approx(fails, abs=1e-9)


@settings(deadline=None)
@given(st.integers(1, 30), st.floats(0.05, 0.95), st.floats(0.01, 0.5))
def test_the_adjusted_level_is_the_largest_that_keeps_to_alpha(n: int, share: float, alpha: float) -> None:
    level = fair.adjusted_alpha(n, share, alpha)
    assert 0 <= level <= alpha
    least = least_protected(n, share, level)
    assert fair.fail_probability(least, share) <= alpha + 1e-9
    values = [
        sum(math.comb(k, hits) * share**hits * (1 - share) ** (k - hits) for hits in range(m + 1))
        for k in range(1, n + 1)
        for m in range(k)
    ]
    above = [value for value in values if level + 1e-9 < value <= alpha]
    if above:  # the next table fails too often
        assert fair.fail_probability(least_protected(n, share, min(above)), share) > alpha - 1e-9


def arrays(scores: list[float], protected: list[int], groups: list[int] | None = None) -> tuple[Any, Any, Any]:
    return np.array(scores), np.array(protected, bool), np.array(groups or [fair.NO_GROUP] * len(scores))


def test_the_best_protected_item_is_lifted_just_where_it_is_wanted() -> None:
    found = reranked(*arrays([9, 8, 7, 6, 5, 4], [0, 0, 0, 0, 1, 1]), Limits(6, (0, 1, 1, 2, 2, 2)))
    assert found.order == [0, 4, 1, 5, 2, 3]
    assert not found.is_quota_short


def test_below_the_floor_nothing_is_lifted_and_the_list_is_told_to_be_short() -> None:
    scores, least = [9, 8, 7, 6, 3, 1], (0, 1, 1, 1, 1, 1)
    # 3 < .5 x 8 at place 2, 3 < .5 x 7 at place 3, 3 = .5 x 6 at place 4
    found = reranked(*arrays(scores, [0, 0, 0, 0, 1, 1]), Limits(6, least, floor=0.5))
    assert (found.order, found.is_quota_short) == ([0, 1, 2, 4, 3, 5], True)
    strict = reranked(*arrays(scores, [0, 0, 0, 0, 1, 1]), Limits(4, least[:4], floor=0.6))
    assert (strict.order, strict.is_quota_short) == ([0, 1, 2, 3], True)


def test_a_group_that_has_its_cap_waits_behind_cap_k() -> None:
    scores, groups = [9, 8, 7, 6, 5, 4], [1, 1, 1, 2, fair.NO_GROUP, 1]
    found = reranked(*arrays(scores, [0] * 6, groups), Limits(6, (0,) * 6, cap=1, cap_k=3))
    assert (found.order, found.is_cap_short) == ([0, 3, 4, 1, 2, 5], False)
    # among the first four places no other item is left: the best one stands there all the same
    short = reranked(*arrays(scores, [0] * 6, groups), Limits(6, (0,) * 6, cap=1, cap_k=4))
    assert (short.order, short.is_cap_short) == ([0, 3, 4, 1, 2, 5], True)


def test_the_quota_lifts_no_item_of_a_full_group() -> None:
    found = reranked(
        *arrays([9, 8, 7, 6], [0, 0, 1, 1], [1, fair.NO_GROUP, 1, 2]), Limits(4, (0, 1, 1, 1), cap=1, cap_k=4)
    )
    assert found.order == [0, 3, 1, 2]


pools = st.lists(
    st.tuples(st.floats(0.001, 100), st.booleans(), st.integers(fair.NO_GROUP, 3)), min_size=1, max_size=40
).map(lambda rows: sorted(rows, key=lambda row: -row[0]))


def limits_of(share: float, size: int, **more: Any) -> Limits:
    return Limits(size, tuple(least_protected(size, share, 0.1).tolist()), **more)


@settings(deadline=None)
@given(pools, st.floats(0.05, 0.95), st.floats(0, 1), st.integers(1, 4), st.integers(1, 40))
def test_a_whole_list_is_a_permutation(pool: Any, share: float, floor: float, cap: int, cap_k: int) -> None:
    found = reranked(
        *arrays(*map(list, zip(*pool, strict=True))), limits_of(share, len(pool), floor=floor, cap=cap, cap_k=cap_k)
    )
    assert sorted(found.order) == list(range(len(pool)))


@settings(deadline=None)
@given(pools, st.floats(0.05, 0.95), st.integers(1, 40))
def test_every_prefix_has_its_protected_items_where_there_are_enough(pool: Any, share: float, n: int) -> None:
    scores, protected, groups = arrays(*map(list, zip(*pool, strict=True)))
    n = min(n, len(pool))
    limits = limits_of(share, n)
    found = reranked(scores, protected, groups, limits)
    has = np.cumsum(protected[found.order])
    # with no floor, a prefix is short only when every protected item stands in it
    assert (has >= np.minimum(limits.least, protected.sum())).all()
    assert found.is_quota_short == bool((has < limits.least).any())


@settings(deadline=None)
@given(pools, st.floats(0.05, 0.95), st.floats(0, 1))
def test_a_list_that_is_fair_already_stays_as_it_is(pool: Any, share: float, floor: float) -> None:
    scores, protected, groups = arrays(*map(list, zip(*pool, strict=True)))
    limits = limits_of(share, len(pool), floor=floor)
    found = reranked(scores, protected, groups, limits)
    by_score = list(range(len(pool)))
    if (np.cumsum(protected) >= limits.least).all():
        assert found.order == by_score
    # and within each of both kinds the order by score stays
    for kind in (True, False):
        assert [place for place in found.order if protected[place] == kind] == [
            place for place in by_score if protected[place] == kind
        ]


@settings(deadline=None)
@given(pools, st.floats(0.05, 0.95), st.floats(0, 1))
def test_nothing_is_displaced_by_what_lies_below_the_floor(pool: Any, share: float, floor: float) -> None:
    scores, protected, groups = arrays(*map(list, zip(*pool, strict=True)))
    order = reranked(scores, protected, groups, limits_of(share, len(pool), floor=floor)).order
    for place, position in enumerate(order):
        passed = [scores[other] for other in order[place + 1 :] if other < position]
        assert not passed or scores[position] >= floor * max(passed)


@settings(deadline=None)
@given(pools, st.integers(1, 4), st.integers(1, 40))
def test_a_cap_holds_unless_the_list_says_that_it_could_not(pool: Any, cap: int, cap_k: int) -> None:
    scores, protected, groups = arrays(*map(list, zip(*pool, strict=True)))
    found = reranked(scores, protected, groups, Limits(len(pool), (0,) * len(pool), cap=cap, cap_k=cap_k))
    counts = Counter(groups[found.order[:cap_k]].tolist())
    counts.pop(fair.NO_GROUP, None)
    assert (max(counts.values(), default=0) > cap) == found.is_cap_short


@pytest.mark.parametrize(
    ("pins", "expected"),
    [
        ([], [10, 11, 12]),
        ([(1, 20)], [20, 10, 11]),
        ([(2, 12)], [10, 12, 11]),
        ([(1, 20), (1, 21)], [20, 21, 10]),
        ([(2, 20), (1, 20)], [10, 20, 11]),
        ([(3, 20), (3, 21)], [10, 11, 20]),
        ([(3, 11), (3, 12)], [10, 12, 11]),
    ],
)
def test_pins_take_their_places(pins: list[tuple[int, int]], expected: list[int]) -> None:
    assert with_pins([10, 11, 12, 13], pins, 3) == expected


def test_a_pin_beyond_a_short_list_ends_it() -> None:
    assert with_pins([10, 11], [(9, 20), (7, 21)], 10) == [10, 11, 21, 20]
    assert with_pins([], [(2, 20)], 10) == [20]
