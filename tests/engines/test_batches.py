import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_spark.engines.batches import batches, halving, n_common, n_reused


def test_rows_of_like_length_go_together_within_the_budget_of_padded_tokens() -> None:
    # longest first; (9 + 1) * 2 = 20 fits, a third row of 10 would not; then (3 + 1) * 3 = 12
    parts = batches([3, 9, 2, 8, 3], n_fixed=1, max_rows=3, max_tokens=20)
    assert parts == [[1, 3], [0, 4, 2]]


def test_unsorted_rows_keep_their_order_and_count_the_longest() -> None:
    # 1 + 9: padded to 9, 2 * 10 = 20; with the third 30
    assert batches([1, 9, 1, 1], n_fixed=1, max_rows=9, max_tokens=20, sort=False) == [[0, 1], [2, 3]]


@given(
    st.lists(st.integers(1, 50), max_size=40),
    st.integers(0, 20),
    st.integers(1, 8),
    st.integers(1, 300),
    st.booleans(),
)
def test_each_row_is_in_one_batch_and_no_batch_of_two_is_over_budget(
    lengths: list[int], n_fixed: int, max_rows: int, max_tokens: int, sort: bool
) -> None:
    parts = batches(lengths, n_fixed=n_fixed, max_rows=max_rows, max_tokens=max_tokens, sort=sort)
    assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
    for part in parts:
        assert len(part) <= max_rows
        assert len(part) == 1 or len(part) * (max(lengths[row] for row in part) + n_fixed) <= max_tokens


def test_common_beginning() -> None:
    assert n_common([]) == 0
    assert n_common([[1, 2, 3], [1, 2, 4], [1, 2]]) == 2
    assert n_common([[5, 1], [6, 1]]) == 0


def test_the_shared_text_is_kept_and_a_longer_common_beginning_only_where_it_is_no_chance() -> None:
    shared = list(range(20))
    chance = [[*shared, 90, 91, 1], [*shared, 90, 91, 2]]
    assert n_reused(chance, shared) == 20
    examples = [*shared, *range(100, 116)]  # 16 tokens longer
    assert n_reused([[*examples, 1], [*examples, 2]], shared) == 36
    assert n_reused([[*examples, 1], [*examples, 2]], None) == 36


def test_one_token_is_always_left_to_read() -> None:
    shared = list(range(20))
    assert n_reused([shared, shared], shared) == 19
    assert n_reused([[*shared, 1]], shared) == 20  # a single prompt: its whole is no beginning
    assert n_reused([[1, 2, 3], [1, 2, 4]], [1, 2]) == 0
    assert n_reused([], shared) == 0


def test_a_failing_batch_halves_until_the_bad_row_stands_alone() -> None:
    calls = []

    def run(rows: list[int]) -> list[str]:
        calls.append(list(rows))
        if 5 in rows:
            raise ValueError("secret")
        return [str(row) for row in rows]

    results = halving([3, 4, 5, 6], run, lambda row, name: f"{row} {name}", lambda error: type(error).__name__)
    assert results == ["3", "4", "5 ValueError", "6"]
    assert calls == [[3, 4, 5, 6], [3, 4], [5, 6], [5], [6]]


def test_an_error_that_no_row_caused_is_raised() -> None:
    def run(rows: list[int]) -> list[int]:
        raise OSError

    def name_of(error: Exception) -> str:
        raise error

    with pytest.raises(OSError):
        halving([1, 2], run, lambda row, name: row, name_of)
