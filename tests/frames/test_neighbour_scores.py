"""Neighbour scores by hand."""

from typing import Any

import numpy as np
import pytest

from lt_spark.frames.neighbour_scores import best_items, neighbour_scores
from lt_spark.kernels.edges import Edges


def edges() -> Edges:
    return Edges(
        sources=np.array([1, 2], np.int32),
        indptr=np.array([0, 2, 4]),
        neighbours=np.array([7, 8, 7, 9], np.int32),
        similarities=np.array([0.5, 0.25, 0.4, 0.1], np.float32),
    )


def scored(history: list[int], seen: list[int], n: int = 10) -> Any:
    return best_items(edges(), np.array(history, np.int32), np.array(seen, np.int32), n, 0.5)


def test_older_events_count_less() -> None:
    items, scores, _ = scored([1, 2], [1, 2])
    assert list(items) == [7, 8, 9]
    assert scores == pytest.approx([0.5 * 0.5 + 0.4, 0.25 * 0.5, 0.1], rel=1e-6)


def test_reasons_are_the_parts_of_the_score() -> None:
    _, _, reasons = scored([1, 2], [1, 2])
    first = {reason["item_idx"]: reason["share"] for reason in reasons[0]}
    assert first == pytest.approx({2: 0.4 / 0.65, 1: 0.25 / 0.65}, rel=1e-6)
    assert [reason["item_idx"] for reason in reasons[0]] == [2, 1]


def test_a_repeated_item_is_one_reason() -> None:
    _, scores, reasons = scored([1, 1], [])
    assert scores[0] == pytest.approx(0.5 + 0.5 * 0.5)
    assert reasons[0] == [{"item_idx": 1, "share": pytest.approx(1.0)}]


def test_seen_items_are_left_out() -> None:
    items, *_ = scored([1, 2], [7])
    assert list(items) == [8, 9]


@pytest.mark.parametrize("history", [[], [99]])
def test_an_unknown_history_gives_nothing(history: list[int]) -> None:
    items, scores, reasons = scored(history, [])
    assert len(items) == len(scores) == len(reasons) == 0


@pytest.mark.spark
@pytest.mark.parametrize("n_shards", [1, 3])
def test_shards_give_the_same_lists(spark: Any, tmp_path: Any, n_shards: int) -> None:
    rows = [(1, 7, 0.5), (1, 8, 0.25), (2, 7, 0.4), (2, 9, 0.1)]
    graph = spark.createDataFrame(rows, "item_idx int, neighbour_idx int, similarity double")
    users = spark.createDataFrame(
        [(5, [1, 2], [1, 2]), (6, [2], None), (8, [], None)], "user_idx int, items array<int>, seen array<int>"
    )
    found = neighbour_scores(users, graph, 2, 0.5, scratch=str(tmp_path / "edges"), n_shards=n_shards).collect()
    lists = sorted((row["user_idx"], row["rank"], row["item_idx"]) for row in found)
    assert lists == [(5, 1, 7), (5, 2, 8), (6, 1, 7), (6, 2, 9)]
