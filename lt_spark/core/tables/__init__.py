"""Every table's and column's name, type, unit, key and comment, once."""

from lt_spark.core.tables import enrich, gold, measure, models, prepare, rank, runs
from lt_spark.core.tables.enrich import *
from lt_spark.core.tables.gold import *
from lt_spark.core.tables.measure import *
from lt_spark.core.tables.models import *
from lt_spark.core.tables.prepare import *
from lt_spark.core.tables.rank import *
from lt_spark.core.tables.runs import *
from lt_spark.core.tables.schema import *

EMBEDDINGS = {"plain": ITEM_EMBEDDINGS, "enriched": ITEM_EMBEDDINGS_ENRICHED, "tuned": ITEM_EMBEDDINGS_TUNED}
"""The tables of text vectors that ``models.embeddings`` chooses from."""
_ROOMS = (prepare, enrich, models, rank, measure, runs, gold)
ALL_TABLES: tuple[Table, ...] = (
    # gold's rows are those of other rooms, so it knows some of their tables
    *dict.fromkeys(value for room in _ROOMS for value in vars(room).values() if isinstance(value, Table)),
    *CANDIDATES.values(),
)
TABLES = {table.full_name: table for table in ALL_TABLES}
