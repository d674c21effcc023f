"""Checks that what was made for a fold comes from the events that the fold may see, and from no others.

Each starts one Spark job over the log, linear in its events, and tells counts alone: for the stages, not for what they
call. What a fold may see is read from ``split`` here and not through ``frames.known.known``, so that an error there is
found as well. Fold live may see everything: nothing can leak into it, and nothing is looked at.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.errors import LeakageError
from lt_spark.frames.known import KNOWN_SPLITS

_PAIR = ["user_idx", "item_idx"]
_ROUNDING = 1e-9
"""Two sums of the same weights differ by less than this share, in whatever order they were added."""
_ADVICE = "Give the stage known(interactions_split, fold), and make the table again."


def item_counts(interactions_split: DataFrame, fold: str) -> DataFrame:
    """Return (item_idx int, n_interactions bigint): the items that a fold knows, each with its known events."""
    return _allowed(interactions_split, fold).groupBy("item_idx").agg(F.count(F.lit(1)).alias("n_interactions"))


def check_counts(item_segments: DataFrame, interactions_split: DataFrame, fold: str) -> None:
    """Fail when an item's count is not the number of its events that the fold may see.

    Args:
        item_segments: ``silver.item_segments``; rows of other folds are ignored.
        interactions_split: ``silver.interactions_split``.
        fold: ``valid``, ``test`` or ``live``.

    Raises:
        LeakageError: with the number of items whose count is another, and both sums.
    """
    if fold == "live":
        return
    counted = item_segments.where(F.col("fold") == fold).select("item_idx", F.col("n_interactions").alias("n_counted"))
    n_counted, n_known = (F.coalesce(name, F.lit(0)) for name in ("n_counted", "n_interactions"))
    row = (
        counted.join(item_counts(interactions_split, fold), "item_idx", "full")
        .agg(_n(n_counted != n_known).alias("wrong"), F.sum(n_counted).alias("counted"), F.sum(n_known).alias("known"))
        .first()
    )
    if row is not None and row["wrong"]:
        raise LeakageError(
            f"Events from outside fold '{fold}' count in silver.item_segments: expected each item's n_interactions to "
            f"be its events of split {_splits(fold)}, {row['known']} in all; found {row['wrong']} items with another "
            f"count, {row['counted']} in all. {_ADVICE}"
        )


def check_pairs(ratings: DataFrame, interactions_split: DataFrame, fold: str, is_plain: bool) -> None:
    """Fail when a user and item that the fold does not know together reached what a model is fitted on.

    Args:
        ratings: (user_idx, item_idx, rating), a row a pair.
        interactions_split: ``silver.interactions_split``.
        fold: ``valid``, ``test`` or ``live``.
        is_plain: whether a rating is the pair's summed ``event_weight``: then a later event of a known pair is found
            too, for its rating is too high.

    Raises:
        LeakageError: with the number of such pairs.
    """
    if fold == "live":
        return
    allowed = _allowed(interactions_split, fold).groupBy(_PAIR).agg(F.sum("event_weight").alias("known"))
    unknown = F.col("known").isNull()
    heavier = F.col("rating") > F.col("known") * (1 + _ROUNDING) if is_plain else F.lit(False)
    row = ratings.join(allowed, _PAIR, "left").agg(_n(unknown).alias("unknown"), _n(heavier).alias("heavier")).first()
    if row is not None and (row["unknown"] or row["heavier"]):
        raise LeakageError(
            f"Events from outside fold '{fold}' reached the ratings of a model: expected only pairs of user and item, "
            f"and their weights, from events of split {_splits(fold)}; found {row['unknown']} pairs that those do not "
            f"have and {row['heavier']} whose rating is above their weight. {_ADVICE}"
        )


def check_examples(examples: DataFrame, eligible: DataFrame, counts: DataFrame) -> None:
    """Fail when the pool of examples is not in the order of what is known: by count, then by ``item_idx``.

    An item with a later event counted would stand too high, or stand in the pool where another should.

    Args:
        examples: a version of ``silver.prompt_examples``.
        eligible: (item_idx) the items that may be examples.
        counts: (item_idx, n_interactions) known events of the train fold; an item that is not there has none.

    Raises:
        LeakageError: with the number of places that are wrong.
    """
    order = (F.col("n_interactions").desc_nulls_last(), F.col("item_idx"))
    n_examples = examples.count()
    first = eligible.join(counts, "item_idx", "left").fillna(0, ["n_interactions"]).orderBy(*order).limit(n_examples)
    # at most as many rows as the pool has: one task may number them
    expected = first.select("item_idx", F.row_number().over(Window.orderBy(*order)).alias("place"))
    placed = examples.select("item_idx", "pool_rank").join(expected, "item_idx", "full")
    n_wrong = placed.where(~F.col("pool_rank").eqNullSafe(F.col("place"))).count()
    if n_wrong:
        raise LeakageError(
            "Events from outside fold 'valid' order the pool of examples (silver.prompt_examples): expected the items "
            f"with most events of split {_splits('valid')} first; found {n_wrong} places that are not so, of "
            f"{n_examples} examples. Run stage segment of fold valid again, and make the pool of what it writes."
        )


def _allowed(interactions_split: DataFrame, fold: str) -> DataFrame:
    return interactions_split.where(F.col("split").isin(*KNOWN_SPLITS[fold]))


def _n(condition: Column) -> Column:
    """Return the number of rows for which the condition holds."""
    return F.count(F.when(condition, 1))


def _splits(fold: str) -> str:
    return ", ".join(KNOWN_SPLITS[fold])
