"""What lists look like as a whole: tail share, coverage, Gini, popularity, novelty."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

SEGMENTS = ("head", "mid", "tail", "cold", "tail_and_cold", "top20_head", "top20_tail")
"""Parts of the catalogue whose coverage is measured; they overlap."""
_KEY = ["model_name", "k"]


def list_metrics(lists: DataFrame, item_segments: DataFrame, ks: Sequence[int]) -> DataFrame:
    """Return whole-list metrics of each model and k.

    tail_share = listed tail and cold items / listed items; coverage = items in any list / catalogue, and
    coverage_<segment> = the segment's items in any list / the segment's items, null where it has none;
    gini = inequality of exposure over the catalogue, zeros included, G = sum_i (2 i - n - 1) x_i / (n sum x),
    x ascending; mean_popularity = mean known events of a listed item;
    novelty = mean -log2(n_i / n), an unseen item counted as half an event.

    Args:
        lists: (model_name, user_idx, item_idx, rank).
        item_segments: ``silver.item_segments`` of the fold: the whole catalogue.
        ks: list lengths.

    Returns:
        (model_name, k, n_users, tail_share, coverage, coverage_<segment> of each of SEGMENTS, gini, n_items_reached,
        mean_popularity, novelty).
    """
    spark = lists.sparkSession
    lengths = spark.createDataFrame([(int(k),) for k in ks], "k int")
    listed = lists.crossJoin(F.broadcast(lengths)).where(F.col("rank") <= F.col("k"))
    catalogue = item_segments.select("item_idx", "segment", "segment_top20", "n_interactions")
    totals = catalogue.agg(
        F.count(F.lit(1)).alias("n_catalogue"),
        F.greatest(F.sum("n_interactions"), F.lit(1)).alias("n_total"),
        *(F.count_if(_is_of(name)).alias(f"n_{name}") for name in SEGMENTS),
    )
    exposures = listed.groupBy(*_KEY, "item_idx").agg(F.count(F.lit(1)).alias("n_shown"))
    described = exposures.join(catalogue, "item_idx").crossJoin(F.broadcast(totals))
    share = F.greatest(F.col("n_interactions"), F.lit(0.5)) / F.col("n_total")
    shown, n = F.sum("n_shown"), F.col("n_catalogue")
    of_list = Window.partitionBy(*_KEY)
    # items that nobody is shown stand first, and add nothing: x = 0
    place = n - F.count(F.lit(1)).over(of_list) + F.row_number().over(of_list.orderBy("n_shown"))
    per_model = (
        described.withColumn("inequality", (2 * place - n - 1) * F.col("n_shown"))
        .groupBy(*_KEY)
        .agg(
            (F.sum(F.when(_is_of("tail_and_cold"), F.col("n_shown")).otherwise(0)) / shown).alias("tail_share"),
            (F.count(F.lit(1)) / F.first("n_catalogue")).alias("coverage"),
            *(
                (F.count_if(_is_of(name)) / F.nullif(F.first(f"n_{name}"), F.lit(0))).alias(f"coverage_{name}")
                for name in SEGMENTS
            ),
            (F.sum("inequality") / (F.first("n_catalogue") * shown)).alias("gini"),
            F.count(F.lit(1)).alias("n_items_reached"),
            (F.sum(F.col("n_shown") * F.col("n_interactions")) / shown).alias("mean_popularity"),
            (F.sum(-F.log2(share) * F.col("n_shown")) / shown).alias("novelty"),
        )
    )
    users = listed.groupBy(*_KEY).agg(F.countDistinct("user_idx").alias("n_users"))
    return users.join(per_model, _KEY)


def _is_of(segment: str) -> Column:
    """Return whether an item of ``silver.item_segments`` is of one of ``SEGMENTS``."""
    if segment == "tail_and_cold":
        return F.col("segment").isin("tail", "cold")
    if segment.startswith("top20_"):
        return F.col("segment_top20") == segment.removeprefix("top20_")
    return F.col("segment") == segment
