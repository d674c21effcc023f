"""Which items may be recommended in a fold."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def recommendable(items: DataFrame, fold: str, now: datetime) -> DataFrame:
    """Return (item_idx) of the items that may be recommended.

    Fold live: items that are available now. Valid and test look back, so every item counts there: what is sold out
    today was not when the target was chosen.

    Args:
        items: ``silver.items``.
        fold: the fold.
        now: time of the run (UTC, naive).
    """
    if fold != "live":
        return items.select("item_idx")
    today = F.lit(now)
    return items.where(
        F.coalesce("is_available", F.lit(True))
        & (F.col("available_from").isNull() | (F.col("available_from") <= today))
        & (F.col("available_until").isNull() | (F.col("available_until") >= today))
    ).select("item_idx")
