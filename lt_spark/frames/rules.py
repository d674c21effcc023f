"""The shop's rules that are in force: which items they block, boost and pin."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

PIN, BLOCK, BOOST = "pin", "block", "boost"


def in_force(business_rules: DataFrame, day: date) -> DataFrame:
    """Return the rules in force on a day; both ends of a rule's time belong to it.

    Args:
        business_rules: ``silver.business_rules``.
        day: the day (UTC).
    """
    started = F.col("starts_on").isNull() | (F.col("starts_on") <= F.lit(day))
    lasts = F.col("ends_on").isNull() | (F.col("ends_on") >= F.lit(day))
    return business_rules.where(started & lasts)


def for_everybody(rules: DataFrame, action: str) -> DataFrame:
    """Return (item_idx, value, reason) of the rules of an action that name no user."""
    return rules.where((F.col("action") == action) & F.col("user_idx").isNull()).select("item_idx", "value", "reason")


def blocked_items(rules: DataFrame) -> DataFrame:
    """Return (item_idx), distinct, of the items that are blocked for everybody."""
    return for_everybody(rules, BLOCK).select("item_idx").distinct()


def arranged_items(rules: DataFrame) -> DataFrame:
    """Return (item_idx), distinct, of the items that a rule pins or boosts, for everybody or for one user."""
    return rules.where(F.col("action").isin(PIN, BOOST)).select("item_idx").distinct()


def boosts(rules: DataFrame) -> DataFrame:
    """Return (item_idx, factor): the factor of each item that is boosted for everybody; those of an item multiply."""
    return for_everybody(rules, BOOST).groupBy("item_idx").agg(F.product("value").alias("factor"))


def without_blocked(rows: DataFrame, rules: DataFrame | None, column: str = "item_idx") -> DataFrame:
    """Return the rows whose item is not blocked for everybody; all where there are no rules."""
    if rules is None:
        return rows
    return rows.join(blocked_items(rules).withColumnRenamed("item_idx", column), column, "left_anti")
