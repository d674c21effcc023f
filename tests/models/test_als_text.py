"""The factor map and the fold-in, against least squares by numpy and ALS's own half-step."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lt_spark.core.config import AlsConfig
from lt_spark.models import als_text as text
from lt_spark.models.als import AlsSettings, fit_factors
from lt_spark.models.als_text import TextPoint

pytestmark = pytest.mark.spark
SETTINGS = AlsSettings(3, 5.0, 0.1, 4, False, 1, -1, 42)
DDL = "item_idx int, n_known double, is_recommendable boolean, text array<float>, learnt array<float>"


def drawn(n: int = 12, d: int = 4, rank: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(n, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, draw.normal(size=(n, rank)), draw.integers(1, 9, n).astype(float)


def rows_of(spark: Any, x: np.ndarray, y: np.ndarray, n: np.ndarray) -> Any:
    rows = [(i, float(n[i]), True, x[i].tolist(), y[i].tolist()) for i in range(len(x))]
    more = [
        (100, 3.0, True, None, y[0].tolist()),  # no text
        (101, 0.0, True, x[0].tolist(), None),  # never used
        (102, 3.0, False, [0.0] * x.shape[1], y[0].tolist()),  # an empty text
    ]
    return spark.createDataFrame(rows + more, DDL)


def fitted(spark: Any, ridge: float) -> tuple[Any, text.FactorMap, tuple[np.ndarray, ...]]:
    x, y, n = drawn()
    rows = rows_of(spark, x, y, n)
    found = text.fit_map([tuple(row) for row in text.normal_equations(rows).collect()], ridge)
    assert found is not None
    return rows, found, (x, y, n)


def test_the_map_is_weighted_ridge_regression(spark: Any) -> None:
    _, found, (x, y, n) = fitted(spark, 0.5)
    with_one = np.column_stack([x, np.full(len(x), 0.3)])
    penalty = np.sqrt(0.5 * n.sum() / 5) * np.eye(5)
    # ridge as least squares on rows added for the penalty
    left = np.vstack([np.sqrt(n)[:, None] * with_one, penalty])
    right = np.vstack([np.sqrt(n)[:, None] * y, np.zeros((5, 3))])
    expected = np.linalg.lstsq(left, right, rcond=None)[0]
    assert found.coefficients == pytest.approx(expected, abs=1e-5)
    mapped = np.linalg.norm(with_one @ expected, axis=1)
    mean_length = (n * np.linalg.norm(y, axis=1)).sum() / n.sum()
    assert found.stretch == pytest.approx(mean_length / np.sqrt((n * mapped**2).sum() / n.sum()), abs=1e-4)


def test_nothing_to_learn_from_is_no_map(spark: Any) -> None:
    empty = spark.createDataFrame([(0, 3.0, True, None, [1.0])], DDL)
    assert text.fit_map([tuple(row) for row in text.normal_equations(empty).collect()], 1.0) is None


def test_support_decides_between_learnt_and_mapped(spark: Any) -> None:
    rows, found, (x, y, n) = fitted(spark, 1.0)
    factors = text.mapped_factors(rows, found)
    mapped = {row["item_idx"]: row["mapped"] for row in factors.collect()}
    said = np.append(x[0], 0.3) @ found.coefficients * found.stretch
    assert mapped[0] == pytest.approx(said, abs=1e-5)
    assert mapped[100] is None
    assert mapped[102] is None
    vectors = {row["item_idx"]: row["vector"] for row in text.blended_factors(factors, TextPoint(3.0, 0.5)).collect()}
    share = n[0] / (n[0] + 3.0)
    assert vectors[0] == pytest.approx(share * y[0] + (1 - share) * 0.5 * said, abs=1e-5)
    assert vectors[100] == pytest.approx(y[0], abs=1e-6)
    assert vectors[101] == pytest.approx(0.5 * said, abs=1e-5)
    without = {row["item_idx"]: row["vector"] for row in text.blended_factors(factors, text.NO_TEXT).collect()}
    assert without[0] == pytest.approx(y[0], abs=1e-6)
    assert 101 not in without
    rare = {row["item_idx"]: row["vector"] for row in text.blended_factors(factors, TextPoint(0.0, 0.5)).collect()}
    assert rare[0] == pytest.approx(y[0], abs=1e-6)
    assert rare[101] == pytest.approx(0.5 * said, abs=1e-5)


@pytest.mark.slow
def test_gains_of_all_points_are_those_of_their_lists(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, found, _ = fitted(spark, 1.0)
    factors = text.mapped_factors(rows, found).cache()
    draw = np.random.default_rng(5)
    asked = [
        (user, draw.normal(size=3).tolist(), [int(user)], int(target), bool(user % 2))
        for user, target in enumerate([4, 101, 7, 100, 2, 102])  # 102 may not be recommended
    ]
    users = spark.createDataFrame(
        asked, "user_idx int, vector array<float>, seen array<int>, target_idx int, is_tail boolean"
    )
    tried = [text.NO_TEXT, TextPoint(2.0, 1.0), TextPoint(8.0, 0.5), TextPoint(0.0, 0.7)]
    k = 4
    found_gains = text.point_gains(users, factors, tried, k, 1_000, 1, scratch=str(tmp_path / "f")).collect()
    expected = []
    allowed = {row["item_idx"] for row in factors.collect() if row["is_recommendable"]}
    for _, vector, seen, target, is_tail in asked:
        gains = []
        for point in tried:
            items = {
                row["item_idx"]: float(np.dot(vector, row["vector"]))
                for row in text.blended_factors(factors, point).collect()
                if row["item_idx"] in allowed and row["item_idx"] not in seen
            }
            place = sorted(items, key=lambda item: -items[item]).index(target) + 1 if target in items else k + 1
            gains.append(1 / np.log2(place + 1) if place <= k else 0.0)
        expected.append((is_tail, gains))
    assert {row["user_idx"]: (row["is_tail"], [round(gain, 9) for gain in row["gains"]]) for row in found_gains} == {
        user: (is_tail, [round(float(gain), 9) for gain in gains]) for user, (is_tail, gains) in enumerate(expected)
    }
    assert any(gains[0] != gains[1] for _, gains in expected)
    # a user at a time, as where the items are many
    monkeypatch.setattr(text, "_MAX_SCORES", 1)
    columns = [pa.array(list(column)) for column in zip(*asked, strict=True)]
    batch = pa.RecordBatch.from_arrays(columns, ["user_idx", "vector", "seen", "target_idx", "is_tail"])
    one_by_one = text._gains(batch, str(tmp_path / "f"), tried, k).to_pylist()
    assert [row["gains"] for row in one_by_one] == [pytest.approx(gains) for _, gains in expected]


@pytest.mark.slow
def test_fold_in_is_the_last_half_step_of_als(spark: Any) -> None:
    draw = np.random.default_rng(7)
    rows = [(u, i, float(draw.integers(1, 4))) for u in range(9) for i in range(7) if draw.random() < 0.5]
    ratings = spark.createDataFrame(rows, "user_idx int, item_idx int, rating double")
    users, items = fit_factors(ratings, SETTINGS)
    gram = text.gram([row["sums"] for row in text.gram_sums(items).collect()])
    folded = {row["user_idx"]: row["vector"] for row in text.fold_in(ratings, items, gram, SETTINGS).collect()}
    for row in users.collect():
        assert folded[row["user_idx"]] == pytest.approx(list(row["vector"]), abs=1e-4)
    # a user whom nobody fitted has factors too; one whose items have none has not
    new = spark.createDataFrame([(50, rows[0][1], 1.0), (51, 99, 1.0)], "user_idx int, item_idx int, rating double")
    assert [row["user_idx"] for row in text.fold_in(new, items, gram, SETTINGS).collect()] == [50]


def test_no_text_is_the_last_point() -> None:
    tried = text.points(AlsConfig(text_supports=(1.0, 5.0), text_scales=(1.0,)))
    assert tried == [TextPoint(1.0, 1.0), TextPoint(5.0, 1.0), text.NO_TEXT]


def test_partial_sums_fit_the_driver() -> None:
    one = 8 * (384 + 1) * (384 + 1 + 64)
    assert text.sum_tasks(384, 64, 256_000_000) == 16
    assert text.sum_tasks(384, 64, 3 * one + 1) == 3
    assert text.sum_tasks(384, 64, one - 1) == 0
