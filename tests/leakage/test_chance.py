"""The protocol of measurement knows nothing of the targets: drawn by lot, they are found as often as chance has it."""

from dataclasses import dataclass
from functools import reduce
from math import log2, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.frames import user_metrics as um
from lt_spark.frames.known import seen
from lt_spark.models.popularity import popularity_candidates

pytestmark = pytest.mark.spark

N_USERS, N_ITEMS, K, N_LISTED = 2_000, 40, 10, 16
CONFIG = Config.model_validate({"popularity": {"half_life_share": 0.3}, "candidates": {"n": N_LISTED}})
STANDARD_ERRORS = 3.3
"""Two-sided: a right program would fail with one seed in a thousand."""
RANKS = {
    "popularity": list(range(1, N_LISTED + 1)),
    "tiers": [4] * 4 + [8] * 4 + [12] * 4 + [16] * 4,
    "flat": [N_LISTED] * N_LISTED,
    "short": [K] * K,
}
"""The ranks of a list's places: of the model as it is, its scores shared by four items in a row, one score for all, and
one score for a list of k items."""


def chance(ranks: list[int], n_unseen: int) -> tuple[float, float]:
    """Return mean and variance of a user's NDCG@k when the one target is drawn by lot from the unseen items.

    The target is each of the u unseen items with probability 1 / u. With one target the ideal DCG is 1 / log2(1 + 1) =
    1, so NDCG is the gain of the target's rank: g(r) = 1 / log2(r + 1) for r <= k, else 0; 0 where it is not listed.
    Hence E[NDCG] = 1 / u x sum of g over the listed items, E[NDCG^2] likewise with g^2, and Var = E[NDCG^2] - E^2. A
    list of distinct scores that is at least k long has the ranks 1, 2, ..., so that
    E[NDCG@k] = 1 / u x sum_{r=1..k} 1 / log2(r + 1). Of equal scores each has the rank of the last.
    """
    gains = [1 / log2(rank + 1) for rank in ranks if rank <= K]
    mean = sum(gains) / n_unseen
    return mean, sum(gain**2 for gain in gains) / n_unseen - mean**2


@dataclass
class Lottery:
    """A log, the lists that the popularity model makes of it, and a target a user drawn from what the user lacks."""

    known: DataFrame
    users: DataFrame
    items: DataFrame
    targets: pd.DataFrame
    n_unseen: npt.NDArray[np.int64]

    def lists(self, known_items: DataFrame) -> DataFrame:
        """Return the model's lists, with these items left out."""
        return popularity_candidates(self.known, self.users, known_items, self.items, CONFIG, "valid").drop("because")

    def off_by(self, mean: float, ranks: list[int]) -> float:
        """Return how many standard errors a mean lies above what chance gives lists of these ranks."""
        expected, variances = np.array([chance(ranks, int(n)) for n in self.n_unseen]).T
        return float((mean - expected.mean()) / (sqrt(variances.sum()) / N_USERS))


@pytest.fixture(scope="module")
def lottery(spark: Any) -> Lottery:
    random = np.random.default_rng(11)
    fame = 1 / np.arange(1, N_ITEMS + 1)
    histories = [random.choice(N_ITEMS, n, p=fame / fame.sum()) for n in random.integers(5, 15, N_USERS)]
    unseen = [np.setdiff1d(np.arange(N_ITEMS), history) for history in histories]
    items, users = np.concatenate(histories), np.repeat(np.arange(N_USERS), [len(history) for history in histories])
    log = {"user_idx": users.astype("int32"), "item_idx": items.astype("int32")}
    return Lottery(
        spark.createDataFrame(pa.table(log | {"order_value": random.integers(10**9, size=len(items))})),
        spark.createDataFrame(pa.table({"user_idx": np.arange(N_USERS, dtype="int32")})),
        spark.createDataFrame(pa.table({"item_idx": np.arange(N_ITEMS, dtype="int32")})),
        pd.DataFrame(
            {
                "fold": "valid",
                "user_idx": np.arange(N_USERS, dtype="int32"),
                "item_idx": np.array([random.choice(own) for own in unseen], dtype="int32"),
                "segment": "mid",
                "segment_top20": "tail",
            }
        ),
        np.array([len(own) for own in unseen]),
    )


@pytest.fixture(scope="module")
def lists(lottery: Lottery) -> pd.DataFrame:
    """The popularity model's lists."""
    found = lottery.lists(seen(lottery.known)).toPandas()
    assert set(found.groupby("user_idx").size()) == {N_LISTED}
    assert not found.duplicated(["user_idx", "score"]).any()
    return found


def tiers(rank: Any) -> Any:
    """Return a score that four items in a row share."""
    return -((rank + 3) // 4).astype(float)


@pytest.fixture(scope="module")
def reached(spark: Any, lottery: Lottery, lists: pd.DataFrame) -> dict[str, float]:
    """Mean NDCG@k of the lists with several scores, as stage evaluate measures it: one run of Spark for all."""
    named = {
        "popularity": lists,
        "tiers": lists.assign(score=tiers(lists["rank"])),
        "flat": lists.assign(score=1.0),
        "short": lists[lists["rank"] <= K].assign(score=1.0),
    }
    parts = [
        spark.createDataFrame(pa.Table.from_pandas(part.assign(model_name=name), preserve_index=False))
        for name, part in named.items()
    ]
    targets = spark.createDataFrame(pa.Table.from_pandas(lottery.targets, preserve_index=False))
    rows = um.user_metrics(reduce(DataFrame.unionByName, parts), targets, list(named), [K])
    means = (
        rows.where("segment = 'all'").groupBy("model_name").agg(F.avg("ndcg").alias("ndcg"), F.count("*").alias("n"))
    )
    found = {row["model_name"]: row for row in means.collect()}
    assert {row["n"] for row in found.values()} == {N_USERS}
    return {name: row["ndcg"] for name, row in found.items()}


@pytest.mark.parametrize(
    "name", ["tiers", *(pytest.param(each, marks=pytest.mark.slow) for each in ("popularity", "short"))]
)
def test_targets_drawn_by_lot_are_found_as_chance_has_it(
    lottery: Lottery, reached: dict[str, float], name: str
) -> None:
    assert abs(lottery.off_by(reached[name], RANKS[name])) < STANDARD_ERRORS


def test_a_model_that_scores_all_items_alike_gets_nothing(reached: dict[str, float]) -> None:
    """Its list is longer than k: every item's place is the last, whichever of them stands first in the table."""
    assert reached["flat"] == 0


def test_chance_of_distinct_scores_is_the_sum_of_the_first_gains() -> None:
    u = 30
    assert chance(RANKS["popularity"], u)[0] == pytest.approx(1 / u * sum(1 / log2(r + 1) for r in range(1, K + 1)))


def measured(lists: pd.DataFrame, targets: pd.DataFrame) -> float:
    """Return the mean NDCG@k by what runs on the executors, here, where a bug can be put into it."""
    ordered = lists.sort_values(["user_idx", "rank"])
    ends = np.searchsorted(ordered["user_idx"], np.arange(1, N_USERS))
    rows = targets.rename(columns={"item_idx": "target_items", "segment": "segments", "segment_top20": "top20"})
    rows = rows.assign(model_name="popularity")
    for name in ("target_items", "segments", "top20"):
        rows[name] = [[value] for value in rows[name]]
    rows["items"] = np.split(ordered["item_idx"].to_numpy(), ends)
    rows["scores"] = np.split(ordered["score"].to_numpy(), ends)
    found = um.measured(rows, [K])
    return float(found.loc[found["segment"] == "all", "ndcg"].mean())


def test_here_as_on_executors(lottery: Lottery, lists: pd.DataFrame, reached: dict[str, float]) -> None:
    assert measured(lists, lottery.targets) == pytest.approx(reached["popularity"], abs=1e-12)
    flat = lists.assign(score=tiers(lists["rank"]))
    assert measured(flat, lottery.targets) == pytest.approx(reached["tiers"], abs=1e-12)


def test_a_rank_that_is_off_by_one_would_be_seen(
    lottery: Lottery, lists: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many. One too few leaves the mean as it is (place 2 is worth what place 1 was): tests/kernels sees it."""
    right = um.list_ranks
    monkeypatch.setattr(um, "list_ranks", lambda scores, offsets: right(scores, offsets) + 1)
    assert lottery.off_by(measured(lists, lottery.targets), RANKS["popularity"]) < -STANDARD_ERRORS


def test_ties_that_count_in_favour_would_be_seen(
    lottery: Lottery, lists: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_favour(scores: npt.NDArray[Any], offsets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        lists = np.split(np.asarray(scores), np.asarray(offsets)[1:-1])
        return np.concatenate([1 + (own[None, :] > own[:, None]).sum(axis=1) for own in lists])

    monkeypatch.setattr(um, "list_ranks", in_favour)
    tied = lists.assign(score=tiers(lists["rank"]))
    assert lottery.off_by(measured(tied, lottery.targets), RANKS["tiers"]) > STANDARD_ERRORS


def test_seen_items_that_are_not_left_out_would_be_seen(lottery: Lottery) -> None:
    """They take places that no target can have."""
    unmasked = lottery.lists(seen(lottery.known).limit(0)).toPandas()
    assert lottery.off_by(measured(unmasked, lottery.targets), RANKS["popularity"]) < -STANDARD_ERRORS


def test_a_target_that_reached_the_fit_would_be_seen(lottery: Lottery, lists: pd.DataFrame) -> None:
    """The target is moved up by three places: what a faint leak does."""
    own = lottery.targets.set_index("user_idx")["item_idx"]
    is_target = lists["item_idx"].to_numpy() == own.loc[lists["user_idx"]].to_numpy()
    leaked = lists.assign(score=np.where(is_target, 3.5, 0.0) - lists["rank"].to_numpy())
    assert lottery.off_by(measured(leaked, lottery.targets), RANKS["popularity"]) > STANDARD_ERRORS
