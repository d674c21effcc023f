"""Notebooks run top to bottom in a kernel of this Python, and what they show."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
KERNEL = "lt-spark-tests"


@dataclass(frozen=True)
class Shown:
    """What an executed notebook shows."""

    notebook: Any

    @property
    def text(self) -> str:
        """All that a person can read of it: its outputs without pictures."""
        return "\n".join(self.of_cell(cell["id"]) for cell in self.notebook.cells if cell.cell_type == "code")

    def of_cell(self, cell_id: str) -> str:
        """Return what a cell shows, without pictures."""
        return "\n".join(
            text
            for output in self._outputs(cell_id)
            for text in (output.get("text", ""), *_texts(output.get("data", {})))
        )

    def pictures(self, cell_id: str) -> int:
        """Return how many pictures a cell shows."""
        return sum("image/png" in output.get("data", {}) for output in self._outputs(cell_id))

    def _outputs(self, cell_id: str) -> list[Any]:
        (cell,) = (cell for cell in self.notebook.cells if cell["id"] == cell_id)
        return list(cell.outputs)


def _texts(data: Mapping[str, str]) -> Iterator[str]:
    for kind, text in data.items():
        if kind == "text/html":
            # names of the columns and cells; not the style, whose generated names may be like ids
            body = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
            yield re.sub(r"<[^>]*>", " ", body)
        elif not kind.startswith("image/"):
            yield text


def execute(number: str, folder: Path, timeout_s: float = 600.0, remote: str = "", **parameters: str) -> Shown:
    """Execute a notebook.

    Args:
        number: its first two digits.
        folder: where the kernel's description, and the executed notebook, are put.
        timeout_s: longest time of a cell.
        remote: address of a Spark Connect server; empty: a session of the notebook's own.
        parameters: values instead of those in the cell of parameters.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(NOTEBOOKS[number], as_version=4)
    (place,) = (place for place, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    for name in parameters:
        assert re.search(rf"^{name} = parameter\(", notebook.cells[place].source, re.MULTILINE), name
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(given, id="given"))
    with _kernel(folder, remote):
        client = NotebookClient(
            notebook, timeout=timeout_s, kernel_name=KERNEL, resources={"metadata": {"path": str(ROOT / "notebooks")}}
        )
        client.execute()
    nbformat.write(notebook, folder / NOTEBOOKS[number].name)
    return Shown(notebook)


@contextmanager
def _kernel(folder: Path, remote: str) -> Iterator[None]:
    """Describe a kernel of this very Python in a folder of Jupyter's own; nothing is installed."""
    home = folder / "jupyter" / "kernels" / KERNEL
    home.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": argv, "display_name": KERNEL, "language": "python"}
    (home / "kernel.json").write_text(json.dumps(described))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        # of the process that runs the tests
        for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
            patch.delenv(name, raising=False)
        if remote:
            patch.setenv("SPARK_REMOTE", remote)
        yield
