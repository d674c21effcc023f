"""Whether a run on the cluster wrote what the undisturbed one of ``local[2]`` wrote."""

import json
from typing import Any

from lt_spark.core import tables as t
from lt_spark.core.storage import Storage
from tests.written import COMPARED

_OF_THE_RUN = {"run_id", "run_date", "seconds", "checkpoint", "created_at", "asked_at", "revision"}
"""Columns that say when, by which run or for how long."""


def rows_of(storage: Storage, table: t.Table) -> list[str]:
    """Return a table's rows as sorted JSON, but for what tells of the run."""
    names = [name for name in table.column_names if name not in _OF_THE_RUN]
    rows = storage.read(table).select(*names)
    return sorted(json.dumps(row.asDict(recursive=True), default=str) for row in rows.collect())


def check_same(found: Storage, expected: Storage) -> int:
    """Check that all tables that both runs must write alike are alike; return how many."""
    tables = [table for table in COMPARED if expected.exists(table)]
    wrong: dict[str, Any] = {}
    for table in tables:
        ours, theirs = rows_of(found, table), rows_of(expected, table)
        if ours != theirs:
            only = [row for row in ours if row not in set(theirs)][:2]
            wrong[table.full_name] = (len(ours), len(theirs), only, [row for row in theirs if row not in set(ours)][:2])
    assert not wrong, json.dumps(wrong, indent=1)[:6_000]
    return len(tables)
