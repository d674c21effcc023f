"""The sequence model in the pipeline: trained on valid, trained again for test and live, asked on the executors."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import functions as F

from lt_spark import bert_stage
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import DataError
from lt_spark.core.files import Folder
from lt_spark.core.storage import Storage
from lt_spark.frames import known as folds
from lt_spark.models.bert import checkpoint as saved
from lt_spark.passes import run
from lt_spark.stages import Context
from tests.small_shop import SMALL_BERT

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]
STAGES = ("tune_bert", "bert", "tune")


def moved(source: Config, folder: Path, **changes: Any) -> Config:
    """Copy the shop's tables, and return its settings with a sequence model; the sources stay where they are."""
    tables, files = folder / "tables", folder / "files"
    shutil.copytree(source.tables.root, tables)
    # another test may have forgotten somebody in the shop that all share, under a key that is not this test's
    shutil.rmtree(tables / "silver" / t.FORGOTTEN_USERS.name, ignore_errors=True)
    settings = source.model_dump(mode="json") | {"tables": {"root": str(tables)}, "files": {"root": str(files)}}
    bert = {"blend": settings["blend"] | SMALL_BERT["blend"], "bert": {**SMALL_BERT["bert"], **changes}}
    return Config.model_validate(settings | bert)


@pytest.fixture(scope="module")
def with_bert(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The small shop with a sequence model that reads text vectors, asked in all folds and tuned into a blend."""
    spark, config, *_ = shop
    config = moved(config, tmp_path_factory.mktemp("bert") / "shop", objectives=["causal", "masked"])
    storage = Storage(spark, config)
    items = storage.read(t.ITEMS)
    vector = F.array(*(F.sin(F.col("item_idx") * F.lit(float(n))).cast("float") for n in range(1, 5)))
    rows = items.select("item_idx", F.lit("h").alias("content_hash"), F.lit("m").alias("model"), vector.alias("vector"))
    storage.write(t.ITEM_EMBEDDINGS_ENRICHED, rows.withColumn("has_text", F.lit(False)))
    told: list[str] = []
    summary = run(spark, config, stages=STAGES, listener=lambda event: told.append(event.text))
    return spark, config, storage, summary, told


def test_both_objectives_are_trained_on_valid_and_one_epoch_of_one_is_chosen(with_bert: Any) -> None:
    _, _, storage, summary, told = with_bert
    rows = storage.read(t.BERT_EPOCHS).collect()
    assert {row["objective"] for row in rows} == {"causal", "masked"}
    (chosen,) = [row for row in rows if row["is_chosen"]]
    scores = [row["ndcg"] + row["ndcg_tail"] for row in rows]
    assert chosen["ndcg"] + chosen["ndcg_tail"] == max(scores)
    assert any(text.startswith("masked: epoch 1, loss") for text in told)
    assert f"bert (live): trained anew, {chosen['epoch']} epochs" in summary.notes


def test_test_and_live_train_as_many_epochs_and_look_at_nothing(with_bert: Any) -> None:
    _, _, storage, *_ = with_bert
    row = storage.read(t.BERT_EPOCHS).where("is_chosen").first()
    for fold in ("test", "live"):
        parent = Folder(storage.kept(f"bert-{fold}"))
        (name,) = parent.names()
        found = saved.newest(parent.child(name))
        assert found is not None
        assert found.epoch == row["epoch"]
        assert name.endswith(row["objective"])
        assert all(np.isnan(epoch["ndcg"]) for epoch in found.state["epochs"])


def test_lists_are_full_hold_no_seen_item_and_reach_cold_ones(with_bert: Any) -> None:
    _, config, storage, *_ = with_bert
    for fold in t.FOLDS:
        rows = storage.read(t.CANDIDATES["bert"], fold)
        known = folds.known(storage.read(t.INTERACTIONS_SPLIT), fold)
        assert rows.join(known, ["user_idx", "item_idx"], "left_semi").count() == 0
        counts = {row["count"] for row in rows.groupBy("user_idx").count().collect()}
        assert counts == {config.candidates.n}
        assert rows.select("user_idx").distinct().count() == known.select("user_idx").distinct().count()
        cold = storage.read(t.ITEM_SEGMENTS, fold).where("segment = 'cold'")
        assert cold.count() > 0
        assert rows.join(cold, "item_idx", "left_semi").count() > 0


def test_scores_are_those_of_the_network_on_the_known_history(with_bert: Any) -> None:
    from lt_spark.models.bert.serve import SERVED, read_served
    from lt_spark.models.bert.validation import item_vectors, user_vectors

    _, config, storage, *_ = with_bert
    parent = Folder(storage.kept("bert-test"))
    network = read_served(parent.child(parent.names()[0]).child(SERVED), "cpu")
    known = folds.known(storage.read(t.INTERACTIONS_SPLIT), "test")
    rows = storage.read(t.CANDIDATES["bert"], "test").where("rank = 1").limit(5).collect()
    for row in rows:
        own = known.where(F.col("user_idx") == row["user_idx"]).orderBy("event_order").collect()
        newest = [event["item_idx"] for event in own][-config.bert.max_length :]
        history = np.array([[-1] * (config.bert.max_length - len(newest)) + newest])
        scores = (user_vectors(network, history, "cpu") @ item_vectors(network).T)[0]
        scores[[event["item_idx"] for event in own]] = -np.inf
        assert row["item_idx"] == int(scores.argmax())
        assert row["score"] == pytest.approx(float(scores.max()), abs=1e-4)


def test_exports_are_gone_and_a_second_run_has_nothing_to_do(with_bert: Any) -> None:
    spark, config, storage, *_ = with_bert
    assert Folder(storage.exports()).names() == []
    again = run(spark, config, stages=STAGES)
    assert {event.kind for event in again.stages} == {"up_to_date"}


def test_the_blend_is_tuned_with_the_model(with_bert: Any) -> None:
    _, _, storage, *_ = with_bert
    assert storage.read(t.BLEND_WEIGHTS).where("model_name = 'bert'").count() > 0


def test_a_whole_run_measures_the_model_and_does_nothing_twice(with_bert: Any) -> None:
    spark, config, storage, *_ = with_bert
    done = run(spark, config)
    assert {event.kind for event in done.stages if event.stage in STAGES} == {"up_to_date"}
    assert storage.read(t.METRICS, "test").where("model_name = 'bert' and metric = 'ndcg'").count() > 0


def test_old_exports_go_and_what_is_not_ours_stays(with_bert: Any) -> None:
    spark, config, storage, *_ = with_bert
    root = Folder(storage.exports())
    root.child("forgotten").mark(time.time() - 10 * 86_400)
    root.child("fresh").mark(time.time())
    (Path(root.uri) / "somebody").mkdir()
    (Path(root.uri) / "somebody" / "thesis.txt").write_text("years of work")
    run(spark, config, purpose="evaluate", stages=["tune_bert"], force=True)
    assert root.names() == ["fresh", "somebody"]
    assert (Path(root.uri) / "somebody" / "thesis.txt").exists()
    shutil.rmtree(root.uri)


def test_warm_start_goes_on_with_what_is_new(with_bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spark, config, storage, *_ = with_bert
    config = config.model_copy(update={"bert": config.bert.model_copy(update={"warm_start": True, "warm_epochs": 1})})
    tasks: list[Any] = []
    real = bert_stage._train

    def spied(c: Any, made: Any, *arguments: Any, **options: Any) -> Any:
        tasks.append((json.loads((Path(made.windows) / "manifest.json").read_text()), options))
        return real(c, made, *arguments, **options)

    monkeypatch.setattr(bert_stage, "_train", spied)
    row = storage.read(t.BERT_EPOCHS).where("is_chosen").first()
    now = storage.read(t.INTERACTIONS_SPLIT).agg(F.max("event_ts")).first()[0].replace(tzinfo=None)
    context = Context(spark, config, storage, "bert", "live", now, stage_key="another key")
    before = storage.read(t.CANDIDATES["bert"], "live").count()
    bert_stage.bert(context)
    ((manifest, options),) = tasks
    n_users = storage.read(t.USERS).count()
    # nobody did anything new: only the replayed fifth of the users is learnt
    assert 0 < manifest["n_rows"] < n_users / 2
    assert options["n_epochs"] == 1
    assert options["start"].endswith(f"epoch-{row['epoch']:05d}")
    assert context.notes == ["bert (live): went on from the last model, 1 epochs"]
    assert storage.read(t.CANDIDATES["bert"], "live").count() == before


def test_a_chosen_network_that_is_gone_is_told(with_bert: Any, tmp_path: Path) -> None:
    spark, config, *_ = with_bert
    gone = moved(config, tmp_path / "shop")
    storage = Storage(spark, gone)
    shutil.rmtree(Path(storage.read(t.BERT_EPOCHS).where("is_chosen").first()["folder"]), ignore_errors=True)
    with pytest.raises(DataError, match="--only tune_bert"):
        run(spark, gone, purpose="evaluate", stages=["bert"], force=True)
