"""Where Spark cuts long plans short: a folder of the run."""

from collections.abc import Iterator
from contextlib import contextmanager

from lt_spark.core.storage import Storage, is_scratch

_NAME = "checkpoints"


@contextmanager
def checkpoints(storage: Storage) -> Iterator[None]:
    """Give Spark a folder for checkpoints, and remove it afterwards; a session that has one of its own keeps that.

    Without one, ``checkpointInterval`` of MLlib's ALS does nothing: each iteration makes the chain of tables longer
    that a task has to read, recursively, until Java's stack is full, which ends Java.

    Args:
        storage: of the run, for its scratch folders.
    """
    context = storage.spark.sparkContext
    own = context.getCheckpointDir()
    # what a run before left set is that run's, and gone
    if own is not None and not is_scratch(own):
        yield
        return
    context.setCheckpointDir(storage.scratch(_NAME))
    try:
        yield
    finally:
        storage.clear_scratch(_NAME)
