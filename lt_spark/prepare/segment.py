"""Stage segment: which items are head, mid, tail and cold in a fold."""

from decimal import Decimal

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import SegmentConfig
from lt_spark.core.tables import ITEM_SEGMENTS

TOP20_SHARE = Decimal("0.2")
"""Share of the catalogue that is the head of ``segment_top20``."""
BLOCK_SIZE = 65_536
"""Items are put in order within blocks of so many consecutive item_idx, so that no task sorts the whole catalogue."""


def segment_items(known_interactions: DataFrame, items: DataFrame, config: SegmentConfig, fold: str) -> DataFrame:
    """Give each item of the catalogue its popularity and segment in a fold.

    Items are ranked by events descending, then ``item_idx``. By ``interaction_share``, head is the fewest items that
    hold at least the share ``head`` of the events (the item that crosses the line is in), mid likewise up to
    ``mid``; by ``item_share``, head is the first ceil(``head`` x catalogue) items, mid up to ceil(``mid`` x
    catalogue); by ``count``, head has at least ``head`` events, mid at least ``mid``. Tail is the rest; an item
    without a known event is cold, whatever its rank. ``segment_top20`` is head for the first ceil(.2 x catalogue).

    Ranks are made without a sort of all items in one task: a histogram over (count, block of item_idx) is summed up
    in order, and each item is then placed within its cell. The histogram grows with the number of distinct counts
    (at most about sqrt(2 x events)) times the number of blocks, and never above the number of items.

    Args:
        known_interactions: events that the fold may see.
        items: ``silver.items``.
        config: the section ``segment``.
        fold: the name written into ``fold``.

    Returns:
        ``silver.item_segments`` of the fold, a row for each row of ``items``.
    """
    counts = known_interactions.groupBy("item_idx").agg(F.count("*").alias("n_interactions"))
    catalogue = items.select("item_idx").join(counts, "item_idx", "left").fillna(0, ["n_interactions"])
    catalogue = catalogue.withColumn("block", F.floor(F.col("item_idx") / BLOCK_SIZE))
    cell = ["n_interactions", "block"]
    in_cell = F.row_number().over(Window.partitionBy(*cell).orderBy("item_idx"))
    ranked = (
        catalogue.withColumn("place", in_cell)
        .join(_cells(catalogue), cell)
        .withColumns(
            {
                "items_before": F.col("items_before") + F.col("place") - 1,
                "events_before": F.col("events_before") + (F.col("place") - 1) * F.col("n_interactions"),
            }
        )
    )
    return ranked.select(
        F.lit(fold).alias("fold"),
        "item_idx",
        "n_interactions",
        (F.col("items_before") + 1).cast("int").alias("popularity_rank"),
        _segment(config).alias("segment"),
        F.when(_within(F.col("items_before"), TOP20_SHARE, F.col("n_items")), "head")
        .otherwise("tail")
        .alias("segment_top20"),
    ).select(*ITEM_SEGMENTS.column_names)


def _cells(catalogue: DataFrame) -> DataFrame:
    """Return (n_interactions, block, items_before, events_before, n_items, n_events): a row a cell, with totals."""
    everything = Window.partitionBy(F.lit(0))
    before = everything.orderBy(F.col("n_interactions").desc(), "block").rowsBetween(Window.unboundedPreceding, -1)
    cells = catalogue.groupBy("n_interactions", "block").agg(F.count("*").alias("n_cell"))
    n_events = F.col("n_cell") * F.col("n_interactions")
    return cells.select(
        "n_interactions",
        "block",
        F.coalesce(F.sum("n_cell").over(before), F.lit(0)).alias("items_before"),
        F.coalesce(F.sum(n_events).over(before), F.lit(0)).alias("events_before"),
        F.sum("n_cell").over(everything).alias("n_items"),
        F.sum(n_events).over(everything).alias("n_events"),
    )


def _segment(config: SegmentConfig) -> Column:
    if config.by == "count":
        is_head = F.col("n_interactions") >= F.lit(config.head)
        is_mid = F.col("n_interactions") >= F.lit(config.mid)
    else:
        before, total = ("items_before", "n_items") if config.by == "item_share" else ("events_before", "n_events")
        is_head = _within(F.col(before), Decimal(str(config.head)), F.col(total))
        is_mid = _within(F.col(before), Decimal(str(config.mid)), F.col(total))
    return F.when(F.col("n_interactions") == 0, "cold").when(is_head, "head").when(is_mid, "mid").otherwise("tail")


def _within(before: Column, share: Decimal, total: Column) -> Column:
    """Whether the share is not yet filled by what comes before: before < share x total, in exact decimals.

    In 64-bit floats .55 x 100 is above 55, and an item too many would cross the line.
    """
    return before < F.lit(share) * total
