"""What Spark wrote for the training, read without Spark; batches in an order that a seed decides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import DataError, StorageError
from lt_spark.core.files import Folder
from lt_spark.models.text_bert.texts import history_text, item_text

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
PAIRS, KNOWN, TEXTS, VALID, ITEMS = "pairs", "known", "texts", "valid", "items"
"""Folders that Spark writes, one a kind of rows."""
_LIST = pa.list_(pa.int32())
_WORDS = pa.list_(pa.string())
SCHEMAS = {
    PAIRS: pa.schema(
        [
            ("user_idx", pa.int32()),
            ("event_order", pa.int32()),
            ("history", _LIST),
            ("item_idx", pa.int32()),
            ("weight", pa.float64()),
            ("is_held_out", pa.bool_()),
            ("hard", _LIST),
        ]
    ),
    KNOWN: pa.schema([("user_idx", pa.int32()), ("known", _LIST)]),
    TEXTS: pa.schema([("item_idx", pa.int32()), ("text", pa.string()), ("n_events", pa.int64())]),
    VALID: pa.schema(
        [
            ("user_idx", pa.int32()),
            ("history", _LIST),
            ("seen", _LIST),
            ("targets", _LIST),
            ("segments", _WORDS),
            ("top20", _WORDS),
        ]
    ),
    ITEMS: pa.schema([("item_idx", pa.int32())]),
}
"""The columns of each kind; see ``pairs.py`` for what they mean."""


@dataclass(frozen=True)
class Pairs:
    """n pairs of a history and its next item, in the order of (user_idx, event_order).

    Attributes:
        users: (n,) user_idx.
        histories: n arrays of item_idx, oldest first.
        targets: (n,) item_idx.
        weights: (n,), positive.
        hard: n arrays of item_idx, often empty.
    """

    users: Ints
    histories: list[Ints]
    targets: Ints
    weights: Floats
    hard: list[Ints]

    def __len__(self) -> int:
        """Return n."""
        return len(self.users)

    def take(self, places: npt.NDArray[np.int64]) -> "Pairs":
        """Return the pairs at places, in that order."""
        return Pairs(
            self.users[places],
            [self.histories[place] for place in places],
            self.targets[places],
            self.weights[places],
            [self.hard[place] for place in places],
        )


@dataclass(frozen=True)
class Catalogue:
    """The texts that training and judging need.

    Attributes:
        texts: cleaned text by item_idx, none of them empty.
        n_events: known events by item_idx.
        section: section ``text_bert``.
    """

    texts: Mapping[int, str]
    n_events: Mapping[int, int]
    section: TextBertConfig

    def history(self, oldest_first: Sequence[int] | Ints) -> str:
        """Return a history's text; empty where none of its items has one."""
        return history_text([self.texts.get(int(item), "") for item in reversed(oldest_first)], self.section)


@dataclass(frozen=True)
class TrainingSet:
    """What the encoder learns from (``pairs``), what is kept for the classifier (``held_out``), what users know."""

    pairs: Pairs
    held_out: Pairs
    known: Mapping[int, Ints]
    catalogue: Catalogue


@dataclass(frozen=True)
class ValidSet:
    """Users with targets, and the items (m,) that their lists are made of, ascending.

    Attributes:
        users: (u,) user_idx, ascending.
        histories: u arrays of item_idx, oldest first; empty ones are ranked nothing.
        seen: u arrays of item_idx that are not ranked.
        targets: u arrays of item_idx.
        segments: u lists in step with ``targets``: head, mid, tail or cold.
        top20: likewise: head or tail.
        items: (m,) item_idx.
    """

    users: Ints
    histories: list[Ints]
    seen: list[Ints]
    targets: list[Ints]
    segments: list[list[str]]
    top20: list[list[str]]
    items: Ints

    def __len__(self) -> int:
        """Return u."""
        return len(self.users)


def read_training(folder: Folder, section: TextBertConfig) -> TrainingSet:
    """Read the pairs, what their users know, and the texts.

    Raises:
        DataError: there is no pair with a text on both sides.
        StorageError: the files are missing or of other columns.
    """
    catalogue = read_catalogue(folder, section)
    rows = _read(folder, PAIRS).sort_by([("user_idx", "ascending"), ("event_order", "ascending")])
    pairs = Pairs(
        _numbers(rows, "user_idx"),
        _lists(rows, "history"),
        _numbers(rows, "item_idx"),
        rows["weight"].to_numpy().astype(np.float64),
        [np.array([item for item in near if int(item) in catalogue.texts], np.int32) for near in _lists(rows, "hard")],
    )
    has_text = np.array(
        [
            int(target) in catalogue.texts and bool(catalogue.history(history))
            for target, history in zip(pairs.targets, pairs.histories, strict=True)
        ],
        np.bool_,
    )
    is_held_out = np.asarray(rows["is_held_out"].to_numpy(zero_copy_only=False), np.bool_)
    taught = pairs.take(np.flatnonzero(has_text & ~is_held_out))
    if not len(taught):
        raise DataError(
            f"text_bert has nothing to learn from: expected users with two known events of items that have a text, "
            f"found {len(pairs)} pairs, none of which may teach. Give the items titles, set text_bert.train_on=all, or "
            "leave text_bert out of blend.models and set models.embeddings=plain."
        )
    known = _read(folder, KNOWN)
    users_known = dict(zip(known["user_idx"].to_pylist(), _lists(known, "known"), strict=True))
    return TrainingSet(taught, pairs.take(np.flatnonzero(has_text & is_held_out)), users_known, catalogue)


def read_catalogue(folder: Folder, section: TextBertConfig) -> Catalogue:
    """Read the texts; what is empty once it is cleaned is left out."""
    rows = _read(folder, TEXTS)
    cleaned = {
        item: item_text(text, section)
        for item, text in zip(rows["item_idx"].to_pylist(), rows["text"].to_pylist(), strict=True)
    }
    n_events = dict(zip(rows["item_idx"].to_pylist(), rows["n_events"].to_pylist(), strict=True))
    texts = {item: text for item, text in sorted(cleaned.items()) if text}
    return Catalogue(texts, {item: n_events[item] or 0 for item in texts}, section)


def read_valid(folder: Folder, catalogue: Catalogue) -> ValidSet:
    """Read the users of valid and the items of their lists."""
    rows = _read(folder, VALID).sort_by("user_idx")
    items = np.unique(_numbers(_read(folder, ITEMS), "item_idx"))
    return ValidSet(
        _numbers(rows, "user_idx"),
        _lists(rows, "history"),
        _lists(rows, "seen"),
        _lists(rows, "targets"),
        rows["segments"].to_pylist(),
        rows["top20"].to_pylist(),
        items[np.array([int(item) in catalogue.texts for item in items], np.bool_)],
    )


def batches(n: int, size: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the places 0 to n - 1 once, shuffled, ``size`` at a time; the last batch may be shorter."""
    order = np.random.default_rng([seed, epoch]).permutation(n)
    for start in range(0, n, size):
        yield order[start : start + size]


def log_shares(targets: Ints) -> npt.NDArray[np.float32]:
    """Return (n,) the log of each row's target's share of all targets: how often a batch has it as a negative."""
    _, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
    return np.asarray(np.log(counts[place] / len(targets)), np.float32)


def masked_negatives(batch: Pairs, known: Mapping[int, Ints]) -> Bools:
    """Return (b, b): whether the target of column j is no negative of row i: its own target, or known to its user.

    The diagonal, each row's own target, is False.
    """
    masked = np.asarray(batch.targets[:, None] == batch.targets[None, :], np.bool_)
    none = np.empty(0, np.int32)
    for row, user in enumerate(batch.users):
        masked[row] |= np.isin(batch.targets, known.get(int(user), none))
    np.fill_diagonal(masked, False)
    return masked


def _read(folder: Folder, kind: str) -> pa.Table:
    schema = SCHEMAS[kind]
    try:
        found = ds.dataset("", filesystem=folder.child(kind).filesystem, format="parquet")
        if not set(schema.names) <= set(found.schema.names):  # no rows, and so no file
            return schema.empty_table()
        return found.to_table(columns=schema.names).cast(schema).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{folder.uri}/{kind} cannot be read: expected Parquet files of {', '.join(schema.names)}, found: {error}. "
            "Run the stage text_bert again."
        ) from error


def _numbers(rows: pa.Table, name: str) -> Ints:
    return np.asarray(rows[name].to_numpy(), np.int32)


def _lists(rows: pa.Table, name: str) -> list[Ints]:
    lists = rows[name].combine_chunks()
    if not len(lists):
        return []
    ends = np.cumsum(np.nan_to_num(lists.value_lengths().to_numpy(zero_copy_only=False).astype(float)).astype(int))
    return list(np.split(np.asarray(lists.flatten().to_numpy(), np.int32), ends[:-1]))
