"""The ledger: its variants, its choice, and that it computes nothing twice."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from lt_spark import cli, cli_ledger, experiments, variants
from lt_spark.core import session
from lt_spark.core import tables as t
from lt_spark.core.config import Config, GateConfig
from lt_spark.core.errors import ConfigError
from lt_spark.core.storage import Storage
from lt_spark.measure.gate import Verdict
from lt_spark.measure.ledger import Judged, choose, judge
from lt_spark.passes import StageEvent, run

CONF = Path(__file__).parents[1] / "conf"
SHARED = ("clean", "split", "segment", "context", "popularity", "tune_als", "als_plain", "neighbours")
OF_SEQUENCE = ("tune_bert", "bert", "tune", "blend", "evaluate", "groups")
OF_VARIANT = ("rebalance", "als", *OF_SEQUENCE)


def changed(config, **sections):
    """The configuration with some keys of some sections set."""
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    )


# ---- without Spark


def test_the_hash_of_settings_knows_no_place():
    config = Config()
    assert variants.settings_hash(config) == variants.settings_hash(
        changed(config, tables={"root": "elsewhere"}, files={"root": "there"})
    )
    assert variants.settings_hash(config) != variants.settings_hash(changed(config, core={"seed": 7}))


def ndcg(model, segment, value, baseline, low):
    return {
        "model_name": model,
        "segment": segment,
        "value": value,
        "baseline_value": baseline,
        "difference_low": low,
    }


def test_judge_gives_each_model_its_verdict_and_goal():
    rows = [
        ndcg("blend", "all", 0.08, 0.06, 0.01),
        ndcg("blend", "top20_tail", 0.05, 0.02, 0.01),
        ndcg("blend", "mid", 0.9, 0.02, 0.01),
        ndcg("als", "all", 0.06, 0.06, -0.01),
        ndcg("als", "top20_tail", 0.03, 0.02, 0.0),
        ndcg("als_plain", "all", 0.06, 0.06, 0.0),
        ndcg("popularity", "all", 0.5, 0.06, 0.3),
    ]
    found = judge("plain", rows, GateConfig())
    assert [(one.model_name, one.word) for one in found] == [
        ("als_plain", "baseline"),
        ("als", "refused"),  # -.01 is below -2 % of .06
        ("blend", "accepted"),
    ]
    assert [one.goal for one in found] == pytest.approx([0.06, 0.06 + 0.03, 0.08 + 0.05])


def test_judge_lets_no_model_rob_a_group_where_the_gate_says_so():
    rows = [ndcg(model, segment, 0.08, 0.06, 0.01) for model in ("als", "blend") for segment in ("all", "top20_tail")]
    lost = {"group_by": "activity", "group": "light", "baseline_value": 0.06}
    lost |= {"difference": -0.02, "difference_low": -0.03, "difference_high": -0.01}
    groups = [{**lost, "model_name": "blend"}]
    words = {}
    for share in (None, 0.0, 0.5):
        found = judge("plain", rows, GateConfig(max_group_loss=share), groups, ("activity",))
        words[share] = {one.model_name: one.word for one in found}
        told = {one.model_name: "loses most: light users" in one.verdict.reason for one in found}
        assert told == {"als": False, "blend": True}
    assert words[0.0] == {"als": "accepted", "blend": "refused"}
    assert words[None] == words[0.5] == {"als": "accepted", "blend": "accepted"}
    assert {one.word for one in judge("plain", rows, GateConfig(max_group_loss=0.0), groups, ("age",))} == {"accepted"}


def test_choose_takes_the_best_accepted_and_the_first_of_equals():
    def one(variant, model, is_accepted, goal):
        return Judged(variant, model, Verdict(is_accepted, "why"), goal)

    refused = one("plain", "blend", False, 0.9)
    baseline = one("plain", "als_plain", True, 0.8)
    first, second = one("plain", "neighbours", True, 0.13), one("rebalanced", "neighbours", True, 0.13)
    assert choose([refused, baseline, first, second]) is first
    assert choose([refused, first, one("rebalanced", "blend", True, 0.14)]).model_name == "blend"
    assert choose([refused, baseline]) is None


def test_ids_of_another_numbering_are_not_mixed():
    def donor(name, key, run_id):
        return (name, {("clean", ""): {"stage_key": key, "run_id": run_id}})

    def clean(run_id=None):
        done = None if run_id is None else {"run_id": run_id}
        return SimpleNamespace(stage=SimpleNamespace(name="clean"), key="k", is_done=done is not None, done=done)

    main, other, stale, empty = donor("main", "k", "r1"), donor("other", "k", "r2"), donor("s", "old", "r1"), ("e", {})
    # a fresh root takes the ids of the first that has them, and gives up its own
    assert experiments._givers(clean(), [empty, stale, main, other]) == ([main], True)
    # a root with ids of its own takes from those with the same
    assert experiments._givers(clean("r2"), [empty, stale, main, other]) == ([other], False)
    assert experiments._givers(clean("r3"), [main, other]) == ([], False)
    assert experiments._givers(clean(), [empty, stale]) == ([], False)


def test_events_are_counted_over_all_variants():
    told = []
    listener = experiments._named(told.append, "rebalanced", 1, 2)
    listener(StageEvent("start", "als", "test", 3, 10))
    assert told == [StageEvent("start", "rebalanced als", "test", 13, 20)]
    assert experiments._named(None, "plain", 0, 2) is None


def ledger_row(variant, model, fold, segment, value, difference, verdict="accepted"):
    return {
        "variant": variant,
        "model_name": model,
        "fold": fold,
        "segment": segment,
        "k": 10,
        "metric": "ndcg",
        "value": value,
        "difference": difference,
        "difference_low": difference - 0.01,
        "difference_high": difference + 0.01,
        "verdict": verdict,
        "reason": "because",
    }


LEDGER_ROWS = [
    ledger_row("plain", "blend", "test", "all", 0.08, 0.02),
    ledger_row("plain", "blend", "valid", "all", 0.09, 0.03),
    ledger_row("plain", "blend", "valid", "top20_tail", 0.05, 0.04),
    ledger_row("plain", "als_plain", "valid", "all", 0.06, 0.0, "baseline"),
    {**ledger_row("plain", "blend", "valid", "all", 0.7, 0.1), "metric": "coverage"},
    {**ledger_row("plain", "blend", "valid", "top20_tail", 0.6, 0.1), "metric": "coverage"},
]


def test_the_command_prints_a_line_a_variant_model_and_fold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lt-spark.yaml").write_text("source:\n  interactions:\n    path: log.csv\n")
    monkeypatch.setattr(session, "start_session", lambda config, app_name: None)
    monkeypatch.setattr(experiments, "run_ledger", lambda spark, config, listener: LEDGER_ROWS)
    result = CliRunner().invoke(cli.app, ["ledger"])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("plain ") and "[" in line]
    assert [line[1:3] for line in lines] == [["blend", "valid"], ["blend", "test"]]
    assert lines[0][3:] == ["0.0900", "+0.0300", "[+0.0200,", "+0.0400]"] + [
        "0.0500",
        "+0.0400",
        "[+0.0300,",
        "+0.0500]",
        "accepted",
    ]
    assert "plain blend: accepted: because" in result.stdout
    further = [line.split() for line in result.stdout.splitlines() if "0.7000" in line]
    assert further == [["plain", "blend", "valid", "-", "-", "-", "-", "0.7000", "0.6000", "-", "-"]]
    as_json = json.loads(CliRunner().invoke(cli.app, ["ledger", "--json"]).stdout)
    assert len(as_json["ledger"]) == len(LEDGER_ROWS)
    assert CliRunner().invoke(cli.app, ["ledger", "-q"]).stdout == ""


def test_the_baseline_stands_first_and_against_nothing():
    table = cli_ledger.ledger_table(LEDGER_ROWS)
    models = [cell.plain for cell in table.columns[1].cells]
    assert models == ["als_plain", "blend", "blend"]
    assert [cell.plain for cell in table.columns[4].cells][0] == ""


def test_variants_stand_in_the_order_of_what_they_show():
    names = ("small", "disturbed", "without_als", "both", "noise", "plain", "embeddings_plain")
    rows = [
        ledger_row(name, model, "test", "all", 0.1, 0.0) for name in names for model in ("als_plain", "als", "blend")
    ]
    _, lines = cli_ledger.ledger_lines(rows, all_models=False)
    assert [line[:2] for line in lines] == [
        ("plain", "als_plain"),  # the same in all variants: shown once
        *[(name, model) for name in ("plain", "both") for model in ("als", "blend")],
        ("without_als", "blend"),
        *[(name, m) for name in ("embeddings_plain", "noise", "disturbed", "small") for m in ("als", "blend")],
    ]
    other = [row | {"value": 0.05} if row["variant"] == "disturbed" else row for row in rows]
    _, lines = cli_ledger.ledger_lines(other, all_models=False)
    assert [line[0] for line in lines if line[1] == "als_plain"] == ["plain", "disturbed"]
    text = cli_ledger.markdown(rows).splitlines()
    assert len(text) == 2 + len(rows)
    assert len({line.count("|") for line in text}) == 1


# ---- on Spark: a log small enough to look at


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Users walk through a ring of 30 items from a start of their own: what comes next is what came next."""
    folder = tmp_path_factory.mktemp("ledger")
    random_ = random.Random(3)
    lines = ["user_id,item_id,timestamp"]
    for user in range(60):
        start = int(30 * random_.random() ** 2)
        for step in range(7):
            lines.append(f"u{user},i{(start + step) % 30},{1_600_000_000 + 1_000 * user + step}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    config = Config()
    log = config.source.interactions.model_copy(update={"path": str(folder / "log.csv")})
    return changed(
        config,
        tables={"root": str(folder / "w")},
        files={"root": str(folder / "files")},
        source={"interactions": log},
        als_plain={"ranks": (4,), "alphas": (10.0,), "max_iter": 2, "n_blocks": 1},
        als={"max_iter": 2, "n_blocks": 1},
        candidates={"n": 20},
        evaluate={"n_replicates": 100, "ks": (5, 10)},
        blend={"models": ("als", "neighbours", "bert", "popularity")},
        bert={"embedding_size": 8, "n_layers": 2, "max_length": 8, "epochs": 2},
        ledger={"parts": ("factors", "leave_one_out"), "variants": {"small": {"bert.n_layers": 1}}},
    )


@pytest.fixture(scope="module")
def told(spark, config):
    """The rows and events of a first ledger, where the main root already has the split."""
    run(spark, config, purpose="evaluate", last="split")
    events = []
    rows = experiments.run_ledger(spark, config, listener=events.append)
    return SimpleNamespace(rows=rows, events=events)


on_spark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(1800)]


def marked(test):
    for mark in on_spark:
        test = mark(test)
    return test


def kinds(events, variant):
    """What happened to each stage of a variant, folds together."""
    found = {}
    for event in events:
        if event.kind in ("done", "up_to_date") and event.stage.startswith(f"{variant} "):
            found.setdefault(event.stage.split(" ")[1], set()).add(event.kind)
    return found


@marked
def test_what_another_root_has_done_is_copied(told):
    # the conf as it stands comes first
    rebalanced = dict.fromkeys((*SHARED, *OF_VARIANT), {"done"}) | {"clean": {"up_to_date"}, "split": {"up_to_date"}}
    assert kinds(told.events, "rebalanced") == rebalanced
    plain = dict.fromkeys(OF_VARIANT, {"done"}) | dict.fromkeys(SHARED, {"up_to_date"})
    assert kinds(told.events, "plain") == plain
    # only the sequence model, and what comes of it, is not the rebalanced variant's
    small = dict.fromkeys((*SHARED, *OF_VARIANT), {"up_to_date"}) | dict.fromkeys(OF_SEQUENCE, {"done"})
    assert kinds(told.events, "small") == small
    # a blend without one of its models is the same models, weighed and blended anew
    rest = dict.fromkeys(("tune", "blend", "evaluate", "groups"), {"done"})
    without = dict.fromkeys((*SHARED, *OF_VARIANT), {"up_to_date"}) | rest
    assert kinds(told.events, "without_als") == without
    assert kinds(told.events, "without_bert") == {k: v for k, v in without.items() if k not in ("tune_bert", "bert")}


@marked
def test_every_variant_model_fold_and_metric_has_its_row(told):
    found = {(row["variant"], row["model_name"], row["fold"]) for row in told.rows}
    measured = ("als_plain", "als", "neighbours", "bert", "blend")
    variants = {name: measured for name in ("plain", "rebalanced", "small", "without_popularity")}
    for left_out in ("als", "neighbours", "bert"):
        variants[f"without_{left_out}"] = tuple(model for model in measured if model != left_out)
    assert found == {
        (variant, model, fold) for variant, models in variants.items() for model in models for fold in ("valid", "test")
    }
    assert {row["k"] for row in told.rows} == {10}
    of_blend = {
        (row["segment"], row["metric"]) for row in told.rows if row["model_name"] == "blend" and row["fold"] == "valid"
    }
    assert {("all", name) for name in ("ndcg", "recall", "tail_share", "coverage", "gini")} < of_blend
    assert {("top20_tail", "ndcg"), ("top20_head", "ndcg"), ("top20_tail", "coverage")} < of_blend
    assert ("light_users", "ndcg") in of_blend  # all have seven events: none is heavy
    assert len({row["config_hash"] for row in told.rows}) == 7
    by_key = {tuple(row[name] for name in t.LEDGER.key): row for row in told.rows}
    for (_, model, *rest), row in by_key.items():
        assert (row["verdict"] == "baseline") is (model == "als_plain")
        if model in ("als_plain", "neighbours"):  # rebalancing does not touch them
            other = by_key["plain", model, *rest]
            assert (row["value"], row["difference_low"]) == (other["value"], other["difference_low"])


@marked
def test_the_choice_is_the_best_accepted_on_valid_and_produce_uses_it(spark, config, told):
    goals = {}
    for row in told.rows:
        if row["variant"].startswith("without_"):
            continue  # produce does not use these
        is_goal = row["metric"] == "ndcg" and row["fold"] == "valid" and row["segment"] in ("all", "top20_tail")
        if is_goal and row["verdict"] == "accepted":
            key = (row["variant"], row["model_name"])
            goals[key] = goals.get(key, 0.0) + row["value"]
    assert goals, "the ring is made so that neighbours beat a 2-iteration ALS"
    storage = Storage(spark, config)
    (accepted,) = storage.read(t.ACCEPTED_SETTINGS).collect()
    variant, model = accepted["reason"].split(":")[0].split(" ")
    assert (accepted["verdict"], accepted["model_name"]) == ("accepted", model)
    assert goals[variant, model] == pytest.approx(max(goals.values()), abs=1e-12)
    settings = json.loads(accepted["settings"])
    assert settings["rebalance"]["method"] == ("none" if variant == "plain" else "inverse_power")
    assert settings["bert"]["n_layers"] == (1 if variant == "small" else 2)
    assert settings["blend"]["models"] == (list(config.blend.models) if model == "blend" else [model])
    run(spark, config, purpose="produce", last="blend")
    spoke = storage.read(t.RECOMMENDATIONS, "live").selectExpr("explode(models.model_name) as m").distinct().collect()
    assert spoke and {row["m"] for row in spoke} <= set(settings["blend"]["models"])


@marked
def test_a_second_ledger_does_nothing(spark, config, told):
    storage = Storage(spark, config)
    before = [storage.version(table) for table in (t.LEDGER, t.ACCEPTED_SETTINGS, t.BLEND_WEIGHTS, t.RUN_LOCK)]
    events = []
    rows = experiments.run_ledger(spark, config, listener=events.append)
    assert {event.kind for event in events} == {"up_to_date"}
    assert rows == told.rows
    after = [storage.version(table) for table in (t.LEDGER, t.ACCEPTED_SETTINGS, t.BLEND_WEIGHTS, t.RUN_LOCK)]
    assert after == before


@marked
def test_disturbed_data_are_measured_only(spark, config):
    with pytest.raises(ConfigError, match="expected --purpose evaluate"):
        run(spark, changed(config, disturb={"drop_share": 0.1}), purpose="produce")


@marked
def test_noise_in_the_texts_reaches_the_candidates(spark, config, tmp_path):
    titles = ["item_id,title", *(f"i{i},thing of part{i // 3} and colour{i % 5}" for i in range(30))]
    (tmp_path / "items.csv").write_text("\n".join(titles) + "\n")
    source = config.source
    items = source.items.model_copy(update={"path": str(tmp_path / "items.csv")})
    lists = {}
    for text in ("own", "shuffled"):
        made = changed(
            config,
            source={"items": items},
            tables={"root": str(tmp_path / text)},
            disturb={"text": text},
            blend={"models": ("lexical",)},
        )
        run(spark, made, purpose="evaluate", stages=("clean", "split", "segment", "content"))
        rows = Storage(spark, made).read(t.CANDIDATES["lexical"], "valid").where("rank <= 3").collect()
        lists[text] = {(row["user_idx"], row["item_idx"]) for row in rows}
        names = {row["item_id"]: row["title"] for row in Storage(spark, made).read(t.ITEMS).collect()}
        assert names["i4"] == "thing of part1 and colour4"  # people read what an item is really called
    assert lists["own"] and lists["shuffled"]
    assert len(lists["own"] & lists["shuffled"]) < 0.5 * len(lists["own"])
