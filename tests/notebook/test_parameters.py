"""Parameters: widgets where there are any, else what stands in the cell."""

from types import SimpleNamespace
from typing import Any

import pytest

from lt_spark.notebook import parameters
from lt_spark.notebook.parameters import of_notebook, parameter


class Widgets:
    """Stands in for ``dbutils.widgets``: a job has set some."""

    def __init__(self, **given: str) -> None:
        self.values, self.made = dict(given), []

    def text(self, name: str, default: str, label: str) -> None:
        self.made.append((name, default, label))
        self.values.setdefault(name, default)

    def get(self, name: str) -> str:
        return self.values[name]


@pytest.fixture
def in_notebook(monkeypatch: pytest.MonkeyPatch) -> Any:
    def begin(**names: Any) -> None:
        shell = SimpleNamespace(user_ns=names)
        monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)

    return begin


def test_without_widgets_it_is_what_stands_in_the_cell(in_notebook: Any) -> None:
    in_notebook()
    assert parameter("k", "10") == "10"


def test_outside_of_a_notebook_it_is_what_was_written() -> None:
    assert parameter("k", "10") == "10"


def test_a_widget_is_made_and_says_the_value(in_notebook: Any) -> None:
    widgets = Widgets(k="20")
    in_notebook(dbutils=SimpleNamespace(widgets=widgets))
    assert (parameter("k", "10", "Length"), parameter("seed", "42")) == ("20", "42")
    assert widgets.made == [("k", "10", "Length"), ("seed", "42", "seed")]


def test_the_notebooks_own_session_is_found(in_notebook: Any) -> None:
    in_notebook(spark="its own")
    assert parameters.of_notebook("spark") == "its own"
    assert of_notebook("dbutils") is None
