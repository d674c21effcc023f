"""Vectors that the user brings (image, audio): checked, and given the items' numbers."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, NumericType

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.errors import DataError


@dataclass(frozen=True)
class OwnVectors:
    """Checked vectors.

    Attributes:
        rows: (item_idx, own array<double>): at most a row an item.
        size: length of every vector.
    """

    rows: DataFrame
    size: int


def place_vectors(vectors: DataFrame, items: DataFrame, section: EmbedConfig) -> OwnVectors:
    """Check the user's vectors and give them the items' numbers. Starts Spark jobs: the length is in the rows.

    A null vector counts as missing; vectors of items that the catalogue lacks are left out.

    Args:
        vectors: (item_id, vector) as they were read.
        items: ``silver.items``.
        section: section ``embed``.

    Raises:
        DataError: the column is not an array of numbers, vectors differ in length, hold NaN, null or infinity, an item
            comes twice, or none belongs to an item.
    """
    where = f"embed.vectors_path '{section.vectors_path}'"
    kind = vectors.schema["vector"].dataType
    if not (isinstance(kind, ArrayType) and isinstance(kind.elementType, NumericType)):
        raise DataError(
            f"{where}: column '{section.vectors_column}': expected an array of numbers, found {kind.simpleString()}. "
            "Set embed.vectors_column, or cast it."
        )
    named = vectors.select(F.col("item_id").cast("string"), F.col("vector").cast("array<double>").alias("own"))
    known = named.where(F.col("own").isNotNull() & F.col("item_id").isNotNull())
    placed = known.join(items.select("item_id", "item_idx"), "item_id", "left")
    size = _check(placed, where, section)
    return OwnVectors(placed.where(F.col("item_idx").isNotNull()).select("item_idx", "own"), size)


def _check(placed: DataFrame, where: str, section: EmbedConfig) -> int:
    """Return the vectors' length, or say what is wrong with the first bad row."""
    size, item = F.size("own"), F.col("item_id")
    is_bad = F.exists("own", _is_bad)
    found = placed.agg(
        F.count(F.lit(1)).alias("n"),
        F.count("item_idx").alias("n_placed"),
        F.count_distinct(item).alias("n_items"),
        F.min(size).alias("least"),
        F.max(size).alias("most"),
        F.min_by(item, size).alias("shortest"),
        F.max_by(item, size).alias("longest"),
        F.min(F.when(is_bad, item)).alias("bad"),
    ).first()
    if not isinstance(found, Row) or not found["n"]:
        raise DataError(f"{where}: expected at least one vector, found none.")
    if found["least"] != found["most"] or not found["least"]:
        raise DataError(
            f"{where}: column '{section.vectors_column}': expected vectors of one length, at least 1; found "
            f"{found['least']} for item '{found['shortest']}' and {found['most']} for item '{found['longest']}'."
        )
    if found["bad"] is not None:
        raise DataError(
            f"{where}: column '{section.vectors_column}': expected finite numbers; item '{found['bad']}' has NaN, null "
            "or infinity. Correct the row, or make its vector null: it then counts as missing."
        )
    if found["n_items"] != found["n"]:
        twice = placed.groupBy("item_id").count().where("count > 1").agg(F.min("item_id").alias("item_id")).first()
        name = twice["item_id"] if twice is not None else ""
        raise DataError(f"{where}: expected at most one vector an item; item '{name}' has more. Keep one.")
    if not found["n_placed"]:
        raise DataError(
            f"{where}: none of the {found['n']} vectors belongs to an item: expected ids of the catalogue in column "
            f"'{section.vectors_item}'. Set embed.vectors_item."
        )
    return int(found["least"])


def _is_bad(x: Column) -> Column:
    return x.isNull() | F.isnan(x) | (F.abs(x) == float("inf"))
