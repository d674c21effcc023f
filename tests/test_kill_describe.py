"""Stage describe killed in the middle, then run again: no text lost, none doubled, at most one wave asked again."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.storage import Storage
from tests.clusters import environment, run_script, spark_home
from tests.fake_model import FakeModel, fake_model, sensible_answer
from tests.prepared_shop import WAVE, Shop
from tests.processes import below, kill, python_workers

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


def killed_run(shop: Shop, question: int) -> None:
    """Start ``lt-spark run`` and kill its whole process group when the server is asked for the numbered time."""
    process = subprocess.Popen(
        shop.command(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment(),
    )
    try:
        shop.at_question(question, lambda: os.killpg(process.pid, signal.SIGKILL))
        assert process.wait(timeout=300) == -signal.SIGKILL, "the run ended before it was killed"
    finally:
        shop.server.before = lambda title: None
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


@pytest.fixture
def shop(spark: Any, server: FakeModel, tmp_path_factory: Any, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(spark, tmp_path_factory, tmp_path / "shop", server)
    server.answer, server.before = sensible_answer, lambda title: None


def check_exact(shop: Shop, before: list[dict[str, Any]]) -> None:
    """Each item has one row, rows of before are as they were, and at most one wave was asked again, once."""
    rows = {row["key"]: row for row in shop.rows()}
    items = [row["item_idx"] for row in shop.rows()]
    assert len(items) == len(set(items)) == len(rows) == shop.n_tail() > 40
    assert {(row["status"], row["reason"]) for row in rows.values()} == {("accepted", None)}
    assert all(row["is_current"] for row in rows.values())
    for row in before:
        assert rows[row["key"]] == row
    times = shop.server.asked
    assert len(times) == len(rows)
    assert max(times.values()) <= 2
    assert sum(n == 2 for n in times.values()) <= WAVE


def test_a_driver_killed_in_a_wave_loses_and_doubles_nothing(shop: Shop) -> None:
    killed_run(shop, question=20)
    before = shop.rows()
    assert 0 < len(before) < 20, "it was killed in the second wave"
    shop.run()
    check_exact(shop, before)


@pytest.mark.parametrize("question", [1, 40])
def test_a_driver_killed_in_another_wave(shop: Shop, question: int) -> None:
    killed_run(shop, question)
    before = shop.rows()
    shop.run()
    check_exact(shop, before)


def test_killed_python_workers_lose_and_double_nothing(shop: Shop) -> None:
    shop.at_question(20, lambda: kill(*python_workers(os.getpid())))
    with pytest.raises(Exception, match="Python worker exited unexpectedly"):
        shop.run()
    before = shop.rows()
    assert 0 < len(before) < 20
    shop.run()
    check_exact(shop, before)


def test_a_killed_executor_is_made_up_for_within_the_run(shop: Shop, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        killed.extend(below(os.getpid(), "CoarseGrainedExecutorBackend")[:1])
        kill(*killed)

    shop.at_question(20, kill_one)
    home = str(spark_home(tmp_path))
    ended = run_script("describe_script.py", shop.conf, SPARK_HOME=home, LT_SPARK_MASTER="local-cluster[2,1,1024]")
    assert killed
    assert ended == {"kind": "done", "is_complete": True, "torch": False}
    check_exact(shop, [])


@pytest.mark.parametrize("question", [5, 15])
def test_a_budget_ends_where_it_would_have_without_the_kill(
    shop: Shop, spark: Any, server: FakeModel, tmp_path_factory: Any, tmp_path: Path, question: int
) -> None:
    shop.change("describe", max_items=20)
    killed_run(shop, question)
    shop.run()
    undisturbed = Shop(spark, tmp_path_factory, tmp_path / "undisturbed", server)
    undisturbed.change("describe", max_items=20)
    undisturbed.run()
    found = sorted(row["item_idx"] for row in shop.rows())
    assert len(found) == 20
    assert found == sorted(row["item_idx"] for row in undisturbed.rows())


def test_a_wave_that_was_staged_and_not_merged_is_not_asked_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    merge, calls = Storage.merge_new, []

    def stopped_once(self: Storage, table: t.Table, *rest: Any) -> None:
        calls.append(table)
        if len(calls) == 2:
            raise KeyboardInterrupt
        merge(self, table, *rest)

    monkeypatch.setattr(Storage, "merge_new", stopped_once)
    with pytest.raises(KeyboardInterrupt):
        shop.run()
    before = shop.rows()
    assert 0 < len(before) < 20
    shop.run()
    check_exact(shop, before)
    assert set(shop.server.asked.values()) == {1}
