"""Groups of users: by how much they did, by their taste for the tail, and by what the users source says of them."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config_groups import ACTIVITY, HISTORY_LENGTH, TAIL_TASTE
from lt_spark.core.tables import USER_GROUPS
from lt_spark.measure.evaluate import BASELINE
from lt_spark.measure.group_cuts import cut_cells

_MAX_NAME_CHARS = 60


def user_groups(
    user_metrics: DataFrame,
    known_interactions: DataFrame,
    item_segments: DataFrame,
    user_attributes: DataFrame | None,
    columns: Sequence[str],
    min_users: int,
    fold: str,
) -> DataFrame:
    """Return the group of each measured user in each grouping (``silver.user_groups``).

    - ``history_length``: deciles of the number of known events, named after their range ("3-5");
    - ``activity``: light (up to the median of it), heavy (above the ninth decile), medium;
    - ``tail_taste``: deciles of the share of tail and cold items among the known events, to three decimals;
    - each of ``columns``: quintiles where it holds many numbers (to four significant digits), else its values (their
      first 60 characters): users without one are ``unknown``, rare values, and those beyond 50, ``other``.

    Ties stay together, so there may be fewer groups, and none has fewer than ``min_users`` users unless all have:
    neighbours are joined, and ``other`` takes in the smallest named group where it is too small itself. Cuts are made
    from the number of users at each value: exact, the same on every run, and no user is on the driver.

    Args:
        user_metrics: ``silver.user_metrics`` of the fold: whoever plain ALS is measured on is grouped.
        known_interactions: events that the fold may see.
        item_segments: ``silver.item_segments`` of the fold.
        user_attributes: ``silver.user_attributes``; None where there are no columns.
        columns: names of its attributes that are groupings.
        min_users: users that a group must have.
        fold: the fold.
    """
    users = user_metrics.where((F.col("segment") == "all") & (F.col("model_name") == BASELINE))
    users = users.select("user_idx").distinct()
    values = _log_values(users, known_interactions, item_segments)
    if user_attributes is not None and columns:
        values = values.unionByName(_attribute_values(users, user_attributes, columns))
    cut = cut_groups(values, ["group_by"], min_users)
    return cut.withColumn("fold", F.lit(fold)).select(*USER_GROUPS.column_names)


def cut_groups(values: DataFrame, keys: Sequence[str], min_users: int) -> DataFrame:
    """Return the values with ``group`` and ``group_order``, cut by :func:`lt_spark.measure.group_cuts.cut_cells`.

    A task sees the number of users at each distinct value of one grouping.

    Args:
        values: ``group_by``, ``value`` (double), ``text`` (either may be null: not known), and what else there is.
        keys: columns that name a grouping, ``group_by`` among them.
        min_users: users that a group must have.
    """
    cells = values.groupBy(*keys, "value", "text").agg(F.count(F.lit(1)).alias("n"))
    types = {field.name: field.dataType.simpleString() for field in cells.schema.fields}
    schema = ", ".join([*(f"`{name}` {kind}" for name, kind in types.items()), "`group` string", "group_order int"])
    cut = cells.groupBy(*keys).applyInPandas(lambda rows: cut_cells(rows, min_users), schema)
    is_same = F.lit(True)
    for name in (*keys, "value", "text"):
        is_same = is_same & F.col(f"v.{name}").eqNullSafe(F.col(f"c.{name}"))
    return values.alias("v").join(cut.alias("c"), is_same).select("v.*", "c.group", "c.group_order")


def _log_values(users: DataFrame, known_interactions: DataFrame, item_segments: DataFrame) -> DataFrame:
    """Return (user_idx, group_by, value, text): three rows a user."""
    is_tail = F.col("segment").isin("tail", "cold")
    counts = (
        known_interactions.join(item_segments.select("item_idx", "segment"), "item_idx")
        .groupBy("user_idx")
        .agg(F.count(F.lit(1)).alias("n"), F.sum(F.when(is_tail, 1).otherwise(0)).alias("n_tail"))
    )
    n_known = F.coalesce(F.col("n"), F.lit(0)).cast("double")
    pairs = {
        HISTORY_LENGTH: n_known,
        ACTIVITY: n_known,
        TAIL_TASTE: F.round(F.col("n_tail") / F.col("n"), 3),
    }
    rows = F.array(*(F.struct(F.lit(name).alias("group_by"), value.alias("value")) for name, value in pairs.items()))
    return users.join(counts, "user_idx", "left").select(
        "user_idx", F.inline(rows), F.lit(None).cast("string").alias("text")
    )


def _attribute_values(users: DataFrame, user_attributes: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Return (user_idx, group_by, value, text): a row a user and column, its text null where nothing is known."""
    known = user_attributes.select(
        "user_idx", F.col("name").alias("group_by"), F.substring("value", 1, _MAX_NAME_CHARS).alias("text")
    )
    names = F.explode(F.array(*(F.lit(name) for name in columns))).alias("group_by")
    every = users.select("user_idx", names).join(known, ["user_idx", "group_by"], "left")
    return every.select("user_idx", "group_by", F.lit(None).cast("double").alias("value"), "text")
