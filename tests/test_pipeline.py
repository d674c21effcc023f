"""The pipeline end to end on a small shop: tables, re-runs, leakage, gold as others read it."""

import json
import math
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, RunLockedError
from lt_spark.core.runs import RunLock
from lt_spark.core.storage import Storage
from lt_spark.experiments import forget_everywhere
from lt_spark.passes import plan, run
from lt_spark.pipeline import STAGES, chosen_stages
from tests.processes import killed_run
from tests.small_shop import N_ITEMS, N_USERS, write_shop, write_whole_shop
from tests.written import COMPARED, rows_of


def test_every_table_is_written_by_one_stage_before_it_is_read() -> None:
    written: list[t.Table] = []
    for stage in STAGES:
        assert set(stage.reads) <= set(written), stage.name
        # a report that grows by run may have rows of several stages
        assert all(table.append for table in set(stage.writes) & set(written)), stage.name
        written += stage.writes


def test_a_misspelt_stage_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown stage 'segmnt'.*Did you mean 'segment'"):
        chosen_stages(["segmnt"], None, None)


def test_from_after_to_is_refused() -> None:
    with pytest.raises(ConfigError, match="'blend' comes after 'clean'"):
        chosen_stages(None, "blend", "clean")


@pytest.mark.spark
def test_a_run_does_every_stage_of_every_fold(shop: Any) -> None:
    _, config, _, summary = shop
    folds = {stage.name: stage.folds[:1] if stage.once_a_run else stage.folds for stage in STAGES}
    expected = {
        (stage.name, fold) for stage in STAGES if stage.is_on(config) for fold in (folds[stage.name] or (None,))
    }
    assert {(event.stage, event.fold) for event in summary.stages} == expected
    assert {event.kind for event in summary.stages} == {"done"}


@pytest.mark.spark
def test_a_stage_reads_only_what_it_waits_for(shop_and_reads: Any) -> None:
    _, reads = shop_and_reads
    assert reads.by_stage["als"] >= {t.ALS_SETTINGS, t.INTERACTIONS_SPLIT}
    assert reads.undeclared() == {}


@pytest.mark.spark
def test_the_summary_has_test_metrics_of_every_model(shop: Any) -> None:
    *_, summary = shop
    named = {(row["model_name"], row["segment"]) for row in summary.metrics}
    models = ("popularity", "als_plain", "als", "neighbours", "lexical", "blend")
    assert named >= {(name, "all") for name in models}
    assert all(0 <= row["value_low"] <= row["value"] <= row["value_high"] <= 1 for row in summary.metrics)


@pytest.mark.spark
def test_lists_hold_no_seen_item_and_no_item_twice(shop: Any) -> None:
    _, config, storage, _ = shop
    models = {*config.blend.models, "als_plain"}
    for table in (t.RECOMMENDATIONS, *(t.CANDIDATES[name] for name in models)):
        rows = storage.read(table, "live")
        assert rows.count() > 0
        assert rows.groupBy("user_idx", "item_idx").count().where("count > 1").count() == 0
        known = storage.read(t.INTERACTIONS_SPLIT)
        assert rows.join(known, ["user_idx", "item_idx"], "left_semi").count() == 0, table.name


@pytest.mark.spark
def test_ranks_run_from_one_by_score(shop: Any) -> None:
    _, _, storage, _ = shop
    rows = storage.read(t.RECOMMENDATIONS, "live").toPandas()
    for _, own in rows.sort_values("rank").groupby("user_idx"):
        assert list(own["rank"]) == list(range(1, len(own) + 1))
        assert own["score"].is_monotonic_decreasing


@pytest.mark.spark
def test_shares_of_models_sum_to_one(shop: Any) -> None:
    _, _, storage, _ = shop
    rows = storage.read(t.RECOMMENDATIONS, "live").limit(50).collect()
    for row in rows:
        assert sum(part["share"] for part in row["models"]) == pytest.approx(1.0)
        assert sum(part["share"] for part in row["because"]) <= 1.0 + 1e-9


def n_exchanges(own: list[float], of_places: list[float]) -> int:
    """Two items of a list may have changed places, so that one of them is seen at all; the score is of the place."""
    assert sorted(own) == pytest.approx(sorted(of_places))
    n_places = sum(a != pytest.approx(b) for a, b in zip(own, of_places, strict=True))
    assert n_places in (0, 2)
    return n_places // 2


@pytest.mark.spark
def test_scores_and_reasons_follow_from_their_parts(shop: Any) -> None:
    _, config, storage, _ = shop
    weights = {row["model_name"]: row for row in storage.read(t.BLEND_WEIGHTS).where("half = -1").collect()}
    popular = {row["item_idx"]: row["n_interactions"] for row in storage.read(t.ITEM_SEGMENTS, "live").collect()}
    feature, spoke = {}, {}
    for name in config.blend.models:
        rows = storage.read(t.CANDIDATES[name], "live").toPandas()
        for user, own in rows.groupby("user_idx"):
            low, high = own["score"].min(), own["score"].max()
            for item, score in zip(own["item_idx"], own["score"], strict=True):
                feature[name, user, item] = (score - low) / (high - low) if high > low else 1.0
                spoke[name, user, item] = score
    similar = {
        "neighbours": storage.read(t.ITEM_NEIGHBOURS, "live"),
        "lexical": storage.read(t.CONTENT_NEIGHBOURS, "live").where("kind = 'lexical'"),
    }
    edges = {
        (name, row["item_idx"], row["neighbour_idx"]): row["similarity"]
        for name, rows in similar.items()
        for row in rows.collect()
    }
    decay = {"neighbours": config.neighbours.decay, "lexical": config.content.decay}
    events = storage.read(t.INTERACTIONS_SPLIT).orderBy("event_order").toPandas()
    histories = {user: list(own["item_idx"])[::-1][:50] for user, own in events.groupby("user_idx")}
    recommended = storage.read(t.RECOMMENDATIONS, "live").collect()
    assert len(recommended) > N_USERS
    named = 0
    own_scores, place_scores = defaultdict(list), defaultdict(list)
    for row in recommended:
        user, item = row["user_idx"], row["item_idx"]
        held = {name: math.log1p(popular[item]) / math.log1p(max(popular.values())) for name in weights}
        parts = {
            name: weights[name]["weight"]
            * feature.get((name, user, item), 0.0)
            * math.exp(-weights[name]["popularity_power"] * held[name])
            for name in weights
        }
        own = sum(parts.values())
        own_scores[user].append(own)
        place_scores[user].append(row["score"])
        shares = {name: part / own for name, part in parts.items() if part > 0}
        assert {part["model_name"]: part["share"] for part in row["models"]} == pytest.approx(shares)
        told: dict[int, float] = {}
        for name in similar:
            if name not in shares:
                continue
            of_model: dict[int, float] = {}
            for age, known in enumerate(histories[user]):
                part = edges.get((name, known, item), 0.0) * decay[name] ** age
                of_model[known] = of_model.get(known, 0.0) + part / spoke[name, user, item]
            assert sum(of_model.values()) == pytest.approx(1.0, abs=1e-5), "the history is all that speaks"
            best = sorted(of_model.items(), key=lambda pair: (-pair[1], pair[0]))[:3]
            for known, share in best:
                told[known] = told.get(known, 0.0) + share * shares[name]
        for reason in row["because"]:
            assert told[reason["item_idx"]] == pytest.approx(reason["share"], abs=1e-5)
            named += 1
    assert named > len(recommended) // 2
    n_exchanged = sum(n_exchanges(scores, place_scores[user]) for user, scores in own_scores.items())
    told = storage.read(t.RERANK_REPORT, "live").where("rule = 'reach' AND measure = 'users_touched'").first()
    assert told["value"] == n_exchanged <= config.rerank.reach_share * N_USERS


@pytest.mark.spark
def test_gold_is_read_by_delta_rs(shop: Any) -> None:
    deltalake = pytest.importorskip("deltalake")
    _, _, storage, _ = shop
    for table in t.ALL_TABLES:
        if table.layer != "gold":
            continue
        opened = deltalake.DeltaTable(storage.location(table))
        assert opened.protocol().min_reader_version == 1
        rows = opened.to_pyarrow_dataset().to_table()
        assert rows.num_rows > 0, table.name
        assert rows.column_names == table.column_names
    users = deltalake.DeltaTable(storage.location(t.GOLD_RECOMMENDATIONS)).to_pyarrow_dataset().to_table()
    assert set(users["user_id"].to_pylist()) == {f"u{user:03d}" for user in range(N_USERS)}
    assert all(item.startswith("0") for item in users["item_id"].to_pylist())


@pytest.mark.spark
def test_gold_is_read_by_duckdb(shop: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    package = find_spec("duckdb_ext")
    if package is None:
        pytest.skip("duckdb-ext-delta is not installed")
    folders = [Path(folder) for folder in package.submodule_search_locations or ()]
    found = [path for folder in folders for path in folder.rglob("delta.duckdb_extension")]
    _, _, storage, _ = shop
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.load_extension(str(found[0]))
    path = storage.location(t.GOLD_TAIL_ITEMS)
    n_items, n_users = connection.execute(
        f"SELECT count(*), sum(n_users_reached) FROM delta_scan('{path}')"  # noqa: S608 - a path of this test
    ).fetchone()
    assert n_items > N_ITEMS // 4
    assert n_users > 0


@pytest.mark.spark
def test_a_reason_names_an_item_of_the_users_history(shop: Any) -> None:
    _, _, storage, _ = shop
    rows = storage.read(t.GOLD_RECOMMENDATIONS).where("reason_code = 'because_of'")
    users, items = storage.read(t.USERS), storage.read(t.ITEMS).select("item_idx", "item_id")
    history = storage.read(t.INTERACTIONS).join(users, "user_idx").join(items, "item_idx")
    history = history.select("user_id", history["item_id"].alias("reason_item_id"))
    assert rows.count() > 0
    assert rows.join(history, ["user_id", "reason_item_id"], "left_anti").count() == 0
    row = rows.first()
    both = f" (both: {row['shared_keywords']})" if row["shared_keywords"] else ""
    assert row["reason"] == f"because of «Thing {int(row['reason_item_id'])} «é»» on {row['reason_event_date']}{both}"


@pytest.mark.spark
def test_clean_accounts_for_every_row(shop: Any) -> None:
    _, _, storage, _ = shop
    counts = {
        row["measure"]: row["n_rows"] for row in storage.read(t.CLEAN_REPORT).where("source = 'interactions'").collect()
    }
    assert counts["rows_in"] == sum(
        counts.get(name, 0) for name in ("kept", "refused", "duplicates", "not_selected", "forgotten", "over_cap")
    )
    assert storage.count(t.INTERACTIONS) == counts["kept"]


@pytest.mark.spark
def test_a_second_run_does_nothing(shop: Any) -> None:
    spark, config, storage, _ = shop
    version = storage.version(t.RUN_LOCK)
    again = run(spark, config)
    assert {event.kind for event in again.stages} == {"up_to_date"}
    assert storage.version(t.RUN_LOCK) == version
    assert "everything is up to date: nothing was done" in again.notes


@pytest.fixture
def other_plans(spark: Any) -> Iterator[None]:
    """Spark generates code for its plans where the session interprets them, and the other way round."""
    settings = {
        "spark.sql.codegen.wholeStage": ("true", "false"),
        "spark.sql.codegen.factoryMode": ("FALLBACK", "NO_CODEGEN"),
    }
    before = {name: spark.conf.get(name) for name in settings}
    is_interpreted = before["spark.sql.codegen.wholeStage"] == "false"
    for name, (generated, interpreted) in settings.items():
        spark.conf.set(name, generated if is_interpreted else interpreted)
    yield
    for name, value in before.items():
        spark.conf.set(name, value)


@pytest.mark.spark
@pytest.mark.slow
def test_generated_code_and_interpreted_plans_write_the_same(shop: Any, other_plans: None, tmp_path: Path) -> None:
    spark, config, storage, _ = shop
    shutil.copytree(config.tables.root, tmp_path / "tables")
    tables = config.tables.model_copy(update={"root": str(tmp_path / "tables")})
    one_at_a_time = config.run.model_copy(update={"side_by_side": 1})
    moved = config.model_copy(update={"tables": tables, "run": one_at_a_time})
    again = Storage(spark, moved)
    # all of them twice would take minutes: these join, window, explode and aggregate, and tests/test_submit.py runs all
    stages = chosen_stages(["split", "segment", "rebalance", "neighbours", "blend"], None, None)
    written = [table for stage in stages for table in stage.writes if storage.exists(table)]
    for table in written:
        shutil.rmtree(again.location(table))
    summary = run(spark, moved, purpose="produce", stages=[stage.name for stage in stages], force=True)
    assert [event.stage for event in summary.stages] == [stage.name for stage in stages]
    assert {stage.writes[0] for stage in stages} <= set(written)
    for table in written:
        assert rows_of(again, table, ("live",)) == rows_of(storage, table, ("live",)), table.full_name


@pytest.mark.spark
def test_a_changed_setting_makes_only_what_depends_on_it_stale(shop: Any) -> None:
    spark, config, _, _ = shop
    changed = config.model_copy(update={"rebalance": config.rebalance.model_copy(update={"strength": 0.9})})
    stale = {planned.stage for planned in plan(spark, changed) if planned.runs}
    assert stale == {"rebalance", "als", "tune", "blend", "evaluate", "groups", "gate", "publish"}


@pytest.mark.spark
def test_other_groups_of_users_train_no_model_anew(shop: Any) -> None:
    spark, config, _, _ = shop
    for keys in ({"user_columns": ("age",)}, {"min_group_users": 30}):
        changed = config.model_copy(update={"evaluate": config.evaluate.model_copy(update=keys)})
        assert {planned.stage for planned in plan(spark, changed) if planned.runs} == {
            "groups",
            "gate",
            # they read what the gate decides
            "blend",
            "publish",
        }


@pytest.mark.spark
def test_who_gains_and_who_loses_is_told_and_published(shop: Any) -> None:
    _, config, storage, summary = shop
    n_of = {
        fold: storage.read(t.USER_METRICS, fold).select("user_idx").distinct().count() for fold in ("valid", "test")
    }
    rows = storage.read(t.GROUP_METRICS).where("model_name = 'blend' and k = 10").collect()
    sizes: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        sizes.setdefault((row["fold"], row["group_by"]), {})[row["group"]] = row["n_users"]
    groupings = ("activity", "history_length", "tail_taste", "change", "age", "town")
    assert {key: sum(groups.values()) for key, groups in sizes.items()} == {
        (fold, group_by): n_of[fold] for fold in ("valid", "test") for group_by in groupings
    }
    # 8 of 80 users are missing in the users source, too few for a group of their own
    assert set(sizes["valid", "town"]) == {"Köln «é»", "other"}
    assert len(sizes["valid", "activity"]) > 1
    assert all(n >= 8 for groups in sizes.values() for n in groups.values())
    on_test = [row.asDict() for row in rows if row["fold"] == "test"]
    assert sorted(map(str, summary.groups)) == sorted(map(str, on_test))
    gold = storage.read(t.GOLD_GROUP_METRICS)
    assert gold.count() == storage.count(t.GROUP_METRICS)
    assert gold.select("run_id").distinct().collect() == [(summary.run_id,)]
    assert "user_idx" not in gold.columns and "user_id" not in gold.columns


@pytest.mark.spark
def test_the_gate_names_the_group_that_loses_most(shop: Any) -> None:
    _, _, storage, summary = shop
    found = storage.read(t.GROUP_METRICS, "valid").where("model_name = 'blend' and k = 10 and group_by <> 'change'")
    losers = [row for row in found.collect() if row["difference"] < 0]
    certain = [row for row in losers if row["difference_high"] < 0]
    if losers:
        worst = min(certain or losers, key=lambda row: row["difference"])
        assert f"loses most: {worst['group']}" in summary.verdict or f" {worst['group']} " in summary.verdict
    assert any("takes from some users" in note for note in summary.notes) is bool(certain)


@pytest.mark.spark
def test_a_changed_source_makes_everything_stale(shop: Any) -> None:
    spark, config, _, _ = shop
    path = Path(config.source.interactions.path)
    before, times = path.read_bytes(), path.stat()
    try:
        path.write_bytes(before + b"u000,01,1700000000\n")
        assert all(planned.runs for planned in plan(spark, config))
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.spark
def test_one_who_asks_to_be_forgotten_makes_everything_stale(shop: Any, tmp_path: Path) -> None:
    spark, config, storage, _ = shop
    names = t.FORGOTTEN_USERS.schema
    storage.write(t.FORGOTTEN_USERS, spark.createDataFrame([("0f" * 32,)], names))
    try:
        assert all(planned.runs for planned in plan(spark, config))
        elsewhere = config.model_copy(
            update={"tables": config.tables.model_copy(update={"root": str(tmp_path / "other")})}
        )
        other = Storage(spark, elsewhere, "run-a")
        forget_everywhere(storage, other, elsewhere)
        assert other.read(t.FORGOTTEN_USERS).collect() == storage.read(t.FORGOTTEN_USERS).collect()
        version = other.version(t.FORGOTTEN_USERS)
        forget_everywhere(storage, other, elsewhere)
        assert other.version(t.FORGOTTEN_USERS) == version, "what is known is not written again"
    finally:
        storage.write(t.FORGOTTEN_USERS, spark.createDataFrame([], names))
    assert not any(planned.runs for planned in plan(spark, config))


@pytest.mark.spark
def test_folds_see_only_what_they_may(shop: Any) -> None:
    _, _, storage, _ = shop
    split = storage.read(t.INTERACTIONS_SPLIT)
    for fold, allowed in {"valid": ["train"], "test": ["train", "valid"], "live": ["train", "valid", "test"]}.items():
        seen = storage.read(t.ITEM_SEGMENTS, fold).agg({"n_interactions": "sum"}).first()[0]
        assert seen == split.where(split["split"].isin(*allowed)).count()


@pytest.mark.spark
def test_the_gate_says_what_it_decided(shop: Any) -> None:
    _, config, storage, _ = shop
    row = storage.read(t.ACCEPTED_SETTINGS).first()
    assert (row["verdict"], row["model_name"]) == ("accepted", "blend")
    assert row["reason"].startswith("gate.override is accept; measured: ")
    assert json.loads(row["settings"])["neighbours"] == config.neighbours.model_dump(mode="json")


@pytest.mark.spark
def test_killed_in_rebalance_then_run_again(shop: Any, tmp_path: Path) -> None:
    spark, _, undisturbed, _ = shop
    settings = write_whole_shop(tmp_path)
    killed_run(tmp_path, settings, "rebalance", 1.0, "--purpose", "produce", "--to", "popularity")
    config = Config.model_validate(settings)
    run(spark, config, purpose="produce", last="popularity")
    disturbed = Storage(spark, config)
    compared = [table for table in COMPARED if disturbed.exists(table)]
    assert len(compared) >= 9
    for table in compared:
        assert rows_of(disturbed, table, ("live",)) == rows_of(undisturbed, table, ("live",)), table.full_name


@pytest.mark.spark
def test_a_held_lock_names_its_holder_and_its_own_run_takes_it_over(shop: Any) -> None:
    spark, config, _, _ = shop
    first, second = Storage(spark, config, "run-a"), Storage(spark, config, "run-b")
    with RunLock(first, config):
        with pytest.raises(RunLockedError, match="run run-a holds these tables: owner"), RunLock(second, config):
            pass
        with RunLock(Storage(spark, config, "run-a"), config):
            pass
    with RunLock(second, config):
        pass


@pytest.mark.spark
def test_produce_alone_uses_accepted_settings(shop: Any) -> None:
    spark, config, _, _ = shop
    changed = config.model_copy(update={"neighbours": config.neighbours.model_copy(update={"decay": 0.3})})
    summary = run(spark, changed, purpose="produce")
    assert any("stand in for the conf's: neighbours" in note for note in summary.notes)
    assert {event.kind for event in summary.stages} == {"up_to_date"}


@pytest.mark.spark
def test_a_stage_that_was_stopped_half_way_is_not_taken_for_done(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spark, config, _, _ = shop
    changed = config.model_copy(update={"gate": config.gate.model_copy(update={"max_head_loss": 0.5})})

    def stop(*_: Any) -> None:
        raise RuntimeError("stopped")

    monkeypatch.setattr("lt_spark.stages.gating.decide", stop)
    with pytest.raises(RuntimeError, match="stopped"):
        run(spark, changed)
    stale = {planned.stage: planned.reason for planned in plan(spark, config) if planned.runs}
    assert stale == {"gate": "it was stopped half-way"}


@pytest.mark.spark
@pytest.mark.slow
def test_a_whole_run_in_a_catalog(spark: Any, tmp_path: Path) -> None:
    settings = write_shop(tmp_path)
    settings["tables"] = {"catalog": "spark_catalog", "silver_schema": "silver_shop", "gold_schema": "gold_shop"}
    config = Config.model_validate(settings)
    try:
        run(spark, config)
        storage = Storage(spark, config)
        named = spark.table("spark_catalog.gold_shop.recommendations")
        assert named.select("user_id").distinct().count() == N_USERS
        for table in t.ALL_TABLES:
            if table.layer == "gold":
                assert storage.count(table) > 0, table.name
        assert {event.kind for event in run(spark, config).stages} == {"up_to_date"}
    finally:
        for schema in ("silver_shop", "gold_shop"):
            spark.sql(f"DROP SCHEMA IF EXISTS spark_catalog.{schema} CASCADE")
