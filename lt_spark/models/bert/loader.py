"""Batches of an export for one training process: one interface, and the checks that every loader is held to."""

import importlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
import torch

from lt_spark.core.errors import ConfigError, DataError
from lt_spark.core.files import Folder
from lt_spark.models.bert.manifest import Manifest, Shard, read_manifest

READ_COLUMNS = ("user_idx", "items", "orders", "weights")
Columns = dict[str, torch.Tensor]
"""The columns of a batch before it is checked."""


@dataclass(frozen=True)
class Batch:
    """Rows to learn from.

    Attributes:
        users: (batch,) int64.
        items: (batch, length + 1) int64, -1 where there is no event; those places are on the left.
        orders: (batch, length + 1) int64, 0 where there is no event.
        weights: (batch, length + 1) float32, 0 where there is no event.
    """

    users: torch.Tensor
    items: torch.Tensor
    orders: torch.Tensor
    weights: torch.Tensor


class Loader(Protocol):
    """Gives the rows of one process, once an epoch."""

    @property
    def n_rows(self) -> int:
        """Rows that this process gets an epoch; 0 where there are more processes than shards."""

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield all rows of this process once, in an order that depends on the seed and the epoch alone.

        Args:
            epoch: 0 or more.

        Raises:
            DataError: at the end where rows are lost or too many; before where a row cannot be.
        """


@dataclass(frozen=True)
class Source:
    """What a reader reads, and how.

    Attributes:
        folder: the export.
        names: its files for this process.
        n_rows: their rows by the manifest.
        batch_size: rows of a batch; the last may be shorter.
        shuffle_rows: rows kept in memory to draw from.
        workers_count: reading threads.
    """

    folder: Folder
    names: tuple[str, ...]
    n_rows: int
    batch_size: int
    shuffle_rows: int
    workers_count: int


Read = Callable[[Source, int], Generator[Columns, None, None]]
"""Reads a source's rows once; the number, 1 to 2^32 - 1, decides on the order."""


def make_loader(
    kind: Literal["auto", "petastorm", "pyarrow"],
    folder: str,
    *,
    batch_size: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    shuffle_rows: int = 16_384,
    workers_count: int = 1,
) -> Loader:
    """Return the loader of one process.

    Args:
        kind: petastorm, pyarrow, or auto: petastorm where it can be imported.
        folder: an export.
        batch_size: rows of a batch, at least 1; the last of an epoch may be shorter.
        seed: seed of the order, 0 or more.
        rank: number of this process, from 0.
        world: number of processes.
        shuffle_rows: rows kept in memory to draw from, at least 1.
        workers_count: reading threads of petastorm; above 1 the order is no longer reproducible.

    Raises:
        ConfigError: where petastorm is asked for and cannot be imported, or a number is out of range.
        StorageError: where the folder holds no whole export.
    """
    if not 0 <= rank < world or min(batch_size, shuffle_rows, workers_count) < 1 or seed < 0:
        raise ConfigError(
            "a loader needs 0 <= rank < world, batch_size, shuffle_rows and workers_count of 1 or more and a seed of 0 "
            f"or more; found rank {rank}, world {world}, batch_size {batch_size}, shuffle_rows {shuffle_rows}, "
            f"workers_count {workers_count}, seed {seed}."
        )
    export = Folder(folder)
    manifest = read_manifest(export)
    shards = deal(manifest.shards, world)[rank]
    names = tuple(shard.name for shard in shards)
    n_rows = sum(shard.n_rows for shard in shards)
    source = Source(export, names, n_rows, batch_size, shuffle_rows, workers_count)
    return CheckedLoader(source, manifest, seed, _reader(kind))


def deal(shards: tuple[Shard, ...], world: int) -> list[list[Shard]]:
    """Deal whole shards to processes: the largest first, each to the process with the fewest rows.

    Returns:
        The shards of each process, without empty ones; a process may have none.
    """
    hands: list[list[Shard]] = [[] for _ in range(world)]
    n_rows = [0] * world
    for shard in sorted(shards, key=lambda shard: (-shard.n_rows, shard.name)):
        if shard.n_rows:
            rank = n_rows.index(min(n_rows))
            hands[rank].append(shard)
            n_rows[rank] += shard.n_rows
    return hands


class CheckedLoader:
    """Counts and checks what a reader yields: lost rows are an error, never a shorter epoch."""

    def __init__(self, source: Source, manifest: Manifest, seed: int, read: Read) -> None:
        """Bind a source, the manifest of its export, and how it is read."""
        self._source = source
        self._manifest = manifest
        self._seed = seed
        self._read = read

    @property
    def n_rows(self) -> int:
        """Rows that this process gets an epoch."""
        return self._source.n_rows

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield all rows of this process once; see ``Loader``."""
        if not self._source.names:
            return
        order = int(np.random.SeedSequence((self._seed, epoch)).generate_state(1)[0]) or 1
        n_seen = 0
        with closing(self._read(self._source, order)) as parts:
            while (columns := self._next(parts)) is not None:
                batch = _batch(columns, self._manifest, self._source.folder)
                n_seen += len(batch.users)
                yield batch
        if n_seen != self._source.n_rows:
            raise DataError(
                f"rows were lost or read twice in {self._source.folder.uri}: expected {self._source.n_rows} rows of "
                f"{len(self._source.names)} files by the manifest, found {n_seen}. Export again; if it happens again "
                "set bert.loader: pyarrow."
            )

    def _next(self, parts: Iterator[Columns]) -> Columns | None:
        """Return the next rows, None at the end; what reading raises becomes an error that says what to do."""
        try:
            return next(parts, None)
        except (OSError, pa.ArrowException, RuntimeError, TypeError, KeyError) as error:
            raise DataError(
                f"a file of the export in {self._source.folder.uri} cannot be read: expected Parquet files as lt_spark "
                f"wrote them, found {type(error).__name__}: {error}. Export again."
            ) from error


def _batch(columns: Columns, manifest: Manifest, folder: Folder) -> Batch:
    items = columns["items"].long()
    orders, weights = columns["orders"].long(), columns["weights"].float()
    shape = (len(columns["user_idx"]), manifest.length + 1)
    is_real = items >= 0
    fault = ""
    if not items.shape == orders.shape == weights.shape == shape:
        fault = f"arrays of shape {tuple(items.shape)}, not {shape}"
    elif bool((items < -1).any()):
        fault = f"item {int(items.min())}, below the padding's -1"
    elif bool((items >= manifest.n_items).any()):
        fault = f"item {int(items.max())}, above the last of {manifest.n_items}"
    elif bool((is_real[:, :-1] & ~is_real[:, 1:]).any()) or not bool(is_real[:, -1].all()):
        fault = "an event left of padding, or a row of padding alone"
    elif not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        fault = "a weight that is negative or no number"
    if fault:
        raise DataError(
            f"the export in {folder.uri} holds {fault}: expected items from 0 to {manifest.n_items - 1}, padded with "
            "-1 on the left, and weights of 0 or more. Make the rows with windows(), and export again."
        )
    return Batch(columns["user_idx"].long(), items, orders, weights)


def _reader(kind: str) -> Read:
    # imported when asked for: petastorm may be missing
    if kind in ("auto", "petastorm"):
        try:
            return _imported("petastorm")
        except (ImportError, AttributeError) as error:  # a newer pyarrow lacks what petastorm imports
            if kind == "petastorm":
                raise ConfigError(
                    f"bert.loader: petastorm cannot be imported: expected petastorm 0.12.1 and pyarrow below 15, found "
                    f"pyarrow {pa.__version__} ({error}). pip install 'petastorm==0.12.1' 'pyarrow>=14.0.2,<15', or "
                    "set bert.loader: pyarrow."
                ) from error
    elif kind != "pyarrow":
        raise ConfigError(f"unknown loader: expected auto, petastorm or pyarrow; found {kind!r}.")
    return _imported("pyarrow")


def _imported(name: str) -> Read:
    read: Read = importlib.import_module(f"lt_spark.models.bert.loader_{name}").read
    return read
