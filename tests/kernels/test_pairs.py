"""Pair sums against a plain double loop."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels import pairs
from lt_spark.kernels.pairs import UNIT, pair_sums


def brute(histories: list[list[int]], max_lag: int, power: float, backward: float) -> dict[tuple[int, int], list[int]]:
    sums: dict[tuple[int, int], list[int]] = {}
    for history in histories:
        own: dict[tuple[int, int], int] = {}
        for later in range(len(history)):
            for earlier in range(max(0, later - max_lag), later):
                i, j = history[earlier], history[later]
                if i == j:
                    continue
                weight = (later - earlier) ** -power
                for key, part in (((i, j), weight), ((j, i), weight * backward)):
                    own[key] = max(own.get(key, 0), round(UNIT * part))
        for key, most in own.items():
            total = sums.setdefault(key, [0, 0])
            total[0] += most
            total[1] += 1
    return sums


def summed(histories: list[list[int]], *rest: float) -> dict[tuple[int, int], list[int]]:
    items = np.array([item for history in histories for item in history], np.int32)
    offsets = np.cumsum([0, *map(len, histories)])
    sums: dict[tuple[int, int], list[int]] = {}
    for part in pair_sums(items, offsets, *rest):
        for i, j, weight, count in zip(*part, strict=True):
            total = sums.setdefault((int(i), int(j)), [0, 0])
            total[0] += int(weight)
            total[1] += int(count)
    return sums


def test_two_events_give_both_directions() -> None:
    assert summed([[3, 5]], 10, 0.5, 0.5) == {(3, 5): [UNIT, 1], (5, 3): [UNIT // 2, 1]}


def test_lag_counts_by_its_power() -> None:
    assert summed([[1, 2, 3]], 2, 1.0, 1.0)[1, 3] == [UNIT // 2, 1]


def test_a_user_who_repeats_a_pair_is_one_user() -> None:
    assert summed([[1, 2] * 50], 50, 0.5, 0.5) == {(1, 2): [UNIT, 1], (2, 1): [UNIT, 1]}
    once = [sorted({*history}) for history in ([1, 2, 1], [2, 3, 2, 3])]
    assert summed([[1, 2, 1], [2, 3, 2, 3]], 5, 0.0, 1.0) == summed(once, 5, 0.0, 1.0), "the cosine of co-occurrence"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), max_size=12), max_size=6), st.integers(1, 5))
def test_equals_the_double_loop(histories: list[list[int]], max_lag: int) -> None:
    assert summed(histories, max_lag, 0.5, 0.25) == brute(histories, max_lag, 0.5, 0.25)


def test_chunks_lose_nothing(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    histories = [[1, 2, 3], [2, 3], [4], [], [1, 3, 2, 1]]
    whole = summed(histories, 3, 0.5, 0.5)
    monkeypatch.setattr(pairs, "_CHUNK_EVENTS", 2)
    assert summed(histories, 3, 0.5, 0.5) == whole
    assert Counter(whole) == Counter(brute(histories, 3, 0.5, 0.5))
