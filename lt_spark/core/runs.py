"""What a run remembers: stage keys, the log of runs, and the lock."""

import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import RunLockedError, StorageError
from lt_spark.core.storage import Storage

_SETTLES_AFTER_S = 5.0
"""After it another run, that found the same half a table at the same moment, has made it whole too."""
_RECORD = threading.Lock()
"""Held while a stage is recorded: of two threads that make the first record one makes the table."""
IN_PROGRESS = "in progress"
"""Stands in for the key of a stage whose tables are being replaced."""


def new_run_id() -> str:
    """Return a new run id: UTC time and a random tail."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def stage_key(parts: Any) -> str:
    """Return a hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def done_stages(storage: Storage) -> dict[tuple[str, str], Row]:
    """Return the newest row of ``silver.stage_runs`` a stage and fold, by (stage, fold); fold '' where it has none."""
    if not storage.exists(t.STAGE_RUNS):
        return {}
    row = F.struct("stage_key", "run_id", "seconds", "rows", "is_complete", "done_at")
    newest = (
        storage.read(t.STAGE_RUNS)
        .groupBy("stage", "fold")
        .agg(F.max_by(row, "done_at").alias("newest"))
        .select("stage", "fold", "newest.*")
    )
    # one row a stage and fold
    return {(row["stage"], row["fold"] or ""): row for row in newest.collect()}


def record_stage(
    storage: Storage,
    stage: str,
    fold: str,
    key: str,
    seconds: float,
    rows: dict[str, int],
    *,
    is_complete: bool = True,
) -> None:
    """Append a stage that is done to ``silver.stage_runs``: from now on it is skipped while its key stays the same."""
    now = datetime.now(UTC).replace(tzinfo=None)
    row = (stage, fold or None, key, storage.run_id, now, seconds, json.dumps(rows, sort_keys=True), is_complete)
    with _RECORD:
        storage.write(t.STAGE_RUNS, storage.spark.createDataFrame([row], t.STAGE_RUNS.schema))


def record_run(storage: Storage, stages: Sequence[tuple[str, str | None, str, float, dict[str, int], str]]) -> None:
    """Append a run's stages (stage, fold, status, seconds, rows by table, key) to ``silver.runs``."""
    today = datetime.now(UTC).date()
    rows = [
        (storage.run_id, today, stage, fold, status, seconds, json.dumps(written, sort_keys=True), key)
        for stage, fold, status, seconds, written, key in stages
    ]
    if rows:
        storage.write(t.RUNS, storage.spark.createDataFrame(rows, t.RUNS.schema))


class RunLock:
    """The lock on a tables root: one row of a Delta table, kept alive while the run lasts.

    A lock is free when its run id is empty, when it is this run's own, when its owner was silent for
    ``run.lock_stale_after_s``, or when its owner was a process of this host that is gone.
    """

    def __init__(self, storage: Storage, config: Config) -> None:
        """Bind the lock to a storage; nothing is taken yet."""
        self._storage = storage
        self._stale_after = config.run.lock_stale_after_s
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self.lost = threading.Event()
        """Set where another run took the lock over while this one was silent."""
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "RunLock":
        """Take the lock.

        Raises:
            RunLockedError: where another run holds it.
            StorageError: where the root was written by another schema version.
        """
        seen = self._holder()
        self._check(seen)
        if seen is None:
            self._take_new()
        else:
            # taken only as it was seen: of two who find it free, the later one's update matches nothing
            is_as_seen = (F.col("run_id") == seen["run_id"]) & (F.col("seen_at") == seen["seen_at"])
            self._set(self._storage.run_id, is_as_seen)
        holder = self._holder()
        if holder is None or holder["run_id"] != self._storage.run_id:
            self._check(holder)
            raise RunLockedError("the lock was taken by another run at the same moment; start again")
        self._thread = threading.Thread(target=self._beat, name="lt_spark-lock", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=60)
        holder = self._holder()
        if holder is not None and holder["run_id"] == self._storage.run_id:
            self._set("", self._is_own)

    def _holder(self) -> Row | None:
        if not self._storage.exists(t.RUN_LOCK):
            return None
        return self._storage.read(t.RUN_LOCK).first()

    def _check(self, holder: Row | None) -> None:
        if holder is None:
            return
        if holder["schema_version"] != t.SCHEMA_VERSION:
            raise StorageError(
                f"the tables at {self._storage.location(t.RUN_LOCK).rsplit('/', 2)[0]} have schema version "
                f"{holder['schema_version']}, expected {t.SCHEMA_VERSION}. Set tables.root to a new folder and run "
                "again (sources are read anew), or install the lt_spark version that wrote them."
            )
        silent = time.time() - holder["seen_at"]
        if holder["run_id"] in ("", self._storage.run_id) or silent > self._stale_after or _is_gone(holder["owner"]):
            return
        raise RunLockedError(
            f"run {holder['run_id']} holds these tables: owner {holder['owner']}, last sign of life {silent:.0f} s "
            f"ago. Wait for it, give --run-id {holder['run_id']} to take it over, or wait until it is silent for "
            f"{self._stale_after:.0f} s."
        )

    @property
    def _is_own(self) -> Column:
        return F.col("run_id") == self._storage.run_id

    def _take_new(self) -> None:
        """Write the lock's row where there is none yet."""
        row = [(self._storage.run_id, self._owner, time.time(), t.SCHEMA_VERSION)]
        rows = self._storage.spark.createDataFrame(row, t.RUN_LOCK.schema)
        with _of_one_winner():
            if self._storage.write_first(t.RUN_LOCK, rows):
                return
            if not self._storage.exists(t.RUN_LOCK):  # half a table, which a killed run left
                self._storage.delta(t.RUN_LOCK)
                time.sleep(_SETTLES_AFTER_S)
            merge = self._storage.delta(t.RUN_LOCK).alias("lock").merge(rows.alias("new"), F.lit(True))
            merge.whenNotMatchedInsertAll().execute()

    def _set(self, run_id: str, where: Column) -> None:
        """Change the lock's row where it is as told."""
        row = {"run_id": run_id, "owner": self._owner, "seen_at": time.time(), "schema_version": t.SCHEMA_VERSION}
        with _of_one_winner():
            self._storage.delta(t.RUN_LOCK).update(where, {name: F.lit(value) for name, value in row.items()})

    def _beat(self) -> None:
        """Show signs of life until the run ends, or another has taken the lock over."""
        while not self._stop.wait(self._stale_after / 4):
            try:
                self._set(self._storage.run_id, self._is_own)
                holder = self._holder()
            except Exception:  # noqa: BLE001, S112 - a store that does not answer now is asked again
                continue
            if holder is None or holder["run_id"] != self._storage.run_id:
                self.lost.set()
                return


@contextmanager
def _of_one_winner() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if _is_conflict(error):
            raise RunLockedError("another run took the lock at the same moment; start again") from error
        raise


def _is_conflict(error: Exception) -> bool:
    """Tell whether Delta refused a commit because another was faster; Java's own traces name java.util.concurrent."""
    named = f"{type(error).__name__}: {error}"
    return re.search(r"Concurrent\w+Exception|(Metadata|Protocol)ChangedException|DELTA_CONCURRENT_", named) is not None


def _is_gone(owner: str) -> bool:
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
