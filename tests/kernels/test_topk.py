"""Exact top-k against a full sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels.topk import first_equal, merge_top_k, top_k


def brute_force(scores, k, left_out=()):
    """Sort every row in plain Python."""
    positions = np.full((len(scores), k), -1)
    best = np.full((len(scores), k), -np.inf, dtype=np.float32)
    for row, values in enumerate(scores):
        ranked = [
            (-value, at)
            for at, value in enumerate(values)
            if (row, at) not in left_out and not np.isnan(value) and value != -np.inf
        ]
        for slot, (negated, at) in enumerate(sorted(ranked)[:k]):
            positions[row, slot], best[row, slot] = at, -negated
    return positions, best


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(0, 9),
    n_items=st.integers(0, 120),
    d=st.integers(0, 3),
    k=st.integers(0, 12),
    block=st.integers(1, 5),
    spread=st.sampled_from([0, 1, 3, 50]),
    masked_share=st.sampled_from([0.0, 0.3, 1.0]),
    allowed_share=st.sampled_from([None, 0.0, 0.5]),
    nan_share=st.sampled_from([0.0, 0.2]),
)
def test_equals_a_full_sort(seed, n_queries, n_items, d, k, block, spread, masked_share, allowed_share, nan_share):
    random = np.random.default_rng(seed)
    # small whole numbers: products are exact, and ties are the rule
    queries = random.integers(-spread, spread + 1, (n_queries, d)).astype(np.float32)
    items = random.integers(-spread, spread + 1, (n_items, d)).astype(np.float32)
    items[random.random(n_items) < nan_share] = np.nan
    rows = [np.flatnonzero(random.random(n_items) < masked_share) for _ in range(n_queries)]
    masked = np.cumsum([0, *map(len, rows)]), np.concatenate([*rows, np.empty(0)]).astype(np.int64)
    allowed = None if allowed_share is None else random.random(n_items) < allowed_share
    left_out = {(row, at) for row, seen in enumerate(rows) for at in seen}
    if allowed is not None:
        left_out |= {(row, at) for row in range(n_queries) for at in np.flatnonzero(~allowed)}
    positions, scores = top_k(queries, items, k, masked=masked, allowed=allowed, block=block)
    expected = brute_force(queries @ items.T, k, left_out)
    assert positions.dtype == np.int32 and scores.dtype == np.float32
    np.testing.assert_array_equal(positions, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


def test_real_scores_equal_a_full_sort():
    random = np.random.default_rng(7)
    queries = random.normal(size=(40, 16)).astype(np.float32)
    items = random.normal(size=(5_000, 16)).astype(np.float32)
    positions, scores = top_k(queries, items, 20, block=40)
    full = queries @ items.T
    order = np.argsort(-full, axis=1, kind="stable")[:, :20]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(full, order, axis=1))


def test_a_user_without_a_taste_gets_the_first_items():
    """A zero vector ties all items: more candidates than are sorted at once."""
    queries = np.array([[0.0], [1.0]], dtype=np.float32)
    items = np.arange(1_000, dtype=np.float32)[:, None]
    positions, _ = top_k(queries, items, 3)
    assert positions.tolist() == [[0, 1, 2], [999, 998, 997]]


def test_ties_at_the_cut_of_a_crowded_row():
    items = np.ones((500, 1), dtype=np.float32)
    items[[400, 450]] = 2
    positions, scores = top_k(np.ones((1, 1), dtype=np.float32), items, 4)
    assert positions.tolist() == [[400, 450, 0, 1]]
    assert scores.tolist() == [[2, 2, 1, 1]]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(1, 60), k=st.integers(1, 9), n_shards=st.integers(1, 4))
def test_merged_shards_equal_one(seed, n_items, k, n_shards):
    random = np.random.default_rng(seed)
    queries = random.integers(-2, 3, (5, 2)).astype(np.float32)
    items = random.integers(-2, 3, (n_items, 2)).astype(np.float32)
    owner = random.integers(0, n_shards, n_items)
    positions, scores = [], []
    for shard in range(n_shards):
        held = np.append(np.flatnonzero(owner == shard), -1)
        place, score = top_k(queries, items[held[:-1]], k)
        positions.append(held[place].astype(np.int32))
        scores.append(score)
    merged = merge_top_k(positions, scores, k)
    whole = top_k(queries, items, k)
    np.testing.assert_array_equal(merged[0], whole[0])
    np.testing.assert_array_equal(merged[1], whole[1])


def test_merge_pads_and_drops_nan():
    positions = [np.array([[7, -1]], dtype=np.int32), np.array([[3]], dtype=np.int32)]
    merged, scores = merge_top_k(positions, [np.array([[1.0, 5.0]]), np.array([[np.nan]])], 4)
    assert merged.tolist() == [[7, -1, -1, -1]]
    assert scores.tolist() == [[1.0, -np.inf, -np.inf, -np.inf]]


def test_merge_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="concatenate"):
        merge_top_k([], [], 3)


def test_equal_items_stand_in_order_wherever_the_query_lies():
    random = np.random.default_rng(3)
    vectors = random.normal(size=(40, 96)).astype(np.float32)
    items = vectors[random.integers(0, 40, 3001)]
    first = first_equal(items)
    assert len(np.unique(first)) == 40
    assert (items[first] == items).all() and (first <= np.arange(3001)).all()
    queries = random.normal(size=(37, 96)).astype(np.float32)
    positions, scores = top_k(queries, items, 200, first=first)
    for row, best in zip(positions, scores, strict=True):
        # by score of their vector, then by position, none left out at the cut
        groups = [np.flatnonzero(first == at) for at in dict.fromkeys(first[row].tolist())]
        assert row.tolist() == np.concatenate(groups)[:200].tolist()
        assert all(len(set(best[first[row] == group[0]])) == 1 for group in groups)
    shifted = top_k(np.roll(queries, 5, axis=0), items, 200, first=first, block=8)[0]
    np.testing.assert_array_equal(np.roll(positions, 5, axis=0), shifted)


def test_first_of_no_items():
    assert first_equal(np.empty((0, 4), np.float32)).tolist() == []
    assert first_equal(np.empty((2, 0), np.float32)).tolist() == [0, 1]
