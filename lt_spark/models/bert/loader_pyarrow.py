"""Rows of an export by pyarrow alone."""

from collections.abc import Generator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lt_spark.models.bert.loader import READ_COLUMNS, Columns, Source

Arrays = dict[str, "np.ndarray[Any, Any]"]


def read(source: Source, order: int) -> Generator[Columns, None, None]:
    """Yield batches of a source's rows: row groups in random order, rows drawn from a buffer.

    Args:
        source: what to read.
        order: number that decides on the order.
    """
    rng = np.random.default_rng(order)
    files = source.folder.filesystem
    groups: list[tuple[str, int]] = []
    for name in source.names:
        with files.open_input_file(name) as file:
            groups += [(name, group) for group in range(pq.ParquetFile(file).num_row_groups)]
    waiting: list[Arrays] = []
    n_waiting = 0
    for index in rng.permutation(len(groups)):
        name, group = groups[index]
        with files.open_input_file(name) as file:
            table = pq.ParquetFile(file).read_row_group(group, columns=list(READ_COLUMNS))
        waiting.append({column: _array(table.column(column).combine_chunks()) for column in READ_COLUMNS})
        n_waiting += len(table)
        if n_waiting >= source.shuffle_rows + source.batch_size:
            rows = _shuffled(waiting, rng)
            n_ready = (n_waiting - source.shuffle_rows) // source.batch_size * source.batch_size
            yield from _batches(rows, n_ready, source.batch_size)
            waiting = [{column: values[n_ready:] for column, values in rows.items()}]
            n_waiting -= n_ready
    if n_waiting:
        yield from _batches(_shuffled(waiting, rng), n_waiting, source.batch_size)


def _array(column: pa.Array) -> "np.ndarray[Any, Any]":
    """Return a column as (rows,), or as (rows, places) where it holds lists."""
    if not pa.types.is_list(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    lengths = np.unique(np.asarray(column.value_lengths().to_numpy(zero_copy_only=False)))
    if len(lengths) > 1 or column.null_count:
        raise pa.ArrowInvalid(f"lists of {lengths.tolist()} places in one column")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _shuffled(parts: list[Arrays], rng: np.random.Generator) -> Arrays:
    order = rng.permutation(sum(len(part["user_idx"]) for part in parts))
    return {column: np.concatenate([part[column] for part in parts])[order] for column in READ_COLUMNS}


def _batches(rows: Arrays, n_rows: int, batch_size: int) -> Generator[Columns, None, None]:
    for start in range(0, n_rows, batch_size):
        stop = min(start + batch_size, n_rows)
        yield {column: torch.from_numpy(values[start:stop].copy()) for column, values in rows.items()}
