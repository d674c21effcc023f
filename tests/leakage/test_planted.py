"""One event that a fold may not see, given to a stage as a stage with an error would get it: the stage fails."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark import als_stage
from lt_spark import stages as s
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import LeakageError
from lt_spark.describe_stage import newest_pool
from lt_spark.frames.known import known
from lt_spark.prepare.segment import segment_items

pytestmark = pytest.mark.spark

N_ITEMS = 6
# of each user: the last item is test, the last but one valid. Items 2 and 3 are known once in train, 3 twice in valid
HISTORIES = [[0, 1, 3, 2], [0, 1, 3, 4], [0, 1, 2, 4, 5], [1, 0, 5, 4], [0, 3, 2, 5]]
CONTEXTS = Callable[[str], Any]


class Memory:
    """Tables in memory: what a stage reads, and what it has written."""

    run_id = "run"

    def __init__(self, tables: dict[t.Table, DataFrame]) -> None:
        self.tables = dict(tables)

    def read(self, table: t.Table, fold: str | None = None) -> DataFrame:
        rows = self.tables[table]
        return rows.where(F.col("fold") == fold) if fold and table.folded else rows

    read_or_empty = read

    def write(self, table: t.Table, rows: DataFrame, fold: str | None = None, stage_key: str = "") -> int:
        made = [tuple(row) for row in rows.select(*table.column_names).collect()]
        written = rows.sparkSession.createDataFrame(made, table.schema)
        if table.folded and table in self.tables:
            written = written.unionByName(self.tables[table].where(F.col("fold") != fold))
        self.tables[table] = written
        return len(made)

    def scratch(self, name: str) -> str:
        return name

    def clear_scratch(self, name: str) -> None:
        del name


@pytest.fixture(scope="module")
def prepared(frame: Any, spark: Any) -> dict[t.Table, DataFrame]:
    """The tables that the stages read, right ones, of fold valid."""
    events, names = [], ("test", "valid")
    for user, history in enumerate(HISTORIES):
        for at, item in enumerate(history):
            row = {"user_idx": user, "item_idx": item, "event_order": 1 + at, "order_value": at, "event_weight": 1.0}
            left = len(history) - 1 - at
            events.append(row | {"split": names[left] if left < len(names) else "train"})
    items = [
        {"item_idx": item, "item_id": str(item), "title": "Thing", "attributes": [("kind", "tool")]}
        for item in range(N_ITEMS)
    ]
    tables = {
        t.INTERACTIONS_SPLIT: frame(t.INTERACTIONS_SPLIT, events),
        t.ITEMS: frame(t.ITEMS, items),
        t.ITEM_EMBEDDINGS: frame(t.ITEM_EMBEDDINGS, [row | {"vector": [1.0]} for row in items]),
        t.ALS_SETTINGS: frame(t.ALS_SETTINGS, [{"rank": 2, "alpha": 1.0, "reg_param": 0.1, "is_chosen": True}]),
        t.PROMPT_EXAMPLES: frame(t.PROMPT_EXAMPLES, []),
    }
    c = context(spark, tables, "valid")
    s.segment(c)
    s.rebalance(c)
    return c.storage.tables


def context(spark: Any, tables: dict[t.Table, DataFrame], fold: str) -> Any:
    config = Config.model_validate({"describe": {"keyword_fields": ["kind"]}})
    return s.Context(spark, config, cast(Any, Memory(tables)), "test", fold, datetime(2026, 1, 1), "key")


@pytest.fixture
def of_fold(spark: Any, prepared: dict[t.Table, DataFrame]) -> CONTEXTS:
    """A context of a fold on the tables; what it writes is its own."""
    return lambda fold: context(spark, prepared, fold)


def one_more(rows: DataFrame, split: DataFrame, fold: str) -> DataFrame:
    """Return the rows and one held-out event of the fold: the least user's."""
    return rows.unionByName(split.where(F.col("split") == fold).orderBy("user_idx").limit(1))


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage knows has one event more than it may."""

    def planted(c: s.Context) -> DataFrame:
        split = c.read(t.INTERACTIONS_SPLIT)
        return one_more(known(split, c.fold), split, c.fold)

    monkeypatch.setattr(s.Context, "known", property(planted))


def reach_the_pool(c: s.Context) -> list[int]:
    """Return the items of the pool that is made now, in order."""
    return [row["item_idx"] for row in newest_pool(c)[0].orderBy("pool_rank").collect()]


def test_right_ones_pass(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segment and rebalance let them pass when the tables were prepared; the models are not fitted here."""
    fitted = []
    for module, name in (
        (s.als_model, "als_candidates"),
        (s.als_model, "tune_als"),
        (s.neighbours_model, "item_neighbours"),
        (s.neighbours_model, "neighbours_candidates"),
    ):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: fitted.append(name) or ())
    monkeypatch.setattr(s.Context, "write", lambda *_: None)
    monkeypatch.setattr(s.Context, "write_rows", lambda *_: None)
    c = of_fold("valid")
    c.storage.tables[t.ITEM_NEIGHBOURS] = c.read(t.ITEM_SEGMENTS)
    for stage in (s.als_plain, s.tune_als, s.neighbours):
        stage(c)
    assert fitted == ["als_candidates", "tune_als", "item_neighbours", "neighbours_candidates"]

    class Fitted(Exception):
        """What als stops with where it would fit."""

    def fit(*_: Any) -> None:
        raise Fitted

    monkeypatch.setattr(als_stage, "_fit", fit)
    with pytest.raises(Fitted):
        als_stage.als(c)


def test_an_event_in_the_examples(of_fold: CONTEXTS) -> None:
    """With a held-out event counted, item 3 would stand before item 2; an event that moves no item tells nothing."""
    c = of_fold("valid")
    split = c.read(t.INTERACTIONS_SPLIT)
    event = split.where("split = 'valid' and item_idx = 3").limit(1)
    planted = segment_items(known(split, "valid").unionByName(event), c.read(t.ITEMS), c.config.segment, "valid")
    right = [row["item_idx"] for row in c.read(t.ITEM_SEGMENTS).orderBy("popularity_rank").collect()]
    c.write(t.ITEM_SEGMENTS, planted)
    wrong = [row["item_idx"] for row in c.read(t.ITEM_SEGMENTS).orderBy("popularity_rank").collect()]
    assert wrong != right
    with pytest.raises(LeakageError, match="Events from outside fold 'valid' order the pool of examples"):
        newest_pool(c)
    assert c.read(t.PROMPT_EXAMPLES).isEmpty(), "a later run would find the pool and use it"


@pytest.mark.slow
@pytest.mark.parametrize("fold", ["valid", "test"])
def test_examples_of_what_is_known(of_fold: CONTEXTS, fold: str) -> None:
    """Fold test asks for them too, where fold valid has made none; they are of the train fold all the same."""
    c = of_fold(fold)
    split = c.read(t.INTERACTIONS_SPLIT)
    counts = Counter(row["item_idx"] for row in split.where("split = 'train'").collect())
    assert reach_the_pool(c) == sorted(range(N_ITEMS), key=lambda item: (-counts[item], item))


@pytest.mark.slow
def test_examples_by_the_segments_of_another_fold(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    c = of_fold("test")
    s.segment(c)
    read, other = Memory.read, {t.ITEM_SEGMENTS: "test"}
    monkeypatch.setattr(Memory, "read", lambda self, table, fold=None: read(self, table, other.get(table, fold)))
    with pytest.raises(LeakageError, match="order the pool of examples"):
        newest_pool(c)


@pytest.mark.parametrize("fold", ["valid", "test"])
def test_an_event_in_the_segments(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch, fold: str) -> None:
    plant(monkeypatch)
    with pytest.raises(LeakageError, match=rf"fold '{fold}' count in silver.item_segments.*found 1 items"):
        s.segment(of_fold(fold))


def test_an_event_in_the_weights(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(LeakageError, match=r"outside fold 'valid'.*found 1 rows"):
        s.rebalance(of_fold("valid"))


def test_an_event_in_the_factors_of_plain_als(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(LeakageError, match=r"fold 'valid' reached the ratings of a model.*found 1 pairs"):
        s.als_plain(of_fold("valid"))
    with pytest.raises(LeakageError, match="found 1 rows"):
        s.tune_als(of_fold("valid"))


def test_an_event_in_the_factors_of_als(of_fold: CONTEXTS) -> None:
    c = of_fold("valid")
    event = one_more(c.read(t.INTERACTIONS_SPLIT).limit(0), c.read(t.INTERACTIONS_SPLIT), "valid").select(
        F.lit("valid").alias("fold"),
        "user_idx",
        "item_idx",
        "event_order",
        F.lit(1.0).alias("weight"),
        F.lit(1.0).alias("propensity"),
        F.lit(1).alias("n_copies"),
    )
    c.write(t.INTERACTIONS_REBALANCED, c.read(t.INTERACTIONS_REBALANCED).unionByName(event))
    with pytest.raises(LeakageError, match=r"fold 'valid' reached the ratings of a model.*found 1 pairs"):
        als_stage.als(c)


def test_an_event_in_the_neighbours(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    c = of_fold("valid")
    with pytest.raises(LeakageError, match="found 1 rows"):
        s.neighbours(c)
    assert t.ITEM_NEIGHBOURS not in c.storage.tables


@pytest.mark.slow
def test_a_wrong_rule_of_what_is_known(of_fold: CONTEXTS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks do not ask the function that the stages ask."""
    monkeypatch.setattr(s.folds, "known", lambda split, fold: split.where("split != 'test'"))
    c = of_fold("valid")
    for stage in (s.segment, s.rebalance, s.als_plain, s.neighbours):
        with pytest.raises(LeakageError, match="outside fold 'valid'"):
            stage(c)
