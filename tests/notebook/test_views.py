"""What the notebooks show, from tables written by hand."""

from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import DataError
from lt_spark.core.storage import Storage
from lt_spark.notebook.opened import Opened
from lt_spark.notebook.views import (
    explained,
    group_differences,
    never_shown,
    reasons_counted,
    shown_counts,
    side_by_side,
)

pytestmark = pytest.mark.spark


@pytest.fixture
def opened(spark: Any, tmp_path: Path) -> Opened:
    config = Config.model_validate({"tables": {"root": str(tmp_path)}})
    return Opened(config, spark, Storage(spark, config))


def test_an_answer_that_failed_two_checks_counts_in_both(frame: Any) -> None:
    texts = frame(
        t.ITEM_ENRICHMENTS,
        [
            {"status": "fallback", "reason": "length, echo"},
            {"status": "fallback", "reason": "length"},
            {"status": "accepted"},
            {"status": "failed", "reason": "no answer, after 3 tries"},
        ],
    )
    found = [tuple(row) for row in reasons_counted(texts).collect()]
    assert found == [
        ("fallback", "length", 2),
        ("accepted", None, 1),
        ("failed", "no answer, after 3 tries", 1),
        ("fallback", "echo", 1),
    ]


def test_only_texts_of_the_statuses_asked_for_stand_side_by_side(spark: Any) -> None:
    rows = [
        (str(n), f"Thing {n}", "answer", "used", ["a", "b"], status, reason)
        for n, (status, reason) in enumerate([("accepted", None), ("fallback", "echo"), ("failed", "timed out")])
    ]
    columns = "key string, title string, answer string, description string, keywords array<string>, status string"
    texts = spark.createDataFrame(rows, f"{columns}, reason string")
    found = side_by_side(texts, ["fallback", "failed"], 10, 1).orderBy("title").collect()
    assert [(row["title"], row["keywords"], row["reason"]) for row in found] == [
        ("Thing 1", "a, b", "echo"),
        ("Thing 2", "a, b", "timed out"),
    ]
    assert side_by_side(texts, ["fallback", "failed"], 1, 1).count() == 1


def test_plain_als_is_looked_at_for_the_users_of_the_blend_only(opened: Opened, frame: Any) -> None:
    plain = t.CANDIDATES["als_plain"]
    written = {
        t.ITEM_SEGMENTS: [{"item_idx": n, "segment": "tail"} for n in range(3)],
        t.RECOMMENDATIONS: [{"user_idx": 1, "item_idx": 0, "rank": 1}],
        plain: [{"user_idx": 1, "item_idx": 1, "rank": 1}, {"user_idx": 2, "item_idx": 2, "rank": 1}],
    }
    for table, rows in written.items():
        opened.storage.write(table, frame(table, [{"fold": "live", **row} for row in rows]), "live")
    counts = shown_counts(opened, "live")
    found = {name: {row["item_idx"]: row["n"] for row in rows.collect()} for name, rows in counts.items()}
    assert found == {"als_plain": {0: 0, 1: 1, 2: 0}, "blend": {0: 1, 1: 0, 2: 0}}
    assert never_shown(counts).values.tolist() == [["tail", 3, 2 / 3, 2 / 3]]


def test_groups_are_of_one_model_and_length(opened: Opened, frame: Any) -> None:
    row = {"fold": "test", "model_name": "blend", "group_by": "activity", "group": "light", "group_order": 1, "k": 10}
    rows = [row, row | {"model_name": "als"}, row | {"k": 5}, row | {"group": "heavy", "group_order": 2}]
    opened.storage.write(t.GROUP_METRICS, frame(t.GROUP_METRICS, rows), "test")
    assert list(group_differences(opened, "test", 10)["group"]) == ["light", "heavy"]


def test_users_are_drawn_by_hash_and_bear_numbers_instead_of_their_ids(opened: Opened, frame: Any) -> None:
    places = [(user, rank) for user in range(9) for rank in (1, 2, 3)]
    rows = [{"user_id": f"secret{user}", "rank": rank, "title": f"of {user} at {rank}"} for user, rank in places]
    opened.storage.write(t.GOLD_RECOMMENDATIONS, frame(t.GOLD_RECOMMENDATIONS, rows))
    found = explained(opened, n_users=3, n_rows=2, seed=7)
    assert list(found["user"]) == [1, 1, 2, 2, 3, 3]
    assert list(found["rank"]) == [1, 2] * 3
    assert not found.to_csv().count("secret")
    assert "user_id" not in found
    users = [title.split()[1] for title in found["title"][::2]]
    assert len(set(users)) == 3
    assert list(explained(opened, 3, 2, seed=7)["title"]) == list(found["title"])
    assert list(explained(opened, 3, 2, seed=8)["title"]) != list(found["title"])
    named = explained(opened, 3, 5, seed=7, user_id="secret4")
    assert list(named["title"]) == ["of 4 at 1", "of 4 at 2", "of 4 at 3"]
    with pytest.raises(DataError, match="the user has no rows in gold.recommendations") as raised:
        explained(opened, 3, 5, seed=7, user_id="secret99")
    assert "secret99" not in str(raised.value)
