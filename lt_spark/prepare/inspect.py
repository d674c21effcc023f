"""What ``lt-spark init`` finds out about files: which is the log, which the catalogue, which column is what."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from lt_spark.core.errors import ConfigError
from lt_spark.prepare.column_names import by_name, plain_name, role_of
from lt_spark.prepare.conf_text import conf_text
from lt_spark.prepare.guesses import Guess, Inspection
from lt_spark.prepare.heads import Head, is_number, read_head

__all__ = ["Guess", "Inspection", "conf_text", "inspect_files", "missing_message"]

_LOG, _ITEMS = "source.interactions", "source.items"
_WEIGHTS = {
    **dict.fromkeys("view pv click clicks pageview detail play listen open read visit watch impression".split(), 1.0),
    **dict.fromkeys("productview screenview detailproductview itemview viewitem stream".split(), 1.0),
    **dict.fromkeys(
        "cart addtocart basket addtobasket fav favorite favourite like wishlist save bookmark".split(), 3.0
    ),
    **dict.fromkeys("share add download follow collect tocart".split(), 3.0),
    **dict.fromkeys(
        "buy purchase transaction order checkout bought sale booking rent subscribe conversion".split(), 5.0
    ),
}
_NEGATIVE = set("removefromcart remove dislike skip return refund unlike cancel unsubscribe hide".split())
_NO_TEXT = ("url", "link", "image", "img", "poster", "thumbnail", "picture", "photo", "path", "html", "href")
_ISO = re.compile(  # what lt_spark.prepare.times reads
    r"\d{4}[-/]\d{1,2}[-/]\d{1,2}"
    r"([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)? ?(Z|UTC|GMT|[+-]\d{2}(:?\d{2})?)?)?\Z"
)
_EPOCHS = ((6e8, 4.2e9, "seconds"), (6e11, 4.2e12, "milliseconds"), (6e14, 4.2e15, "microseconds"))
_MAX_TEXT_COLUMNS = 8


def inspect_files(paths: Sequence[str]) -> Inspection:
    """Look at the heads of files and guess how lt_spark has to read them.

    Args:
        paths: local files, folders of parts, globs or Delta folders; one is the log, another may be the catalogue.

    Raises:
        SourceError: a file is missing, empty or of a kind that cannot be read.
        ConfigError: the same file is named twice.
    """
    if len(set(paths)) < len(paths):
        raise ConfigError(f"a file is named twice: expected each once, found {list(paths)}.")
    heads = [read_head(path, lambda names: any(role_of(name) for name in names)) for path in paths]
    log = max(heads, key=_log_score)
    others = [head for head in heads if head is not log]
    catalogue = max(others, key=lambda head: _catalogue_score(head, log), default=None)
    notes: list[str] = []
    if catalogue is not None and _catalogue_score(catalogue, log) <= 0:
        notes.append(f"{catalogue.path} does not look like a catalogue (no ids of items in it) and is not used.")
        catalogue = None
    unused = [head.path for head in others if head is not catalogue]
    if len(unused) > (catalogue is None):
        notes.append(f"not used: {', '.join(unused)}. A log of several files is a folder or a glob of them.")
    return _Guesser(log, catalogue, notes).inspection()


def missing_message(inspection: Inspection, conf_path: str) -> str:
    """Return what could not be guessed and what to do, or the empty string."""
    if not inspection.missing:
        return ""
    lines = [
        f"{key}: no column of {head.path} could be told to be it: expected {what}; found the columns "
        f"{', '.join(head.columns)}."
        for key, head, what in inspection.missing
    ]
    return "\n".join([*lines, f"Write the column's name in {conf_path} where it says FILL-IN."])


def time_kind(values: Sequence[str]) -> str:
    """Return what a column's values are as times: ISO text, epoch seconds, ..., positions; empty: none of these."""
    if not values:
        return ""
    if sum(bool(_ISO.match(value)) for value in values) >= 0.95 * len(values):
        return "ISO text"
    numbers = [float(value) for value in values if is_number(value)]
    if len(numbers) < 0.95 * len(values):
        return ""
    for low, high, unit in _EPOCHS:
        if sum(low <= number < high for number in numbers) >= 0.95 * len(numbers):
            return f"epoch {unit}"
    return "positions" if all(0 <= number < 1e8 and number == int(number) for number in numbers) else ""


def _is_real_time(values: Sequence[str]) -> bool:
    return time_kind(values) not in ("", "positions")


def _are_numbers(values: Sequence[str]) -> bool:
    return bool(values) and all(is_number(value) for value in values)


def _are_words(values: Sequence[str]) -> bool:
    return bool(values) and len(set(values)) <= 30 and not _are_numbers(values)


def _are_flags(values: Sequence[str]) -> bool:
    return bool(values) and {value.lower() for value in values} <= set("true false 0 1 yes no t f y n 0.0 1.0".split())


def _is_key(values: Sequence[str]) -> bool:
    return bool(values) and len(set(values)) >= 0.98 * len(values)


def _is_text(values: Sequence[str]) -> bool:
    """Tell whether values are words for people: letters in them, often several words, no addresses of pages."""
    if not values or _are_numbers(values) or _are_flags(values):
        return False
    n_urls = sum(value.lower().startswith(("http://", "https://", "www.", "//")) for value in values)
    return (
        n_urls < 0.5 * len(values) and not all(map(_ISO.match, values)) and any(map(str.isalpha, "".join(values[:99])))
    )


def _reads_as_title(values: Sequence[str]) -> bool:
    n_words = sum(" " in value.strip() or not value.isascii() for value in values)
    return _is_text(values) and len(set(values)) > 0.5 * len(values) and n_words >= 0.3 * len(values)


def _log_score(head: Head) -> int:
    has_time = bool(by_name(head, "time")) or any(_is_real_time(head.values(column)) for column in head.columns)
    score = 4 * bool(by_name(head, "user")) + 4 * bool(by_name(head, "item")) + 2 * has_time
    score += bool(by_name(head, "value", _are_numbers)) + bool(by_name(head, "event_type", _are_words))
    is_titled = by_name(head, "title") or any(_reads_as_title(head.values(column)) for column in head.columns)
    return score - 3 * bool(is_titled)


def _catalogue_score(head: Head, log: Head) -> float:
    titled = by_name(head, "title") or any(_reads_as_title(head.values(column)) for column in head.columns)
    named = by_name(head, "item") or ("id" in map(plain_name, head.columns))
    if by_name(head, "user") and not named:
        return 0
    overlap = max((overlap_share(log, a, head, b) for a in log.columns for b in head.columns), default=0)
    return 2 * bool(named) + bool(titled) * 1.0 + overlap if named or titled else 0


def overlap_share(log: Head, log_column: str, catalogue: Head, column: str) -> float:
    """Return the share of a log column's values (in the head) that a catalogue's column has."""
    values = set(log.values(log_column))
    return len(values & set(catalogue.values(column))) / len(values) if values else 0.0


class _Guesser:
    """Guesses column by column; a column is taken once."""

    def __init__(self, log: Head, catalogue: Head | None, notes: list[str]) -> None:
        self.log, self.catalogue, self.notes = log, catalogue, notes
        self.guesses: list[Guess] = []
        self.missing: list[tuple[str, Head, str]] = []
        self.taken: set[str] = set()

    def inspection(self) -> Inspection:
        """Guess everything."""
        user, item = by_name(self.log, "user"), by_name(self.log, "item")
        time = by_name(self.log, "time", lambda values: bool(time_kind(values)))
        whys = dict.fromkeys((user, item, time), "by its name")
        if not time:
            time = next(
                (c for c in self.log.columns if c not in (user, item) and _is_real_time(self.log.values(c))), ""
            )
            whys[time] = "by its values"
        self.taken = {user, item, time}
        key = self._catalogue_key(item)
        if not item:
            item, whys["item"] = self._item_by_content(key, spare_first=not user)
            self.taken.add(item)
        if not user and not self.log.header:
            user = next((c for c in self.log.columns if c not in self.taken and self._repeats(c)), "")
            whys["user"] = "the first column whose values come again; the file names no columns: check it"
            self.taken.add(user)
        self._need(
            f"{_LOG}.columns.user", user, self.log, "a column that says who did it", whys.get("user", "by its name")
        )
        self._need(f"{_LOG}.columns.item", item, self.log, "the ids of items", whys.get("item", "by its name"))
        self._time(time, whys.get(time, ""))
        self._event_type()
        self._value()
        if self.catalogue is not None:
            self._catalogue(self.catalogue, key, item)
        elif title := by_name(self.log, "title", _is_text):
            self.notes.append(
                f"the log has text of items in '{title}': write a catalogue file (one row an item) to make use of it."
            )
        return Inspection(self.log, self.catalogue, tuple(self.guesses), tuple(self.notes), tuple(self.missing))

    def _say(self, key: str, value: Any, why: str) -> None:
        self.guesses.append(Guess(key, value, why))

    def _need(self, key: str, column: str, head: Head, what: str, why: str) -> None:
        if column:
            self._say(key, column, why)
        else:
            self.missing.append((key, head, what))

    def _repeats(self, column: str) -> bool:
        values = self.log.values(column)
        return len(set(values)) < len(values)

    def _catalogue_key(self, item: str) -> str:
        """Return the catalogue's id column: by its name, unless another shares far more values with the log's."""
        head = self.catalogue
        if head is None:
            return ""
        named = by_name(head, "item") or next((c for c in head.columns if plain_name(c) == "id"), "")
        log_columns = [item] if item else [c for c in self.log.columns if c not in self.taken]
        best, share = (
            named,
            max((overlap_share(self.log, c, head, named) for c in log_columns), default=0) if named else 0,
        )
        for column in head.columns:
            other = max((overlap_share(self.log, c, head, column) for c in log_columns), default=0)
            if _is_key(head.values(column)) and other > share + 0.3:
                best, share = column, other
        if not best:
            best = next((c for c in head.columns if _is_key(head.values(c))), "")
        return best

    def _item_by_content(self, key: str, spare_first: bool) -> tuple[str, str]:
        columns = [c for c in self.log.columns if c not in self.taken and self._repeats(c)]
        if self.catalogue is not None and key:
            shares = {c: overlap_share(self.log, c, self.catalogue, key) for c in columns}
            first, *rest = sorted(shares, key=lambda c: -shares[c]) or [""]
            if first and shares[first] >= 0.5 and (not rest or shares[first] > shares[rest[0]] + 0.2):
                return first, f"{shares[first]:.0%} of its values are ids of the catalogue"
        if not self.log.header and len(columns) > spare_first:
            return columns[int(spare_first)], "by its place; the file names no columns: check it"
        return "", ""

    def _time(self, time: str, why: str) -> None:
        key = f"{_LOG}.columns.time"
        if time:
            kind = time_kind(self.log.values(time))
            told = (
                "numbers below 10^8, taken for positions, not dates"
                if kind == "positions"
                else f"its values are {kind}"
            )
            self._say(key, time, f"{why}; {told}")
            return
        named = by_name(self.log, "time")
        example = next(iter(self.log.values(named)), "") if named else ""
        why = "no column of times or positions was found: the order of the rows in the file counts"
        if named:
            why = f"'{named}' has times such as {example!r}, which are neither ISO text nor epoch numbers: convert "
            why += "them, or the order of the rows in the file counts"
            self.notes.append(f"{key}: {why}.")
        self._say(key, "", why)

    def _event_type(self) -> None:
        free = [c for c in self.log.columns if c not in self.taken]
        column, why = by_name(self.log, "event_type", _are_words), "by its name"
        if column in self.taken or not column:
            known = set(_WEIGHTS) | _NEGATIVE
            column = next(
                (c for c in free if {plain_name(v) for v in self.log.values(c)} <= known and self._repeats(c)), ""
            )
            why = "its values are kinds of events"
        if not column:
            return
        self.taken.add(column)
        kinds = sorted(set(self.log.values(column)))
        self._say(f"{_LOG}.columns.event_type", column, f"{why}; found {', '.join(kinds[:12])}")
        negative = [kind for kind in kinds if plain_name(kind) in _NEGATIVE]
        weights = {kind: _WEIGHTS.get(plain_name(kind)) for kind in kinds if kind not in negative}
        if negative and column.isidentifier():
            listed = ", ".join("'" + kind.replace("'", "''") + "'" for kind in negative)
            self._say(f"{_LOG}.where", f"{column} NOT IN ({listed})", "these kinds take interest back")
        elif negative:
            self.notes.append(f"events of the kinds {negative} take interest back: leave them out of the file.")
        if weights and None not in weights.values():
            self._say(
                f"{_LOG}.event_weights", weights, "by what the kinds usually mean; a kind that is not named is refused"
            )
        else:
            self.notes.append(
                f"{_LOG}.event_weights: the kinds {kinds[:12]} are not all known: each counts 1; set weights there."
            )

    def _value(self) -> None:
        fits: Callable[[str], bool] = lambda c: c not in self.taken and _are_numbers(self.log.values(c))  # noqa: E731
        column, why = by_name(self.log, "value", _are_numbers), "by its name"
        if not column and not self.log.header:
            column = next((c for c in self.log.columns if fits(c) and len(set(self.log.values(c))) <= 101), "")
            why = "the first column with few different numbers; the file names no columns: check it"
        if not column or column in self.taken:
            return
        self.taken.add(column)
        numbers = [float(value) for value in self.log.values(column)]
        self._say(f"{_LOG}.columns.value", column, f"{why}; from {min(numbers):g} to {max(numbers):g}")

    def _catalogue(self, head: Head, key: str, item: str) -> None:
        share = overlap_share(self.log, item, head, key) if item and key else 0.0
        self._need(
            f"{_ITEMS}.columns.item", key, head, "the ids of items",
            f"{share:.0%} of the item ids in the log's first rows are in it" if item else "by its name",
        )  # fmt: skip
        if item and key and share < 0.5 and head.is_whole:
            self.notes.append(
                f"only {share:.0%} of the log's first item ids are in the catalogue's '{key}': are they one kind of id?"
            )
        free = [column for column in head.columns if column != key]
        title, why = by_name(head, "title", _is_text), "by its name"
        if not title or title == key:
            title, why = next((c for c in free if _reads_as_title(head.values(c))), ""), "it reads like titles"
        if not title:
            why = "no column of titles was found"
        self._say(f"{_ITEMS}.columns.title", title, why)
        used = {key, title}
        for role, check in (
            ("is_available", _are_flags),
            ("available_from", _is_real_time),
            ("available_until", _is_real_time),
        ):
            if (column := by_name(head, role, check)) and column not in used:
                used.add(column)
                self._say(f"{_ITEMS}.columns.{role}", column, "by its name; delete it where it means something else")
        text = [column for column in free if column not in used and self._is_attribute(head, column)]
        left_out = [c for c in free if c not in used and c not in text[:_MAX_TEXT_COLUMNS]]
        why = "columns of words" + (f"; left out: {', '.join(left_out[:12])}" if left_out else "")
        self._say(f"{_ITEMS}.columns.text", text[:_MAX_TEXT_COLUMNS], why if text else "no further columns of words")

    @staticmethod
    def _is_attribute(head: Head, column: str) -> bool:
        plain, values = plain_name(column), head.values(column)
        if any(word in plain for word in _NO_TEXT) or len(values) < 0.02 * len(head.rows) or len(set(values)) < 2:
            return False
        if "year" in plain:
            return True
        is_code = _is_key(values) and not any(" " in value for value in values)
        return _is_text(values) and not is_code and not (plain.endswith("id") and len(plain) > 2)
