"""The line format of answers: keywords on the first line, ``Description:`` and its sentences on the next."""

import re
from collections.abc import Sequence

from lt_spark.kernels.words import nfc
from lt_spark.kernels.written import Written

BOTH = ("keywords", "description")
_MOST_READ = 20_000  # characters; no answer in the format is that long
_EDGE = r"[\s>*_#`\"'“”«»-]*"
_LABEL = re.compile(rf"{_EDGE}(?:\d{{1,2}}[.)]\s*)?(keyword|description)s?[\s*_`\"']*[:：][\s*_`]*", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})\s*\w*\s*$")
_BULLET = re.compile(r"\s*(?:[-*•·‣▪–—]+|\(?\d{1,2}[.)])\s+")
# a comma between digits is a number's
_SEPARATOR = re.compile(r"[;、，；،|]|(?<!\d),|,(?!\d)")
_AROUND = " .:*_`\"'“”„‘’«»"
_BRACKETS = {"(": ")", "[": "]"}
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "'": "'"}


def parse_answer(text: str, start: str, parts: Sequence[str] = BOTH) -> Written | None:
    r"""Take an answer apart, or say that it is not one.

    Expected is a line of keywords with commas between them, then a line ``Description:`` with one or two sentences.
    Let pass: a label that the answer repeats, any case of it, blank lines, a fence around it, a line of talk before
    it, what follows the description, bullets, numbers and quotes around keywords, one keyword a line where each has a
    bullet.

    Args:
        text: the answer without ``start``.
        start: how the answer was begun in the prompt (``Keywords:``); it says what an unlabelled first line is. Empty:
            the text brings its own labels.
        parts: what was asked: ``keywords``, ``description`` or both.

    Returns:
        The keywords in lower case, none twice, and the description on one line; None where a part that was asked is
        not there. A part that was not asked is empty.

    Examples:
        >>> parse_answer(" Screws, wood screws\nDescription: Coarse screws for wood.", "Keywords:")
        Written(keywords=('screws', 'wood screws'), description='Coarse screws for wood.')
        >>> parse_answer("I cannot help with that.", "Keywords:") is None
        True
    """
    lines = [" ".join(line.split()) for line in text[:_MOST_READ].splitlines()]
    lines = [line for line in lines if line and not _FENCE.match(line)]
    if lines and lines[0].lstrip().startswith("{"):
        return None  # JSON: a line of it can look like a label
    labels = [_label_of(line) for line in lines]
    at = 1 if _is_word_before(lines, labels, start) else 0
    if at == 0 and lines and not labels[0] and start:
        labels[0] = _label_of(start)  # the label stands in the prompt
    keywords: tuple[str, ...] = ()
    if at < len(lines) and labels[at] == "keyword":
        end = _end_of_keywords(lines, labels, at)
        keywords, at = _keywords(lines[at:end]), end
    # only here: a description further down is that of an item which the model made up
    description = _description(lines[at:], labels[at:])
    if ("keywords" in parts and not keywords) or ("description" in parts and not description):
        return None
    return Written(keywords if "keywords" in parts else (), description if "description" in parts else "")


def parse_plain(text: str) -> Written | None:
    r"""Take a text without labels as a description without keywords; None where it is blank.

    Examples:
        >>> parse_plain("Coarse screws\nfor wood.")
        Written(keywords=(), description='Coarse screws for wood.')
    """
    description = _one_line(text)
    return Written((), description) if description else None


def _label_of(line: str) -> str:
    label = _LABEL.match(line)
    return label.group(1).lower() if label else ""


def _unlabelled(line: str) -> str:
    while label := _LABEL.match(line):
        line = line[label.end() :]
    return line


def _is_word_before(lines: list[str], labels: list[str], start: str) -> bool:
    """Whether the first line is a chat model's "Sure, here they are:", before a line with its own label."""
    if len(lines) < 2 or labels[0] or not labels[1]:
        return False
    return not start or (labels[1] == _label_of(start) and lines[0].rstrip().endswith((":", "!", ".")))


def _end_of_keywords(lines: list[str], labels: list[str], at: int) -> int:
    """Return where the keywords end that begin on line ``at``: on it, or after the bulleted lines below."""
    own = _unlabelled(lines[at])
    end = at + 1
    if own.strip() and not _BULLET.match(own):
        return end
    while end < len(lines) and not labels[end] and _BULLET.match(lines[end]):
        end += 1
    if not own.strip() and end == at + 1 and end < len(lines) and not labels[end]:
        end += 1  # the label alone on its line, the keywords on the next
    return end


def _keywords(block: list[str]) -> tuple[str, ...]:
    found = (_keyword(part) for line in block for part in _SEPARATOR.split(_unlabelled(line)))
    return tuple(dict.fromkeys(keyword for keyword in found if keyword))


def _keyword(part: str) -> str:
    bullet = _BULLET.match(part)
    part = part[bullet.end() if bullet else 0 :].strip(_AROUND)
    if len(part) > 1 and _BRACKETS.get(part[0]) == part[-1]:
        part = part[1:-1].strip(_AROUND)
    if part[:1] == "#" and part[1:2].isalpha():
        part = part[1:]
    return _one_line(part).lower()


def _description(lines: list[str], labels: list[str]) -> str:
    if not labels or labels[0] != "description":
        return ""
    description = _one_line(_unlabelled(lines[0]))
    if not description and len(lines) > 1 and not labels[1]:
        description = _one_line(lines[1])
    if len(description) > 1 and _QUOTES.get(description[0]) == description[-1]:
        description = description[1:-1].strip()
    return description


def _one_line(text: str) -> str:
    return nfc(" ".join(text.strip("`").split()))
