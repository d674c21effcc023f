"""What stands in for an answer that failed: the item's own metadata and what its nearest items agree on."""

from collections.abc import Sequence

from lt_spark.core.config_text import DescribeConfig
from lt_spark.enrich.prompts import MAX_KEYWORDS, ItemText, Pack, own_keywords, sentences_of
from lt_spark.kernels import text_checks as checks
from lt_spark.kernels.hostile import clean_text
from lt_spark.kernels.written import Written

N_VOTERS = 5
"""Nearest items that vote."""
MIN_VOTES = 2
"""A keyword needs so many of them."""
# the limits of the gate, as they are set where nobody sets them
_MIN_WORDS = 3
_MAX_CHARS = 600
_MAX_REPEATED_SHARE = 0.5
_MAX_TITLE_SHARE = 0.9


def vote(neighbours: Sequence[tuple[float, ItemText]], section: DescribeConfig) -> tuple[str, ...]:
    """Return the keywords that at least two of the five nearest items have.

    Args:
        neighbours: (similarity, item), the nearest first; those after the fifth, and those of no similarity, have no
            vote.
        section: ``describe``: which attributes hold keywords, and what parts them.

    Returns:
        The keywords in lower case, by the sum of their voters' similarity, then in the order of the nearest item; empty
        where no two agree.
    """
    votes: dict[str, list[float]] = {}
    for similarity, item in neighbours[:N_VOTERS]:
        if similarity > 0:
            for keyword in own_keywords(section, item):
                votes.setdefault(keyword, []).append(similarity)
    elected = [keyword for keyword, voters in votes.items() if len(voters) >= MIN_VOTES]
    # rounded, so that the order does not hang on the last digits of a sum
    return tuple(sorted(elected, key=lambda keyword: -round(sum(votes[keyword]), 6)))


def fallback(pack: Pack, section: DescribeConfig, item: ItemText, voted: Sequence[str]) -> Written:
    """Return a text that no model wrote, in the form of an answer.

    Args:
        pack: its sentences.
        section: ``describe``.
        item: the item.
        voted: what its nearest items agree on, as ``vote`` gives it.

    Returns:
        Its own keywords, then the elected ones, at most ``MAX_KEYWORDS``; and the pack's first sentence, filled from
        its metadata, that the gate would not refuse for its form. A title with an address of the web in it is left out
        of the sentence.
    """
    candidates = dict.fromkeys((*own_keywords(section, item), *voted))
    keywords = tuple(word for word in candidates if _is_fit_keyword(word))[:MAX_KEYWORDS]
    return Written(keywords, sentence_of(pack, section, item, keywords))


def sentence_of(pack: Pack, section: DescribeConfig, item: ItemText, keywords: Sequence[str]) -> str:
    """Return the pack's first sentence, filled, that the gate would not refuse for its form; "" where there is none."""
    title = clean_text(item.title, _MAX_CHARS)
    return next((each for each in sentences_of(pack, section, item, keywords) if _is_fit(each, title)), "")


def _is_fit_keyword(keyword: str) -> bool:
    return checks.formula(keyword) and _is_safe(keyword) and checks.repeats(keyword, _MAX_REPEATED_SHARE)


def _is_fit(sentence: str, title: str) -> bool:
    return (
        checks.length(sentence, _MIN_WORDS, _MAX_CHARS)
        and checks.repeats(sentence, _MAX_REPEATED_SHARE)
        and checks.echo(sentence, title, _MAX_TITLE_SHARE)
        and checks.about_itself(sentence, title)
        and checks.formula(sentence)
        and _is_safe(sentence)
    )


def _is_safe(text: str) -> bool:
    return checks.contact(text) and checks.control(text) and checks.template(text)
