"""The blend's lists re-ranked: the shop's rules, a quota for tail and cold items, a cap per category or brand."""

from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config_rerank import RerankConfig
from lt_spark.core.tables import RECOMMENDATIONS
from lt_spark.frames.rules import blocked_items, boosts
from lt_spark.kernels import fair
from lt_spark.rank.blend import speakers
from lt_spark.rank.features import popularities
from lt_spark.rank.user_lists import CAP, PROTECTED, QUOTA, RULES, Settings, rerank_users, whole_users

_PINS = "array<struct<is_for_all:boolean,place:int,item_idx:int,segment:string>>"
_TYPES = {column.name: column.type for column in RECOMMENDATIONS.columns}
_OUT = ("user_idx", "item_idx", "rank", "score", "segment", "models", "because")
_SCHEMA = ", ".join(f"{name} {_TYPES[name]}" for name in _OUT) + ", sums array<double>"


def settings(config: RerankConfig, n: int, *, has_rules: bool) -> Settings:
    """Return the settings of lists of ``n`` items: the table of the quota is computed here, once."""
    least: tuple[int, ...] = (0,) * n
    if config.quota_share > 0:
        alpha = config.quota_alpha
        if config.quota_adjusted:
            alpha = fair.adjusted_alpha(n, config.quota_share, alpha)
        least = tuple(fair.least_protected(n, config.quota_share, alpha).tolist())
    on = {QUOTA: config.quota_share > 0, CAP: config.cap is not None, RULES: has_rules}
    limits = fair.Limits(n, least, config.quota_floor, config.cap, min(config.cap_k, n))
    return Settings(limits, tuple(name for name, is_on in on.items() if is_on))


def item_facts(item_segments: DataFrame, items: DataFrame, cap_field: str, rules: DataFrame | None) -> DataFrame:
    """Return what the blend and the re-ranking look at of each item.

    Args:
        item_segments: ``silver.item_segments`` of the fold.
        items: ``silver.items``.
        cap_field: attribute of the cap; empty: there is none.
        rules: the rules in force, or None.

    Returns:
        (item_idx, segment, log_popularity, group, is_blocked, factor).
    """
    facts = popularities(item_segments)
    if cap_field:
        named = F.filter("attributes", lambda pair: pair["name"] == cap_field)
        facts = facts.join(items.select("item_idx", F.get(named, F.lit(0))["value"].alias("group")), "item_idx", "left")
    else:
        facts = facts.withColumn("group", F.lit(None).cast("string"))
    if rules is None:
        return facts.withColumns({"is_blocked": F.lit(False), "factor": F.lit(1.0)})
    blocked = blocked_items(rules).withColumn("is_blocked", F.lit(True))
    joined = facts.join(blocked, "item_idx", "left").join(boosts(rules), "item_idx", "left")
    return joined.fillna({"is_blocked": False, "factor": 1.0})


def rerank(scored: DataFrame, user_rules: DataFrame | None, settings: Settings, fold: str) -> DataFrame:
    """Return the lists that keep to the settings.

    score x factor ranks a user's candidates; what is blocked is left out. The rows that a list can need go through
    Python, a user at a time. They lie by user as ``blend.scored`` leaves them: there is no further shuffle of them.

    Args:
        scored: rows of ``blend.scored`` over :func:`item_facts`.
        user_rules: rows of ``user_rules.user_rules``; None: there are no rules. Users without candidates stay without a
            list: the default one, which has the pins for everybody, is more than a list of pins alone.
        settings: what the lists keep to.
        fold: the fold.

    Returns:
        The columns of ``silver.recommendations``, and ``sums``: what ``rerank_report`` adds up, on one row of each
        user, null on the others. A user who is left without a list has one row, with a null ``rank``, for its sums. The
        score is that of the place: the r-th best of the user's candidates, so that it falls with the rank.
    """
    rows = _with_user_rules(scored, user_rules).withColumns(
        {"ranked_score": F.col("score") * F.col("factor"), "is_protected": F.col("segment").isin(*PROTECTED)}
    )
    best_first = [F.col("is_blocked"), F.desc("ranked_score"), F.col("item_idx")]
    ordered = (
        _needed(rows, best_first, settings)
        .select(
            *("user_idx", "item_idx", "ranked_score", "score", "segment", "is_protected", "is_blocked", "group"),
            *("pins", *speakers()),
        )
        .sortWithinPartitions("user_idx", *best_first)
    )

    def lists(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows_of_users in whole_users(batches):
            yield from rerank_users(rows_of_users, settings)

    return ordered.mapInArrow(lists, _SCHEMA).withColumn("fold", F.lit(fold))


def _with_user_rules(scored: DataFrame, user_rules: DataFrame | None) -> DataFrame:
    """Add the user's own blocks and factors, and the pins."""
    if user_rules is None:
        return scored.withColumn("pins", F.lit(None).cast(_PINS))
    # by the user alone, and left: rows that lie by user stay where they are, and only the rules are shuffled
    joined = scored.join(user_rules, "user_idx", "left")
    is_own_block = F.coalesce(F.array_contains("own_blocks", F.col("item_idx")), F.lit(False))
    of_item = F.filter("own_boosts", lambda boost: boost["item_idx"] == F.col("item_idx"))
    own_factor = F.aggregate(of_item, F.lit(1.0), lambda product, boost: product * boost["value"])
    return joined.withColumns(
        {
            "is_blocked": F.col("is_blocked") | is_own_block,
            "factor": F.col("factor") * F.coalesce(own_factor, F.lit(1.0)),
            "pins": F.col("pins").cast(_PINS),
        }
    ).drop("own_blocks", "own_boosts")


def _needed(rows: DataFrame, best_first: list[Column], settings: Settings) -> DataFrame:
    """Keep the rows that a list can need: at most 2 n + 2 cap_k of a user, and with rules the n best without them.

    The quota lifts at most as many protected items as it wants in all. Within the first cap_k places only the best
    ``cap`` items of a group (and, lifted, its best ``cap`` protected ones) can stand, and of these each place needs one
    at most.
    """
    limits = settings.limits
    of_user = Window.partitionBy("user_idx")
    so_far = of_user.orderBy(*best_first).rowsBetween(Window.unboundedPreceding, Window.currentRow)
    is_needed = F.col("place") <= limits.n
    if QUOTA in settings.rules:
        is_needed |= F.col("is_protected") & (F.col("place_protected") <= limits.least[-1])
    if limits.cap is not None:
        in_group = Window.partitionBy("user_idx", "group").orderBy(*best_first)
        in_group = in_group.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        has_none = F.col("group").isNull()
        n_before, n_protected = F.count(F.lit(1)).over(in_group), _number("is_protected").over(in_group)
        rows = rows.withColumns(
            {
                "is_first": has_none | (n_before <= limits.cap),
                "is_first_protected": F.col("is_protected") & (has_none | (n_protected <= limits.cap)),
            }
        )
        for name in ("is_first", "is_first_protected"):
            is_needed |= F.col(name) & (F.col(f"place_{name}") <= limits.cap_k)
    is_needed &= ~F.col("is_blocked")
    if RULES in settings.rules:
        without_rules = of_user.orderBy(F.desc("score"), "item_idx")
        rows = rows.withColumn("place_without_rules", F.row_number().over(without_rules))
        is_needed |= F.col("place_without_rules") <= limits.n
    places = {"place": F.row_number().over(of_user.orderBy(*best_first))}
    if QUOTA in settings.rules:
        places["place_protected"] = _number("is_protected").over(so_far)
    if limits.cap is not None:
        places |= {f"place_{name}": _number(name).over(so_far) for name in ("is_first", "is_first_protected")}
    return rows.withColumns(places).where(is_needed)


def _number(name: str) -> Column:
    return F.sum(F.col(name).cast("int"))
