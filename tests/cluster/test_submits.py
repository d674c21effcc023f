"""The whole pipeline through ``spark-submit --master spark://...`` from outside the checkout, with the zip alone."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core.config import Config
from lt_spark.pipeline import EVALUATE, STAGES
from tests.cluster.conftest import SUBMIT_S, Package
from tests.cluster.same import check_same
from tests.cluster.standalone import Standalone

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(14_400)]
ENOUGH_TABLES = 45
"""The whole pipeline writes more than so many tables that two runs write alike."""


def test_every_stage_a_submit_of_its_own(
    package: Package, cluster: Standalone, undisturbed: Path, storage_of: Any, tmp_path: Path
) -> None:
    conf = package.conf(tmp_path)
    config = Config.model_validate(yaml.safe_load(conf.read_text(encoding="utf-8")))
    stages = [stage for stage in STAGES if stage.is_on(config)]
    for purpose, folds in (("evaluate", ("", *EVALUATE)), ("produce", ("live",))):
        for stage in stages:
            # what has no fold, or is done once for all, is done by the first pass
            here = (stage.folds or ("",))[:1] if stage.once_a_run else (stage.folds or ("",))
            if set(here) & set(folds):
                said = package.submit(cluster.url, stage.name, conf, "--purpose", purpose)
                assert re.search(rf"^{stage.name}( \(\w+\))? done in ", said, re.MULTILINE), said
    assert check_same(storage_of(conf), storage_of(undisturbed)) > ENOUGH_TABLES


def test_all_in_one_and_a_second_one_at_the_same_time(
    package: Package, cluster: Standalone, undisturbed: Path, storage_of: Any, tmp_path: Path
) -> None:
    conf = package.conf(tmp_path)
    # each submit has a core of each worker: both are at work
    both = [package.start(cluster.url, "run_pipeline", conf) for _ in range(2)]
    first_end = time.monotonic() + SUBMIT_S
    said = [process.communicate(timeout=first_end - time.monotonic())[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], "\n".join(text[-2_000:] for text in said)
    refused = said[codes.index(2)]
    assert "run_pipeline: " in refused
    assert "lock" in refused or "holds these tables" in refused, refused[-2_000:]
    assert "Traceback" not in refused
    assert check_same(storage_of(conf), storage_of(undisturbed)) > ENOUGH_TABLES
    # and again: all is there
    assert "publish (live) up to date" in package.submit(cluster.url, "run_pipeline", conf)
