"""Rows of an export by Petastorm 0.12.1, the one version that loses none with its thread pool."""

import random
import warnings
from collections.abc import Generator, Iterator
from typing import Any

from pyarrow import fs

# petastorm reads by pyarrow's older interface, which pyarrow 15 dropped
from pyarrow.filesystem import FileSystem

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from petastorm import make_batch_reader
    from petastorm.pytorch import BatchedDataLoader

import torch

from lt_spark.models.bert.loader import READ_COLUMNS, Columns, Source

warnings.filterwarnings("ignore", category=FutureWarning, module=r"petastorm\.")  # one a row group, of that interface


def read(source: Source, order: int) -> Generator[Columns, None, None]:
    """Yield batches of a source's rows: row groups in random order, rows drawn from a buffer.

    Memory: a buffer of ``shuffle_rows + batch_size`` rows, doubled where a row group does not fit in, and up to
    ``workers_count + 2`` row groups that wait.

    Args:
        source: what to read.
        order: number that decides on the order; not 0, which petastorm takes for none.
    """
    draws = torch.Generator().manual_seed(order).get_state()
    of_python = random.getstate()
    reader = make_batch_reader(
        # the file system's root is the folder: its name, that a URL would cut at # and ?, is never part of one
        [f"file:///{name}" for name in source.names],
        filesystem=_Files(source.folder.filesystem),
        schema_fields=[f"^{column}$" for column in READ_COLUMNS],
        reader_pool_type="thread",
        workers_count=source.workers_count,
        shuffle_row_groups=True,
        seed=order,
        num_epochs=1,
    )
    random.setstate(of_python)  # its pool draws a number that it never uses
    try:
        batches = iter(
            BatchedDataLoader(
                _Whole(reader),
                batch_size=source.batch_size,
                transform_fn=torch.tensor,  # as_tensor would share read-only memory
                shuffling_queue_capacity=source.shuffle_rows,
            )
        )
        while True:
            # its buffer draws from torch's one generator, which is the model's
            of_model = torch.get_rng_state()
            torch.set_rng_state(draws)
            try:
                batch = next(batches, None)
                draws = torch.get_rng_state()
            finally:
                torch.set_rng_state(of_model)
            if batch is None:
                return
            yield batch
    finally:
        reader.stop()
        reader.join()


class _Whole:
    """A reader whose end is asked for twice.

    Its pool compares two counts, then asks whether its feeder is done: a feeder that ends in between hides the last
    row groups. Asked again, the pool gives them.
    """

    batched_output = True

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._reader)
        except StopIteration:
            return next(self._reader)


class _Files(FileSystem):  # type: ignore[misc]
    """A file system of today's pyarrow, as petastorm asks for one.

    It knows no folders, so nothing but the named files is opened: no ``_common_metadata``, whose pickle petastorm
    would load.
    """

    def __init__(self, files: fs.FileSystem) -> None:
        self._of_today = files

    def isdir(self, path: str) -> bool:
        return False

    def isfile(self, path: str) -> bool:
        return bool(self._of_today.get_file_info(path.lstrip("/")).is_file)

    def open(self, path: str, mode: str = "rb") -> Any:
        return self._of_today.open_input_file(path.lstrip("/"))
