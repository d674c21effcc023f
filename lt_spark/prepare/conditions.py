"""``source.where``: a condition people write, parsed and rebuilt as a Column, never pasted into SQL."""

from collections.abc import Callable
from decimal import Decimal
from typing import cast

import sqlglot
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, DateType, NumericType, StringType, StructType, TimestampType
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.names import quoted

_COMPARISONS: dict[type[exp.Expression], Callable[[Column, Column], Column]] = {
    exp.EQ: lambda left, right: left == right,
    exp.NEQ: lambda left, right: left != right,
    exp.GT: lambda left, right: left > right,
    exp.GTE: lambda left, right: left >= right,
    exp.LT: lambda left, right: left < right,
    exp.LTE: lambda left, right: left <= right,
}
_KNOWN_ARGUMENTS = frozenset({"this", "expression", "expressions", "low", "high", "negate"})
_ALLOWED = "comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, LIKE, literals and the file's columns"


class _Converter:
    """Turns a parsed condition into a Column, node by node; what it does not know is refused."""

    def __init__(self, where: str, schema: StructType) -> None:
        self.where = where
        self.types: dict[str, DataType] = {field.name: field.dataType for field in schema.fields}

    def refuse(self, what: str) -> ConfigError:
        return ConfigError(f"source...where: expected {_ALLOWED}; found {what} in {self.where!r}. Correct the conf.")

    def condition(self, node: exp.Expression) -> Column:
        """Return a boolean Column."""
        unknown = {name for name, value in node.args.items() if value} - _KNOWN_ARGUMENTS
        if unknown:  # a modifier such as SYMMETRIC must not be lost in silence
            raise self.refuse(f"'{node.sql()}' ({', '.join(sorted(unknown))})")
        if node.args.get("negate"):
            return ~self.special(node)
        if isinstance(node, exp.Paren):
            return self.condition(node.this)
        if isinstance(node, exp.And):
            return self.condition(node.this) & self.condition(node.expression)
        if isinstance(node, exp.Or):
            return self.condition(node.this) | self.condition(node.expression)
        if isinstance(node, exp.Not):
            return ~self.condition(node.this)
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            return self.column(node.this)[0].isNull()
        if type(node) in _COMPARISONS:
            left, right = self.pair(node.this, node.expression)
            return _COMPARISONS[type(node)](left, right)
        return self.special(node)

    def special(self, node: exp.Expression) -> Column:
        """Return IN, BETWEEN, LIKE and a bare boolean column as a boolean Column."""
        if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            matches = [left == right for left, right in (self.pair(node.this, one) for one in node.expressions)]
            return F.array_contains(F.array(*[F.coalesce(match, F.lit(False)) for match in matches]), True)
        if isinstance(node, exp.Between):
            left, low = self.pair(node.this, node.args["low"])
            same, high = self.pair(node.this, node.args["high"])
            return (left >= low) & (same <= high)
        if type(node) is exp.Like and isinstance(node.expression, exp.Literal) and node.expression.is_string:
            column, data_type = self.column(node.this)
            return (column if isinstance(data_type, StringType) else column.cast("string")).like(node.expression.this)
        if isinstance(node, exp.Column):
            column, data_type = self.column(node)
            if isinstance(data_type, BooleanType):
                return column
        raise self.refuse(f"'{node.sql()}' ({type(node).__name__})")

    def column(self, node: exp.Expression) -> tuple[Column, DataType]:
        """Return a column of the file and its type."""
        if not isinstance(node, exp.Column) or node.table or not isinstance(node.this, exp.Identifier):
            raise self.refuse(f"'{node.sql()}' where a column belongs")
        if node.name not in self.types:
            names = list(self.types)
            raise ConfigError(
                f"source...where names the column '{node.name}', which the source lacks.{nearest(node.name, names)} "
                f"Its columns: {', '.join(names)}."
            )
        return F.col(quoted(node.name)), self.types[node.name]

    def literal(self, node: exp.Expression) -> str | Decimal | bool | None:
        """Return the value of a literal; None where the node is none."""
        sign = ""
        if isinstance(node, exp.Neg):
            sign, node = "-", node.this
        if isinstance(node, exp.Boolean):
            return bool(node.this)
        if not isinstance(node, exp.Literal):
            return None
        return str(node.this) if node.is_string else Decimal(sign + str(node.this))

    def pair(self, left: exp.Expression, right: exp.Expression) -> tuple[Column, Column]:
        """Return both sides of a comparison, the column's side cast to what the literal is."""
        left_value, right_value = self.literal(left), self.literal(right)
        if left_value is None and right_value is None:
            return self.column(left)[0], self.column(right)[0]
        if left_value is not None and right_value is not None:
            raise self.refuse("a comparison of two literals")
        if right_value is None:
            column, value = self.against(self.column(right), left_value)
            return value, column
        return self.against(self.column(left), right_value)

    def against(self, side: tuple[Column, DataType], value: str | Decimal | bool | None) -> tuple[Column, Column]:
        """Return a column and a literal as Columns that compare without loss and without errors on bad rows."""
        column, data_type = side
        if isinstance(value, bool):
            if isinstance(data_type, BooleanType):
                return column, F.lit(value)
            return F.lower(column.cast("string")), F.lit(str(value).lower())
        if isinstance(value, Decimal):
            number = F.lit(format(value, "f")).try_cast("decimal(38,10)")
            if isinstance(data_type, StringType | NumericType):
                return column.try_cast("decimal(38,10)"), number
            raise self.refuse(f"a number compared with a column of type {data_type.simpleString()}")
        if isinstance(data_type, TimestampType | DateType):
            return column, F.lit(value).try_cast(data_type)
        if isinstance(data_type, NumericType):
            return column.try_cast("decimal(38,10)"), F.lit(value).try_cast("decimal(38,10)")
        return column.cast("string"), F.lit(value)


def condition(where: str, schema: StructType) -> Column:
    """Return ``source.where`` as a Column that is true or false, false where SQL says null.

    Args:
        where: SQL comparison syntax; column names with other characters than letters, digits and underscores stand
            between backticks (``price (EUR)`` or the ``0`` of a file without header).
        schema: of the source as read.

    Raises:
        ConfigError: for anything but comparisons, AND, OR, NOT, IN, BETWEEN, IS NULL, LIKE, literals and columns.
    """
    converter = _Converter(where, schema)
    try:
        node = cast(exp.Expression, sqlglot.parse_one(where, read="spark"))
    except (SqlglotError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise converter.refuse(f"text that cannot be parsed ({reason})") from None
    if not isinstance(node, exp.Expression):
        raise converter.refuse("no condition")
    return F.coalesce(converter.condition(node), F.lit(False))
