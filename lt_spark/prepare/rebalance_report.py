"""What rebalance did: how unequal the items' shares of the learning signal were, and are."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.tables import REBALANCE_REPORT
from lt_spark.frames.known import with_segments
from lt_spark.prepare.rebalance import exact_sum

_MEASURES = ("gini", "tail_share", "n_users", "n_items", "n_events")


def rebalance_report(
    known_interactions: DataFrame,
    interactions_rebalanced: DataFrame,
    item_segments: DataFrame,
    fold: str,
) -> DataFrame:
    """Compare a fold's known events with what rebalance made of them.

    An item's mass is the sum of its events' ``event_weight`` before, and of ``weight`` x ``n_copies`` after.

    - ``gini``: inequality of mass over the items of the catalogue, cold ones included: sum of (2 rank - n - 1) mass
      over n x total mass, rank from the least mass; 0 where all are equal, near 1 where one item has all. Items
      within .1 % of each other's mass share a rank, which moves it by less than .0005 and keeps the work small.
    - ``tail_share``: share of mass of tail and cold items, in [0, 1].
    - ``n_users``, ``n_items``: with an event; ``n_events``: events, copies counted.

    Args:
        known_interactions: events that the fold may see.
        interactions_rebalanced: ``silver.interactions_rebalanced``; rows of other folds are ignored.
        item_segments: ``silver.item_segments``; rows of other folds are ignored.
        fold: the fold.

    Returns:
        ``silver.rebalance_report`` of the fold, 5 rows; gini and tail_share are null where there is no mass.
    """
    before = known_interactions.select(
        "user_idx", "item_idx", F.coalesce("event_weight", F.lit(1.0)).alias("mass"), F.lit(1).alias("n_copies")
    )
    after = interactions_rebalanced.where(F.col("fold") == fold).select(
        "user_idx", "item_idx", (F.col("weight") * F.col("n_copies")).alias("mass"), "n_copies"
    )
    pairs = [
        F.struct(
            F.lit(measure).alias("measure"),
            F.col(f"before.{measure}").cast("double").alias("before"),
            F.col(f"after.{measure}").cast("double").alias("after"),
        )
        for measure in _MEASURES
    ]
    return (
        _measures(before, item_segments, fold)
        .alias("before")
        .crossJoin(F.broadcast(_measures(after, item_segments, fold)).alias("after"))
        .select(F.explode(F.array(*pairs)).alias("row"))
        .select(F.lit(fold).alias("fold"), "row.*")
        .select(*REBALANCE_REPORT.column_names)
    )


def _measures(rows: DataFrame, item_segments: DataFrame, fold: str) -> DataFrame:
    """Return one row of ``_MEASURES`` from (user_idx, item_idx, mass, n_copies)."""
    users = rows.groupBy("user_idx").agg(F.lit(1).alias("one")).agg(F.count("*").alias("n_users"))
    by_item = rows.groupBy("item_idx").agg(exact_sum(F.col("mass")).alias("mass"), F.sum("n_copies").alias("n_copies"))
    is_tail = F.col("segment").isin("tail", "cold")
    totals = with_segments(by_item, item_segments, fold, ["segment"]).agg(
        F.try_divide(exact_sum(F.when(is_tail, F.col("mass")).otherwise(0.0)), exact_sum(F.col("mass"))).alias(
            "tail_share"
        ),
        F.count("*").alias("n_items"),
        F.coalesce(F.sum("n_copies"), F.lit(0)).alias("n_events"),
    )
    catalogue = item_segments.where(F.col("fold") == fold).select("item_idx")
    masses = catalogue.join(by_item, "item_idx", "left").select(F.coalesce("mass", F.lit(0.0)).alias("mass"))
    return _gini(masses).crossJoin(F.broadcast(totals)).crossJoin(F.broadcast(users))


def _gini(masses: DataFrame) -> DataFrame:
    """Return one row (gini) of a table of one mass an item.

    Items are gathered into classes of log mass .001 wide first, so that the ordered sum runs over some ten thousand
    rows at most, whatever the catalogue; the items of a class share its mean rank.
    """
    log_class = F.when(F.col("mass") > 0, F.round(F.log("mass"), 3))
    classes = masses.groupBy(log_class.alias("log_class")).agg(
        F.count("*").alias("n_class"), exact_sum(F.col("mass")).alias("mass")
    )
    everything = Window.partitionBy(F.lit(0))
    up_to = everything.orderBy(F.col("log_class").asc_nulls_first())
    ranked = classes.select(
        "mass",
        (F.sum("n_class").over(up_to) - (F.col("n_class") - 1) / 2).alias("mean_rank"),
        F.sum("n_class").over(everything).alias("n_items"),
        F.sum(F.col("mass").cast("decimal(28,12)")).over(everything).cast("double").alias("total"),
    )
    centred_rank = (2 * F.col("mean_rank") - F.col("n_items") - 1) / F.col("n_items")
    return ranked.agg(exact_sum(F.try_divide(F.col("mass"), F.col("total")) * centred_rank).alias("gini"))
