"""Tasks side by side where none waits for the other: while one plans its queries, the other has the cores."""

import threading
from collections.abc import Callable, Collection, Sequence

from pyspark import InheritableThread
from pyspark.sql import SparkSession

from lt_spark.pipeline import Stage

_GRACE_S = 30.0
"""How long a run that is interrupted waits for tasks at work to notice."""


def waits_for(tasks: Sequence[tuple[Stage, str]]) -> list[set[int]]:
    """Return for each task, a stage in a fold, the places of the earlier ones that must be done before it.

    It waits for its stage's earlier folds, and for all that write what it reads or writes. Of the stages that run a
    network one is at work at a time: it takes all cores, or the GPU, and draws from the process's random numbers.
    """
    found = []
    for place, (stage, fold) in enumerate(tasks):
        touched = {*stage.reads, *stage.reads_valid, *(stage.reads_live if fold == "live" else ()), *stage.writes}
        replaced = {table for table in stage.writes if not table.folded}
        found.append(
            {
                earlier
                for earlier, (other, _) in enumerate(tasks[:place])
                if stage.after_all
                or other.name == stage.name
                or (stage.runs_network and other.runs_network)
                or touched & set(other.writes)
                or replaced & {*other.reads, *other.reads_valid, *other.reads_live}
            }
        )
    return found


def do_all(
    spark: SparkSession,
    needs: Sequence[Collection[int]],
    do: Callable[[int], None],
    width: int,
    stopped: threading.Event,
) -> None:
    """Do each task once all that it needs are done, at most ``width`` at a time, the first in order first.

    Args:
        spark: the session that the tasks use.
        needs: for each task the places of those that must be done before; all of them stand before it.
        do: does the task of a place, in one of ``width`` threads.
        width: most tasks at a time; 1: one after the other, in the caller's own thread.
        stopped: set where the caller is interrupted: a task at work looks at it, and ends.

    Raises:
        BaseException: that of the first task that failed: no other is begun, and those at work are waited for.
    """
    if width == 1:
        for place in range(len(needs)):
            do(place)
        return
    board = _Board(needs)
    threads = [
        InheritableThread(_work, session=spark, args=(spark, board, do), name=f"lt_spark-{n}", daemon=True)
        for n in range(min(width, len(needs)))
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException as error:  # the caller was interrupted
        stopped.set()
        board.fail(error)
        for thread in threads:
            thread.join(_GRACE_S / len(threads))
        raise
    if board.failed:
        raise board.failed[0]


class _Board:
    """What is left to do, what is done and what failed, for several threads."""

    def __init__(self, needs: Sequence[Collection[int]]) -> None:
        self._needs = needs
        self._left = list(range(len(needs)))
        self._done: set[int] = set()
        self._change = threading.Condition()
        self.failed: list[BaseException] = []

    def take(self) -> int | None:
        """Return a task that waits for none, once there is one; None where none is to be begun any more."""
        with self._change:
            while self._left and not self.failed:
                for place in self._left:
                    if self._done.issuperset(self._needs[place]):
                        self._left.remove(place)
                        return place
                self._change.wait()
        return None

    def put(self, place: int) -> None:
        """Note a task that is done."""
        with self._change:
            self._done.add(place)
            self._change.notify_all()

    def fail(self, error: BaseException) -> None:
        """Note an error, after which no task is begun."""
        with self._change:
            self.failed.append(error)
            self._change.notify_all()


def _work(spark: SparkSession, board: _Board, do: Callable[[int], None]) -> None:
    """Do one task after the other, until none is left to begin."""
    try:
        # a thread's active session is the process's first one, until it makes something by another
        spark.createDataFrame([], "nothing int")
        while (place := board.take()) is not None:
            do(place)
            board.put(place)
    except BaseException as error:  # noqa: BLE001 - raised by the caller's thread
        board.fail(error)
