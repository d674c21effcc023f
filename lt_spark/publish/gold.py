"""The gold tables: external ids, scalar columns, what BI tools and people read."""

from datetime import date

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import PublishConfig
from lt_spark.frames.rules import BLOCK, PIN, blocked_items, boosts, for_everybody, without_blocked
from lt_spark.publish import reasons

REACH_K = 10
"""A tail item reaches a user when it stands among the first so many of the list."""


def stamped(rows: DataFrame, run_id: str, run_date: date) -> DataFrame:
    """Return the rows with ``run_id`` and ``run_date``."""
    return rows.withColumn("run_id", F.lit(run_id)).withColumn("run_date", F.lit(run_date))


def recommendations(
    recommendations: DataFrame,
    users: DataFrame,
    items: DataFrame,
    known_interactions: DataFrame,
    keywords: DataFrame,
    rules: DataFrame | None = None,
) -> DataFrame:
    """Return ``gold.recommendations`` but for the run's columns.

    The reason is the item of the user's history with the largest share, where that is a tenth or more: because_of. Else
    it is what the strongest model goes by, see :func:`lt_spark.publish.reasons.reason_code`. Of an item that the shop
    pinned: pinned, in the words of the rule. What is blocked is no reason. The parts stand beside it: up to three items
    of the history with their shares, each model's share, what the item has in common with the first of the three.

    Args:
        recommendations: ``silver.recommendations`` of fold live.
        users: ``silver.users``.
        items: ``silver.items``.
        known_interactions: events of fold live, for the date of the reason.
        keywords: (item_idx, keywords), as :func:`lt_spark.publish.reasons.item_keywords` gives them.
        rules: the shop's rules in force; None: there are none.
    """
    dates = known_interactions.groupBy("user_idx", F.col("item_idx").alias("reason_idx")).agg(
        F.to_date(F.max("event_ts")).alias("reason_event_date")
    )
    told = reasons.with_shared_keywords(_with_rules(recommendations, rules), keywords)
    rows = (
        reasons.with_history_items(told, items)
        .withColumn("reason_idx", F.get("because", F.lit(0))["item_idx"])
        .join(users, "user_idx")
        .join(items.select("item_idx", "item_id", "title"), "item_idx")
        .join(dates, ["user_idx", "reason_idx"], "left")
    )
    is_pinned = F.col("pin_reason").isNotNull()
    by_model = reasons.reason_code(F.col("models"), F.col("reason_1_share"), F.col("segment"))
    code = F.when(is_pinned, F.lit("pinned")).otherwise(by_model)
    words = reasons.reason_words(
        F.col("reason_code"),
        F.coalesce("reason_1_title", "reason_1_item_id"),
        F.date_format("reason_event_date", "yyyy-MM-dd"),
        F.col("shared_keywords"),
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
        F.col("reason_1_item_id").alias("reason_item_id"),
        F.col("reason_1_title").alias("reason_title"),
        F.col("reason_1_share").alias("reason_share"),
        "reason_event_date",
        F.coalesce("pin_reason", words).alias("reason"),
        "shared_keywords",
        *(f"reason_{place}_{name}" for place in (2, 3) for name in ("item_id", "title", "share")),
        *(column.alias(name) for name, column in reasons.model_columns(F.col("models")).items()),
    )


def _with_rules(rows: DataFrame, rules: DataFrame | None) -> DataFrame:
    """Add ``pin_reason``, null where the item is not pinned, and take out of ``because`` what may not be named."""
    if rules is None:
        return rows.withColumn("pin_reason", F.lit(None).cast("string"))
    own_pins, own_blocks = (
        rules.where((F.col("action") == action) & F.col("user_idx").isNotNull()) for action in (PIN, BLOCK)
    )
    all_pins = for_everybody(rules, PIN).select("item_idx", F.col("reason").alias("all_reason"))
    pair = own_pins.select("user_idx", "item_idx", F.col("reason").alias("own_reason"))
    unnamed = blocked_items(rules).agg(F.collect_set("item_idx").alias("unnamed"))
    own_unnamed = own_blocks.groupBy("user_idx").agg(F.collect_set("item_idx").alias("own_unnamed"))
    joined = (
        rows.join(all_pins, "item_idx", "left")
        .join(pair, ["user_idx", "item_idx"], "left")
        .crossJoin(F.broadcast(unnamed))
        .join(own_unnamed, "user_idx", "left")
    )
    reason = F.coalesce("own_reason", "all_reason")
    own = F.coalesce("own_unnamed", F.array().cast("array<int>"))
    because = F.transform(
        "because",
        lambda told: F.when(
            reason.isNull() & ~F.array_contains("unnamed", told["item_idx"]) & ~F.array_contains(own, told["item_idx"]),
            told,
        ),
    )
    return joined.withColumns({"pin_reason": reason, "because": because})


def with_rules(popularity: DataFrame, rules: DataFrame) -> DataFrame:
    """Return (item_idx, score) as the rules for everybody have it: without what is blocked, boosted by its factor."""
    boosted = without_blocked(popularity, rules).join(boosts(rules), "item_idx", "left")
    return boosted.select("item_idx", (F.col("score") * F.coalesce("factor", F.lit(1.0))).alias("score"))


def pins(rules: DataFrame, recommendable: DataFrame) -> DataFrame:
    """Return (item_idx, place) of the items that are pinned for everybody and may be recommended."""
    pinned = for_everybody(rules, PIN).select("item_idx", F.col("value").cast("int").alias("place"))
    return without_blocked(pinned, rules).join(recommendable, "item_idx", "left_semi")


def recommendations_default(
    popularity: DataFrame,
    items: DataFrame,
    item_segments: DataFrame,
    config: PublishConfig,
    pins: DataFrame | None = None,
) -> DataFrame:
    """Return ``gold.recommendations_default`` but for the run's columns.

    The most popular items, with a set share of mid and tail ones spread evenly through the list: place p holds one
    where floor(p x share) > floor((p - 1) x share). Where a side has too few items the other fills the list. Pinned
    items stand at their places, the others around them.

    Args:
        popularity: (item_idx, score) of the items that may be recommended, recent events counting more.
        items: ``silver.items``.
        item_segments: ``silver.item_segments`` of fold live.
        config: section ``publish``.
        pins: (item_idx, place), a place once; None: nothing is pinned.
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
    # where the others run out, more mid and tail items end the list
    is_more = F.col("is_long") & (F.col("nth") > n_long)
    kept = kept.withColumn("place", F.when(is_more, F.lit(n) + F.col("nth")).otherwise(F.col("place")))
    ranked = kept.withColumn("rank", F.row_number().over(in_order)).where(F.col("rank") <= n)
    listed = ranked.select("rank", "item_idx", "segment")
    return (
        (listed if pins is None else _pinned(listed, pins, item_segments, n))
        .join(items.select("item_idx", "item_id", "title"), "item_idx")
        .select("rank", "item_id", "title", "segment")
    )


def _pinned(listed: DataFrame, pins: DataFrame, item_segments: DataFrame, n: int) -> DataFrame:
    """Return the list with the pinned items at their places; at most n rows, ranks from 1."""
    placed = pins.where(F.col("place") <= n)
    others = listed.join(placed, "item_idx", "left_anti")
    # at most n places
    taken = placed.agg(F.collect_set("place").alias("taken"))
    free = F.array_except(F.sequence(F.lit(1), F.lit(n)), F.col("taken"))
    nth = F.row_number().over(Window.orderBy("rank")) - 1
    moved = others.crossJoin(F.broadcast(taken)).withColumn("place", F.get(free, nth)).where("place IS NOT NULL")
    pinned = placed.join(item_segments, "item_idx").select("place", "item_idx", "segment")
    rank = F.row_number().over(Window.orderBy("place"))
    return pinned.unionByName(moved.select("place", "item_idx", "segment")).withColumn("rank", rank)


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


def without_blocked_neighbours(item_neighbours: DataFrame, rules: DataFrame) -> DataFrame:
    """Return the pairs neither of whose items is blocked for everybody, ranked anew."""
    return _ranked_anew(without_blocked(without_blocked(item_neighbours, rules), rules, "neighbour_idx"))


def recommendable_neighbours(item_neighbours: DataFrame, recommendable: DataFrame) -> DataFrame:
    """Return the pairs whose neighbour may be recommended, ranked anew."""
    may_be = recommendable.select(F.col("item_idx").alias("neighbour_idx"))
    return _ranked_anew(item_neighbours.join(may_be, "neighbour_idx", "left_semi"))


def _ranked_anew(item_neighbours: DataFrame) -> DataFrame:
    by_rank = Window.partitionBy("item_idx").orderBy("rank")
    return item_neighbours.withColumn("rank", F.row_number().over(by_rank))


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
