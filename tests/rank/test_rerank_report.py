"""The report of re-ranking: shares of sums, and a sentence a rule."""

from lt_spark.kernels.fair import Limits
from lt_spark.rank.rerank_report import in_words, report
from lt_spark.rank.user_lists import QUOTA, RULES, SUMS, Settings

HOW = Settings(Limits(10, (0,) * 10), (QUOTA, RULES))


def totals(**told: float) -> list[float]:
    return [told.get(name, 0.0) for name in SUMS]


def test_measures_and_words() -> None:
    quota = totals(
        users=1_200,
        users_touched=300,
        items_moved=700,
        score_before=80.0,
        score_after=76.0,
        tail_before=10,
        tail_after=25,
        places_before=100,
        places_after=100,
        users_short=7,
    )
    rows = report([*quota, *totals()], HOW, "test")
    told = {(rule, name): value for fold, rule, name, value in rows if fold == "test"}
    assert told[QUOTA, "score_lost"] == 1 - 76 / 80
    assert (told[QUOTA, "tail_share_before"], told[QUOTA, "tail_share_after"]) == (0.1, 0.25)
    assert told[QUOTA, "users_short"] == 7
    assert told[RULES, "score_lost"] == told[RULES, "tail_share_after"] == 0
    assert (RULES, "users_short") not in told and (QUOTA, "pins_placed") not in told
    first, second = in_words(rows)
    assert first == (
        "quota: 700 places changed in the lists of 300 of 1,200 users; the first 10 lost 5.0% of their score, "
        "tail share 0.100 -> 0.250; 7 users have too few relevant tail or cold items"
    )
    assert second.endswith("; 0 places lost to blocks, 0 pins placed")
