"""The stage on a small log: taught on valid, the same epochs in test and live, cold items found by their text."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_spark import text_bert_stage as ts
from lt_spark.core import tables as t
from lt_spark.core.config import Config, TablesConfig
from lt_spark.core.errors import StorageError
from lt_spark.core.storage import Storage
from lt_spark.frames.known import KNOWN_SPLITS
from lt_spark.models.text_bert import data, predict, saved
from lt_spark.stages import Context
from tests.benchmarks import text_bert_carry_over as carry_over
from tests.models.text_bert.tiny_bert import FIRST, SECOND, base_of, section, titles

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]
N_USERS = 64
COLD, BLANK, HOSTILE = 64, 65, 66
"""Of no user: one with a title, one without, one of a hostile seller."""


class Shop:
    def __init__(self, spark: Any, folder: Path, model: str) -> None:
        self.spark, self.folder, self.model = spark, folder, model
        self.notes: list[str] = []
        self._write()

    def config(self, **changes: Any) -> Config:
        return Config.model_validate(
            {
                "tables": {"root": str(self.folder / "t")},
                "files": {"root": str(self.folder / "f")},
                "embed": {"model": self.model},
                "candidates": {"n": 20},
                "blend": {"models": ["als", "text_bert"]},
                "text_bert": section(epochs=3, patience=3, classify_share=0.2, **changes).model_dump(),
            }
        )

    def context(self, fold: str, **changes: Any) -> Context:
        config = self.config(**changes)
        storage = Storage(self.spark, config, "run-1")
        return Context(self.spark, config, storage, "text_bert", fold, datetime(2026, 1, 1), "key", notes=self.notes)

    def run(self, fold: str, **changes: Any) -> None:
        ts.text_bert(self.context(fold, **changes))

    def rows(self, table: t.Table, fold: str) -> list[Any]:
        return self.context(fold).read(table).collect()

    def _write(self) -> None:
        random = np.random.default_rng(2)
        split, known_of = [], {}
        for user in range(N_USERS):
            place = user % len(FIRST)
            nexts = 4 * (len(FIRST) + place) + random.permutation(4)
            events = [4 * place + int(random.integers(4)), *(int(item) for item in nexts[:3])]
            known_of[user] = events
            for order, (item, kind) in enumerate(
                zip(events, ("train", "train", "valid", "test"), strict=True), start=1
            ):
                event = {"user_idx": user, "item_idx": item, "event_order": order, "split": kind}
                split.append(event | {"order_value": order, "event_weight": 1.0})
        self.known_of = known_of
        said = titles() | {
            COLD: f"purple {SECOND[0]}",
            BLANK: None,
            HOSTILE: "<|im_start|>\u202e" + "brush 東京 " * 900,
        }
        self.write(t.ITEMS, [{"item_idx": item, "item_id": str(item), "title": text} for item, text in said.items()])
        self.write(t.INTERACTIONS_SPLIT, split)
        for fold in ("valid", "live"):
            events = [row for row in split if row["split"] in KNOWN_SPLITS[fold]]
            counts = {item: sum(row["item_idx"] == item for row in events) for item in said}
            self.write(
                t.ITEM_SEGMENTS,
                [
                    {
                        "fold": fold, "item_idx": item, "n_interactions": n,
                        "segment": "mid" if n else "cold", "segment_top20": "head" if item % 2 else "tail",
                    }
                    for item, n in counts.items()
                ],
                fold,
            )  # fmt: skip
            kept = [{**row, "fold": fold, "weight": 1.0, "n_copies": 1} for row in events]
            self.write(t.INTERACTIONS_REBALANCED, kept, fold)
            near = [
                {"fold": fold, "item_idx": item, "neighbour_idx": (item + step) % 64, "similarity": 0.5, "rank": step}
                for item in range(64)
                for step in (1, 2)
            ]
            self.write(t.ITEM_NEIGHBOURS, near, fold)

    def write(self, table: t.Table, rows: list[dict[str, Any]], fold: str | None = None) -> None:
        given = [tuple(row.get(name) for name in table.column_names) for row in rows]
        Storage(self.spark, self.config(), "run-1").write(table, self.spark.createDataFrame(given, table.schema), fold)


@pytest.fixture(scope="module")
def shop(spark: Any, tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(spark, tmp_path_factory.mktemp("text-bert") / "shop", tiny)
    made.run("valid")
    return made


def test_valid_chooses_and_tells(shop: Shop) -> None:
    rows = sorted(shop.rows(t.TEXT_BERT_EPOCHS, "valid"), key=lambda row: row["epoch"])
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3] and sum(row["is_chosen"] for row in rows) == 1
    assert rows[0]["loss"] is None and rows[3]["loss"] < rows[1]["loss"]
    chosen = next(row for row in rows if row["is_chosen"])
    assert chosen["ndcg"] > rows[0]["ndcg"] and {row["train_on"] for row in rows} == {"all"}
    report = {row["class"]: row for row in shop.rows(t.TEXT_BERT_REPORT, "valid")}
    assert set(report) == {"like", "dislike"} and report["like"]["n"] == report["dislike"]["n"] == N_USERS
    assert any(note.startswith("text_bert (valid): ") and "pairs taught" in note for note in shop.notes)


def test_vectors_are_those_of_the_saved_tower(shop: Shop) -> None:
    folder = ts.saved_in(shop.config(), "valid")
    tower = saved.load(folder, base_of(shop.model))
    rows = {row["item_idx"]: row for row in shop.rows(t.ITEM_EMBEDDINGS_TUNED, "valid")}
    assert set(rows) == set(range(67))
    np.testing.assert_allclose(rows[33]["vector"], tower.encode_items([titles()[33]])[0], atol=2e-6)
    assert not any(rows[BLANK]["vector"])
    assert np.linalg.norm(rows[HOSTILE]["vector"]) == pytest.approx(1, abs=1e-5)
    assert {row["model"] for row in rows.values()} == {saved.read_manifest(folder).model}
    assert len({row["content_hash"] for row in rows.values()}) == 67
    assert saved.load_head(folder) is not None


def test_candidates_are_unknown_ranked_and_cold_ones_among_them(shop: Shop) -> None:
    rows = shop.rows(t.CANDIDATES["text_bert"], "valid")
    assert {(row["fold"], row["model_name"]) for row in rows} == {("valid", "text_bert")}
    vectors = {row["item_idx"]: np.array(row["vector"]) for row in shop.rows(t.ITEM_EMBEDDINGS_TUNED, "valid")}
    tower = saved.load(ts.saved_in(shop.config(), "valid"), base_of(shop.model))
    for user in (0, 5):
        first, second = shop.known_of[user][:2]
        own = sorted((row for row in rows if row["user_idx"] == user), key=lambda row: row["rank"])
        assert [row["rank"] for row in own] == list(range(1, 21))
        assert not {first, second, BLANK} & {row["item_idx"] for row in own}
        asked = tower.encode_histories([f"{titles()[second]}. {titles()[first]}"])[0]
        allowed = {
            item: float(asked @ vector) for item, vector in vectors.items() if item not in (first, second, BLANK)
        }
        assert own[0]["score"] == pytest.approx(max(allowed.values()), abs=1e-5)
        assert own[0]["score"] == pytest.approx(allowed[own[0]["item_idx"]], abs=1e-5)
    cold = [row for row in rows if row["item_idx"] == COLD]
    assert 0 < len(cold) < N_USERS, "by its text"
    first, second = shop.known_of[cold[0]["user_idx"]][:2]
    asked = tower.encode_histories([f"{titles()[second]}. {titles()[first]}"])[0]
    assert cold[0]["score"] == pytest.approx(float(asked @ vectors[COLD]), abs=1e-5)


def test_test_and_live_train_what_valid_chose_without_looking(shop: Shop) -> None:
    chosen = next(row["epoch"] for row in shop.rows(t.TEXT_BERT_EPOCHS, "valid") if row["is_chosen"])
    before = saved.read_manifest(ts.saved_in(shop.config(), "valid"))
    shop.run("live")
    rows = shop.rows(t.TEXT_BERT_EPOCHS, "live")
    assert {row["epoch"] for row in rows} == set(range(chosen + 1))
    assert {row["ndcg"] for row in rows} == {None} and {row["fold"] for row in rows} == {"live"}
    assert shop.rows(t.TEXT_BERT_REPORT, "live") == [], "nobody knows what comes next"
    assert len({row["user_idx"] for row in shop.rows(t.CANDIDATES["text_bert"], "live")}) == N_USERS
    assert saved.read_manifest(ts.saved_in(shop.config(), "valid")) == before, "a tower a fold"
    assert saved.read_manifest(ts.saved_in(shop.config(), "live")) != before


@pytest.mark.parametrize("train_on", ["all", "head"])
def test_what_is_taught_is_of_the_fold_and_of_the_head_alone(shop: Shop, tmp_path: Path, train_on: str) -> None:
    c = shop.context("valid", train_on=train_on)
    of = ts.section_of(c.config)
    ts.write_rows(c, of, ts.texts_of(c, of), str(tmp_path))
    training = data.read_training(data.Folder(str(tmp_path)), of)
    for part in (training.pairs, training.held_out):
        for user, history, target in zip(part.users, part.histories, part.targets, strict=True):
            first, second = shop.known_of[int(user)][:2]
            assert (history.tolist(), int(target)) == ([first], second), "neither the valid nor the test event"
            assert sorted(training.known[int(user)].tolist()) == sorted([first, second])
    taught = {int(item) for item in training.pairs.targets} | {int(i) for near in training.pairs.hard for i in near}
    is_head = {item % 2 == 1 for item in taught}
    assert is_head == ({True} if train_on == "head" else {True, False})
    valid = data.read_valid(data.Folder(str(tmp_path)), training.catalogue)
    assert len(valid) == N_USERS and {COLD, HOSTILE} <= set(valid.items.tolist()) and BLANK not in valid.items
    assert [int(targets[0]) for targets in valid.targets] == [shop.known_of[int(user)][2] for user in valid.users]


def test_keywords_only_where_the_written_text_was_accepted(shop: Shop) -> None:
    enriched = {"key": "k", "item_idx": 33, "status": "accepted", "is_current": True, "keywords": ["bench"]}
    shop.write(t.ITEM_ENRICHMENTS, [enriched])

    def text(verdict: str, enabled: bool = True, **changes: Any) -> str:
        shop.write(t.TEXT_VERDICT, [{"verdict": verdict}])
        c = shop.context("valid", **changes)
        describe = c.config.describe.model_copy(update={"enabled": enabled})
        c.config = c.config.model_copy(update={"describe": describe})
        return str(ts.texts_of(c, ts.section_of(c.config)).where("item_idx = 33").collect()[0]["text"])

    own = titles()[33]
    assert text("accepted") == f"bench. {own}"
    assert text("refused") == text("accepted", enabled=False) == text("accepted", use_keywords=False) == own


def test_a_worker_loads_the_tower_once(shop: Shop) -> None:
    base = base_of(shop.model)
    folder = ts.saved_in(shop.config(), "valid")
    tuned = predict.Tuned(folder.uri, saved.read_manifest(folder), base)
    assert predict.loaded(tuned) is predict.loaded(tuned) and predict.loaded(tuned).n_loads == 1


def test_test_needs_what_valid_chose(shop: Shop, tmp_path: Path) -> None:
    c = shop.context("test")
    c.storage = Storage(shop.spark, c.config.model_copy(update={"tables": TablesConfig(root=str(tmp_path))}), "run-1")
    with pytest.raises(StorageError, match="silver.text_bert_epochs is not at .*Run the stage that writes it first"):
        ts.text_bert(c)
    assert not list((shop.folder / "f" / "_lt_spark_scratch").rglob("*.parquet")), "scratch is cleared"


def test_carry_over_measures_the_same_encoder_and_teaches_two_more(shop: Shop, tmp_path: Path) -> None:
    c = shop.context("valid")
    carry_over.write(c, tmp_path)
    names = (carry_over.UNTOUCHED, "lora", "lora, head")
    job = carry_over.Job(str(tmp_path), shop.model, "", 42, "cpu", None, (("epochs", 2),))
    done = [carry_over.learn(replace(job, variant=name)) for name in names]
    untouched = min(shop.rows(t.TEXT_BERT_EPOCHS, "valid"), key=lambda row: row["epoch"])
    assert done[0].judged.mean("all") == pytest.approx(untouched["ndcg"])
    assert done[0].judged.mean("tail") == pytest.approx(untouched["ndcg_tail"])
    assert done[0].int8 is not None and len(done[0].int8.values["all"]) == len(done[0].judged.values["all"])
    assert [len(each.epochs) > 1 for each in done] == [False, True, True]
    assert 0 < done[2].n_pairs < done[1].n_pairs <= N_USERS
    few = carry_over.learn(replace(job, variant="lora", n_pairs=10))
    assert few.n_pairs == 10
    text = "\n".join(carry_over.lines(done))
    assert "| lora, head - lora | " in text and "| untouched, int8 - float | " in text and "like 0." in text
