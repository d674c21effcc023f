"""Parameters of a notebook: widgets where the platform has them, else the value that stands in the cell."""

from typing import Any


def parameter(name: str, default: str, label: str = "") -> str:
    """Return the value of a parameter.

    Where the notebook has ``dbutils.widgets``, as on Databricks, a text widget is made and its value returned: a job
    may set it. Elsewhere it is the default, which one changes in the cell.

    Args:
        name: of the widget.
        default: its value where nobody set another.
        label: what stands beside the widget; the name by default.
    """
    widgets = getattr(of_notebook("dbutils"), "widgets", None)
    if widgets is None:
        return default
    widgets.text(name, default, label or name)
    return str(widgets.get(name))


def of_notebook(name: str) -> Any:
    """Return what the notebook calls by a name, such as ``spark`` or ``dbutils``; None where there is none."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:  # not in a notebook
        return None
    shell = get_ipython()
    return shell.user_ns.get(name) if shell is not None else None
