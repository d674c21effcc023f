"""The notebooks as they are committed: without outputs, with names for their cells, without foreign words."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from lt_spark.core.tables import TABLES
from tests.notebooks.executed import NOTEBOOKS, ROOT
from tests.test_docs import FOREIGN, TABLE, check_call, commands_of

READ_ONLY = ("01", "03", "04", "05")
"""Notebooks that run over Spark Connect too."""


@pytest.fixture(params=NOTEBOOKS.values(), ids=NOTEBOOKS.keys())
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def sources(path: Path, kind: str) -> str:
    notebook = nbformat.read(path, as_version=4)
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == kind)


def test_they_are_five() -> None:
    assert list(NOTEBOOKS) == ["01", "02", "03", "04", "05"]


def test_no_output_is_committed(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == [], cell["id"]
        assert cell.get("execution_count") is None, cell["id"]
        assert set(cell["metadata"]) <= {"tags"}, cell["id"]


def test_the_file_is_valid_and_its_cells_have_names(path: Path) -> None:
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    # words, not what an editor draws anew at each save
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each) for each in ids), ids
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_each_has_one_cell_of_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    made = {
        node.targets[0].id: node.value.args[0].value  # type: ignore[attr-defined]
        for node in ast.parse(cell.source).body
        if isinstance(node, ast.Assign)
    }
    assert {"config", "settings"} <= set(made)
    assert all(name == widget for name, widget in made.items())


def test_no_foreign_words_and_no_wrong_names(path: Path) -> None:
    text = sources(path, "markdown") + sources(path, "code")
    assert [match.group() for match in FOREIGN.finditer(text.replace("lt_spark.core.session", ""))] == []
    assert set(TABLE.findall(text)) <= set(TABLES)
    for arguments in commands_of(text, "lt-spark"):
        check_call(arguments)


@pytest.mark.parametrize("number", READ_ONLY)
def test_what_reads_only_touches_nothing_that_spark_connect_lacks(number: str) -> None:
    code = sources(NOTEBOOKS[number], "code")
    code += "".join(path.read_text(encoding="utf-8") for path in (ROOT / "lt_spark" / "notebook").glob("*.py"))
    code += (ROOT / "lt_spark" / "measure" / "long_tail.py").read_text(encoding="utf-8")
    assert re.findall(r"sparkContext|_jvm|_jsc|_jdf|\.rdd|\bSparkContext", code) == []
    assert "lt_spark.run" not in code


@pytest.mark.parametrize("number", READ_ONLY)
def test_what_reads_only_collects_by_way_of_small(number: str) -> None:
    assert re.findall(r"\.toPandas|\.collect\(|\.toLocalIterator|\.show\(", sources(NOTEBOOKS[number], "code")) == []
