"""What ``lt-spark init`` found out: guesses, each with its reason."""

from dataclasses import dataclass
from typing import Any

from lt_spark.prepare.heads import Head


@dataclass(frozen=True)
class Guess:
    """A setting, its guessed value, and why."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Inspection:
    """What was found out about someone's files.

    Attributes:
        log: head of what users did.
        catalogue: head of what the items are; None where no file looks like one.
        guesses: settings of columns, weights and conditions.
        notes: what a person should look at.
        missing: (key, file, what was expected) of columns that are needed and could not be guessed.
    """

    log: Head
    catalogue: Head | None
    guesses: tuple[Guess, ...]
    notes: tuple[str, ...]
    missing: tuple[tuple[str, Head, str], ...]

    def value(self, key: str) -> Any:
        """Return the guess of a key; None where there is none."""
        return next((guess.value for guess in self.guesses if guess.key == key), None)
