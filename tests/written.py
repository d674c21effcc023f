"""What a run wrote, to be held against what another wrote."""

import json

from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.storage import Storage
from lt_spark.pipeline import STAGES

COMPARED = [
    table
    for stage in STAGES
    for table in stage.writes
    if table not in (t.ACCEPTED_SETTINGS, t.GOLD_METRICS, t.GOLD_GROUP_METRICS, t.GOLD_TAIL_HEALTH)
]
"""Tables that two runs on the same data write alike; the others tell of the run."""
_RUN_COLUMNS = {"run_id", "run_date"}


def rows_of(storage: Storage, table: t.Table, folds: tuple[str, ...] = t.FOLDS) -> list[str]:
    """Return the rows of some folds as sorted JSON, but for what tells of the run."""
    names = [name for name in table.column_names if name not in _RUN_COLUMNS]
    rows = storage.read(table).select(*names)
    if table.folded:
        rows = rows.where(F.col("fold").isin(*folds))
    return sorted(json.dumps(row.asDict(recursive=True), default=str) for row in rows.collect())
