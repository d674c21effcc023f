"""Prompts: what the language model is shown of an item or of a history, in the words of a pack.

An item is one line a field; its answer is two lines, keywords and a description. Examples stand before the item in the
same form, the nearest last, a blank line between them: a completing model goes on in the form that it sees.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lt_spark.core.config_text import DescribeConfig
from lt_spark.engines.base import Prompt
from lt_spark.enrich.pack import ContextWords, parts_of
from lt_spark.enrich.pack import Pack as Pack
from lt_spark.enrich.pack import load_pack as load_pack
from lt_spark.kernels.hostile import clean_text
from lt_spark.kernels.words import ALL_STOP_WORDS
from lt_spark.kernels.written import Written

ANSWER_LINES = {"both": 2, "keywords": 1}
"""Lines of an answer by what is asked for: keywords, description."""
KEYWORDS = "Keywords"
DESCRIPTION = "Description"
"""The labels of an answer's lines, the same in all packs: ``kernels.answer_form`` reads them."""
MAX_KEYWORDS = 12
"""Most keywords of an example."""

_MAX_TITLE_CHARS = 200
_MAX_VALUE_CHARS = 120
_MAX_HISTORY_TITLE_CHARS = 120
_MAX_FIELD_CHARS = 2_000
_MAX_KEYWORD_CHARS = 40
_MAX_LABEL_CHARS = 40
# a sentence made of metadata names the item, and must not be its title again
_MAX_TITLE_CHARS_IN_SENTENCE = 60
_MAX_KEYWORDS_IN_SENTENCE = 4
_MAX_WORDS = 25
_MIN_WORDS = 4
_MAX_DESCRIPTION_CHARS = 240
_N_TITLE_WORDS = 5
# what catalogues write where there is nothing
_NO_VALUE = {"(no genres listed)", "n/a", "na", "none", "null", "nan", "unknown", "-"}
_ARROWS = re.compile(r">[>\s]*>")
# how the parser parts keywords, and marks around one
_NEVER_IN_KEYWORD = re.compile(r"[,;|，；、\s]+")
_AROUND_KEYWORD = " \t.:*_`\"'“”„‘’«»[]{}#=+-@"
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)]*(?=\s+[^\sa-z\d]|\s*$)|[。！？]")
_BEFORE_SENTENCE = " \t.,;:!?*•·~_=+-@|#>/\\"
_CLAUSE_END = re.compile(r"[,;:–—](?=\s)")


@dataclass(frozen=True)
class ItemText:
    """What the catalogue says of an item.

    Attributes:
        title: its title.
        fields: (attribute name, value), in the catalogue's order.
    """

    title: str
    fields: tuple[tuple[str, str], ...] = ()


def shown_fields(item: ItemText, section: DescribeConfig) -> tuple[str, ...]:
    """Return which attributes the prompt of an item shows.

    Args:
        item: the item.
        section: ``describe``.

    Returns:
        ``input_fields``, and of ``keyword_fields`` and ``description_field`` those that the item has: its examples
        show the same, so that what the item lacks stands only in their answers.
    """
    own = [name for name in section.keyword_fields if _keywords_of(item, name, section.separators)]
    if section.description_field and _value(item, section.description_field):
        own.append(section.description_field)
    return tuple(dict.fromkeys((*section.input_fields, *own)))


def own_keywords(section: DescribeConfig, item: ItemText) -> tuple[str, ...]:
    """Return the values of an item's keyword fields, in lower case, none twice; at most ``MAX_KEYWORDS``."""
    found = (word for name in section.keyword_fields for word in _keywords_of(item, name, section.separators))
    return tuple(dict.fromkeys(found))[:MAX_KEYWORDS]


def example_answer(pack: Pack, section: DescribeConfig, item: ItemText) -> Written:
    """Return the answer that an example shows.

    Args:
        pack: for a description made of metadata.
        section: ``describe``: which attributes speak.
        item: the example.

    Returns:
        Its own keywords, or words of its title where it has none; the first sentence of its description, or a
        sentence made of its metadata.
    """
    keywords = own_keywords(section, item)
    own = _value(item, section.description_field, _MAX_FIELD_CHARS) if section.description_field else ""
    description = first_sentence(own) or next(iter(sentences_of(pack, section, item, keywords)), "")
    return Written(keywords or _title_words(item.title), description)


def sentences_of(pack: Pack, section: DescribeConfig, item: ItemText, keywords: Sequence[str]) -> list[str]:
    """Return the pack's sentences whose parts are all there, filled.

    Args:
        pack: the words.
        section: ``describe``; the input fields are the details.
        item: the item.
        keywords: what it is called; the first few are named.

    Returns:
        Sentences, in the pack's order.
    """
    details = [(_label(name), _value(item, name)) for name in section.input_fields]
    parts = {
        "title": clean_text(item.title, _MAX_TITLE_CHARS_IN_SENTENCE).rstrip(" .,;:!-"),
        "keywords": _listed(keywords[:_MAX_KEYWORDS_IN_SENTENCE]),
        "details": _listed([f"{label.lower()} {value.rstrip(' .,;:!')}" for label, value in details if value]),
    }
    filled = [sentence for sentence in pack.sentences if all(parts[part] for part in parts_of(sentence))]
    return [sentence.format_map(parts) for sentence in filled]


def item_prompt(
    pack: Pack,
    section: DescribeConfig,
    item: ItemText,
    examples: Sequence[ItemText],
    answers: Sequence[Written] | None = None,
) -> Prompt:
    """Render the prompt of one item.

    Args:
        pack: the words.
        section: ``describe``.
        item: the item.
        examples: items with full metadata, the farthest first, the nearest last.
        answers: the examples' answers; None: their own, by ``example_answer``.

    Returns:
        The prompt. Examples are blocks with a blank line after each, so that the first ones can be cut off. With
        ``examples: fixed`` they stand in ``shared``, else in ``own``.
    """
    shown = shown_fields(item, section)
    if answers is None:
        answers = [example_answer(pack, section, example) for example in examples]
    blocks = "".join(
        f"{_item_lines(pack, example, shown)}{_answer_lines(answer, section.ask_for)}\n"
        for example, answer in zip(examples, answers, strict=True)
    )
    asked = _item_lines(pack, item, shown)
    beginning = _paragraph(pack.shared if section.ask_for == "both" else pack.shared_keywords)
    if section.examples == "fixed":
        return Prompt(beginning + blocks, asked, f"{KEYWORDS}:")
    return Prompt(beginning, blocks + asked, f"{KEYWORDS}:")


def context_prompt(pack: Pack, titles: Sequence[str]) -> Prompt:
    """Render the prompt that reads one history; its answer has the form of an item's.

    Args:
        pack: the words.
        titles: what the user had, oldest first; never ids or times.

    Returns:
        The prompt; all but the history is the same for all users.
    """
    words = pack.context
    blocks = "".join(
        f"{_history_lines(words, example.titles)}{_answer_lines(Written(example.keywords, example.description))}\n"
        for example in words.examples
    )
    return Prompt(_paragraph(words.shared) + blocks, _history_lines(words, titles), f"{KEYWORDS}:")


def first_sentence(text: str) -> str:
    """Return the first sentence of a cleaned text, cut to about 25 words where it is longer; "" where it has no words.

    Examples:
        >>> first_sentence("Fits size No. 8 screws. Made of steel.")
        'Fits size No. 8 screws.'
        >>> first_sentence("Wow! Coarse screws for soft wood. Steel.")
        'Wow! Coarse screws for soft wood.'
    """
    text = text.lstrip(_BEFORE_SENTENCE)
    ends = (end.end() for end in _SENTENCE_END.finditer(text))
    sentence = next((text[:end] for end in ends if _is_sentence(text[:end])), text)
    words = sentence.split()
    if len(words) <= _MAX_WORDS and len(sentence) <= _MAX_DESCRIPTION_CHARS:
        return sentence
    return _cut(clean_text(" ".join(words[:_MAX_WORDS]), _MAX_DESCRIPTION_CHARS))


def _is_sentence(text: str) -> bool:
    """Whether it is long enough for one; a script without blanks ends its sentences with signs of its own."""
    return len(text.split()) >= _MIN_WORDS or text[-1] in "。！？"


def _cut(text: str) -> str:
    """End a text that was cut in the middle of a sentence: at a comma in its second half, or after a full word."""
    clauses = [end.start() for end in _CLAUSE_END.finditer(text) if end.start() >= len(text) / 2]
    words = (text[: clauses[-1]] if clauses else text).split()
    while words and words[-1].lower().strip(",;:") in ALL_STOP_WORDS:
        words.pop()
    return " ".join(words).rstrip(" .,;:–—-&/(") + "." if words else ""


def _paragraph(text: str) -> str:
    return f"{text.strip()}\n\n" if text.strip() else ""


def _item_lines(pack: Pack, item: ItemText, shown: Sequence[str]) -> str:
    lines = [f"{pack.title}: {clean_text(item.title, _MAX_TITLE_CHARS)}"]
    lines += [f"{_label(name)}: {value}" for name in shown if (value := _value(item, name))]
    return "".join(f"{line}\n" for line in lines)


def _history_lines(words: ContextWords, titles: Sequence[str]) -> str:
    cleaned = (clean_text(title, _MAX_HISTORY_TITLE_CHARS) for title in titles)
    return "".join(f"{words.title}: {title}\n" for title in cleaned if title)


def _answer_lines(written: Written, ask_for: str = "both") -> str:
    keywords = f"{KEYWORDS}: {', '.join(written.keywords)}\n"
    return keywords if ask_for == "keywords" else f"{keywords}{DESCRIPTION}: {written.description}\n"


def _label(name: str) -> str:
    """Return an attribute's name as a label: ``release_year:token`` is ``Release year``."""
    words = clean_text(re.sub(r"[_\W]+", " ", name.split(":")[0]), _MAX_LABEL_CHARS) or "field"
    # the answer's own labels must not stand before it
    return (
        f"Given {words.lower()}"
        if words.lower() in ("keywords", "description", "title")
        else words[0].upper() + words[1:]
    )


def _value(item: ItemText, name: str, max_chars: int = _MAX_VALUE_CHARS) -> str:
    """Return an attribute's cleaned value; "" where the item has none."""
    value = next((value for each, value in item.fields if each == name), "")
    # clean_text takes ">>" for a token of a template
    return "" if value.strip().lower() in _NO_VALUE else clean_text(_ARROWS.sub(">", value), max_chars)


def _keywords_of(item: ItemText, name: str, separators: str) -> list[str]:
    """Part an attribute's value; a blank among the separators parts only a value that has none of the others."""
    value = _value(item, name, _MAX_FIELD_CHARS).lower()
    marks = re.escape(separators.replace(" ", ""))
    parts = re.split(f"[{marks}]", value) if marks else [value]
    if len(parts) == 1 and " " in separators:
        parts = value.split()
    words = (_NEVER_IN_KEYWORD.sub(" ", part).strip(_AROUND_KEYWORD) for part in parts)
    kept = (word for word in words if len(word) <= _MAX_KEYWORD_CHARS and any(map(str.isalnum, word)))
    return [word for word in dict.fromkeys(kept) if word not in _NO_VALUE]


def _title_words(title: str) -> tuple[str, ...]:
    words = re.findall(r"[^\W\d_]{3,}", clean_text(title, _MAX_TITLE_CHARS).lower())
    return tuple(dict.fromkeys(word for word in words if word not in ALL_STOP_WORDS))[:_N_TITLE_WORDS]


def _listed(words: Sequence[str]) -> str:
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)
