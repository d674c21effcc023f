"""The command line: what it prints where, and how it ends. No Spark."""

import json
import subprocess
import sys
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pyspark
import pytest
from typer.testing import CliRunner

import lt_spark
from lt_spark import cli, cli_output
from lt_spark.core import session, storage
from lt_spark.core.errors import StorageError
from lt_spark.core.tables import GOLD_RECOMMENDATIONS, ITEMS
from lt_spark.core.tables.find import find_table
from lt_spark.passes import PlannedStage, RunSummary, StageEvent
from lt_spark.pipeline import STAGES

CONF = "source:\n  interactions:\n    path: log.csv\ntables:\n  root: warehouse/mine\n"


def metric(model, segment, value, difference):
    bounds = {"value_low": value - 0.01, "value_high": value + 0.01}
    spread = {"difference_low": difference - 0.005, "difference_high": difference + 0.005}
    return {
        "model_name": model,
        "segment": segment,
        "value": value,
        "difference": difference,
        **bounds,
        **spread,
        "p_value": 0.01,
    }


EVENTS = [
    StageEvent("start", "clean", None, 1, 3, 0.0, {}),
    StageEvent("done", "clean", None, 1, 3, 4.25, {"silver.items": 1682}),
    StageEvent("up_to_date", "segment", "valid", 2, 3, 0.0, {}),
    StageEvent("done", "segment", "test", 3, 3, 75.0, {"silver.item_segments": 5}),
]


def group_row(group_by, group, order, difference):
    """A row of silver.group_metrics on test, without what the tables do not show."""
    return {
        "group_by": group_by,
        "group": group,
        "group_order": order,
        "k": 10,
        "n_users": 1200,
        "value": 0.05,
        "difference": difference,
        "difference_low": None if group_by == "change" else difference - 0.01,
        "difference_high": None if group_by == "change" else difference + 0.01,
        "share_gaining": 0.25,
        "share_losing": 0.125,
    }


GROUPS = [
    *(group_row("town", f"[b]{n}[/b]", n, 0.01) for n in range(1, 13)),
    group_row("history_length", "1-2", 1, 0.3),
    group_row("change", "-0.5000", 1, -0.5),
    group_row("activity", "heavy", 3, 0.02),
    group_row("activity", "light", 1, -0.02),
]
SUMMARY = RunSummary(
    run_id="r1",
    purpose="both",
    seconds=80.0,
    stages=[event for event in EVENTS if event.kind != "start"],
    tables={"silver.items": "/w/silver/items", "gold.recommendations": "/w/gold/recommendations"},
    metrics=[
        metric("blend", "all", 0.08, 0.014),
        metric("als_plain", "all", 0.066, 0.0),
        metric("als_plain", "top20_tail", 0.021, 0.0),
        metric("blend", "top20_tail", 0.05, float("nan")),
    ],
    verdict="accepted: tail NDCG is higher",
    notes=["two users are [b]bots[/b]"],
    groups=GROUPS,
)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A command line in a folder with lt-spark.yaml, where starting Spark is an error."""
    monkeypatch.chdir(tmp_path)
    Path("lt-spark.yaml").write_text(CONF)
    Path("log.csv").write_text("user_id,item_id,timestamp\n" + "1,2,3\n" * 5)

    def no_spark(config, app_name):
        raise AssertionError("Spark was started")

    monkeypatch.setattr(session, "start_session", no_spark)
    return CliRunner()


@pytest.fixture
def calls(runner, monkeypatch):
    """The calls of lt_spark.run and lt_spark.plan, which run nothing."""
    seen = []

    def run(spark, config, **arguments):
        seen.append(SimpleNamespace(config=config, **arguments))
        for event in EVENTS if arguments["listener"] else []:
            arguments["listener"](event)
        return SUMMARY

    def plan(spark, config, **arguments):
        seen.append(SimpleNamespace(config=config, **arguments))
        return [
            PlannedStage("clean", None, False, "nothing changed", None),
            PlannedStage("segment", "test", True, "segment.head changed", 75.0),
            PlannedStage("blend", "test", True, "never run", None),
        ]

    monkeypatch.setattr(session, "start_session", lambda config, app_name: None)
    monkeypatch.setattr(lt_spark, "run", run)
    monkeypatch.setattr(lt_spark, "plan", plan)
    return seen


def test_run_ends_with_figures_times_tables_and_what_is_next(runner, calls):
    result = runner.invoke(cli.app, ["run", "--set", "als.rank=8"])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    models = [line[:2] for line in lines if line and line[0] in ("all", "tail")]
    # the baseline first, whatever the order of the rows
    assert models == [["all", "als_plain"], ["all", "blend"], ["tail", "als_plain"], ["tail", "blend"]]
    assert ["tail", "blend", "0.0500", "[0.0400,", "0.0600]", "-"] in lines
    assert "0.0800 [0.0700, 0.0900]" in result.stdout
    assert "+0.0140 [+0.0090, +0.0190]" in result.stdout
    assert "nan" not in result.stdout
    assert "accepted: tail NDCG is higher" in result.stdout
    stages = [line for line in lines if line and line[0] in ("clean", "segment")]
    assert stages == [["segment", "75.0"], ["clean", "4.2"]]  # the slowest first
    assert "took 1 min 20 s: 2 stage runs done, 1 up to date and not run again" in result.stdout
    assert "2 Delta tables in warehouse/mine, 1 of them gold" in result.stdout
    assert "Note: two users are [b]bots[/b]" in result.stdout
    assert "lt-spark show gold.recommendations -c lt-spark.yaml --set als.rank=8" in result.stdout


def test_run_hands_its_options_on(runner, calls):
    Path("my conf.yaml").write_text(CONF)
    first, last = STAGES[0].name, STAGES[-1].name
    options = [
        "--purpose",
        "evaluate",
        "--from",
        first,
        "--to",
        last,
        "--force",
        "--run-id",
        "r9",
        "--set",
        "als.rank=8",
    ]
    assert runner.invoke(cli.app, ["run", "-c", "my conf.yaml", *options]).exit_code == 0
    (call,) = calls
    assert (call.purpose, call.first, call.last, call.force, call.run_id) == ("evaluate", first, last, True, "r9")
    assert call.stages is None
    assert call.config.als.rank == 8
    assert call.config.tables.root == "warehouse/mine"
    assert runner.invoke(cli.app, ["run", "--only", first, "--only", last]).exit_code == 0
    assert list(calls[1].stages) == [first, last]
    assert calls[1].run_id != call.run_id


def test_progress_is_a_line_a_stage_on_stderr(runner, calls):
    result = runner.invoke(cli.app, ["run"])
    assert result.stderr.splitlines() == [
        "[1/3] clean done in 4.2 s, items 1,682 rows",
        "[2/3] segment (valid) up to date",
        "[3/3] segment (test) done in 1 min 15 s, item_segments 5 rows",
    ]


def test_progress_is_a_bar_on_a_terminal(runner, calls, monkeypatch):
    terminal = StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with cli_output.ProgressDisplay("r1", quiet=False, log_json=False) as listener:
        for event in EVENTS:
            listener(event)
    assert "segment (test) done in 1 min 15 s" in terminal.getvalue()


def test_the_summary_says_who_gains_and_who_loses(runner, calls):
    lines = [line.split() for line in runner.invoke(cli.app, ["run"]).stdout.splitlines()]
    shown = [line for line in lines if line and line[0] in ("activity", "town", "history_length", "change")]
    assert shown[0] == ["activity", "light", "1,200", "0.0500", "-0.0200", "[-0.0300,", "-0.0100]", "25%", "12%"]
    assert [line[1] for line in shown] == ["light", "heavy", *(f"[b]{n}[/b]" for n in range(1, 11)), "(2"]
    assert any(line[:3] == ["users", "by", "group"] and "NDCG@10" in line for line in lines)


def test_quiet_prints_nothing(runner, calls):
    result = runner.invoke(cli.app, ["run", "--quiet"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_json_is_one_object_on_stdout_and_nothing_else(runner, calls):
    result = runner.invoke(cli.app, ["run", "--json"])
    found = json.loads(result.stdout)
    assert found["run_id"] == "r1"
    assert found["stages"][0]["rows"] == {"silver.items": 1682}
    assert found["metrics"][3]["difference"] is None  # NaN is no JSON
    assert len(result.stdout.splitlines()) == 1


def test_log_json_is_a_line_an_event_on_stderr(runner, calls):
    result = runner.invoke(cli.app, ["run", "--log-json", "--quiet", "--run-id", "r9"])
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert len(lines) == len(EVENTS)
    assert {line.pop("run_id") for line in lines} == {"r9"}
    assert all(line.pop("time").endswith("Z") for line in lines)
    assert lines == [asdict(event) for event in EVENTS]


def test_dry_run_says_what_would_run_and_why(runner, calls):
    result = runner.invoke(cli.app, ["run", "--dry-run"])
    assert result.exit_code == 0
    assert "segment.head changed" in result.stdout
    assert "2 of 3 stage runs would run, about 1 min 15 s by earlier runs, and 1 of unknown length." in result.stdout
    as_json = json.loads(runner.invoke(cli.app, ["run", "--dry-run", "--json"]).stdout)
    assert [stage["runs"] for stage in as_json["stages"]] == [False, True, True]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "-c", "none.yaml"], "no configuration file at none.yaml"),
        (["run", "--set", "als.rnak=3"], "no such key: als.rnak. Did you mean 'rank'?"),
        (["run", "--set", "source.interactions.path="], "source.interactions.path is empty"),
        (["run", "--only", "segmnt"], "no stage 'segmnt'. Did you mean 'segment'?"),
        (["run", "--from", "nothing"], "no stage 'nothing'"),
        (["run", "--purpose", "fun"], "fun"),
        (["nothing"], "nothing"),
        (["config", "check", "--set", "source.items.path=none.csv"], "source.items.path: expected a file or folder"),
        (["config", "check", "--set", "source.users.path=none.csv"], "source.users.path: expected a file or folder"),
        (["show", "gold.recomendations"], "Did you mean 'gold.recommendations'?"),
        (["show", "recommendations"], "may be silver.recommendations or gold.recommendations"),
        (["init", "none.csv", "-o", "new.yaml"], "no file at none.csv"),
        (["init", "log.csv"], "lt-spark.yaml is there already"),
    ],
)
def test_a_mistake_of_the_user_ends_with_2_and_no_trace(runner, arguments, expected):
    result = runner.invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_error_of_a_stage_ends_with_2(runner, calls, monkeypatch):
    def locked(*args, **arguments):
        raise StorageError("another run holds the tables")

    monkeypatch.setattr(lt_spark, "run", locked)
    result = runner.invoke(cli.app, ["run"])
    assert (result.exit_code, result.stderr) == (2, "StorageError: another run holds the tables\n")
    with_trace = runner.invoke(cli.app, ["run", "--debug"])
    assert with_trace.exit_code == 2
    assert "Traceback" in with_trace.stderr


def test_a_fault_of_ours_ends_with_1_and_says_so(runner, calls, monkeypatch):
    def broken(*args, **arguments):
        raise ZeroDivisionError("division by zero\nand a long story")

    monkeypatch.setattr(lt_spark, "run", broken)
    result = runner.invoke(cli.app, ["run"])
    assert result.exit_code == 1
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert "fault of ours" in result.stderr
    assert "Traceback" not in result.stderr
    assert "long story" not in result.stderr
    assert "Traceback" in runner.invoke(cli.app, ["--debug", "run"]).stderr


def test_interrupted(runner, calls, monkeypatch):
    def interrupted(*args, **arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(lt_spark, "run", interrupted)
    result = runner.invoke(cli.app, ["run"])
    assert result.exit_code == 1
    assert "Run the same command again" in result.stderr


def test_a_missing_package_names_the_install(runner, monkeypatch):
    def missing(config, app_name):
        raise ModuleNotFoundError("No module named 'pyspark'", name="pyspark.sql")

    monkeypatch.setattr(session, "start_session", missing)
    result = runner.invoke(cli.app, ["tables"])
    assert result.exit_code == 2
    assert "pip install 'lt-spark[local]'" in result.stderr


def test_stages_lists_every_stage(runner):
    result = runner.invoke(cli.app, ["stages"])
    assert result.exit_code == 0
    found = json.loads(runner.invoke(cli.app, ["stages", "--json"]).stdout)["stages"]
    assert [stage["stage"] for stage in found] == [stage.name for stage in STAGES]
    for stage in STAGES:
        assert stage.name in result.stdout
        assert all(table.full_name in result.stdout for table in stage.writes)


def test_config_check(runner):
    result = runner.invoke(cli.app, ["config", "check"])
    assert result.exit_code == 0
    assert "lt-spark.yaml is right: 2 keys set" in result.stdout


def test_config_show_names_the_source_of_each_value(runner):
    result = runner.invoke(cli.app, ["config", "show", "--set", "als.rank=8", "--json"])
    found = json.loads(result.stdout)
    assert found["als.rank"] == {"value": 8, "source": "--set"}
    assert found["tables.root"] == {"value": "warehouse/mine", "source": "lt-spark.yaml"}
    assert found["core.seed"] == {"value": 42, "source": "default"}
    lines = [line.split() for line in runner.invoke(cli.app, ["config", "show"]).stdout.splitlines()]
    assert ["tables.root", "'warehouse/mine'", "lt-spark.yaml"] in lines


def test_init_writes_a_conf_that_check_takes(runner):
    result = runner.invoke(cli.app, ["init", "log.csv", "-o", "new/mine.yaml"])
    assert result.exit_code == 0
    assert "lt-spark run -c new/mine.yaml" in result.stdout
    assert runner.invoke(cli.app, ["config", "check", "-c", "new/mine.yaml"]).exit_code == 0


def test_init_overwrites_only_when_forced(runner):
    assert runner.invoke(cli.app, ["init", "log.csv"]).exit_code == 2
    assert Path("lt-spark.yaml").read_text() == CONF
    assert runner.invoke(cli.app, ["init", "log.csv", "--force"]).exit_code == 0
    assert Path("lt-spark.yaml").read_text() != CONF


def test_init_says_what_it_could_not_guess(runner):
    Path("odd.csv").write_text("foo,bar\n" + "a,1\nb,2\na,2\n" * 5)
    result = runner.invoke(cli.app, ["init", "odd.csv", "-o", "odd.yaml"])
    assert result.exit_code == 2
    assert "source.interactions.columns.item: no column of odd.csv" in result.stderr
    assert "FILL-IN" in Path("odd.yaml").read_text()


class FakeFrame:
    def __init__(self, rows):
        self.rows = rows

    def orderBy(self, *key):
        return FakeFrame(sorted(self.rows, key=lambda row: [row[name] for name in key]))

    def limit(self, n):
        return FakeFrame(self.rows[:n])

    def collect(self):
        return [SimpleNamespace(asDict=lambda recursive, row=row: dict(row)) for row in self.rows]


class FakeStorage:
    def __init__(self, spark, config):
        self.root = config.tables.root

    def exists(self, table):
        return table in (ITEMS, GOLD_RECOMMENDATIONS)

    def count(self, table):
        return 1682

    def version(self, table):
        return 3

    def location(self, table):
        return f"{self.root}/{table.full_name}"

    def read(self, table):
        row = dict.fromkeys(table.column_names)
        return FakeFrame([{**row, "user_id": f"secret{9 - i}", "rank": 1, "title": "[b]x[/b] " * 20} for i in range(5)])


@pytest.fixture
def tables(runner, monkeypatch):
    monkeypatch.setattr(session, "start_session", lambda config, app_name: None)
    monkeypatch.setattr(storage, "Storage", FakeStorage)


def test_tables(runner, tables):
    result = runner.invoke(cli.app, ["tables"])
    assert result.exit_code == 0
    assert ["silver.items", "1,682", "3"] in [line.split()[:3] for line in result.stdout.splitlines()]
    assert "2 tables in warehouse/mine" in result.stdout
    found = json.loads(runner.invoke(cli.app, ["tables", "--json"]).stdout)["tables"]
    assert [table["location"] for table in found] == [
        "warehouse/mine/silver.items",
        "warehouse/mine/gold.recommendations",
    ]


def test_show_hides_user_ids_until_asked(runner, tables):
    hidden = runner.invoke(cli.app, ["show", "gold.recommendations", "-n", "3"])
    assert hidden.exit_code == 0
    assert "secret" not in hidden.stdout
    assert "•••" in hidden.stdout
    assert "[b]x[/b]" in hidden.stdout  # text of the data is no markup
    hidden_json = runner.invoke(cli.app, ["show", "gold.recommendations", "--json"])
    assert "secret" not in hidden_json.stdout
    shown = json.loads(
        runner.invoke(cli.app, ["show", "gold.recommendations", "-n", "3", "--show-user-ids", "--json"]).stdout
    )
    assert [row["user_id"] for row in shown["rows"]] == ["secret5", "secret6", "secret7"]  # by key


def test_show_of_a_table_that_is_not_there(runner, tables):
    result = runner.invoke(cli.app, ["show", "silver.users"])
    assert result.exit_code == 2
    assert "silver.users is not at warehouse/mine/silver.users yet" in result.stderr


def test_a_table_may_be_named_without_its_layer():
    assert find_table("items") is ITEMS
    assert find_table("gold.recommendations") is GOLD_RECOMMENDATIONS


def test_version(runner):
    result = runner.invoke(cli.app, ["version"])
    assert result.exit_code == 0
    assert f"pyspark {pyspark.__version__}\n" in result.stdout


def test_help_starts_no_spark():
    code = "import sys; from lt_spark.cli import app; sys.argv[1:] = ['stages']; app(standalone_mode=False); "
    code += "from pyspark import SparkContext; assert SparkContext._gateway is None"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(lt_spark.__path__[0]).parent)
