"""Weighted sums of sparse rows against dense matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_spark.kernels.edges import best_first, edges_of, weighted_sum

_entries = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 7), st.sampled_from([0.25, 0.5, 1.0])),
    unique_by=lambda entry: entry[:2],
    max_size=30,
)


@given(_entries, st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0.5, 1.0, 2.0])), max_size=8))
def test_a_weighted_sum_is_a_product_with_the_dense_matrix(
    entries: list[tuple[int, int, float]], asked: list[tuple[int, float]]
) -> None:
    dense = np.zeros((9, 8))
    for source, item, value in entries:
        dense[source, item] = value
    columns = [np.array([entry[at] for entry in entries], kind) for at, kind in enumerate((int, np.int32, np.float32))]
    edges = edges_of(*columns)
    found = weighted_sum(edges, np.array([one[0] for one in asked], int), np.array([one[1] for one in asked]))
    expected = sum((weight * dense[source] for source, weight in asked), np.zeros(8))
    summed = np.zeros(8)
    summed[found.items] = found.totals
    assert summed == pytest.approx(expected)
    assert np.bincount(found.inverse, weights=found.parts, minlength=len(found.items)) == pytest.approx(found.totals)


def test_best_first_settles_ties_by_item_and_leaves_out_masked_ones() -> None:
    items, totals = np.array([3, 5, 8, 9], np.int32), np.array([0.5, 0.7, 0.5, 0.9])
    assert items[best_first(items, totals, np.array([9]), 2)].tolist() == [5, 3]
