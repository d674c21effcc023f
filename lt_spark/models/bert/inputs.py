"""What a training process reads beside the windows: the items, and the users that an epoch is judged by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from lt_spark.core.errors import DataError
from lt_spark.core.files import Folder
from lt_spark.models.bert.manifest import PAD

Ints = npt.NDArray[Any]


@dataclass(frozen=True)
class Items:
    """The catalogue, a row an item_idx from 0 on.

    Attributes:
        text: (n_items, text_size) float32 vectors of the items' text; text_size 0: there are none.
        n_known: (n_items,) known events.
        is_recommendable: (n_items,) bool.
    """

    text: npt.NDArray[np.float32]
    n_known: npt.NDArray[np.float32]
    is_recommendable: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.n_known)


@dataclass(frozen=True)
class Questions:
    """Users whose next items are known, each with what it did before.

    Attributes:
        histories: (n, length) item_idx of the newest events, padded on the left with PAD.
        seen: CSR (n + 1,), (n_seen,): the items that are not recommended to each.
        targets: CSR (n + 1,), (n_targets,).
        is_tail: (n_targets,) bool, by segment_top20.
    """

    histories: Ints
    seen: tuple[Ints, Ints]
    targets: tuple[Ints, Ints]
    is_tail: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self.histories)


def read_items(folder: str) -> Items:
    """Read the items that Spark wrote: (item_idx, n_known, is_recommendable, vector array<float> or null).

    Args:
        folder: of Parquet files; rows in any order.

    Raises:
        DataError: item_idx is not 0, 1, 2, ..., or the vectors differ in length.
    """
    rows = _read(folder)
    order = np.argsort(rows["item_idx"].to_numpy())
    if not np.array_equal(rows["item_idx"].to_numpy()[order], np.arange(len(order))):
        raise DataError(f"the items at {folder} are not numbered 0 to {len(order) - 1}: run the stage clean again")
    vectors = rows["vector"].combine_chunks()
    lengths = np.unique(vectors.drop_null().value_lengths().to_numpy())
    if len(lengths) > 1:
        raise DataError(
            f"the items' text vectors differ in length: expected one, found {', '.join(map(str, lengths[:5]))}. "
            "Run the stage embed again (`lt-spark run --force --only embed`)."
        )
    size = int(lengths[0]) if len(lengths) else 0
    text = np.zeros((len(order), size), np.float32)
    has_vector = vectors.is_valid().to_numpy(zero_copy_only=False)
    if size:
        text[has_vector] = vectors.drop_null().flatten().to_numpy().reshape(-1, size)
    return Items(
        text[order],
        rows["n_known"].to_numpy().astype(np.float32)[order],
        rows["is_recommendable"].to_numpy(zero_copy_only=False)[order],
    )


def read_questions(folder: str, length: int) -> Questions:
    """Read the users that Spark wrote: (user_idx, items, seen, targets array<int>, is_tail array<boolean>).

    Args:
        folder: of Parquet files.
        length: newest events of a history that the model reads.
    """
    rows = _read(folder)
    rows = rows.take(np.argsort(rows["user_idx"].to_numpy()))
    offsets, items = _csr(rows["items"])
    histories = np.full((rows.num_rows, length), PAD, np.int64)
    for place in range(min(length, int(np.diff(offsets).max(initial=0)))):
        at = offsets[1:] - 1 - place
        is_there = at >= offsets[:-1]
        histories[is_there, length - 1 - place] = items[at[is_there]]
    return Questions(
        histories,
        _csr(rows["seen"]),
        _csr(rows["targets"]),
        rows["is_tail"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.bool_),
    )


def _read(folder: str) -> pa.Table:
    files, path = Folder(folder).opened()
    return ds.dataset(path, filesystem=files, format="parquet").to_table().combine_chunks()


def _csr(lists: pa.ChunkedArray) -> tuple[Ints, Ints]:
    """Turn lists (null: empty) into offsets (n + 1,) and values."""
    array = lists.combine_chunks()
    counts = np.nan_to_num(array.value_lengths().to_numpy(zero_copy_only=False).astype(float)).astype(np.int64)
    return np.concatenate([[0], np.cumsum(counts)]), array.flatten().to_numpy()
