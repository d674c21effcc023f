"""The shop's rules of each user: which items are blocked, boosted and pinned for whom."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.frames.rules import BLOCK, BOOST, PIN, blocked_items

_PIN = ("user_idx", "item_idx", "value", "segment")


def user_rules(
    rules: DataFrame,
    users: DataFrame,
    seen: DataFrame,
    recommendable: DataFrame,
    item_segments: DataFrame,
) -> DataFrame:
    """Return what the rules in force say to each user of the fold.

    A pin for everybody is a pin for each user who has a list. No pin is kept for an item that the user has seen, that
    may not be recommended, or that is blocked (for all, or for the user). Blocks and boosts for everybody are not here:
    they belong to the item.

    Args:
        rules: the rules in force.
        users: (user_idx) of the fold.
        seen: (user_idx, item_idx) that users know and are not recommended again.
        recommendable: (item_idx) that may be recommended.
        item_segments: ``silver.item_segments`` of the fold.

    Returns:
        (user_idx, own_blocks array<int>, own_boosts array<struct<item_idx, value>>, pins array<struct<is_for_all,
        place, item_idx, segment>>: the user's own first, by place): a row a user with any.
    """
    is_own = F.col("user_idx").isNotNull()
    own = rules.where(is_own & (F.col("action") != PIN)).join(users, "user_idx", "left_semi")
    # what items say of pins first, while there are few of them
    pins = (
        rules.where(F.col("action") == PIN)
        .join(recommendable, "item_idx", "left_semi")
        .join(blocked_items(rules), "item_idx", "left_anti")
        .join(item_segments.select("item_idx", "segment"), "item_idx")
    )
    # a place has one pin for everybody at a time: at most as many as a list has places
    for_all = pins.where(~is_own).select("item_idx", "value", "segment", F.lit(True).alias("is_for_all"))
    own_pins = pins.where(is_own).select(*_PIN, F.lit(False).alias("is_for_all")).join(users, "user_idx", "left_semi")
    pair = ["user_idx", "item_idx"]
    kept = (
        users.crossJoin(F.broadcast(for_all))
        .unionByName(own_pins)
        .join(own.where(F.col("action") == BLOCK).select(*pair), pair, "left_anti")
        .join(seen.join(pins.select("item_idx").distinct(), "item_idx", "left_semi").select(*pair), pair, "left_anti")
    )
    is_block, is_boost, is_pin = (F.col("action") == action for action in (BLOCK, BOOST, PIN))
    pin = F.struct("is_for_all", F.col("value").cast("int").alias("place"), "item_idx", "segment")
    rows = kept.withColumn("action", F.lit(PIN)).unionByName(
        own.select(*pair, "action", "value"), allowMissingColumns=True
    )
    return rows.groupBy("user_idx").agg(
        F.collect_set(F.when(is_block, F.col("item_idx"))).alias("own_blocks"),
        F.collect_list(F.when(is_boost, F.struct("item_idx", "value"))).alias("own_boosts"),
        F.array_sort(F.collect_list(F.when(is_pin, pin))).alias("pins"),
    )
