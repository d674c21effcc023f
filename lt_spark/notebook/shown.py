"""Tables as notebooks show them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


def table(rows: "pd.DataFrame", formats: Mapping[str, str] | None = None, precision: int = 4) -> "Styler":
    """Return rows as a table to display: numbers to the right, text to the left, what is null as ``-``.

    Text is shown as it is: tags in a title are no tags of the page.

    Args:
        rows: few rows.
        formats: by column, such as ``{:.1%}``.
        precision: decimals of the other columns of fractions.
    """
    text = [name for name, kind in rows.dtypes.items() if kind == "object"]
    style = rows.style.format(dict(formats or {}), precision=precision, thousands=",", na_rep="-", escape="html")
    others = [name for name in rows if name not in (formats or {})]
    style = style.format(subset=others, precision=precision, thousands=",", na_rep="-", escape="html")
    style = style.set_properties(subset=text, **{"text-align": "left", "white-space": "pre-wrap"})
    # names of columns are ours, but for those of a user's own groupings, which are values here
    return style.set_table_styles([{"selector": "th", "props": [("text-align", "left")]}]).hide()
