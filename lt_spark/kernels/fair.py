"""A list re-ranked: a quota for protected items (FA*IR), a cap per group, pinned places. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
NO_GROUP = -1
"""Group of an item that no cap holds."""
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Limits:
    """What a list must keep to.

    Attributes:
        n: length of the list.
        least: (n,) protected items wanted among the first 1, 2, ..., n; all 0: no quota.
        floor: a protected item is lifted only where its score is at least this x that of the item it displaces.
        cap: items of a group among the first ``cap_k`` places; None: no cap.
        cap_k: places that the cap holds for.
    """

    n: int
    least: tuple[int, ...]
    floor: float = 0.0
    cap: int | None = None
    cap_k: int = 10

    @property
    def without_cap(self) -> "Limits":
        """The quota alone."""
        return Limits(self.n, self.least, self.floor)


@dataclass(frozen=True)
class Ranking:
    """Positions of the items in the order of the list, and what could not be kept for want of items.

    Attributes:
        order: positions of the pool, the first place first.
        is_quota_short: at some place fewer protected items stand than wanted: no relevant one was left.
        is_cap_short: a place within ``cap_k`` went to a group that had its cap: no other item was left.
    """

    order: list[int]
    is_quota_short: bool
    is_cap_short: bool


def least_protected(n: int, share: float, alpha: float) -> Counts:
    """Return how many protected items the first k places of a fair list have at least, for k = 1 .. n.

    m(k) = the smallest m with F(m; k, share) > alpha, F the distribution function of the binomial: a list with fewer
    protected items is not one that a coin of this share would have drawn, at level alpha (FA*IR: Zehlike et al., CIKM
    2017, definition of fair representation and table of m).

    Args:
        n: length of the list.
        share: wanted share of protected items, in (0, 1).
        alpha: level of each test, in [0, 1).

    Returns:
        (n,) rising by at most 1 a place.
    """
    return _least(_distributions(n, share), alpha)


def fail_probability(least: Counts, share: float) -> float:
    """Return how likely a list drawn by coins of ``share`` has too few protected items at some place.

    Exact, by a recursion over places: the chance of each number of protected items among the first k, given that no
    earlier place failed. The same as the recursion over blocks of Zehlike et al. 2017, sect. 4.2.
    """
    alive = np.zeros(len(least) + 1)
    alive[0] = 1.0
    for wanted in least:
        alive[1:] = alive[1:] * (1.0 - share) + alive[:-1] * share
        alive[0] *= 1.0 - share
        alive[:wanted] = 0.0
    return float(1.0 - alive.sum())


@cache
def adjusted_alpha(n: int, share: float, alpha: float) -> float:
    """Return the level of each place's test at which a fair list fails any of them with at most probability ``alpha``.

    The n tests are not independent. The table of m changes only where the level passes a value of F, so the largest
    level is found exactly by bisection over those values (Zehlike et al. 2017, sect. 4.2; over tables, as in Zehlike,
    Sühr and Castillo 2020).

    Args:
        n: length of the list.
        share: wanted share of protected items, in (0, 1).
        alpha: chance that a fair list is called unfair, in (0, 1).

    Returns:
        In [0, alpha]; 0 where even the least table fails more often.
    """
    distributions = _distributions(n, share)
    levels = np.unique(np.concatenate([[0.0, alpha], distributions[distributions < alpha]]))
    low, high = 0, len(levels)
    while high - low > 1:
        middle = (low + high) // 2
        fails = fail_probability(_least(distributions, float(levels[middle])), share)
        low, high = (middle, high) if fails <= alpha + _ROUNDING else (low, middle)
    return float(levels[low])


def reranked(
    scores: npt.NDArray[np.float64],
    is_protected: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
    limits: Limits,
) -> Ranking:
    """Return the list that keeps to the limits, place by place the best item that may stand there.

    Where the list has as many protected items as wanted, the best item stands next; where not, the best protected one,
    if it is relevant enough beside the item it displaces (FA*IR's greedy choice, Zehlike et al. 2017, algorithm 1, with
    a floor). Items of a group that has its cap wait until place ``cap_k`` is passed.

    Args:
        scores: (m,) falling, at least 0.
        is_protected: (m,).
        groups: (m,) number of the item's group; ``NO_GROUP``: none.
        limits: what the list keeps to.

    Returns:
        At most ``limits.n`` positions. A place that no item may take by the cap goes to the best one all the same.
    """
    is_free = [True] * len(scores)
    n_of_group: dict[int, int] = {}
    order: list[int] = []
    n_protected, quota_short, cap_short = 0, False, False
    best, best_protected = _Queue(range(len(scores))), _Queue(np.flatnonzero(is_protected).tolist())
    capped = limits.cap if limits.cap is not None else 0
    for place in range(min(limits.n, len(scores))):
        full = set()
        if capped and place < limits.cap_k:
            full = {group for group, count in n_of_group.items() if count >= capped}
        top = best.first(is_free, groups, full)
        if top is None:
            top, full, cap_short = best.first(is_free, groups, set()), set(), True
        assert top is not None  # noqa: S101 - fewer places than items
        chosen = top
        if n_protected < limits.least[place] and not is_protected[top]:
            lifted = best_protected.first(is_free, groups, full)
            if lifted is not None and scores[lifted] >= limits.floor * scores[top]:
                chosen = lifted
            else:
                quota_short = True
        is_free[chosen] = False
        order.append(chosen)
        n_protected += bool(is_protected[chosen])
        quota_short |= n_protected < limits.least[place]
        if groups[chosen] != NO_GROUP:
            n_of_group[int(groups[chosen])] = n_of_group.get(int(groups[chosen]), 0) + 1
    return Ranking(order, quota_short, cap_short)


def with_pins(listed: Sequence[int], pins: Sequence[tuple[int, int]], n: int) -> list[int]:
    """Return the list with pinned items at their places and all others in their order between.

    Args:
        listed: items in order.
        pins: (place from 1, item), what goes first first: an item whose place is taken goes to the next free one; of
            an item that is pinned twice the first counts.
        n: length of the list.

    Returns:
        At most ``n`` items, none twice. Where the list is shorter than a place, the pinned item ends it. An item that
        finds no free place up to ``n`` is not pinned: it stands where it stood.
    """
    places: dict[int, int] = {}
    for place, item in pins:
        if item in places.values():
            continue
        while place in places:
            place += 1
        places[place] = item
    pinned = {item for place, item in places.items() if place <= n}
    others = iter([item for item in listed if item not in pinned])
    merged: list[int] = []
    for place in range(1, n + 1):
        next_one = places[place] if place in places else next(others, None)
        if next_one is not None:
            merged.append(next_one)
    return merged


class _Queue:
    """Positions in order, those at the front that are taken passed once."""

    def __init__(self, positions: Sequence[int]) -> None:
        self._positions = positions
        self._front = 0

    def first(self, is_free: list[bool], groups: npt.NDArray[np.int64], full: set[int]) -> int | None:
        """Return the first free position whose group is not full, or None."""
        while self._front < len(self._positions) and not is_free[self._positions[self._front]]:
            self._front += 1
        for place in range(self._front, len(self._positions)):
            position = self._positions[place]
            if is_free[position] and not (full and int(groups[position]) in full):
                return position
        return None


def _distributions(n: int, share: float) -> npt.NDArray[np.float64]:
    """Return F(m; k, share) as (n, n + 1): row k - 1, column m."""
    mass = np.zeros((n + 1, n + 1))
    mass[0, 0] = 1.0
    for k in range(1, n + 1):
        mass[k] = mass[k - 1] * (1.0 - share)
        mass[k, 1:] += mass[k - 1, :-1] * share
    return np.asarray(np.cumsum(mass[1:], axis=1))


def _least(distributions: npt.NDArray[np.float64], alpha: float) -> Counts:
    """Return the number of values of F at or below alpha in each row: the smallest m above it."""
    return np.asarray((distributions <= alpha + _ROUNDING).sum(axis=1), dtype=np.int64)
