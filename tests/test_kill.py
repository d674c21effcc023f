"""A run killed with -9 at a random moment, then run again: the tables of an undisturbed run."""

import random
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core.config import Config
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from lt_spark.pipeline import STAGES
from tests.processes import killed_run
from tests.small_shop import write_whole_shop
from tests.written import COMPARED, rows_of

# `make test` has the kill of tests/test_pipeline.py
pytestmark = [pytest.mark.spark, pytest.mark.slow]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", range(5))
def test_killed_at_a_random_moment_then_run_again(shop: Any, tmp_path: Path, moment: int) -> None:
    spark, _, undisturbed, _ = shop
    draw = random.Random(20_000 + moment)
    settings = write_whole_shop(tmp_path)
    config = Config.model_validate(settings)
    stage = draw.choice([stage.name for stage in STAGES if stage.is_on(config)])
    killed_run(tmp_path, settings, stage, draw.uniform(0.0, 4.0))
    run(spark, config)
    disturbed = Storage(spark, config)
    compared = [table for table in COMPARED if undisturbed.exists(table)]
    assert len(compared) > 20
    for table in compared:
        assert rows_of(disturbed, table) == rows_of(undisturbed, table), (stage, table.full_name)
