"""Reach: an item that is among nobody's first places takes the last of them in the list that has it highest."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config_rerank import RerankConfig
from lt_spark.rank.rerank_report import Report
from lt_spark.rank.user_lists import PROTECTED

REACH = "reach"
"""Name of the rule in ``silver.rerank_report``."""
_SUMS = ("users", "places", "score", "tail")


def exchanges(
    lists: DataFrame,
    config: RerankConfig,
    n_users: int,
    groups: DataFrame | None = None,
    arranged: DataFrame | None = None,
) -> DataFrame:
    """Return which items change places.

    An item that is listed, but among nobody's first ``reach_k`` places, goes to place ``reach_k`` of the list in which
    it ranks highest; what stood there takes its place. A list changes at most once, the list with the higher place
    first; ``reach_share`` bounds how many do, so the cost is at most that share of what the last of the first places
    is worth. It is the least guarantee of exposure of FairRec (Patro et al., WWW 2020), of one list an item.

    What the shop arranges stays, and what would itself be left without a list stays. With a quota only tail and cold
    items come forward, with a cap only such as stand for the same group as what they displace, or for none: both hold
    as before.

    Args:
        lists: rows of ``silver.recommendations`` of one fold; read three times.
        config: section ``rerank``.
        n_users: users with a list.
        groups: (item_idx, group) of the items that the cap is about; None: there is none.
        arranged: (item_idx), distinct, of the items that a rule in force pins or boosts; None: there are no rules.

    Returns:
        (user_idx, item_idx, rank, score, segment, displaced_idx, displaced_score, displaced_segment).
    """
    shown = lists.where(F.col("rank") <= config.reach_k).groupBy("item_idx").agg(F.count(F.lit(1)).alias("n_shown"))
    free = lists if arranged is None else lists.join(arranged, "item_idx", "left_anti")
    behind = free.where(F.col("rank") > config.reach_k).join(shown, "item_idx", "left_anti")
    if config.quota_share > 0:
        behind = behind.where(F.col("segment").isin(*PROTECTED))
    last = free.where(F.col("rank") == config.reach_k).join(shown.where("n_shown > 1"), "item_idx")
    names = {"item_idx": "displaced_idx", "score": "displaced_score", "segment": "displaced_segment"}
    last = last.select("user_idx", "n_shown", *(F.col(name).alias(new) for name, new in names.items()))
    options = behind.select("user_idx", "item_idx", "rank", "score", "segment").join(last, "user_idx")
    if groups is not None:
        of_displaced = groups.select(F.col("item_idx").alias("displaced_idx"), F.col("group").alias("displaced_group"))
        options = options.join(groups, "item_idx", "left").join(of_displaced, "displaced_idx", "left")
        options = options.where(F.col("group").isNull() | (F.col("group") == F.col("displaced_group")))
    options = options.withColumn("tie", F.xxhash64("user_idx", "item_idx"))
    columns = [name for name in options.columns if name not in ("group", "displaced_group")]
    best_of_item = _first(options, "item_idx", columns)
    best_of_list = _first(best_of_item, "user_idx", columns)
    # of the lists that show an item one keeps it
    of_displaced_item = Window.partitionBy("displaced_idx").orderBy("rank", "tie")
    kept = best_of_list.withColumn("nth", F.row_number().over(of_displaced_item)).where("nth < n_shown")
    most_wanted = kept.orderBy("rank", "tie").limit(int(config.reach_share * n_users))
    return most_wanted.select("user_idx", "item_idx", "rank", "score", "segment", *names.values())


def _first(rows: DataFrame, key: str, columns: Sequence[str]) -> DataFrame:
    """Return the row with the highest place, a row a key."""
    best = F.min_by(F.struct(*columns), F.struct("rank", "tie"))
    return rows.groupBy(key).agg(best.alias("best")).select("best.*")


def exchanged(lists: DataFrame, chosen: DataFrame, config: RerankConfig) -> DataFrame:
    """Return the lists with the items of :func:`exchanges` in each other's places.

    The score is that of the place, so that it still falls with the rank; shares and reasons go with the item.
    """
    pairs = chosen.select(
        "user_idx",
        *(F.col(name).alias(f"new_{name}") for name in ("item_idx", "rank", "score")),
        "displaced_idx",
        "displaced_score",
    )
    comes = F.coalesce(F.col("item_idx") == F.col("new_item_idx"), F.lit(False))
    goes = F.coalesce(F.col("item_idx") == F.col("displaced_idx"), F.lit(False))

    def of_place(name: str, first: Column) -> Column:
        return F.when(comes, first).when(goes, F.col(f"new_{name}")).otherwise(F.col(name))

    changed = {"rank": of_place("rank", F.lit(config.reach_k)), "score": of_place("score", F.col("displaced_score"))}
    return lists.join(pairs, "user_idx", "left").withColumns(changed).select(*lists.columns)


def sums(lists: DataFrame, k: int) -> dict[str, float]:
    """Return of the first k places of all lists: users, places, sum of scores, tail and cold items."""
    first = lists.where(F.col("rank") <= k).agg(
        F.count_if(F.col("rank") == 1).alias("users"),
        F.count(F.lit(1)).alias("places"),
        F.sum("score").alias("score"),
        F.count_if(F.col("segment").isin(*PROTECTED)).alias("tail"),
    )
    row = first.first()
    return {name: float((row[name] if row is not None else 0) or 0) for name in _SUMS}


def report(before: dict[str, float], chosen: DataFrame, fold: str) -> Report:
    """Return the rows of ``silver.rerank_report``: users, users_touched, score_lost, tail_share_before and _after.

    Args:
        before: what :func:`sums` gives of the lists without it.
        chosen: what :func:`exchanges` gives.
        fold: the fold.
    """
    is_tail = {name: F.col(name).isin(*PROTECTED).cast("int") for name in ("segment", "displaced_segment")}
    row = chosen.agg(
        F.count(F.lit(1)).alias("n"),
        F.sum(F.col("displaced_score") - F.col("score")).alias("lost"),
        F.sum(is_tail["segment"] - is_tail["displaced_segment"]).alias("tail"),
    ).first()
    n, lost, tail = (float((row[name] if row is not None else 0) or 0) for name in ("n", "lost", "tail"))
    places, score = before["places"] or 1.0, before["score"] or 1.0
    told = {
        "users": before["users"],
        "users_touched": n,
        "score_lost": lost / score,
        "tail_share_before": before["tail"] / places,
        "tail_share_after": (before["tail"] + tail) / places,
    }
    return [(fold, REACH, name, value) for name, value in told.items()]


def in_words(rows: Report) -> str:
    """Return the report as a sentence."""
    told = {row[2]: row[3] for row in rows}
    return (
        f"{REACH}: {told['users_touched']:,.0f} items that nobody would have been shown took a place in as many of "
        f"{told['users']:,.0f} lists; the first places lost {told['score_lost']:.2%} of their score, tail share "
        f"{told['tail_share_before']:.3f} -> {told['tail_share_after']:.3f}"
    )
