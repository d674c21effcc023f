"""The sequence model trained by processes on executors of a cluster, one of which is killed on the way."""

from pathlib import Path

import pytest

from tests.clusters import run_script

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_killed_executor_costs_no_more_than_the_epoch_it_was_in(tmp_path: Path) -> None:
    whole = run_script("bert_cluster_script.py", str(tmp_path / "whole"), "leave")
    assert whole["rows"] == [60] * 30
    assert not [text for text in whole["told"] if "failed" in text]
    killed = run_script("bert_cluster_script.py", str(tmp_path / "killed"), "kill")
    assert killed["killed"] == 1
    assert [text for text in killed["told"] if "it goes on from epoch" in text]
    assert killed["rows"] == [60] * 30
    assert killed["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    assert killed["seconds"] < 300
