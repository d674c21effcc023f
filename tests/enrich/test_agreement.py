from collections.abc import Callable
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame

from lt_spark.core.config_text import EmbedEnrichedConfig
from lt_spark.core.tables import INTERACTIONS_SPLIT, ITEM_EMBEDDINGS, ITEM_EMBEDDINGS_ENRICHED, TEXT_VERDICT
from lt_spark.enrich.agreement import log_rank, neighbour_agreement, strongest_neighbours, verdict

Frame = Callable[..., DataFrame]
SECTION = EmbedEnrichedConfig()


def test_log_rank_counts_who_is_nearer() -> None:
    near = np.array([0.5, 0.5, 0.9, 0.5])
    others = np.array([[0.6, 0.5, 0.1], [0.6, 0.7, 0.8], [0.1, 0.2, 0.3], [0.9, 0.9, 0.6]])
    is_self = np.array([[False] * 3, [False] * 3, [False] * 3, [True, True, False]])
    expected = [1 - log(1 + 1.5) / log(1 + 3), 0.0, 1.0, 1 - log(1 + 1) / log(1 + 1)]
    np.testing.assert_allclose(log_rank(near, others, is_self), expected, atol=1e-12)


def test_chance_is_about_a_seventh() -> None:
    rng = np.random.default_rng(0)
    values = log_rank(rng.random(5_000), rng.random((5_000, 1_000)), np.zeros((5_000, 1_000), bool))
    assert abs(values.mean() - 1 / log(1_001)) < 0.01


def measured(gains: list[float]) -> pd.DataFrame:
    plain = np.full(len(gains), 0.5)
    return pd.DataFrame({"item_idx": range(len(gains)), "plain": plain, "enriched": plain + gains})


def said(gains: list[float], **settings: Any) -> dict[str, Any]:
    section = SECTION.model_copy(update=settings)
    return dict(zip(TEXT_VERDICT.column_names, verdict(measured(gains), section, 42), strict=True))


def test_a_clear_gain_is_accepted_with_its_numbers() -> None:
    row = said([0.1, 0.3] * 100)
    assert row["verdict"] == "accepted" and row["n_items"] == 200
    assert (row["plain"], row["enriched"], row["gain"]) == pytest.approx((0.5, 0.7, 0.2))
    # standard error 0.1 / sqrt(200), two-sided 95 %
    assert row["gain_low"] == pytest.approx(0.2 - 1.96 * 0.1 / sqrt(200), abs=0.003)
    assert row["gain_high"] == pytest.approx(0.2 + 1.96 * 0.1 / sqrt(200), abs=0.003)
    assert "gain +0.2000" in row["reason"] and "over 200 items" in row["reason"]


def test_a_gain_that_may_be_chance_is_refused() -> None:
    row = said([0.11, -0.1] * 100)
    assert row["verdict"] == "refused" and row["gain"] > 0 > row["gain_low"]
    assert "stays out of the models" in row["reason"]
    assert said([0.1, 0.3] * 100, min_agreement_gain=0.19)["verdict"] == "refused"


def test_few_items_prove_nothing() -> None:
    assert said([0.2] * 29)["verdict"] == "refused"
    assert "too few to tell" in said([0.2] * 29)["reason"]
    assert said([0.2] * 30)["verdict"] == "accepted"


def test_no_texts_are_refused() -> None:
    row = said([])
    assert row["verdict"] == "refused" and row["reason"].startswith("no accepted texts")
    assert row["n_items"] == 0 and row["gain_low"] is None


def test_a_persons_word_holds_and_the_measure_is_told() -> None:
    accepted, refused = said([-0.2] * 100, override="accept"), said([0.2] * 100, override="refuse")
    assert (accepted["verdict"], refused["verdict"]) == ("accepted", "refused")
    assert "override accept" in accepted["reason"] and "gain -0.2000" in accepted["reason"]
    assert said([], override="accept")["verdict"] == "accepted"


def log_of(frame: Frame, histories: list[list[int]]) -> DataFrame:
    rows = [
        {"user_idx": user, "item_idx": item, "event_order": place + 1, "split": "train"}
        for user, items in enumerate(histories)
        for place, item in enumerate(items)
    ]
    return frame(INTERACTIONS_SPLIT, rows)


@pytest.mark.slow
@pytest.mark.spark
def test_neighbours_share_users_strongest_first(spark: Any, frame: Frame) -> None:
    # 0 with 1: twice, 2 / sqrt(3 x 2) x 2/3 = .54; 0 with 2: once, 1 / sqrt(3 x 1) x 1/2 = .29
    events = log_of(frame, [[0, 1], [1, 0], [0, 2], [3, 3]])
    described = spark.createDataFrame([(0,), (3,), (99,)], "item_idx int")
    rows = strongest_neighbours(events, described).collect()
    assert sorted((r["item_idx"], r["neighbour_idx"]) for r in rows) == [(0, 1), (0, 2)]
    many = log_of(frame, [[0, n] for n in range(1, 13)] + [[0, 7]])
    rows = strongest_neighbours(many, described).collect()
    # 12 neighbours, 10 are kept: 7 twice; the others tie and go by number
    assert sorted(r["neighbour_idx"] for r in rows if r["item_idx"] == 0) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.spark
def test_agreement_rises_where_the_text_brings_sharers_near(frame: Frame, tmp_path: Path) -> None:
    # two pairs that share users; plain vectors put 0 by 2, enriched ones by 1; 6 has no vector at all
    plain = {0: [1.0, 0.0], 1: [0.0, 1.0], 2: [0.9, 0.1], 3: [0.8, 0.2], 4: [0.1, 0.9], 5: [-1.0, 0.0], 6: [0.0, 0.0]}
    enriched = plain | {0: [0.0, 1.0]}
    embeddings = frame(ITEM_EMBEDDINGS, [{"item_idx": n, "vector": v} for n, v in plain.items()])
    with_text = frame(
        ITEM_EMBEDDINGS_ENRICHED,
        [{"item_idx": n, "vector": v, "has_text": n in (0, 5)} for n, v in enriched.items()],
    )
    events = log_of(frame, [[0, 1], [0, 1], [2, 3]])
    rows = neighbour_agreement(embeddings, with_text, events, SECTION, 42, scratch=str(tmp_path / "others")).collect()
    # item 5 has a text and no events. Of 0 and 1, the others are 2, 3, 4, 5 (6 has no vector, the pair is left out):
    # plain: 2, 3 and 4 are nearer to 0 than 1 is; enriched: nobody is
    assert [r["item_idx"] for r in rows] == [0]
    assert rows[0]["plain"] == pytest.approx(1 - log(1 + 3) / log(1 + 4))
    assert rows[0]["enriched"] == 1.0
