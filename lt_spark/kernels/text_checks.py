"""What a written text must pass: each check is one pure function, True where the text passes."""

import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_spark.kernels.hostile import FORMULA_STARTS, has_hidden, has_template_token
from lt_spark.kernels.words import ALL_STOP_WORDS, language_of, numbers_of, stem, stems, words
from lt_spark.kernels.written import Written

FloatArray = npt.NDArray[np.floating[Any]]


class WordList:
    """Words and phrases to look for, as whole words.

    An entry is one word or several; ``*`` stands for none to two words, and ``{name}`` for any entry of the set of that
    name. Each form of a word (its plural) is an entry of its own: folding them would take "spic and span" for a slur.

    Args:
        entries: the words and phrases.
        sets: what a ``{name}`` in them stands for.

    Raises:
        KeyError: an entry names a set that is not there.

    Examples:
        >>> sets = {"group": ["women", "old people"], "insult": ["stupid"]}
        >>> WordList(["{group} are * {insult}"], sets).finds("Old people are often stupid.")
        True
    """

    def __init__(self, entries: Iterable[str], sets: Mapping[str, Sequence[str]] | None = None) -> None:
        """Compile the entries."""
        self._words: frozenset[str] = frozenset()
        self._phrases: frozenset[tuple[str, str]] = frozenset()
        for entry in entries:
            first, rest = _pattern(entry, sets or {})
            if rest or not first.isalnum():
                self._phrases |= {(first, rest)}
            else:
                self._words |= {first}
        self._search = _search(self._phrases)

    def __or__(self, other: "WordList") -> "WordList":
        """Return a list that finds what either finds."""
        both = WordList(())
        both._words = self._words | other._words
        both._phrases = self._phrases | other._phrases
        both._search = _search(both._phrases)
        return both

    def finds(self, text: str) -> bool:
        """Whether one of the entries stands in a text."""
        found = words(text)
        if not self._words.isdisjoint(found):
            return True
        return self._search is not None and bool(self._search.search(" " + " ".join(found)))


_SET = re.compile(r"\{(\w+)\}")


def _pattern(entry: str, sets: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Return an entry as a pattern of its first part and one of what follows."""
    parts: list[str] = []
    for part in entry.split():
        name = _SET.fullmatch(part)
        if name:
            members = sorted((" ".join(words(member)) for member in sets[name.group(1)]), key=len, reverse=True)
            parts.append(f"(?:{'|'.join(map(re.escape, members))})")
        elif part == "*" and parts:
            parts.append("*")
        else:
            parts.extend(map(re.escape, words(part)))
    rest = "".join("(?: [^ ]+){0,2}" if part == "*" else f" {part}" for part in parts[1:])
    return (parts[0] if parts else ""), rest


def _search(phrases: Iterable[tuple[str, str]]) -> re.Pattern[str] | None:
    """Compile phrases into one pattern; what many begin with is looked for once."""
    rests: dict[str, list[str]] = {}
    for first, rest in sorted(phrases):
        if first:
            rests.setdefault(first, []).append(rest)
    patterns = [f"{first}(?:{'|'.join(ends)})" for first, ends in rests.items()]
    return re.compile(f" (?:{'|'.join(patterns)})(?= |$)") if patterns else None


def form(written: Written | None) -> bool:
    """Whether the answer had the form that was asked, and something in it.

    Examples:
        >>> form(Written(("screws",), "Coarse screws.")), form(None), form(Written((), ""))
        (True, False, False)
    """
    return written is not None and bool(written.keywords or written.description)


def length(description: str, min_words: int, max_chars: int) -> bool:
    """Whether a description is neither too short nor too long.

    Examples:
        >>> length("Coarse screws for wood.", 3, 600), length("Screws.", 3, 600)
        (True, False)
    """
    return len(description) <= max_chars and len(words(description)) >= min_words


def language(description: str, own_text: str) -> bool:
    """Whether a description is in the language of the item's own text; passes where either cannot be told.

    Examples:
        >>> language("Eine Dose mit Schrauben für den Garten.", "a box of screws for the garden")
        False
        >>> language("Eine Dose mit Schrauben für den Garten.", "Kreg SML-C125")
        True
    """
    told, own = language_of(description), language_of(own_text)
    return not (told and own) or told == own


_LONGEST_LOOP, _FEW_WORDS = 12, 4


def repeats(text: str, max_repeated_share: float) -> bool:
    """Whether a text does not go in circles.

    It does where more than ``max_repeated_share`` of its words stood in it before, where a run of one to three words
    follows itself twice, or where a run of four to twelve follows itself once.

    Examples:
        >>> repeats("candles, candles, candles", 0.5), repeats("Scented candles and candle holders.", 0.5)
        (False, True)
    """
    found = stems(text)
    if found and 1 - len(set(found)) / len(found) > max_repeated_share:
        return False
    return not any(_loops(found, size) for size in range(1, min(_LONGEST_LOOP, len(found) // 2) + 1))


def _loops(found: Sequence[str], size: int) -> bool:
    needed = size * (2 if size < _FEW_WORDS else 1)
    run = 0
    for word, before in zip(found[size:], found, strict=False):
        run = run + 1 if word == before else 0
        if run >= needed:
            return True
    return False


def echo(description: str, title: str, max_title_share: float) -> bool:
    """Whether a description says more than the title: at most that share of its words are the title's.

    Words that carry no meaning of their own (the, with...) are left out, or "This is the ..." would be news.

    Examples:
        >>> echo("These are the steel screws.", "Steel Screws", 0.9)
        False
        >>> echo("Steel screws for decks.", "Steel Screws", 0.9)
        True
    """
    told = set(stems(description)) - ALL_STOP_WORDS
    return not told or len(told & set(stems(title))) / len(told) <= max_title_share


_ABOUT = (
    # of the model
    r"\bas an? (?:ai|artificial|language model|assistant)\b",
    r"\b(?:large )?language model\b",
    r"(?:^|[.!?] )(?:cannot|can['’]t) (?:help|provide|assist)",
    r"\b(?:sorry|apologi[sz]e)\b",
    # of the text
    r"\b(?:this|the|above|following|my|a) (?:brief |short |product )?(?:description|keywords?)\b"
    r"(?:[:,]| (?:is|are|was|were|above|below|of|for|describes?)\b)",
    r"\b(?:this|above|following|my) (?:answer|response|summary)\b",
    r"\b(?:these|following|above) (?:are (?:the |some )?)?keywords\b",
    r"\b(?:the|your) prompt\b|\b(?:previous|above) instructions?\b",
    r"\bthe (?:given|provided|above) (?:title|text|item|information|product|keywords?|example)\b",
    r"\bthe title (?:is|says|of)\b",
    r"^\W*(?:here(?:['’]s| is| are)|sure|note that)\b|^\W*(?:certainly|of course|okay)[,!]",
    r"(?<![^\W_])(?:titles?|keywords?|descriptions?|answer|output|response|assistant|user|instructions?)\s?:",
    # German
    r"\bals (?:ki|sprachmodell)\b|^\W*hier (?:ist|sind)\b|\bdiese beschreibung\b",
    r"\b(?:stichwörter|beschreibung|titel)\s?:",
    # French
    r"\ben tant qu['’](?:ia|assistant)\b|^\W*voici\b|\bcette description\b|\bmots[- ]clés\s?:",
    # Spanish, Portuguese, Italian
    r"\bcomo (?:ia|modelo de lengu\w+|assistente)\b|^\W*(?:aquí (?:está|tiene)|aqui está|ecco)\b",
    r"\b(?:esta descripción|esta descrição|questa descrizione)\b|\bpalabras clave\s?:",
    # Dutch
    r"\bals (?:ai|taalmodel)\b|\bdeze beschrijving\b",
)
# each on its own, and of lower-cased text: more than twice as quick as one pattern that ignores case
_ABOUT_ITSELF = [re.compile(pattern) for pattern in _ABOUT]
_FIRST_PERSON = re.compile(r"\bI(?: am| have| can| will| would|['’]m|['’]ve|['’]ll)\b")


def about_itself(description: str, own_text: str = "") -> bool:
    """Whether a text speaks of the item, not of itself, of its writer or of what it was asked.

    Words that the item's own text has (the film "I Am Legend") are the item's.

    Examples:
        >>> about_itself("Here is a description of the item."), about_itself("As an AI, I cannot see it.")
        (False, False)
        >>> about_itself("Coarse screws for wood."), about_itself("I Am Legend is a drama.", "I Am Legend (2007)")
        (True, True)
    """
    own = " ".join(words(own_text))
    lowered = description.lower()
    said = [*_FIRST_PERSON.findall(description), *(part for about in _ABOUT_ITSELF for part in about.findall(lowered))]
    return all(" ".join(words(part)) in own for part in said)


def numbers(text: str, known: Container[str]) -> bool:
    """Whether each number of a text is known: of the item's own text or of the catalogue's attributes.

    Examples:
        >>> numbers("A box of 500 screws.", {"500"}), numbers("Since 1932.", {"500"})
        (True, False)
    """
    return all(number in known for number in numbers_of(text))


_SENTENCE = re.compile(r"[.!?:;…]+[\s\"'“”«»)\]]+|[\r\n]+")
_CASED = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NOUNS_IN_CAPITALS = ("de",)


def names(description: str, known: Container[str], ordinary: Container[str] = ()) -> bool:
    """Whether each name in a description is known or ordinary (USB, Monday): no invented brand, place or person.

    A name is a word with a capital that does not begin a sentence. Scripts without capitals have none, and German,
    where every noun has one, is not judged. ``known`` are stems.

    Examples:
        >>> names("These screws are made by Stanley.", {"kreg", "screw"}), names("Screws by Kreg.", {"kreg", "screw"})
        (False, True)
    """
    told = (
        word
        for sentence in _SENTENCE.split(description)
        for word in _CASED.findall(sentence)[1:]
        if word[0].isupper() and len(word) > 1
    )
    return (
        all(_is_known(word.casefold(), known, ordinary) for word in told)
        or language_of(description) in _NOUNS_IN_CAPITALS
    )


def _is_known(word: str, known: Container[str], ordinary: Container[str]) -> bool:
    return stem(word) in known or word in ordinary or word in ALL_STOP_WORDS


def keyword_known(keyword: str, known: Container[str]) -> bool:
    """Whether each word of a keyword is known, and one of them carries meaning.

    Examples:
        >>> keyword_known("wood screws", {"wood", "screw"}), keyword_known("laser screws", {"wood", "screw"})
        (True, False)
    """
    told = [word for word in words(keyword) if word not in ALL_STOP_WORDS]
    return bool(told) and all(stem(word) in known for word in told)


def keywords_known(n_dropped: int, n_keywords: int, max_unknown_share: float) -> bool:
    """Whether few enough of the keywords had to be dropped.

    Examples:
        >>> keywords_known(2, 4, 0.5), keywords_known(3, 4, 0.5)
        (True, False)
    """
    return n_dropped <= max_unknown_share * n_keywords


def cosine(text_vector: FloatArray, item_vector: FloatArray) -> float:
    """Return the cosine of two vectors, in [-1, 1]; NaN where one has length 0 or a NaN in it.

    Examples:
        >>> cosine(np.array([3.0, 4.0]), np.array([1.0, 0.0])), cosine(np.zeros(2), np.ones(2))
        (0.6, nan)
    """
    lengths = math.sqrt(float(text_vector @ text_vector) * float(item_vector @ item_vector))
    return float(text_vector @ item_vector) / lengths if lengths > 0 else math.nan


def similarity(cosine_to_item: float, min_similarity: float) -> bool:
    """Whether the text is near its item: the cosine of their vectors reaches the limit; NaN does not.

    Examples:
        >>> similarity(0.6, 0.25), similarity(0.2, 0.25), similarity(math.nan, -1.0)
        (True, False, False)
    """
    return cosine_to_item >= min_similarity


@lru_cache(maxsize=4_096)
def _word_set(text: str) -> frozenset[str]:
    return frozenset(stems(text))


def same_text(description: str, others: Iterable[str], max_same_share: float) -> bool:
    """Whether a description is not that of another item: the Jaccard overlap of their word sets stays below the limit.

    Examples:
        >>> same_text("Coarse screws for wood.", ["Coarse screws for wood!"], 0.9), same_text("Screws.", [], 0.9)
        (False, True)
    """
    own = _word_set(description)
    for text in others:
        other = _word_set(text)
        shared = len(own & other)
        if shared and shared / (len(own) + len(other) - shared) >= max_same_share:
            return False
    return True


def unsafe(text: str, listed: WordList) -> bool:
    """Whether a text has no word of a list of obscene and violent words.

    Examples:
        >>> unsafe("fucking good screws", WordList(["fucking"])), unsafe("kill switch", WordList(["fucking"]))
        (False, True)
    """
    return not listed.finds(text)


def demeaning(text: str, listed: WordList) -> bool:
    """Whether a text has no slur and no stereotype about a group.

    Examples:
        >>> demeaning("So easy even a woman can do it", WordList(["even a woman can"]))
        False
    """
    return not listed.finds(text)


_TOP_LEVEL = (
    "com|net|org|info|biz|io|co|edu|gov|shop|online|store|site|xyz|eu|de|fr|es|it|nl|pl|ru|cn|jp|uk|br|ch|at|app|dev"
)
# no part starts inside a run that it could have started before: long words take linear time
_CONTACT = re.compile(
    r"(?i:\bhttps?:|\bftp:|\bwww\.\w|\bmailto:)"
    r"|(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}\.\w"
    rf"|(?<![\w-])[A-Za-z0-9][A-Za-z0-9-]{{1,62}}\.(?:co\.)?(?:{_TOP_LEVEL})\b(?![-\w])"
    r"|(?<!\w)@[A-Za-z_]\w{2,}"
    r"|(?<![\w.])\+\d[\d ().-]{6,}\d"
    r"|(?<![\w.,-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
    r"|(?i:\b(?:call|tel|phone|telephone|fax|whatsapp|telefon|tél|teléfono|telefono)\b)[.:]?\D{0,12}\d[\d ()./-]{4,}\d"
)


def contact(text: str) -> bool:
    """Whether a text has no address of the web, e-mail, phone number or handle.

    Examples:
        >>> contact("See www.example.com"), contact("Call +49 30 1234567"), contact("Steel screws, 12-24 V.")
        (False, False, True)
    """
    return not _CONTACT.search(text)


def control(text: str) -> bool:
    r"""Whether a text has no control, direction, zero-width or otherwise invisible character, and no line break.

    Examples:
        >>> control("steel \u202e screws"), control("steel screws")
        (False, True)
    """
    return not has_hidden(text) and len(text.splitlines()) <= 1


def formula(text: str) -> bool:
    """Whether a text does not begin as a spreadsheet's formula does.

    Examples:
        >>> formula("=cmd()"), formula(" -1"), formula("Steel = strong")
        (False, False, True)
    """
    return not text.lstrip().startswith((*FORMULA_STARTS, "|"))


def template(text: str) -> bool:
    """Whether a text has no token of a chat template or of a text template, and no HTML tag.

    Examples:
        >>> template("Steel screws.<|im_end|>"), template("Steel screws.")
        (False, True)
    """
    return not has_template_token(text)
