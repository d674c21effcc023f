"""Stages side by side: who waits for whom, what a failure and an interrupt leave, and the session of each thread."""

import threading
import time

import pytest
from pyspark.sql import SparkSession

from lt_spark import side_by_side
from lt_spark.pipeline import STAGES
from lt_spark.side_by_side import do_all, waits_for

BY_NAME = {stage.name: stage for stage in STAGES}
WAIT_S = 60.0


def tasks_of(*names: str):
    """Return the pairs of stage and fold of ``name`` or ``name fold``."""
    return [(BY_NAME[name.split()[0]], name.partition(" ")[2]) for name in names]


@pytest.mark.parametrize(
    ("earlier", "later", "waits"),
    [
        ("clean", "embed", True),
        ("embed", "split", False),
        ("als_plain valid", "neighbours valid", False),
        ("neighbours valid", "neighbours test", True),
        ("tune_als valid", "als_plain test", True),
        ("evaluate valid", "segment test", False),
        ("evaluate valid", "blend test", False),
        ("tune valid", "blend test", True),
        ("gate valid", "blend live", True),
        ("gate valid", "blend test", False),
        ("tune_bert valid", "bert test", True),
        # both train, by the random numbers of one process
        ("text_bert valid", "tune_bert valid", True),
        ("describe valid", "embed_enriched valid", True),
        # both append to the report of enrichments
        ("describe valid", "context valid", True),
        ("evaluate test", "publish live", True),
        ("popularity test", "publish live", True),
    ],
)
def test_a_stage_waits_for_what_it_reads_and_writes(earlier, later, waits):
    assert waits_for(tasks_of(earlier, later)) == [set(), {0} if waits else set()]


def whole_run():
    """Return the stages of a run of both purposes, in its order."""
    pairs = [
        (stage, fold) for fold in ("", "valid", "test", "live") for stage in STAGES if fold in (stage.folds or [""])
    ]
    return [(stage, fold) for stage, fold in pairs if not (stage.once_a_run and fold == "live")]


def test_whatever_is_read_has_been_written_in_any_order_that_is_allowed():
    tasks = whole_run()
    needs = waits_for(tasks)

    def all_before(place, found):
        for earlier in needs[place] - found:
            found.add(earlier)
            all_before(earlier, found)
        return found

    for place, (stage, fold) in enumerate(tasks):
        before = all_before(place, set())
        read = {*stage.reads, *stage.reads_valid, *(stage.reads_live if fold == "live" else ())}
        writers = {at for at in range(place) if read & set(tasks[at][0].writes)}
        assert writers <= before, (stage.name, fold)
    networks = [at for at, (stage, _) in enumerate(tasks) if stage.runs_network]
    assert all(first in all_before(second, set()) for first, second in zip(networks, networks[1:], strict=False))


def test_two_tasks_that_wait_for_none_are_at_work_at_once(spark: SparkSession):
    met = threading.Barrier(2)
    do_all(spark, [set(), set()], lambda place: met.wait(WAIT_S) and None, 2, threading.Event())


def test_a_task_begins_after_all_that_it_needs(spark: SparkSession):
    ended: list[int] = []
    needs = [set(), {0}, set(), {1, 2}, {0}]

    def do(place: int) -> None:
        assert needs[place] <= set(ended)
        time.sleep(0.05 * (place == 2))
        ended.append(place)

    do_all(spark, needs, do, 3, threading.Event())
    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_one_at_a_time_goes_in_order_in_the_own_thread(spark: SparkSession):
    at_work: list[tuple[int, threading.Thread]] = []
    do_all(
        spark,
        [set(), set(), {0}],
        lambda place: at_work.append((place, threading.current_thread())),
        1,
        threading.Event(),
    )
    assert at_work == [(place, threading.current_thread()) for place in range(3)]


def test_a_failure_is_raised_after_what_is_at_work_and_begins_nothing(spark: SparkSession):
    begun, ended = threading.Event(), []

    def do(place: int) -> None:
        if place == 0:
            assert begun.wait(WAIT_S)
            raise ValueError("of the first")
        begun.set()
        time.sleep(0.5)
        ended.append(place)

    with pytest.raises(ValueError, match="of the first"):
        do_all(spark, [set(), set(), set(), set()], do, 2, threading.Event())
    assert ended == [1]


def test_an_interrupt_ends_what_looks_at_it(spark: SparkSession, monkeypatch):
    stopped, begun = threading.Event(), []

    def do(place: int) -> None:
        begun.append(place)
        assert stopped.wait(WAIT_S)

    def interrupted(thread, timeout=None):
        monkeypatch.undo()
        while len(begun) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(side_by_side.InheritableThread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        do_all(spark, [set(), set(), set()], do, 2, stopped)
    assert stopped.is_set()
    assert sorted(begun) == [0, 1]


def test_an_interrupt_is_raised_though_it_made_a_task_fail_first(spark: SparkSession, monkeypatch):
    """Spark's own handler cancels the jobs, and their tasks fail, before the caller's thread is interrupted."""
    join = side_by_side.InheritableThread.join

    def interrupted(thread, timeout=None):
        monkeypatch.undo()
        join(thread, WAIT_S)
        raise KeyboardInterrupt

    def do(place: int) -> None:
        raise ValueError("cancelled")

    monkeypatch.setattr(side_by_side.InheritableThread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        do_all(spark, [set(), set()], do, 2, threading.Event())


def test_a_thread_has_the_session_that_it_was_given(spark: SparkSession):
    own = spark.newSession()
    own.conf.set("lt_spark.test", "of this session")
    found = []

    def do(place: int) -> None:
        active = SparkSession.getActiveSession()
        found.append(active.conf.get("lt_spark.test", "of another") if active else "none")

    do_all(own, [set(), set()], do, 2, threading.Event())
    assert found == ["of this session"] * 2
