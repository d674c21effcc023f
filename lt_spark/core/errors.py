"""The errors lt_spark raises on purpose. Each says what, where, expected, found and what to do."""

from collections.abc import Sequence
from difflib import get_close_matches


class LtSparkError(Exception):
    """Something the person at the keyboard can mend; the command line ends with exit code 2."""


class ConfigError(LtSparkError):
    """A setting is missing, misspelt, of the wrong type or out of range."""


class SourceError(LtSparkError):
    """A source file or table cannot be read as configured."""


class DataError(LtSparkError):
    """The rows were read, and cannot be used as they are."""


class StorageError(LtSparkError):
    """A Delta table or folder is missing, locked, too new or of another schema."""


class LeakageError(LtSparkError):
    """A row from outside a fold's known rows reached something fitted for that fold."""


class EngineError(LtSparkError):
    """The language model or the server behind it does not answer."""


class TrainingError(LtSparkError):
    """A model's training came to no result."""


class RunLockedError(StorageError):
    """Another run holds the tables' root."""


def nearest(word: str, words: Sequence[str]) -> str:
    """Return a hint that names the nearest of ``words``, or the empty string where none is near."""
    matches = get_close_matches(word, words, n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""
