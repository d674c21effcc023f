"""What a table is, and the columns that many have."""

from dataclasses import dataclass, field
from typing import Literal, cast

from pyspark.sql.types import StructField, StructType

SCHEMA_VERSION = 2
"""Raised when a table's columns change in a way that old tables do not fit."""

FOLDS = ("valid", "test", "live")
SEGMENTS = ("head", "mid", "tail", "cold")


@dataclass(frozen=True)
class Column:
    """A column: its name, Spark SQL type and comment."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A Delta table.

    Attributes:
        layer: ``silver`` (working tables) or ``gold`` (what people read).
        key: the columns that name a row.
        partition_by: physical partition columns.
        append: gold tables that grow by run instead of being replaced.
    """

    layer: Literal["silver", "gold"]
    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    append: bool = False
    folded: bool = field(init=False)

    def __post_init__(self) -> None:
        """Derive whether the table has a ``fold`` column; its rows are then replaced fold by fold."""
        object.__setattr__(self, "folded", self.partition_by == ("fold",))

    @property
    def full_name(self) -> str:
        """``silver.items``."""
        return f"{self.layer}.{self.name}"

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def schema(self) -> StructType:
        """Spark schema with the comments; needs an active session."""
        return StructType(
            [
                StructField(
                    c.name,
                    cast(StructType, StructType.fromDDL(f"x {c.type}"))["x"].dataType,
                    True,
                    {"comment": c.comment},
                )
                for c in self.columns
            ]
        )


FOLD = Column("fold", "string", "what the row may know: valid (train), test (train + valid), live (everything)")
USER = Column("user_idx", "int", "dense internal user number, stable over runs")
ITEM = Column("item_idx", "int", "dense internal item number, stable over runs")
MODEL = Column("model_name", "string", "the model that made the row")
RANK = Column("rank", "int", "place in the list, from 1")
BECAUSE = Column(
    "because",
    "array<struct<item_idx:int,share:double>>",
    "at most 3 items of the user's history that speak most for it, with their share of the score",
)
EVENT = (
    USER,
    ITEM,
    Column("event_order", "int", "the user's position of the event, from 1, by time, then source order"),
    Column("order_value", "bigint", "time as microseconds since 1970 UTC, or the source's own order"),
    Column("event_ts", "timestamp", "time of the event (UTC); null where the source has only an order"),
    Column("event_type", "string", "kind of event as in the source"),
    Column("value", "double", "rating, quantity or seconds as in the source"),
    Column("event_weight", "double", "confidence of the event, from its type; 1 where none is set"),
)
RUN = (
    Column("run_id", "string", "the run that wrote the row"),
    Column("run_date", "date", "its date (UTC)"),
)
