"""A look at the long tail: Lorenz curve, Gini, and what each segment has."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.tables import SEGMENTS


def segment_shares(counts: DataFrame) -> DataFrame:
    """Return what each segment has of the items and of the events.

    Args:
        counts: (segment, n): a row an item, as of one fold of ``silver.item_segments``; n the item's events.

    Returns:
        (segment, n_items, n_events, n_unused, item_share, event_share): a row a segment that has items, head first;
        n_unused: items with n = 0; shares in [0, 1], event_share null where there are no events.
    """
    everything = Window.partitionBy(F.lit(0))
    order = F.array_position(F.array(*map(F.lit, SEGMENTS)), F.col("segment"))
    return (
        counts.groupBy("segment")
        .agg(
            F.count(F.lit(1)).alias("n_items"),
            F.sum("n").alias("n_events"),
            F.count_if(F.col("n") == 0).alias("n_unused"),
        )
        .withColumn("item_share", F.col("n_items") / F.sum("n_items").over(everything))
        .withColumn("event_share", F.try_divide("n_events", F.sum("n_events").over(everything)))
        .orderBy(order)
    )


def lorenz(counts: DataFrame, n_points: int = 200) -> DataFrame:
    """Return the Lorenz curve of a count over items: what share of all events the least used items have.

    L(x) is the share of events of the least used share x of the items (Lorenz 1905). Items of equal n are one class,
    within which the curve is straight, so that it is drawn by the ends of its classes: of them, few enough are kept
    that any catalogue fits on a page, each of them a point of the exact curve. Classes, not items, are put in order in
    one task: there are at most about sqrt(2 x events) of them.

    Args:
        counts: (n): a row an item of the catalogue, n >= 0.
        n_points: at most so many points, and the origin.

    Returns:
        (item_share, event_share): by item_share ascending, from (0, 0) to (1, 1); no rows but the origin where there
        are no events.
    """
    classes = _classes(counts)
    # each step along the curve is as long: x + y runs from 0 to 2
    step = F.least(F.floor((F.col("item_share") + F.col("event_share")) * n_points / 2), F.lit(n_points - 1))
    kept = classes.groupBy(step.alias("step")).agg(
        F.max("item_share").alias("item_share"), F.max("event_share").alias("event_share")
    )
    origin = counts.sparkSession.range(1).select(F.lit(0.0).alias("item_share"), F.lit(0.0).alias("event_share"))
    return origin.unionByName(kept.select("item_share", "event_share")).orderBy("item_share", "event_share")


def gini(counts: DataFrame) -> DataFrame:
    """Return the Gini coefficient of a count over items: 0 where all have the same, near 1 where one has all.

    G = 1 - sum over the classes of (x_i - x_i-1) (y_i + y_i-1), on the exact Lorenz curve.

    Args:
        counts: (n): a row an item of the catalogue, n >= 0.

    Returns:
        One row (gini), in [0, 1); null where there are no events.
    """
    up = Window.partitionBy(F.lit(0)).orderBy("n")
    trapezoid = (F.col("item_share") - F.lag("item_share", 1, 0.0).over(up)) * (
        F.col("event_share") + F.lag("event_share", 1, 0.0).over(up)
    )
    areas = _classes(counts).withColumn("area", trapezoid)
    return areas.agg((F.lit(1.0) - F.sum("area")).alias("gini"))


def exposures(lists: DataFrame, item_segments: DataFrame, k: int) -> DataFrame:
    """Return how many lists have each item of the catalogue among their first k places.

    Args:
        lists: (item_idx, rank), a row a user's listed item.
        item_segments: one fold of ``silver.item_segments``: the whole catalogue.
        k: places that people see.

    Returns:
        (item_idx, segment, n): a row an item; n is 0 for what nobody is shown.
    """
    shown = lists.where(F.col("rank") <= k).groupBy("item_idx").agg(F.count(F.lit(1)).alias("n"))
    return item_segments.select("item_idx", "segment").join(shown, "item_idx", "left").fillna(0, ["n"])


def _classes(counts: DataFrame) -> DataFrame:
    """Return (n, item_share, event_share): the shares of items of n or less; no rows where there are no events."""
    everything = Window.partitionBy(F.lit(0))
    up_to = everything.orderBy("n").rowsBetween(Window.unboundedPreceding, 0)
    classes = counts.groupBy("n").agg(F.count(F.lit(1)).alias("n_class"))
    events = F.col("n") * F.col("n_class")
    summed = classes.select(
        "n",
        (F.sum("n_class").over(up_to) / F.sum("n_class").over(everything)).alias("item_share"),
        F.try_divide(F.sum(events).over(up_to), F.sum(events).over(everything)).alias("event_share"),
    )
    return summed.where(F.col("event_share").isNotNull())
