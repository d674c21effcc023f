"""Tables as they are displayed."""

import math
import re

import pandas as pd

from lt_spark.notebook.shown import table


def cells(html: str) -> list[str]:
    return [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", html, re.DOTALL)]


def test_numbers_are_rounded_and_text_is_no_page() -> None:
    rows = pd.DataFrame(
        {"title": ["<script>x</script>", None], "n": [1234567, 2], "share": [0.5, 0.25], "value": [0.123456, math.nan]}
    )
    html = table(rows, {"share": "{:.1%}"}).to_html()
    assert cells(html) == ["&lt;script&gt;x&lt;/script&gt;", "1,234,567", "50.0%", "0.1235", "-", "2", "25.0%", "-"]
    assert "text-align: left" in html


def test_a_table_without_rows_has_its_columns() -> None:
    html = table(pd.DataFrame({"title": [], "n": []})).to_html()
    assert ">title<" in re.sub(r"\s", "", html)
    assert cells(html) == []
