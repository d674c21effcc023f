"""The stage ``rules``: the shop's rules made into a silver table, each refused row with its reason."""

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, StringType, TimestampNTZType, TimestampType

from lt_spark.core.config_sources import RulesSource
from lt_spark.core.errors import SourceError, nearest
from lt_spark.core.names import quoted
from lt_spark.core.tables import BUSINESS_RULES, REJECTED_RULES
from lt_spark.frames.rules import BLOCK, BOOST, PIN
from lt_spark.prepare import clean_rules as reading
from lt_spark.prepare.conditions import condition
from lt_spark.prepare.strict_csv import FILE_COLUMNS

REQUIRED = ("item_id", "action", "reason")
OPTIONAL = ("value", "user_id", "starts_on", "ends_on")
MAX_FACTOR = 1e6
"""A larger factor is a slip of the pen."""
_PLACE = ("file", "record")
_BLOCKED = "the item is blocked at the same time"
_SAME_ITEM = "the item has another rule of the action at the same time"
_SAME_PLACE = "the place is taken at the same time"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_EVER = (-(2**31) + 1, 2**31 - 1)
"""Days since 1970 before and after any date that is written."""


def checked_rules(
    rules_source: DataFrame, items: DataFrame, users: DataFrame, source: RulesSource, n: int, max_chars: int
) -> DataFrame:
    """Read each row of the rules, and say of each that cannot be used why.

    Of two rules for the same item (or, pins, the same place) and the same users at overlapping times that say different
    things, the one that starts first stands, of equals the first in the file; a block always stands.

    Args:
        rules_source: the rules, by ``read_source``.
        items: ``silver.items``.
        users: ``silver.users``.
        source: section ``source.rules``.
        n: places of a list (``blend.n``).
        max_chars: a longer reason is cut.

    Returns:
        The columns of ``silver.business_rules`` and of ``silver.rejected_rules``, ``why`` instead of the latter's
        ``reason``: null for a rule that can be used.

    Raises:
        SourceError: a column is missing, or misspelt.
    """
    _require(rules_source, source)
    read = _read(rules_source, source, max_chars)
    known = (
        read.join(items.select("item_id", "item_idx"), "item_id", "left")
        .join(users.select("user_id", "user_idx"), "user_id", "left")
        .withColumn("_found", _refusal(n))
    )
    return _without_contradictions(known).select(
        *(F.col(column.name).cast(column.type).alias(column.name) for column in BUSINESS_RULES.columns),
        F.col("_found.reason").alias("why"),
        F.col("_found.column").alias("column"),
    )


def business_rules(checked: DataFrame) -> DataFrame:
    """Return the rules that can be used (``silver.business_rules``)."""
    return checked.where(F.col("why").isNull()).select(*BUSINESS_RULES.column_names)


def rejected_rules(checked: DataFrame) -> DataFrame:
    """Return the others (``silver.rejected_rules``)."""
    refused = checked.where(F.col("why").isNotNull()).drop("reason").withColumnRenamed("why", "reason")
    return refused.select(*REJECTED_RULES.column_names)


def _require(rules_source: DataFrame, source: RulesSource) -> None:
    columns = [column for column in rules_source.columns if column not in FILE_COLUMNS]
    where = f"source.rules.path '{source.path}'"
    listed = ", ".join(repr(column)[:80] for column in columns[:30])
    for name in REQUIRED:
        if name not in columns:
            raise SourceError(
                f"{where}: the column {name} is missing.{nearest(name, columns)} Expected {', '.join(REQUIRED)} and, "
                f"where they are needed, {', '.join(OPTIONAL)}; found {listed}. Name the columns so."
            )
    for column in columns:
        # a rule whose end is not read would be in force for ever
        lacking = [name for name in OPTIONAL if name not in columns]
        if column not in (*REQUIRED, *OPTIONAL) and (hint := nearest(column.lower(), lacking)):
            raise SourceError(
                f"{where}: the column {column[:80]!r} is unknown.{hint} Expected {', '.join((*REQUIRED, *OPTIONAL))}. "
                "Rename it, or give it a name that is not so near."
            )


def _read(rules_source: DataFrame, source: RulesSource, max_chars: int) -> DataFrame:
    types = {field.name: field.dataType for field in rules_source.schema.fields}

    def raw(name: str) -> Column:
        return F.col(quoted(name)) if name in types else F.lit(None).cast("string")

    def kind(name: str) -> DataType:
        return types.get(name, StringType())

    texts = {f"_{name}": F.trim(raw(name).cast("string")) for name in ("value", "starts_on", "ends_on")}
    rows = rules_source.select(
        F.col("_file").alias("file"),
        F.col("_record").alias("record"),
        "_error",
        (condition(source.where, rules_source.schema) if source.where else F.lit(True)).alias("_is_wanted"),
        raw("item_id").cast("string").alias("_item"),
        reading.id_text(raw("item_id"), kind("item_id"), "source.rules, column item_id").alias("item_id"),
        raw("user_id").cast("string").alias("_user"),
        reading.id_text(raw("user_id"), kind("user_id"), "source.rules, column user_id").alias("user_id"),
        F.lower(F.trim(raw("action").cast("string"))).alias("action"),
        reading.number(raw("value"), kind("value")).alias("value"),
        _day(raw("starts_on"), kind("starts_on")).alias("starts_on"),
        _day(raw("ends_on"), kind("ends_on")).alias("ends_on"),
        F.substring(reading.plain_text(raw("reason"), kind("reason")), 1, max_chars).alias("reason"),
        *(F.when(text != "", text).alias(name) for name, text in texts.items()),
    )
    # a row of a table that stands there twice has the same number twice
    return rows.where(F.col("_is_wanted") | F.col("_error").isNotNull()).dropDuplicates(list(_PLACE))


def _day(column: Column, data_type: DataType) -> Column:
    """Return a date, or text such as 2026-05-31, as a date; null where it is none."""
    if isinstance(data_type, DateType | TimestampType | TimestampNTZType):
        return column.cast("date")
    text = F.trim(column.cast("string"))
    return F.when(text.rlike(_DATE), text.try_cast("date"))


def _refusal(n: int) -> Column:
    """Return why a rule cannot be used by itself and the column at fault, or null."""
    action, value = F.col("action"), F.col("value")
    user_given = F.col("_user").isNotNull() & (F.col("_user") != "")
    is_whole = value == F.floor(value)
    bad_value = (
        F.when((action == BLOCK) & F.col("_value").isNotNull(), F.lit("a block has no value"))
        .when((action != BLOCK) & F.col("_value").isNull(), F.concat("action", F.lit(" needs a value")))
        .when((action != BLOCK) & value.isNull(), F.lit("value is not a number"))
        .when((action == PIN) & ~(is_whole & (value >= 1)), F.lit("place is not a whole number from 1"))
        .when((action == PIN) & (value > n), F.lit(f"place is beyond the list: blend.n is {n}"))
        .when((action == BOOST) & (value <= 0), F.lit("factor is not above 0"))
        .when((action == BOOST) & (value > MAX_FACTOR), F.lit(f"factor is above {MAX_FACTOR:,.0f}"))
    )
    checks: list[tuple[Column, str]] = [
        (reading.id_reason(F.col("_item"), F.col("item_id"), "item"), "item_id"),
        (F.when(F.col("item_idx").isNull(), F.lit("item is unknown")), "item_id"),
        (F.when(user_given, reading.id_reason(F.col("_user"), F.col("user_id"), "user")), "user_id"),
        (F.when(user_given & F.col("user_idx").isNull(), F.lit("user is unknown")), "user_id"),
        (_unless(action.isin(PIN, BLOCK, BOOST), "action is none of pin, block, boost"), "action"),
        (bad_value, "value"),
        *((_unread_day(name), name) for name in ("starts_on", "ends_on")),
        (F.when(F.col("ends_on") < F.col("starts_on"), F.lit("ends_on is before starts_on")), "ends_on"),
        (F.when(F.col("reason").isNull(), F.lit("reason is empty")), "reason"),
    ]
    return reading.first_reason(F.col("_error"), checks, F.col("_is_wanted"))


def _unless(holds: Column, reason: str) -> Column:
    return F.when(~F.coalesce(holds, F.lit(False)), F.lit(reason))


def _unread_day(name: str) -> Column:
    unread = F.col(f"_{name}").isNotNull() & F.col(name).isNull()
    return F.when(unread, F.lit(f"{name} is no date such as 2026-05-31"))


def _without_contradictions(rules: DataFrame) -> DataFrame:
    """Refuse what contradicts a rule that stands: pins and boosts by a block, by another of the item or the place."""
    rules = rules.withColumns(
        {
            "_from": F.coalesce(F.unix_date("starts_on"), F.lit(_EVER[0])),
            "_to": F.coalesce(F.unix_date("ends_on"), F.lit(_EVER[1])),
        }
    )
    blocks = rules.where(_stands() & (F.col("action") == BLOCK)).select(
        *(F.col(name).alias(f"_b{name}") for name in ("item_idx", "user_idx", "_from", "_to"))
    )
    others = rules.where(_stands() & (F.col("action") != BLOCK))
    covers = F.col("_buser_idx").isNull() | F.col("_buser_idx").eqNullSafe(F.col("user_idx"))
    overlaps = (F.col("_b_from") <= F.col("_to")) & (F.col("_from") <= F.col("_b_to"))
    is_blocked = (F.col("item_idx") == F.col("_bitem_idx")) & covers & overlaps
    blocked = others.join(blocks, is_blocked, "left_semi").select(*_PLACE, F.lit(_BLOCKED).alias("_why"))
    rules = _refused(rules, blocked)
    rows = rules.where(_stands() & (F.col("action") != BLOCK))
    rows = rows.select("action", "user_idx", "item_idx", "value", *_PLACE, "_from", "_to")
    by_user = rows.groupBy("action", "user_idx").applyInPandas(overlapping, "file string, record bigint, _why string")
    return _refused(rules, by_user)


def _stands() -> Column:
    return F.col("_found").isNull()


def _refused(rules: DataFrame, reasons: DataFrame) -> DataFrame:
    """Give the rules at these places in the file (file, record, _why) their reasons."""
    at_fault = (
        F.when(F.col("_why") == _BLOCKED, "action").when(F.col("_why") == _SAME_ITEM, "item_id").otherwise("value")
    )
    found = F.struct(F.col("_why").alias("reason"), at_fault.alias("column")).cast(reading.REASON)
    marked = rules.join(reasons.select(*_PLACE, found.alias("_new")), list(_PLACE), "left")
    return marked.withColumn("_found", F.coalesce("_found", "_new")).drop("_new")


def overlapping(rules: pd.DataFrame) -> pd.DataFrame:
    """Return (file, record, _why) of the rules that meet one that stands: of the same item, or a pin of its place.

    In the order of their first days, of equals of the file, a rule stands where all that stand before it for its item,
    and its place, are over.

    Args:
        rules: pins, or boosts, of the same users: action, item_idx, value, file, record, _from and _to (days since
            1970, both included).
    """
    last_day: dict[tuple[str, float], int] = {}
    refused: list[tuple[str, int, str]] = []
    for row in rules.sort_values(["_from", *_PLACE], kind="stable").to_dict("records"):
        keys = {("item", row["item_idx"]): _SAME_ITEM}
        if row["action"] == PIN:
            keys["place", row["value"]] = _SAME_PLACE
        met = next((why for key, why in keys.items() if last_day.get(key, _EVER[0] - 1) >= row["_from"]), None)
        if met is None:
            last_day |= dict.fromkeys(keys, row["_to"])
        else:
            refused.append((row["file"], row["record"], met))
    return pd.DataFrame(refused, columns=[*_PLACE, "_why"])
