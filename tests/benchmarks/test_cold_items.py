"""Lists of unused items alone."""

from typing import Any

import pytest

from tests.benchmarks.cold_items import of_unused

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def test_used_items_go_and_the_others_move_up(spark: Any) -> None:
    # item 3 is unused in valid, and used in what test knows
    segments = [("valid", 1, 5), ("valid", 2, 0), ("valid", 3, 0), ("test", 1, 6), ("test", 2, 0), ("test", 3, 1)]
    item_segments = spark.createDataFrame(segments, "fold string, item_idx int, n_interactions long")
    order = {("a", 7): [1, 2, 3], ("a", 8): [3, 1, 2], ("b", 7): [1]}
    rows = [
        (fold, model, user, item, rank)
        for fold in ("valid", "test")
        for (model, user), items in order.items()
        for rank, item in enumerate(items, 1)
    ]
    lists = spark.createDataFrame(rows, "fold string, model_name string, user_idx int, item_idx int, rank int")

    def left(fold: str) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for row in of_unused(lists, item_segments, fold).orderBy("model_name", "user_idx", "rank").collect():
            assert row["fold"] == fold
            found.setdefault((row["model_name"], row["user_idx"]), []).append(row["item_idx"])
            assert row["rank"] == len(found[row["model_name"], row["user_idx"]])
        return found

    assert left("valid") == {("a", 7): [2, 3], ("a", 8): [3, 2]}
    assert left("test") == {("a", 7): [2], ("a", 8): [2]}
