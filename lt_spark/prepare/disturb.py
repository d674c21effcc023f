"""Data disturbed on purpose: texts of other items, typing errors, events left out."""

from math import gcd

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from lt_spark.core.config_ledger import DisturbConfig
from lt_spark.frames.known import hash_uniform
from lt_spark.kernels.typos import with_typos

_TEXT = ("title", "attributes")
_GOLDEN = 0.618


def disturbed_texts(items: DataFrame, config: DisturbConfig, seed: int) -> DataFrame:
    """Return the items as models are to read them: with their own text, with another item's, or with typos.

    Args:
        items: ``silver.items``.
        config: section ``disturb``.
        seed: seed of the typos.

    Returns:
        ``silver.items``: the same items, title and attributes disturbed.
    """
    if config.text == "shuffled":
        moved = items.select(shuffled_idx(items).alias("item_idx"), *_TEXT)
        return items.drop(*_TEXT).join(moved, "item_idx", "left").select(*items.columns)
    if config.text == "typos":
        share = config.typo_share

        @pandas_udf("string")  # type: ignore[call-overload,untyped-decorator,unused-ignore]
        def mistyped(titles: pd.Series) -> pd.Series:
            return titles.map(lambda title: with_typos(title, share, seed), na_action="ignore")

        return items.withColumn("title", mistyped("title"))
    return items


def shuffled_idx(items: DataFrame) -> Column:
    """Return the item that takes over an item's text: number x step + 1, modulo their count.

    A step that shares no factor with the count makes it one to one, and then at most one item keeps its own text. Where
    a number is vacant in the catalogue, one item stays without text.

    Args:
        items: has item_idx, numbered from 0.
    """
    row = items.agg({"item_idx": "max"}).first()
    n_items = int(row[0]) + 1 if row is not None and row[0] is not None else 1
    step = max(1, round(n_items * _GOLDEN))
    while gcd(step, n_items) != 1:
        step += 1
    return (F.col("item_idx") * F.lit(step) + F.lit(1)) % F.lit(n_items)


def without_dropped(split: DataFrame, config: DisturbConfig, seed: int) -> DataFrame:
    """Return the log without ``disturb.drop_share`` of each user's train events; the newest of them stays.

    Args:
        split: ``silver.interactions_split``.
        config: section ``disturb``.
        seed: seed of the draw.

    Returns:
        Fewer rows of the same; all of valid and test.
    """
    if not config.drop_share:
        return split
    of_user = Window.partitionBy("user_idx", "split")
    is_newest = F.col("event_order") == F.max("event_order").over(of_user)
    is_drawn = hash_uniform("disturb", seed, "user_idx", "event_order") < F.lit(config.drop_share)
    kept = (F.col("split") != "train") | is_newest | ~is_drawn
    return split.withColumn("is_kept", kept).where("is_kept").drop("is_kept")
