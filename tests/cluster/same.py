"""Whether a run on the cluster wrote what the undisturbed one of ``local[2]`` wrote."""

import json
from typing import Any

from lt_spark.core import tables as t
from lt_spark.core.storage import Storage
from tests.written import COMPARED

_OF_THE_RUN = {"run_id", "run_date", "seconds", "folder", "created_at"}
"""Columns that say when, where, by which run or for how long."""
_OF_WORKERS = (t.ENRICHMENT_STAGING, t.CONTEXT_STAGING)
"""Tables of the last wave, which name the processes that asked."""
_DIGITS = 12
"""Sums of floats differ in the last of about sixteen digits by the order in which tasks end."""


def rows_of(storage: Storage, table: t.Table) -> list[str]:
    """Return a table's rows as sorted JSON, but for what tells of the run."""
    names = [name for name in table.column_names if name not in _OF_THE_RUN]
    rows = [row.asDict(recursive=True) for row in storage.read(table).select(*names).collect()]
    if "measure" in names:  # of a report
        rows = [row for row in rows if not row["measure"].endswith(("seconds", "_per_s"))]
    return sorted(json.dumps(rounded(row), default=str) for row in rows)


def rounded(value: Any) -> Any:
    """Return a value of a table with its floats rounded to twelve digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def check_same(found: Storage, expected: Storage) -> int:
    """Check that all tables that both runs must write alike are alike; return how many."""
    tables = [table for table in dict.fromkeys(COMPARED) if table not in _OF_WORKERS and expected.exists(table)]
    wrong: dict[str, Any] = {}
    for table in tables:
        ours, theirs = rows_of(found, table), rows_of(expected, table)
        if ours != theirs:
            only = [row for row in ours if row not in set(theirs)][:2]
            wrong[table.full_name] = (len(ours), len(theirs), only, [row for row in theirs if row not in set(ours)][:2])
    assert not wrong, json.dumps(wrong, indent=1)[:6_000]
    return len(tables)
