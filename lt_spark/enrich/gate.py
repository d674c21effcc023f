"""The gate: each answer is checked, keywords that nobody knows are dropped, and what failed has a name."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, reduce
from importlib.resources import files
from operator import or_
from pathlib import Path
from typing import Any

import yaml

from lt_spark.core.config_text import TextGateConfig
from lt_spark.core.errors import ConfigError, nearest
from lt_spark.kernels import text_checks as checks
from lt_spark.kernels.text_checks import FloatArray, WordList
from lt_spark.kernels.words import language_of, numbers_of, stems
from lt_spark.kernels.written import Written

CHECK_NAMES: tuple[str, ...] = (
    "form",
    "length",
    "language",
    "repeats",
    "echo",
    "about_itself",
    "numbers",
    "names",
    "keywords_known",
    "similarity",
    "same_text",
    "unsafe",
    "demeaning",
    "contact",
    "control",
    "formula",
    "template",
)
"""The checks, in the order in which failures are told."""

DESCRIPTION_CHECKS = frozenset(
    ("length", "language", "repeats", "echo", "about_itself", "numbers", "names", "same_text", "formula")
)
"""The checks that only the description can fail: the keywords of such an answer may be used."""
FORBIDDEN_KINDS = ("unsafe", "demeaning")
KINDS = (*FORBIDDEN_KINDS, "groups", "insults", "called", "traits", "ordinary")
"""What a file of words may hold for a language; the sets may be named in the entries of the first two."""
_ALWAYS = "en"  # English words turn up in every language
_ALL = ""


@dataclass(frozen=True)
class Subject:
    """What is written about.

    Attributes:
        title: the item's title, cleaned.
        own_text: all that the catalogue says of it, the title included, cleaned; of a history: all its titles.
        vector: its embedding; None where there is none.
        near: stems of what its nearest items are called; None: any word of the catalogue's will do for a keyword.
    """

    title: str
    own_text: str
    vector: FloatArray | None = None
    near: frozenset[str] | None = None


@dataclass(frozen=True)
class Judged:
    """What the gate says of an answer.

    Attributes:
        failed: names of the checks that it failed, in the order of ``CHECK_NAMES``; empty: accepted.
        written: the answer without the keywords that nobody knows, cut to ``max_keywords``; None: it had no form.
        similarity: cosine of the answer's vector and the subject's; None where one of them is not there.
    """

    failed: tuple[str, ...]
    written: Written | None
    similarity: float | None = None

    @property
    def has_keywords(self) -> bool:
        """Whether the keywords passed all checks that concern them, whatever became of the description."""
        return self.written is not None and bool(self.written.keywords) and DESCRIPTION_CHECKS.issuperset(self.failed)


class Gate:
    """Checks answers by the limits of a configuration; built once, well under a millisecond an answer.

    It can be pickled: build it in the driver, which reads ``words_file``, and send it along.

    Args:
        section: the limits.
        vocabulary: stems (``lt_spark.kernels.words.stems``) of the catalogue's attribute values.

    Raises:
        ConfigError: ``words_file`` cannot be read or is not of the right form.
    """

    def __init__(self, section: TextGateConfig, vocabulary: frozenset[str]) -> None:
        """Read the lists and compile them."""
        self._section = section
        self._know(vocabulary)
        listed = load_words(section.words_file)
        self._lists = {kind: _word_lists(listed, kind) for kind in FORBIDDEN_KINDS}
        self._ordinary = frozenset(word for kinds in listed.values() for word in kinds.get("ordinary", ()))

    def _know(self, vocabulary: frozenset[str]) -> None:
        self._vocabulary = vocabulary
        self._numbers = frozenset(number for word in vocabulary for number in numbers_of(word))

    def with_vocabulary(self, vocabulary: frozenset[str]) -> "Gate":
        """Return the same gate with another vocabulary: the lists of words are not read again."""
        other = copy(self)
        other._know(vocabulary)
        return other

    def check(
        self,
        written: Written | None,
        subject: Subject,
        *,
        text_vector: FloatArray | None = None,
        others: Sequence[str] = (),
    ) -> Judged:
        """Check one answer.

        A keyword is dropped where a word of it is neither the item's own nor in the vocabulary (in ``near``, where the
        subject has it), where it is too long, repeats itself or another keyword, or begins like a formula. All else
        fails the answer as a whole. A part that was not written (no keywords, no description) is not checked.

        Args:
            written: the parsed answer; None where it had not the form.
            subject: what it is about.
            text_vector: the answer's embedding; None: ``similarity`` is not checked.
            others: descriptions of other items that it must not repeat.

        Returns:
            The failed checks and the answer as it may be used where none failed.
        """
        if written is None or not checks.form(written):
            return Judged(("form",), None)
        section = self._section
        # a text far too long fails anyway: only its beginning is worth the time
        description = written.description[: 4 * section.max_chars]
        known = _Known(self._vocabulary, frozenset(stems(subject.own_text)))
        known_numbers = _Known(self._numbers, frozenset(numbers_of(subject.own_text)))
        called = known if subject.near is None else _Known(subject.near, known.own)
        kept = self._known_keywords(written.keywords, called)
        passed = {
            "form": bool(kept) or not written.keywords,
            "keywords_known": checks.keywords_known(
                len(written.keywords) - len(kept), len(written.keywords), section.max_unknown_share
            ),
        }
        if description:
            passed |= self._check_description(description, subject, known, known_numbers, others)
        cosine = None
        if text_vector is not None and subject.vector is not None:
            cosine = checks.cosine(text_vector, subject.vector)
            passed["similarity"] = checks.similarity(cosine, section.min_similarity)
        # also what is dropped: a model that wrote it is not believed
        passed |= self._check_wording(description, written.keywords)
        failed = tuple(name for name in CHECK_NAMES if not passed.get(name, True))
        return Judged(failed, Written(kept[: section.max_keywords], written.description), cosine)

    def _known_keywords(self, keywords: Sequence[str], known: "_Known") -> tuple[str, ...]:
        kept: dict[tuple[str, ...], str] = {}
        for keyword in keywords:
            told = tuple(stems(keyword))
            if (
                len(keyword) <= self._section.max_keyword_chars
                and len(set(told)) == len(told)
                and checks.keyword_known(keyword, known)
                and checks.formula(keyword)
            ):
                kept.setdefault(told, keyword)  # "screw" after "screws" says nothing new
        return tuple(kept.values())

    def _check_description(
        self,
        description: str,
        subject: Subject,
        known: "_Known",
        known_numbers: "_Known",
        others: Sequence[str],
    ) -> dict[str, bool]:
        section = self._section
        return {
            "length": checks.length(description, section.min_words, section.max_chars),
            "language": checks.language(description, subject.own_text),
            "repeats": checks.repeats(description, section.max_repeated_share),
            "echo": checks.echo(description, subject.title, section.max_title_share),
            "about_itself": checks.about_itself(description, subject.own_text),
            "numbers": checks.numbers(description, known_numbers),
            "names": checks.names(description, known, self._ordinary),
            "same_text": checks.same_text(description, others, section.max_same_share),
            "formula": checks.formula(description),
        }

    def _check_wording(self, description: str, keywords: Sequence[str]) -> dict[str, bool]:
        longest = 4 * self._section.max_keyword_chars
        text = " | ".join((description, *(keyword[:longest] for keyword in keywords)))
        language = language_of(description)
        unsafe, demeaning = (self._lists[kind].get(language, self._lists[kind][_ALL]) for kind in FORBIDDEN_KINDS)
        return {
            "unsafe": checks.unsafe(text, unsafe),
            "demeaning": checks.demeaning(text, demeaning),
            "contact": checks.contact(text),
            "control": checks.control(text),
            "template": checks.template(text),
        }


class _Known:
    """Two sets as one, without a copy of the large one for each answer."""

    def __init__(self, vocabulary: frozenset[str], own: frozenset[str]) -> None:
        self._vocabulary = vocabulary
        self.own = own

    def __contains__(self, word: object) -> bool:
        return word in self.own or word in self._vocabulary


Kinds = Mapping[str, Sequence[str]]


def load_words(words_file: str = "") -> dict[str, dict[str, list[str]]]:
    """Return the words by language and kind: those that lt_spark brings, and those of a file.

    Args:
        words_file: a YAML file, language to kind to list of entries; empty: there is none.

    Raises:
        ConfigError: it cannot be read, or a language or kind in it is not what is expected.
    """
    listed = {language: {kind: list(entries) for kind, entries in kinds.items()} for language, kinds in _brought()}
    if words_file:
        for language, kinds in _read_words(words_file).items():
            own = listed.setdefault(language, {})
            for kind, entries in kinds.items():
                own.setdefault(kind, []).extend(entries)
        for language, kinds in listed.items():
            _check_sets(kinds, f"{words_file}, {language}")
    return listed


@lru_cache(maxsize=1)
def _brought() -> tuple[tuple[str, Kinds], ...]:
    folder = files("lt_spark.enrich") / "words"
    found = sorted((file.name, file) for file in folder.iterdir() if file.name.endswith(".yaml"))
    return tuple((name.removesuffix(".yaml"), yaml.safe_load(file.read_text("utf-8"))) for name, file in found)


def _read_words(path: str) -> dict[str, Kinds]:
    where = f"text_gate.words_file {path}"
    try:
        content = yaml.safe_load(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot be read ({error.strerror}). Expected a YAML file that the driver reads; name an existing "
            "one, or leave the key empty."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(
            f"{where}: is not YAML in UTF-8. Expected languages with kinds with lists, such as "
            "'en: {unsafe: [word, two words]}'."
        ) from None
    for language, kinds in _items(content, where, "languages (en, de...)"):
        for kind, entries in _items(kinds, f"{where}, {language}", f"kinds ({', '.join(KINDS)})"):
            if kind not in KINDS:
                raise ConfigError(
                    f"{where}, {language}: no kind '{kind}'. Expected one of {', '.join(KINDS)}.{nearest(kind, KINDS)}"
                )
            if not isinstance(entries, list) or not all(isinstance(entry, str) and entry.strip() for entry in entries):
                raise ConfigError(
                    f"{where}, {language}, {kind}: expected a list of words or phrases, found something else. Write "
                    "[word, two words]; put yes, no, on, off and numbers in quotes."
                )
    return content or {}


def _items(content: Any, where: str, expected: str) -> Iterator[tuple[str, Any]]:
    if content is None:
        return
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{where}: expected {expected} as keys, found {type(content).__name__}. Put 'no' in quotes.")
    yield from content.items()


def _check_sets(kinds: Kinds, where: str) -> None:
    for kind in FORBIDDEN_KINDS:
        try:
            WordList(kinds.get(kind, ()), kinds)
        except KeyError as error:
            sets = [name for name in KINDS if name not in FORBIDDEN_KINDS and name in kinds]
            raise ConfigError(
                f"text_gate.words_file {where}, {kind}: an entry names the set {{{error.args[0]}}}. Expected one of "
                f"{sets}; add the set to this language or mend the entry."
            ) from None


def _word_lists(listed: Mapping[str, Kinds], kind: str) -> dict[str, WordList]:
    """Return by language what is looked for in a text of it; under "": where it cannot be told, all of them."""
    by_language = {language: WordList(kinds.get(kind, ()), kinds) for language, kinds in listed.items()}
    always = by_language[_ALWAYS]
    return {_ALL: reduce(or_, by_language.values()), **{name: own | always for name, own in by_language.items()}}
