"""Whole-list metrics against the kernels and by hand."""

from typing import Any

import numpy as np
import pytest

from lt_spark.core import tables as t
from lt_spark.kernels.metrics import gini
from lt_spark.measure.lists import list_metrics

pytestmark = pytest.mark.spark


def test_by_hand_and_against_the_kernel(spark: Any, frame: Any) -> None:
    lists = spark.createDataFrame(
        [("m", 1, 0, 1), ("m", 1, 1, 2), ("m", 2, 0, 1), ("m", 2, 2, 2), ("m", 3, 0, 3)],
        "model_name string, user_idx int, item_idx int, rank int",
    )
    counts = {0: 8, 1: 4, 2: 0, 3: 0}
    segment = {0: "head", 1: "tail", 2: "cold", 3: "cold"}
    segments = frame(
        t.ITEM_SEGMENTS,
        [
            {
                "fold": "test",
                "item_idx": i,
                "segment": segment[i],
                "segment_top20": "head" if i == 0 else "tail",
                "n_interactions": n,
            }
            for i, n in counts.items()
        ],
    )
    row = list_metrics(lists, segments, [2]).first()
    assert row["n_users"] == 2
    assert row["tail_share"] == pytest.approx(2 / 4)
    assert row["coverage"] == pytest.approx(3 / 4)
    of_segments = {"head": 1, "mid": None, "tail": 1, "cold": 1 / 2, "tail_and_cold": 2 / 3, "top20_head": 1}
    of_segments["top20_tail"] = 2 / 3
    for name, expected in of_segments.items():
        assert row[f"coverage_{name}"] == (None if expected is None else pytest.approx(expected)), name
    assert row["n_items_reached"] == 3
    assert row["gini"] == pytest.approx(gini(np.array([2, 1, 1, 0])))
    assert row["mean_popularity"] == pytest.approx((8 + 8 + 4 + 0) / 4)
    assert row["novelty"] == pytest.approx(-(2 * np.log2(8 / 12) + np.log2(4 / 12) + np.log2(0.5 / 12)) / 4)
