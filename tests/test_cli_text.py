"""The commands of the language model: what they are asked, what they hand on, what they print. No Spark."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import lt_spark
from lt_spark import cli, text_quality, text_review
from lt_spark.core import session, storage
from lt_spark.core.errors import DataError
from lt_spark.describe_stage import Estimate
from lt_spark.engines import fetch_model
from lt_spark.engines.model_files import ModelInfo, write_manifest
from lt_spark.passes import PlannedStage, RunSummary

CONF = "source:\n  interactions:\n    path: log.csv\ntables:\n  root: warehouse/mine\n"
QUALITY = {"examples": "nearest", "method": "keywords", "measure": "recall", "low": 0.7, "high": 0.9, "n": 40}


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A command line in a folder with lt-spark.yaml, without Spark."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("lt-spark.yaml").write_text(CONF)
    Path("log.csv").write_text("user_id,item_id,timestamp\n1,2,3\n")
    monkeypatch.setattr(session, "start_session", lambda config, app_name: "the session")
    monkeypatch.setattr(
        storage, "Storage", lambda spark, config, run_id="": SimpleNamespace(spark=spark, config=config, run_id=run_id)
    )
    return CliRunner()


class Calls(list[SimpleNamespace]):
    """Remembers the calls of a function that it stands in for."""

    def instead(self, answer: Any, *names: str) -> Any:
        def called(*given: Any, **named: Any) -> Any:
            self.append(SimpleNamespace(**dict(zip(names, given, strict=True)), **named))
            return answer

        return called


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_fetch(runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    got = SimpleNamespace(folder=Path("models/small"), info=ModelInfo("small", "pkg 1.2", "abc", "encoder"))
    monkeypatch.setattr(fetch_model, "fetch", calls.instead(got, "source", "to"))
    result = runner.invoke(cli.app, ["models", "fetch", "package:small", "--to", "models/small"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "small (pkg 1.2) is in models/small\nsha256 abc\n"
    result = runner.invoke(cli.app, ["models", "fetch", "org/m", "--to", "models/m", "--revision", "v3", "--json"])
    assert json.loads(result.stdout) == {
        "folder": "models/small", "name": "small", "revision": "pkg 1.2", "sha256": "abc", "kind": "encoder"
    }  # fmt: skip
    assert [vars(call) for call in calls] == [
        {"source": "package:small", "to": "models/small", "revision": ""},
        {"source": "org/m", "to": "models/m", "revision": "v3"},
    ]
    assert runner.invoke(cli.app, ["models", "fetch", "org/m"]).exit_code == 2, "--to must be given"


@pytest.fixture
def model(runner: CliRunner) -> Path:
    """A folder that looks like a model's, with its manifest."""
    folder = Path("small")
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    (folder / "model.safetensors").write_bytes(b"numbers")
    write_manifest(folder, name="small", source="folder:small", revision="v1")
    return folder


def test_check_reads_every_file(runner: CliRunner, model: Path) -> None:
    result = runner.invoke(cli.app, ["models", "check", str(model)])
    assert result.exit_code == 0, result.stderr
    assert "small is right: small (v1), sha256 " in result.stdout
    found = json.loads(runner.invoke(cli.app, ["models", "check", str(model), "--json"]).stdout)
    assert (found["name"], found["kind"], len(found["sha256"])) == ("small", "encoder", 64)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"NUMBERS"), "sha256 .* expected, found"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"num"), "has 3 bytes, expected 7 bytes"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "only pickled weights"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no config.json"),
        (
            lambda folder: [path.unlink() for path in folder.iterdir()] + [(folder / "m.gguf").write_bytes(b"x")],
            "no config.json but a GGUF file",
        ),
        (lambda folder: folder.rename("elsewhere"), "missing"),
    ],
)
def test_check_says_what_is_wrong(runner: CliRunner, model: Path, harm: Any, told: str) -> None:
    harm(model)
    result = runner.invoke(cli.app, ["models", "check", str(model.absolute())])
    assert result.exit_code == 2
    assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    assert re.search(told, result.stderr), result.stderr


def test_review_export(runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = calls.instead(1_234, "storage", "file", "n_rows", "seed")
    monkeypatch.setattr(text_review, "export_reviews", stand_in)
    result = runner.invoke(cli.app, ["review", "export", "my texts.csv", "--set", "core.seed=5"])
    assert result.exit_code == 0, result.stderr
    assert "1,234 texts are in my texts.csv" in result.stdout
    assert "lt-spark review import 'my texts.csv' -c lt-spark.yaml --set core.seed=5" in result.stdout
    runner.invoke(cli.app, ["review", "export", "b.csv", "-n", "7", "--force"])
    assert [(call.file, call.n_rows, call.seed, call.force) for call in calls] == [
        (Path("my texts.csv"), 200, 5, False),
        (Path("b.csv"), 7, 42, True),
    ]
    assert calls[0].storage.config.tables.root == "warehouse/mine"
    assert runner.invoke(cli.app, ["review", "export", "b.csv", "-n", "0"]).exit_code == 2


def test_review_import(runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"accepted": 1_000, "rejected": 2, "edited": 0, "without a verdict": 7}
    monkeypatch.setattr(text_review, "import_reviews", calls.instead(counts, "storage", "config", "file"))
    result = runner.invoke(cli.app, ["review", "import", "texts.csv"])
    assert result.exit_code == 0, result.stderr
    assert "1,000 accepted, 2 rejected, 0 edited, 7 without a verdict." in result.stdout
    assert "Next: lt-spark run -c lt-spark.yaml" in result.stdout
    assert (calls[0].file, calls[0].config.tables.root) == (Path("texts.csv"), "warehouse/mine")

    def refused(*given: Any) -> Any:
        raise DataError("texts.csv: 1 verdicts cannot be used")

    monkeypatch.setattr(text_review, "import_reviews", refused)
    result = runner.invoke(cli.app, ["review", "import", "texts.csv"])
    assert (result.exit_code, result.stderr) == (2, "DataError: texts.csv: 1 verdicts cannot be used\n")


def test_enrich_quality(runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [QUALITY | {"value": 0.8}, QUALITY | {"value": float("nan"), "low": float("nan"), "method": "description"}]
    monkeypatch.setattr(text_quality, "measure_quality", calls.instead(rows, "spark", "config"))
    result = runner.invoke(cli.app, ["enrich-quality"])
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["nearest", "keywords", "recall", "0.800", "[0.700,", "0.900]", "40"] in lines
    assert ["nearest", "description", "recall", "-", "[-,", "0.900]", "40"] in lines
    options = ["--hide", "kind", "--hide", "about", "-n", "50", "--examples", "fixed", "--skip", "9", "--json"]
    result = runner.invoke(cli.app, ["enrich-quality", *options])
    assert json.loads(result.stdout)["quality"][0] == QUALITY | {"value": 0.8}
    assert json.loads(result.stdout)["quality"][1]["value"] is None
    first, second = calls
    assert first.run_id and first.run_id != second.run_id
    told = ("spark", "hide", "n_items", "kinds", "skip")
    assert [getattr(first, name) for name in told] == ["the session", (), 500, ("nearest", "fixed"), 0]
    assert [getattr(second, name) for name in told] == ["the session", ("kind", "about"), 50, ("fixed",), 9]
    assert runner.invoke(cli.app, ["enrich-quality", "-n", "9"]).exit_code == 2
    assert runner.invoke(cli.app, ["enrich-quality", "--skip", "-1"]).exit_code == 2


SUMMARY = RunSummary("r1", "both", 1.0, [], {}, [], "", ["describe: complete=false: 4 items are left"])


def test_run_continues_and_renews_only_when_asked(
    runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lt_spark, "run", calls.instead(SUMMARY, "spark", "config"))
    result = runner.invoke(cli.app, ["run", "--quiet"])
    assert result.exit_code == 0, result.stderr
    runner.invoke(cli.app, ["run", "--continue", "--quiet"])
    runner.invoke(cli.app, ["run", "--renew-examples", "--quiet"])
    assert [(call.go_on, call.renew_examples) for call in calls] == [(False, False), (True, False), (False, True)]
    result = runner.invoke(cli.app, ["run"])
    assert "Note: describe: complete=false: 4 items are left" in result.stdout


def test_a_dry_run_tells_items_tokens_hours_and_cost(
    runner: CliRunner, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = [PlannedStage("describe", "valid", True, "goes on, or reads what goes on", 12.0)]
    plans, probes = Calls(), Calls()
    monkeypatch.setattr(lt_spark, "run", lambda *given, **named: pytest.fail("it ran"))
    monkeypatch.setattr(lt_spark, "plan", plans.instead(planned, "spark", "config"))
    estimate = Estimate(12_345, 32, 4_938_000.0, 1.234, 2.5)
    monkeypatch.setattr(lt_spark, "probe", probes.instead(estimate, "spark", "config", "planned"))
    result = runner.invoke(cli.app, ["run", "--dry-run", "--continue", "--renew-examples"])
    assert result.exit_code == 0, result.stderr
    assert "goes on, or reads what goes on" in result.stdout
    assert (
        "describe: 12,345 items are left; by a probe of 32: about 4,938,000 tokens and 1.23 hours, cost 2.50"
        in result.stdout
    )
    assert (plans[0].go_on, plans[0].renew_examples) == (True, True)
    assert probes[0].planned is planned
    found = json.loads(runner.invoke(cli.app, ["run", "--dry-run", "--json"]).stdout)
    assert found["describe"] == {"items": 12_345, "probed": 32, "tokens": 4_938_000.0, "hours": 1.234, "cost": 2.5}
    monkeypatch.setattr(lt_spark, "probe", lambda *given: None)
    assert "describe: no probe: nothing is left to ask" in runner.invoke(cli.app, ["run", "--dry-run"]).stdout
    assert json.loads(runner.invoke(cli.app, ["run", "--dry-run", "--json"]).stdout)["describe"] is None


def test_every_option_has_a_help_that_is_whole() -> None:
    root: Any = typer.main.get_command(cli.app)
    commands = [root.commands["enrich-quality"]]
    commands += [command for name in ("models", "review") for command in root.commands[name].commands.values()]
    helps = [parameter.help for command in commands for parameter in command.params]
    helps += [command.help for command in commands]
    for text in helps:
        assert text and text.rstrip().endswith((".", ")")), text
        assert " ." not in text and "and." not in text, text
    assert "describe.keyword_fields" in next(p.help for p in commands[0].params if p.name == "hide")
