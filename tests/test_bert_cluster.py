"""The sequence model trained by processes on executors of a cluster; an executor or a worker is killed on the way."""

from pathlib import Path
from typing import Any

import pytest

from tests.clusters import run_script

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_script("bert_cluster_script.py", str(tmp_path_factory.mktemp("cluster") / "whole"), "leave")


def test_undisturbed_it_trains_every_row(whole: Any) -> None:
    assert whole["rows"] == [60] * 30
    assert not [text for text in whole["told"] if "failed" in text]


@pytest.mark.parametrize("what", ["kill", "kill-worker"])
def test_a_killed_executor_or_worker_costs_no_more_than_the_epoch_it_was_in(
    tmp_path: Path, whole: Any, what: str
) -> None:
    killed = run_script("bert_cluster_script.py", str(tmp_path / "killed"), what)
    assert killed["killed"] == 1
    assert [text for text in killed["told"] if "it goes on from epoch" in text]
    assert killed["rows"] == [60] * 30
    assert killed["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    assert killed["seconds"] < 300
