"""Which tables each stage of a run reads, and which of them it did not say it would."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.storage import Storage
from lt_spark.passes import StageEvent
from lt_spark.pipeline import STAGES


class Reads:
    """What was read by each stage; ``told`` is the run's listener."""

    def __init__(self) -> None:
        self.by_stage: dict[str, set[t.Table]] = defaultdict(set)
        self._at_work: dict[int, str] = {}  # the stage of each thread

    def told(self, event: StageEvent) -> None:
        """Note which stage the thread is at."""
        if event.kind == "start":
            self._at_work[threading.get_ident()] = event.stage
        elif event.kind == "done":
            self._at_work.pop(threading.get_ident(), None)

    def note(self, table: t.Table) -> None:
        """Note a table that the thread's stage reads."""
        if threading.get_ident() in self._at_work:
            self.by_stage[self._at_work[threading.get_ident()]].add(table)

    def undeclared(self) -> dict[str, set[str]]:
        """Return what stages wrote and another, that does not wait for all, read without saying so."""
        written = {table for stage in STAGES for table in stage.writes}
        found = {}
        for stage in STAGES:
            said = {*stage.reads, *stage.reads_live, *stage.reads_valid, *stage.writes}
            rest = (self.by_stage[stage.name] & written) - said
            if rest and not stage.after_all:
                found[stage.name] = {table.full_name for table in rest}
        return found


@contextmanager
def noted_reads() -> Iterator[Reads]:
    """Note all that is read by way of Storage.read."""
    found, read = Reads(), Storage.read

    def noting(storage: Storage, table: t.Table, fold: str | None = None) -> Any:
        found.note(table)
        return read(storage, table, fold)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "read", noting)
        yield found
