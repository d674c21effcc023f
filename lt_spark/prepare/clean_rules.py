"""The rules of ``clean``: pure Column functions that read one value, and say why it is refused."""

from collections.abc import Sequence
from itertools import chain

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegralType,
    NumericType,
    StringType,
)

from lt_spark.core.errors import SourceError

ATTRIBUTES = "array<struct<name:string,value:string>>"
REASON = "struct<reason:string,column:string>"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
_BLANKS = " \t\n\r\f\v\u00a0\u3000\ufeff\u2007\u202f"
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")


def id_text(column: Column, data_type: DataType, setting: str) -> Column:
    """Return an id as text, byte for byte; null where it is missing or no exact id.

    Whole numbers become their decimal text. Floats (such as a nullable integer column that went through pandas) are
    taken where they are whole and small enough to be exact (2^53, for 32-bit floats 2^24).

    Raises:
        SourceError: for a type that is neither text nor a number.
    """
    if isinstance(data_type, StringType):
        return F.when(column != "", column)
    if isinstance(data_type, IntegralType):
        return column.cast("string")
    if isinstance(data_type, DecimalType):
        whole = column.try_cast("decimal(38,0)")
        return F.when(whole == column, whole.cast("string"))
    if isinstance(data_type, DoubleType | FloatType):
        limit = F.lit(float(2**53 if isinstance(data_type, DoubleType) else 2**24))
        is_exact = (F.abs(column) <= limit) & (column == F.floor(column))
        return F.when(is_exact, column.try_cast("bigint").cast("string"))
    raise SourceError(
        f"{setting}: is of type {data_type.simpleString()}: expected an id column of text or whole numbers. "
        "Name another column, or cast it to text in the source."
    )


def id_reason(raw: Column, text: Column, who: str) -> Column:
    """Return why an id is refused, or null. ``raw`` is the source's value cast to text, ``text`` its ``id_text``."""
    return F.when(raw.isNull() | (raw == ""), F.lit(f"{who} id is empty")).when(
        text.isNull(), F.lit(f"{who} id is a fraction or too large to be exact: store ids as text or whole numbers")
    )


def id_kind(item_id: Column) -> Column:
    """Return what kind of text an id is, without showing it."""
    return (
        F.when(item_id.rlike(r"^0[0-9]+$"), "digits with leading zeros")
        .when(item_id.rlike(r"^[0-9]+$"), "digits")
        .when(item_id.rlike(r"^[0-9]+\.[0-9]+$"), "digits with a decimal point")
        .when(item_id.rlike(r"^\s|\s$"), "text with blanks around it")
        .when(item_id.rlike(r"^[A-Za-z]+$"), "letters")
        .otherwise("other text")
    )


def number(column: Column, data_type: DataType | None) -> Column:
    """Return a value as double; null where it is missing or no finite number."""
    if isinstance(data_type, StringType):
        text = F.trim(column)
        value = F.when(text.rlike(_NUMBER), text.try_cast("double"))
    elif isinstance(data_type, NumericType | BooleanType):
        value = column.cast("double")
    else:
        value = F.lit(None).cast("double")
    return F.when(~F.isnan(value) & (F.abs(value) < F.lit(float("inf"))), value)


def number_reason(raw: Column, value: Column) -> Column:
    """Return why a value is refused, or null; an empty one is fine."""
    return F.when(raw.isNotNull() & (F.trim(raw) != "") & value.isNull(), F.lit("value is not a number"))


def event_weight(event_type: Column, weights: dict[str, float]) -> Column:
    """Return the weight of an event by its type; 1 where no weights are set, null for a type that has none."""
    if not weights:
        return F.lit(1.0)
    pairs = F.create_map(*[F.lit(part) for part in chain.from_iterable(weights.items())])
    return F.when(event_type.isNotNull(), F.try_element_at(pairs, event_type)).cast("double")


def first_reason(error: Column, checks: Sequence[tuple[Column, str]], is_wanted: Column) -> Column:
    """Return the first reason to refuse a row and the column at fault; null where there is none.

    Args:
        error: what the reader says of the record; counts for unwanted rows too.
        checks: reasons (or null) with the source column they are about.
        is_wanted: false for rows that ``where`` leaves out: they are not checked.
    """
    reason = F.when(error.isNotNull(), F.struct(error.alias("reason"), F.lit(None).cast("string").alias("column")))
    for why, column in checks:
        found = F.struct(why.alias("reason"), F.lit(column).alias("column"))
        reason = reason.when(is_wanted & why.isNotNull(), found)
    return reason.cast(REASON)


def plain_text(column: Column, data_type: DataType) -> Column:
    """Return a text column without control characters and blanks around it; null where nothing is left.

    Arrays become their values with commas between. Line breaks and tabs become blanks.
    """
    text = F.concat_ws(", ", column) if isinstance(data_type, ArrayType) else column.cast("string")
    text = F.regexp_replace(F.regexp_replace(text, r"[\t\n\r\f\x0B]+", " "), r"\p{Cc}+", "")
    text = F.btrim(text, F.lit(_BLANKS))
    return F.when(text != "", text)


def attributes(values: dict[str, Column]) -> Column:
    """Return the column ``attributes``: name and value of each text that is not null."""
    pairs = [F.struct(F.lit(name).alias("name"), value.alias("value")) for name, value in values.items()]
    array = F.filter(F.array(*pairs), lambda pair: pair["value"].isNotNull()) if pairs else F.array()
    return array.cast(ATTRIBUTES).alias("attributes")


def truth(column: Column, data_type: DataType) -> Column:
    """Return true or false for a boolean, 1/0, true/false, yes/no, t/f, y/n; null for anything else."""
    if isinstance(data_type, BooleanType):
        return column
    text = F.lower(F.trim(column.cast("string")))
    return F.when(text.isin(*_TRUE), True).when(text.isin(*_FALSE), False)
