"""What re-ranking did and what it cost: the sums over users made into rows and words."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from lt_spark.rank.user_lists import CAP, QUOTA, RULES, SUMS, Settings

Report = list[tuple[str, str, str, float]]
_WITH_SHORT, _OF_RULES = (QUOTA, CAP), ("items_blocked", "pins_placed")


def summed(settings: Settings) -> list[Column]:
    """Return the sums over users of the column ``sums`` of re-ranked rows, ``s0``, ``s1``, ..."""
    n = len(SUMS) * len(settings.rules)
    return [F.sum(F.get("sums", F.lit(place))).alias(f"s{place}") for place in range(n)]


def report(totals: Sequence[float], settings: Settings, fold: str) -> Report:
    """Return the rows of ``silver.rerank_report`` of a fold.

    users (with candidates or pins); users_touched: their list of ``blend.n`` is another; items_moved: places with
    another item than before; score_lost: share of the scores of the first 10 places that is gone; tail_share_before and
    tail_share_after: tail and cold items among the first 10 places. Of quota and cap users_short: lists that could not
    be filled as wanted. Of rules items_blocked (places of the lists) and pins_placed.

    Args:
        totals: the sums of :func:`summed`, in order.
        settings: what the lists were re-ranked by.
        fold: the fold.
    """
    rows: Report = []
    for place, rule in enumerate(settings.rules):
        of_rule = dict(zip(SUMS, totals[place * len(SUMS) : (place + 1) * len(SUMS)], strict=True))
        told = {name: of_rule[name] for name in SUMS[:3]}
        told["score_lost"] = 1.0 - _share(of_rule["score_after"], of_rule["score_before"], 1.0)
        for when in ("before", "after"):
            told[f"tail_share_{when}"] = _share(of_rule[f"tail_{when}"], of_rule[f"places_{when}"], 0.0)
        more = ("users_short",) if rule in _WITH_SHORT else _OF_RULES
        told |= {name: of_rule[name] for name in more}
        rows += [(fold, rule, name, value) for name, value in told.items()]
    return rows


def in_words(rows: Report) -> list[str]:
    """Return a sentence a rule."""
    return [
        _sentence(rule, {row[2]: row[3] for row in rows if row[1] == rule})
        for rule in dict.fromkeys(r[1] for r in rows)
    ]


def _sentence(rule: str, told: dict[str, float]) -> str:
    text = (
        f"{rule}: {told['items_moved']:,.0f} places changed in the lists of {told['users_touched']:,.0f} of "
        f"{told['users']:,.0f} users; the first 10 lost {told['score_lost']:.1%} of their score, tail share "
        f"{told['tail_share_before']:.3f} -> {told['tail_share_after']:.3f}"
    )
    if rule == RULES:
        return f"{text}; {told['items_blocked']:,.0f} places lost to blocks, {told['pins_placed']:,.0f} pins placed"
    what = "relevant tail or cold items" if rule == QUOTA else "other items"
    return f"{text}; {told['users_short']:,.0f} users have too few {what}"


def _share(part: float, whole: float, otherwise: float) -> float:
    return part / whole if whole else otherwise
