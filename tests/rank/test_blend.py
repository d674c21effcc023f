"""The blend by hand."""

from typing import Any

import pytest

from lt_spark.blend_stage import _check_models
from lt_spark.core import tables as t
from lt_spark.core.errors import DataError
from lt_spark.rank.blend import blend

pytestmark = pytest.mark.spark


def candidate(user: int, model: str, item: int, score: float, rank: int, *because: tuple[int, float]) -> dict[str, Any]:
    return {
        "fold": "test",
        "user_idx": user,
        "model_name": model,
        "item_idx": item,
        "score": score,
        "rank": rank,
        "because": list(because),
    }


@pytest.fixture
def blended(frame: Any) -> Any:
    def build(power: float = 0.0, n: int = 10) -> dict[int, Any]:
        first = frame(
            t.candidates("a"),
            [
                candidate(1, "a", 10, 4.0, 1, (7, 0.5), (8, 0.25)),
                candidate(1, "a", 11, 3.0, 2),
                candidate(1, "a", 12, 2.0, 3),
            ],
        )
        second = frame(t.candidates("b"), [candidate(1, "b", 11, 9.0, 1, (7, 1.0)), candidate(1, "b", 13, 1.0, 2)])
        weights = frame(
            t.BLEND_WEIGHTS,
            [
                {"half": -1, "model_name": "a", "weight": 1.0, "popularity_power": power},
                {"half": -1, "model_name": "b", "weight": 0.5, "popularity_power": power},
            ],
        )
        segments = frame(
            t.ITEM_SEGMENTS,
            [
                {"fold": "test", "item_idx": item, "segment": "tail", "n_interactions": 0 if item == 11 else 9}
                for item in (10, 11, 12, 13)
            ],
        )
        rows = blend([first, second], weights, segments, n, 42, "test").collect()
        return {row["rank"]: row for row in rows}

    return build


def test_scores_are_the_weighed_sums_of_min_max(blended: Any) -> None:
    rows = blended()
    # 10: a (4-2)/(4-2) = 1; 11: a (3-2)/(4-2) = .5 and b 1 x .5; a tie, so the smaller item first
    assert [(rows[rank]["item_idx"], rows[rank]["score"]) for rank in (1, 2)] == [(10, 1.0), (11, 0.5 + 0.5 * 1.0)]
    assert len(rows) == 2  # the last of each list has min-max 0


def test_shares_are_parts_of_the_score(blended: Any) -> None:
    row = blended()[2]
    assert [(part["model_name"], part["share"]) for part in row["models"]] == [("a", 0.5), ("b", 0.5)]
    assert [(reason["item_idx"], reason["share"]) for reason in row["because"]] == [(7, 0.5)]


def test_power_holds_popular_items_back(blended: Any) -> None:
    rows = blended(power=1.0)
    assert rows[1]["item_idx"] == 11
    assert rows[2]["score"] == pytest.approx(1.0 * 2.718281828**-1)


def test_n_bounds_the_list(blended: Any) -> None:
    assert set(blended(n=1)) == {1}


def test_weights_of_other_models_are_refused(frame: Any) -> None:
    weights = frame(t.BLEND_WEIGHTS, [{"half": -1, "model_name": name, "weight": 1.0} for name in ("als", "bert")])
    _check_models(weights, ("bert", "als"))
    with pytest.raises(DataError, match="of other models: expected als, found als, bert.*--purpose evaluate"):
        _check_models(weights, ("als",))
