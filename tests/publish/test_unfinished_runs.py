"""Gold's tables that grow by run: rows of a run that was killed go, those of runs that ended stay."""

from pathlib import Path
from typing import Any

import pytest

from lt_spark import publish_stage
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.runs import IN_PROGRESS, record_stage
from lt_spark.core.storage import Storage
from lt_spark.stages import Context

pytestmark = pytest.mark.spark


def test_only_runs_that_ended_are_finished(spark: Any, frame: Any, tmp_path: Path) -> None:
    config = Config.model_validate({"tables": {"root": str(tmp_path / "t")}, "files": {"root": str(tmp_path / "f")}})
    mine = Storage(spark, config, "mine")
    context = Context(spark, config, mine, "publish", "live", None)  # type: ignore[arg-type]
    assert publish_stage._unfinished_runs(context, t.GOLD_TAIL_HEALTH) == []
    for run_id, key in (("ended", "key"), ("killed", IN_PROGRESS), ("mine", IN_PROGRESS)):
        record_stage(Storage(spark, config, run_id), "publish", "live", key, 1.0, {})
        mine.write(t.GOLD_TAIL_HEALTH, frame(t.GOLD_TAIL_HEALTH, [{"run_id": run_id, "model_name": "blend"}]))
    # a run that is taken over has rows of its own from before it was killed
    assert sorted(publish_stage._unfinished_runs(context, t.GOLD_TAIL_HEALTH)) == ["killed", "mine"]
