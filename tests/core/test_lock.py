"""The run lock: who may take it, when it is stale, and roots of another schema version."""

import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import RunLockedError, StorageError
from lt_spark.core.runs import RunLock
from lt_spark.core.storage import Storage, disk_errors

pytestmark = pytest.mark.spark


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate({"tables": {"root": str(tmp_path / "t")}, "files": {"root": str(tmp_path / "f")}})


def held(spark: Any, config: Config, owner: str, seen_at: float, schema_version: int = t.SCHEMA_VERSION) -> None:
    row = spark.createDataFrame([("other", owner, seen_at, schema_version)], t.RUN_LOCK.schema)
    Storage(spark, config, "other").write(t.RUN_LOCK, row)


def take(spark: Any, config: Config) -> str:
    with RunLock(Storage(spark, config, "mine"), config):
        return str(Storage(spark, config).read(t.RUN_LOCK).first()["run_id"])


def test_a_free_lock_is_taken_and_given_back(spark: Any, config: Config) -> None:
    assert take(spark, config) == "mine"
    rows = Storage(spark, config).read(t.RUN_LOCK).collect()
    assert [row["run_id"] for row in rows] == [""]


def test_a_lock_of_another_host_holds_while_it_lives(spark: Any, config: Config) -> None:
    held(spark, config, "another-host:1", time.time() - 10)
    with pytest.raises(RunLockedError, match=r"owner another-host:1, last sign of life 1\d s ago.*--run-id other"):
        take(spark, config)


def test_a_silent_lock_is_stale(spark: Any, config: Config) -> None:
    held(spark, config, "another-host:1", time.time() - config.run.lock_stale_after_s - 1)
    assert take(spark, config) == "mine"


def test_a_lock_of_a_process_that_is_gone_is_stale_at_once(spark: Any, config: Config) -> None:
    held(spark, config, f"{socket.gethostname()}:{2**22 + 1}", time.time())
    assert take(spark, config) == "mine"


def test_who_lost_the_lock_while_it_was_silent_notices(spark: Any, config: Config) -> None:
    short = config.model_copy(update={"run": config.run.model_copy(update={"lock_stale_after_s": 4.0})})
    with RunLock(Storage(spark, config, "mine"), short) as lock:
        assert not lock.lost.wait(1.5)
        for _ in range(10):
            with suppress(Exception):  # a sign of life at the same moment
                held(spark, config, "another-host:1", time.time())
                break
        assert lock.lost.wait(60)
    assert Storage(spark, config).read(t.RUN_LOCK).first()["run_id"] == "other", "the other's lock is not given back"


@pytest.mark.parametrize(
    "place", ["half made", *(pytest.param(each, marks=pytest.mark.slow) for each in ("there", "new"))]
)
def test_of_those_who_ask_at_once_one_gets_it(spark: Any, config: Config, place: str) -> None:
    holders: list[str] = []
    seen: list[int] = []
    told: list[BaseException] = []
    if place == "there":
        with RunLock(Storage(spark, config, "first"), config):
            pass
    if place == "half made":
        (Path(Storage(spark, config).location(t.RUN_LOCK)) / "_delta_log").mkdir(parents=True)

    def ask(name: str) -> None:
        try:
            with RunLock(Storage(spark, config, name), config):
                holders.append(name)
                seen.append(len(holders))
                time.sleep(0.2)
                holders.remove(name)
        except BaseException as error:
            told.append(error)

    threads = [threading.Thread(target=ask, args=(f"run-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) <= {1}
    assert len(seen) + len(told) == 4
    assert {type(error) for error in told} <= {RunLockedError}


@pytest.mark.slow
def test_an_empty_table_of_a_run_that_was_killed_is_taken(spark: Any, config: Config) -> None:
    Storage(spark, config).delta(t.RUN_LOCK)
    assert Storage(spark, config).count(t.RUN_LOCK) == 0
    assert take(spark, config) == "mine"


@pytest.mark.slow
def test_what_a_run_left_that_was_killed_while_it_made_the_lock(spark: Any, config: Config) -> None:
    (Path(Storage(spark, config).location(t.RUN_LOCK)) / "_delta_log").mkdir(parents=True)
    assert take(spark, config) == "mine"


@pytest.mark.slow
def test_one_who_found_it_free_too_late_does_not_get_it(
    spark: Any, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunLock(Storage(spark, config, "before"), config):
        pass
    late = RunLock(Storage(spark, config, "late"), config)
    with RunLock(Storage(spark, config, "early"), config):
        found = late._holder
        free = spark.createDataFrame([("", "x:1", 1.0, t.SCHEMA_VERSION)], t.RUN_LOCK.schema).first()
        answers = iter([free])
        monkeypatch.setattr(late, "_holder", lambda: next(answers, None) or found())
        with pytest.raises(RunLockedError, match="run early holds"), late:
            pass
        assert found()["run_id"] == "early"


def test_a_full_disk_is_not_taken_for_another_run(spark: Any, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise RuntimeError(
            "An error occurred while calling o1.execute.\n: java.util.concurrent.ExecutionException\n"
            "Caused by: java.io.IOException: No space left on device"
        )

    monkeypatch.setattr(Storage, "delta", full)
    with pytest.raises(StorageError, match=r"a disk is full.*Free some and run") as caught, disk_errors(config):
        take(spark, config)
    assert not isinstance(caught.value, RunLockedError)


def test_the_lock_is_given_back_after_an_error(spark: Any, config: Config) -> None:
    with pytest.raises(ZeroDivisionError), RunLock(Storage(spark, config, "mine"), config):
        raise ZeroDivisionError
    assert Storage(spark, config).read(t.RUN_LOCK).first()["run_id"] == ""


def test_a_root_of_another_schema_version_is_refused(spark: Any, config: Config) -> None:
    held(spark, config, "another-host:1", 0.0, schema_version=t.SCHEMA_VERSION + 1)
    found, expected = t.SCHEMA_VERSION + 1, t.SCHEMA_VERSION
    told = rf"have schema version {found}, expected {expected}\. Set tables\.root to a new folder"
    with pytest.raises(StorageError, match=told):
        take(spark, config)
