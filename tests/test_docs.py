"""The documents and the program say the same: the commands, options, keys, tables and files that they name exist."""

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import lt_spark
from lt_spark.cli import app
from lt_spark.core.config import Config
from lt_spark.core.config_files import leaf_keys, load_config
from lt_spark.core.config_sources import SourceConfig
from lt_spark.core.tables.find import find_table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DATA_FORMATS = ROOT / "docs" / "data_formats.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]

# what a reader of the product has no use for: who made it and how, folders of one machine, hosts of package indexes
FOREIGN = re.compile(
    r"\b(agents?|helpers?|leads?|issues?|(?<!spark )sessions?)\b|(?<![\w.])/(work|tmp|home|root|Users)\b"
    r"|\.\./shared|pythonhosted|artifactory|\b(pypi|maven)\.(org|apache)|repo1?\.maven",
    re.IGNORECASE,
)
TREES = r"(?:lt_spark|jobs|conf|docs|tests|tools|notebooks|data|warehouse|\.venv|\.ci)"
PATH = re.compile(rf"(?<![\w./-])({TREES}/[\w./-]*\w)")
KEY = re.compile(rf"(?<![\w./-])((?:{'|'.join(Config.model_fields)})(?:\.[a-z_]\w*)+)(?!\w*[/(])")
TABLE = re.compile(r"\b((?:silver|gold)\.[a-z_]+)\b")


def code_of(text: str, language: str = r"\w*") -> list[str]:
    """Return the fenced blocks of a document."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def inline_of(text: str) -> list[str]:
    """Return what stands between single backticks, line breaks as blanks."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(part.split()) for part in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]


def commands_of(text: str, program: str) -> list[list[str]]:
    """Return the arguments of each call of a program, in blocks and between backticks."""
    lines = [line for block in code_of(text) for line in block.splitlines()] + inline_of(text)
    calls = [re.match(rf"\s*(?:\.venv/bin/)?{re.escape(program)}(?: (.*))?$", line) for line in lines]
    return [shlex.split(call.group(1) or "", comments=True) for call in calls if call]


def check_call(arguments: list[str]) -> None:
    """Check that the sub-command, its options and what they name exist; raises AssertionError."""
    command: Any = typer.main.get_command(app)
    words = list(arguments)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        assert words[0] in command.commands, f"no command {words[0]!r} in lt-spark {' '.join(arguments)}"
        command = command.commands[words.pop(0)]
    options = {name: option for option in command.params for name in option.opts if name.startswith("-")}
    others = []
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            others.append(word)
            continue
        assert word in options or word == "--help", f"no option {word!r} in lt-spark {' '.join(arguments)}"
        if word == "--help" or options[word].is_flag:
            continue
        value = words.pop(0)
        if command.name == "run":
            check_value(word, value)
    if command.name == "show" and others and others != ["TABLE"]:
        find_table(others[0])
    takes = [param for param in command.params if param.param_type_name == "argument"]
    assert takes or not others, f"lt-spark {' '.join(arguments)}: {others} is for nobody"


def check_value(option: str, value: str) -> None:
    from lt_spark.pipeline import STAGE_NAMES

    if option in ("--from", "--to", "--only"):
        assert value in STAGE_NAMES
    elif option == "--purpose":
        assert value in ("evaluate", "produce", "both")
    elif option == "--set":
        load_config(None, [value])


def bare_options(text: str) -> Iterator[str]:
    """Yield the options that stand alone between backticks, such as ``--debug``."""
    for part in inline_of(text):
        if re.match(r"--[a-z]", part):
            yield part.split()[0]


def known_options() -> set[str]:
    def walk(command: Any) -> Iterator[str]:
        yield from (name for param in command.params for name in param.opts)
        for below in getattr(command, "commands", {}).values():
            yield from walk(below)

    return set(walk(typer.main.get_command(app)))


def is_generated(path: str) -> bool:
    """Whether git ignores a path: the program makes it."""
    ignored = [line.strip().lstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    return any(path == line or (line.endswith("/") and path.startswith(line)) for line in ignored if line)


@pytest.fixture(params=DOCUMENTS, ids=NAMES)
def text(request: pytest.FixtureRequest) -> str:
    return Path(request.param).read_text(encoding="utf-8")


def test_every_command_and_option_exists(text: str) -> None:
    for arguments in commands_of(text, "lt-spark"):
        check_call(arguments)
    # of mypy, and of spark-submit, whose options tests/test_running.py looks at
    elsewhere = {
        "--strict",
        "--archives",
        "--packages",
        "--py-files",
        "--properties-file",
        "--files",
        "--jars",
        "--conf",
    }
    elsewhere |= {"--build-arg"}  # of docker
    assert set(bare_options(text)) <= known_options() | elsewhere


@pytest.mark.parametrize(
    "call",
    [
        "rum",
        "run --forse",
        "show gold.recommendation",
        "run --from tun",
        "run --set als.rnk=3",
        "config chek",
        "stages x",
    ],
)
def test_a_wrong_command_is_noticed(call: str) -> None:
    with pytest.raises(Exception, match=r"no command|no option|no table|no such key|assert|is for nobody"):
        check_call(call.split())


def test_commands_are_found() -> None:
    assert len(commands_of(README.read_text(), "lt-spark")) >= 9
    assert commands_of("```\nlt-spark run  # all\n```\nor `lt-spark\nstages`", "lt-spark") == [["run"], ["stages"]]


def test_every_make_target_exists(text: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {call[0] for call in commands_of(text, "make") if call} <= targets


@pytest.mark.parametrize("path", sorted(set(PATH.findall(README.read_text(encoding="utf-8")))))
def test_every_file_named_in_the_readme_exists(path: str) -> None:
    assert (ROOT / path).exists() or is_generated(path)


def test_every_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
            file, _, anchor = link.partition("#")
            target = (document.parent / file).resolve() if file else document
            assert target.is_file(), f"{document.name}: {link}"
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not anchor or anchor in anchors, f"{document.name}: {link}"


def test_every_key_exists(text: str) -> None:
    leaves = set(leaf_keys(Config))
    sections = {key.rsplit(".", depth)[0] for key in leaves for depth in (1, 2)}
    package = ROOT / "lt_spark"
    modules = {".".join(path.relative_to(package).with_suffix("").parts) for path in package.rglob("*.py")}
    found = {key for key in KEY.findall(text) if not key.endswith((".py", ".md"))}
    assert found - leaves - sections - modules == set()


def test_every_key_of_a_source_is_explained_with_an_example() -> None:
    text = DATA_FORMATS.read_text(encoding="utf-8")
    examples = "\n".join(code_of(text, "yaml"))
    for key in leaf_keys(SourceConfig, "source."):
        assert key in text or key.replace(".items.", ".interactions.") in text, key
        assert re.search(rf"^ *{key.rsplit('.', 1)[1]}:", examples, re.MULTILINE), f"no example of {key}"


@pytest.mark.parametrize("example", [block for path in DOCUMENTS for block in code_of(path.read_text("utf-8"), "yaml")])
def test_every_example_is_a_right_configuration(example: str, tmp_path: Path) -> None:
    conf = tmp_path / "example.yaml"
    conf.write_text(example, encoding="utf-8")
    assert set(load_config(str(conf)).sources.values()) == {"default", str(conf)}


def test_every_table_exists(text: str) -> None:
    from lt_spark.core.tables import TABLES

    examples = {"silver.candidates_"}  # silver.candidates_<model>
    assert set(TABLE.findall(text)) - set(TABLES) - examples == set()


def test_the_stages_are_those_of_the_pipeline() -> None:
    from lt_spark.core.tables import FOLDS
    from lt_spark.pipeline import STAGES

    text = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
    section = text.split("\n## Stages\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\w+) \| ([\w, ]+) \| .* \| (.*) \|$", section, re.MULTILINE)[1:]
    folds = {(): "once", FOLDS: "each"}
    assert [(name, told, set(TABLE.findall(writes))) for name, told, writes in rows] == [
        (stage.name, folds.get(stage.folds, ", ".join(stage.folds)), {table.full_name for table in stage.writes})
        for stage in STAGES
    ]


def test_gold_tables_are_listed_in_the_readme() -> None:
    from lt_spark.core.tables import TABLES

    listed = set(re.findall(r"^\| `(gold\.\w+)` \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {name for name in TABLES if name.startswith("gold.")}


def test_python_examples_call_what_there_is(text: str) -> None:
    for block in code_of(text, "python"):
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if name.startswith("lt_spark."):
                function = getattr(lt_spark, name.removeprefix("lt_spark."))
                inspect.signature(function).bind(*call.args, **{word.arg: None for word in call.keywords if word.arg})


def test_arguments_of_run_named_in_the_readme_exist() -> None:
    named = {match for part in inline_of(README.read_text()) for match in re.findall(r"^(\w+)=[\[\"TpF]", part)}
    assert named == {"stages", "first", "last", "force", "listener"}
    assert named <= set(inspect.signature(lt_spark.run).parameters)


def test_extras_exist(text: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"lt-spark\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_delta_package_is_the_one_that_errors_name() -> None:
    from lt_spark.core.versions import delta_package

    assert set(re.findall(r"io\.delta:[\w.:-]+\w", README.read_text())) == {delta_package("4.0.5")}


def test_no_foreign_words(text: str) -> None:
    assert [match.group() for match in FOREIGN.finditer(text)] == []


# put together here, so that this file has none of them itself
FOREIGN_EXAMPLES = [
    "an agent",
    "Sessions",
    "the issue",
    "/".join(("", "tmp", "x")),
    "/".join(("see ..", "shared", "a")),
]
FOREIGN_EXAMPLES.append(".".join(("repo1", "maven", "org")))


@pytest.mark.parametrize("word", FOREIGN_EXAMPLES)
def test_foreign_words_are_noticed(word: str) -> None:
    assert FOREIGN.search(word)


@pytest.mark.parametrize("word", ["leading zeros", "a Spark session", "helpful", "warehouse/tmp", "SparkSession"])
def test_plain_words_are_not_foreign(word: str) -> None:
    assert not FOREIGN.search(word)
