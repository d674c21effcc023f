"""Words of a text in any script, a light stem, its numbers, and a guess of its language."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


def _ranges(codes: Iterable[int]) -> str:
    """Return the body of a character class that holds the code points, given in order."""
    runs: list[list[int]] = []
    for code in codes:
        if runs and code == runs[-1][1] + 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in runs)


MARKS = _ranges(code for code in range(0x300, 0x1E950) if unicodedata.category(chr(code))[0] == "M")
"""Combining marks, as the body of a character class: the standard library's ``\\w`` leaves them out."""

_MARK_FLOOD = re.compile(f"([{MARKS}]{{4}})[{MARKS}]+")


def nfc(text: str) -> str:
    """Return a text in Unicode's NFC, with at most four combining marks in a run.

    No script needs more on a letter, and to sort a long run of them takes quadratic time.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", _MARK_FLOOD.sub(r"\1", text))


# scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, kana, Han
_NO_BLANKS = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_LETTER = rf"(?:[^\W_]|[{MARKS}\u200c\u200d])"
# a stop, comma or slash joins digits (3.5, 1/2, 1,000); an apostrophe joins letters
_WORD = re.compile(rf"[^\W_]{_LETTER}*(?:[.,/](?<=\d[.,/])(?=\d){_LETTER}+)*(?:['’](?=[^\W\d_]){_LETTER}+)*")
_ASCII_WORD = re.compile(r"[a-z0-9]+(?:[.,/](?<=\d[.,/])(?=\d)[a-z0-9]+)*(?:'(?=[a-z])[a-z0-9]+)*")
_NO_BLANK_RUN = re.compile(rf"([{_NO_BLANKS}]+)")
_NUMBER = re.compile(r"\d+(?:[.,/]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


def words(text: str) -> list[str]:
    """Return the words of a text, in order, case folded.

    A number keeps its decimals, fraction and unit where they touch it (``1/2``, ``3.5mm``). A run of a script without
    blanks between words (Han, kana, Thai...) gives its pairs of neighbouring characters, or its one character.

    Args:
        text: any text.

    Returns:
        The words; empty where there is none.

    Examples:
        >>> words("Kreg 1-1/4-Inch Screws, 3.5mm")
        ['kreg', '1', '1/4', 'inch', 'screws', '3.5mm']
        >>> words("不锈钢 M8")
        ['不锈', '锈钢', 'm8']
    """
    return list(_words(text))


@lru_cache(maxsize=512)
def _words(text: str) -> tuple[str, ...]:
    if text.isascii():
        return tuple(_ASCII_WORD.findall(text.lower()))
    # compatibility forms of Latin letters and digits are common in East Asian catalogues
    text = nfc(text.translate(_WIDE)).casefold()
    found: list[str] = []
    for word in _WORD.findall(text):
        for i, part in enumerate(_NO_BLANK_RUN.split(word)):
            if i % 2 == 0 or len(part) == 1:
                found.extend([part] if part else [])
            else:
                found.extend(part[at : at + 2] for at in range(len(part) - 1))
    return tuple(found)


_IRREGULAR = {
    "lens": "lens",
    "lenses": "lens",
    "gas": "gas",
    "gases": "gas",
    "knives": "knife",
    "shelves": "shelf",
    "leaves": "leaf",
    "halves": "half",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
}


_LONGEST_ELISION = 4  # l'acier, d'una, qu'on, dell'acqua


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """Return a case-folded word without its English plural or possessive ending, or Romance elision before it.

    Only plurals are folded: a heavier stemmer would make one word of unlike ones (``universe``, ``university``).

    Examples:
        >>> [stem(word) for word in ("screws", "boxes", "batteries", "glass", "women's", "d'acier")]
        ['screw', 'box', 'battery', 'glass', 'woman', 'acier']
    """
    if not word.isalnum():
        word = word.replace("’", "'").removesuffix("'s")
        before, apostrophe, after = word.partition("'")
        if apostrophe and len(before) <= _LONGEST_ELISION and len(after) > 1:
            word = after
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word[-1] != "s" or not word.isascii():
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


def stems(text: str) -> list[str]:
    """Return the stems of a text's words, in order: what the catalogue's vocabulary is made of."""
    return [stem(word) for word in _words(text)]


def numbers_of(text: str) -> set[str]:
    """Return the numbers of a text, comparable: ASCII digits, a decimal point, no thousands' comma.

    Examples:
        >>> sorted(numbers_of("1,000 pcs of 3.5mm or 1/2 in"))
        ['1/2', '1000', '3.5']
    """
    found = set()
    for number in _NUMBER.findall(text):
        if not number.isascii():
            number = "".join(str(unicodedata.digit(sign)) if sign.isdecimal() else sign for sign in number)
        found.add(_THOUSANDS.sub("", number).replace(",", "."))
    return found


STOP_WORDS: dict[str, frozenset[str]] = {
    language: frozenset(text.split())
    for language, text in {
        "en": "the a an and of to in for with is are was that this it its on as at by from or be your you which into "
        "than their has have not can will up out over who when where these those his her he she they but all any "
        "also more most such so if about after before between during very each only other both while",
        "de": "der die das den dem des ein eine einer einem einen und oder mit für von zu zum zur im in ist sind auf "
        "aus bei nach nicht auch sich als an am wie wird werden durch über unter vom ohne nur sehr hat haben sie "
        "es er wir ihr ihre aber dass diese dieser dieses ins bis",
        "fr": "le la les un une des du de et ou avec pour dans est sont sur par au aux en ce cette ces qui que ne pas "
        "plus son sa ses leur vous nous il elle ils elles sans mais d'un d'une très être comme sous entre votre "
        "vos",
        "es": "el la los las un una unos unas de del y o con para por en es son que se su sus al lo como más sin sobre "
        "este esta estos estas pero muy ser también entre desde hasta cuando tu ideal",
        "it": "il lo la i gli le un uno una di del della dei delle dello e o con per in è sono che si su da dal dalla "
        "nel nella al alla ai come più senza questo questa anche non ma sul sulla tra suo sua molto dell'",
        "pt": "o a os as um uma uns umas de do da dos das e ou com para por em no na nos nas é são que se seu sua ao à "
        "como mais sem sobre este esta muito também não mas pelo pela entre até você",
        "nl": "de het een en of met voor van te in is zijn op uit bij naar niet ook als aan door over onder zonder "
        "zeer heeft hebben dit dat deze die er maar om tot wordt worden uw je ze hij wij",
    }.items()
}
"""Frequent words by language, for the guess of :func:`language_of` and for what carries no meaning of its own."""

ALL_STOP_WORDS = frozenset().union(*STOP_WORDS.values())

# by script: the language it is taken for; kana goes before Han, which Japanese uses too
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\u1100-\u11ff\uac00-\ud7af]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"),
    "th": re.compile("[\u0e01-\u0e5b]"),
    "hi": re.compile("[\u0900-\u097f]"),
    "ar": re.compile("[\u0620-\u06ff]"),
    "he": re.compile("[\u05d0-\u05ea]"),
    "el": re.compile("[\u0370-\u03ff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
}
# letters of other languages in the same script: Persian and Urdu; Ukrainian, Belarusian, Serbian, Macedonian
_OTHERS = {"ar": re.compile("[پچژگکیےٹڈ]"), "ru": re.compile("[іїєґўјљњћђџѓќѕ]", re.IGNORECASE)}
_MOST_READ = 2_000
_CLEAR_SHARE = 0.3
_FAINT_SHARE = 0.1
_FEWEST_HITS = 3
_LEAST_LEAD = 1.5


@lru_cache(maxsize=512)
def language_of(text: str) -> str:
    """Guess the language of a text by its script and its frequent words; an honest "" where it cannot be told.

    A script other than Latin tells where at least 30 % of the letters are of it. A text in Latin letters needs three
    different frequent words of a language and half again as many as of the next. Other languages of the same script are
    taken for the one named, except where a letter gives them away (Persian, Ukrainian...).

    Args:
        text: any text; the first 2,000 characters are read.

    Returns:
        One of en, de, fr, es, it, pt, nl, zh, ja, ko, ar, ru, he, el, th, hi, or "".

    Examples:
        >>> language_of("a box of screws for the garden"), language_of("eine Dose mit Schrauben für den Garten")
        ('en', 'de')
        >>> language_of("不锈钢螺丝"), language_of("Kreg SML-C125")
        ('zh', '')
    """
    text = text[:_MOST_READ]
    if not text.isascii():
        letters = sum(map(str.isalpha, text)) or 1
        counts = {language: len(script.findall(text)) for language, script in _SCRIPTS.items()}
        if counts["ja"] > _FAINT_SHARE * (counts["ja"] + counts["zh"]):
            counts["ja"] += counts.pop("zh")
        language = max(counts, key=counts.__getitem__)
        share = counts[language] / letters
        if share >= _CLEAR_SHARE and counts[language] >= 2:
            return "" if language in _OTHERS and _OTHERS[language].search(text) else language
        if share >= _FAINT_SHARE:
            return ""
    return _latin_language(_words(text))


def _latin_language(found: Iterable[str]) -> str:
    # each once: a brand (OOK) may be a word of another language; one letter is an initial as often as a word
    told = {word for word in found if len(word) > 1 and word in ALL_STOP_WORDS}
    hits = {language: len(told & stop_words) for language, stop_words in STOP_WORDS.items()}
    first, second = sorted(hits, key=hits.__getitem__, reverse=True)[:2]
    return first if hits[first] >= _FEWEST_HITS and hits[first] >= _LEAST_LEAD * hits[second] else ""
