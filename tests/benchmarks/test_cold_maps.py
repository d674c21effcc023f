"""The maps from text to factors that are compared."""

import numpy as np
import pytest

from tests.benchmarks.cold_maps import Question, ndcg, nearest_map, ranked, ridge_map


def asked() -> Question:
    """Three used items, two unused ones, two users: factors are text doubled, and each user wants what is alike."""
    used = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    unused = np.array([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]])
    return Question(
        users=np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        history=np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        is_target=np.array([[True, False], [False, True]]),
        used_text=used,
        used_factors=2.0 * used,
        n_known=np.array([1.0, 4.0, 9.0]),
        unused_text=unused,
    )


def test_a_weak_ridge_finds_a_linear_map() -> None:
    question = asked()

    mapped = ridge_map(question, 1e-9, question.n_known)

    # not exactly: the constant takes a part of what the text would say
    assert np.argmax(mapped, axis=1).tolist() == [0, 2]
    assert mapped == pytest.approx(2.0 * question.unused_text, abs=0.25)


def test_the_nearest_item_gives_its_factors() -> None:
    question = asked()
    alike = question.used_text @ question.unused_text.T

    assert nearest_map(question, alike, 1, 1).tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    # two: .8 and .6 of 2, by 1.4
    assert nearest_map(question, alike, 2, 1)[0] == pytest.approx([1.6 / 1.4, 1.2 / 1.4, 0.0])


def test_ndcg_of_the_second_place() -> None:
    scores, is_target = np.array([[0.1, 0.9], [0.1, 0.9]]), np.array([[True, False], [False, True]])

    assert ndcg(scores, is_target).tolist() == pytest.approx([1.0 / np.log2(3.0), 1.0])


def test_each_way_finds_what_is_plain() -> None:
    found = list(ranked(asked()))

    assert len({what for what, _, _ in found}) == len(found)
    for what, values, at_one_length in found:
        assert values.tolist() == [1.0, 1.0], what
        assert at_one_length is None or at_one_length.tolist() == [1.0, 1.0], what
