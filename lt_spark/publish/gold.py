"""The gold tables: external ids, scalar columns, what BI tools and people read."""

from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import PublishConfig

REACH_K = 10
"""A tail item reaches a user when it stands among the first so many of the list."""


def stamped(rows: DataFrame, run_id: str, run_date: date) -> DataFrame:
    """Return the rows with ``run_id`` and ``run_date``."""
    return rows.withColumn("run_id", F.lit(run_id)).withColumn("run_date", F.lit(run_date))


def recommendations(
    recommendations: DataFrame, users: DataFrame, items: DataFrame, known_interactions: DataFrame
) -> DataFrame:
    """Return ``gold.recommendations`` but for the run's columns.

    The reason is the item of the user's history with the largest share: because_of. Without one: popular where
    popularity speaks most for the item, else similar_taste (factors have no single item behind them).

    Args:
        recommendations: ``silver.recommendations`` of fold live.
        users: ``silver.users``.
        items: ``silver.items``.
        known_interactions: events of fold live, for the date of the reason.
    """
    titles = items.select("item_idx", "item_id", "title")
    reason_item = F.get("because", F.lit(0))["item_idx"]
    dates = known_interactions.groupBy("user_idx", F.col("item_idx").alias("reason_idx")).agg(
        F.to_date(F.max("event_ts")).alias("reason_event_date")
    )
    reasons = titles.select(
        F.col("item_idx").alias("reason_idx"),
        F.col("item_id").alias("reason_item_id"),
        F.col("title").alias("reason_title"),
    )
    rows = (
        recommendations.withColumn("reason_idx", reason_item)
        .join(users, "user_idx")
        .join(titles, "item_idx")
        .join(reasons, "reason_idx", "left")
        .join(dates, ["user_idx", "reason_idx"], "left")
    )
    strongest = F.get("models", F.lit(0))["model_name"]
    code = (
        F.when(F.col("reason_item_id").isNotNull(), F.lit("because_of"))
        .when(strongest == "popularity", F.lit("popular"))
        .otherwise(F.lit("similar_taste"))
    )
    return rows.withColumn("reason_code", code).select(
        "user_id",
        "rank",
        "item_id",
        "title",
        "score",
        "segment",
        F.array_join(F.transform("models", lambda model: model["model_name"]), ", ").alias("models"),
        "reason_code",
        "reason_item_id",
        "reason_event_date",
        reason_text().alias("reason"),
    )


def reason_text() -> Column:
    """Return the reason in words, from reason_code, reason_title, reason_item_id and reason_event_date."""
    named = F.coalesce(F.col("reason_title"), F.col("reason_item_id"))
    on = F.coalesce(F.concat(F.lit(" on "), F.date_format("reason_event_date", "yyyy-MM-dd")), F.lit(""))
    return (
        F.when(F.col("reason_code") == "because_of", F.concat(F.lit("because of «"), named, F.lit("»"), on))
        .when(F.col("reason_code") == "popular", F.lit("popular with many users"))
        .otherwise(F.lit("chosen by users of similar taste"))
    )


def recommendations_default(
    popularity: DataFrame, items: DataFrame, item_segments: DataFrame, config: PublishConfig
) -> DataFrame:
    """Return ``gold.recommendations_default`` but for the run's columns.

    The most popular items, with a set share of mid and tail ones spread evenly through the list: place p holds one
    where floor(p x share) > floor((p - 1) x share).

    Args:
        popularity: (item_idx, score) of the items that may be recommended, recent events counting more.
        items: ``silver.items``.
        item_segments: ``silver.item_segments`` of fold live.
        config: section ``publish``.
    """
    n, share = config.default_n, config.default_tail_share
    is_long = F.col("segment").isin("mid", "tail")
    n_long = int(n * share + 1e-9)
    best_first = Window.partitionBy("is_long").orderBy(F.desc("score"), "item_idx")
    scored = popularity.join(item_segments.select("item_idx", "segment"), "item_idx").withColumn("is_long", is_long)
    # each side is cut before the window, so that no task sorts the catalogue
    parts = [
        scored.where(F.col("is_long") == side).orderBy(F.desc("score"), "item_idx").limit(n) for side in (False, True)
    ]
    placed = parts[0].unionByName(parts[1]).withColumn("nth", F.row_number().over(best_first))
    # the j-th mid or tail item stands at place ceil(j / share); the others fill the places between, in order
    long_place = F.ceil(F.col("nth") / F.lit(share)) if share > 0 else F.lit(n + 1)
    head_place = F.floor((F.col("nth") - 1) / F.lit(1.0 - share)) + 1 if share < 1 else F.lit(n + 1)
    in_order = Window.orderBy("place", F.desc("is_long"), "item_idx")
    kept = placed.withColumn("place", F.when(F.col("is_long"), long_place).otherwise(head_place))
    enough = (F.col("nth") <= n_long) | ~F.col("is_long")
    return (
        kept.where(enough)
        .withColumn("rank", F.row_number().over(in_order))
        .where(F.col("rank") <= n)
        .join(items.select("item_idx", "item_id", "title"), "item_idx")
        .select("rank", "item_id", "title", "segment")
    )


def tail_items(
    recommendations: DataFrame, als_plain: DataFrame, items: DataFrame, item_segments: DataFrame
) -> DataFrame:
    """Return ``gold.tail_items`` but for the run's columns: each tail and cold item and how many users it reaches.

    Args:
        recommendations: ``silver.recommendations`` of fold live.
        als_plain: ``silver.candidates_als_plain`` of fold live.
        items: ``silver.items``.
        item_segments: ``silver.item_segments`` of fold live.
    """

    def reach(lists: DataFrame, name: str) -> DataFrame:
        return lists.where(F.col("rank") <= REACH_K).groupBy("item_idx").agg(F.count(F.lit(1)).alias(name))

    return (
        item_segments.where(F.col("segment").isin("tail", "cold"))
        .join(items, "item_idx")
        .join(reach(recommendations, "n_users_reached"), "item_idx", "left")
        .join(reach(als_plain, "n_users_reached_als_plain"), "item_idx", "left")
        .fillna(0, ["n_users_reached", "n_users_reached_als_plain"])
        .select("item_id", "title", "segment", "n_interactions", "n_users_reached", "n_users_reached_als_plain")
    )


def similar_items(item_neighbours: DataFrame, items: DataFrame, n: int) -> DataFrame:
    """Return ``gold.similar_items`` but for the run's columns.

    Args:
        item_neighbours: ``silver.item_neighbours`` of fold live.
        items: ``silver.items``.
        n: rows an item.
    """
    similar = items.select(
        F.col("item_idx").alias("neighbour_idx"),
        F.col("item_id").alias("similar_item_id"),
        F.col("title").alias("similar_title"),
    )
    return (
        item_neighbours.where(F.col("rank") <= n)
        .join(items.select("item_idx", "item_id"), "item_idx")
        .join(similar, "neighbour_idx")
        .select("item_id", "rank", "similar_item_id", "similar_title", "similarity")
    )
