"""Stage describe with a real GPU: on this machine alone, and on a cluster whose executor has it."""

import stat
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core.session import inference_tasks
from tests.clusters import spark_home
from tests.engines.tiny_model import write_tiny_model
from tests.prepared_shop import Shop

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.spark,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]

DISCOVERY = """#!/bin/sh
# what Spark asks of a worker: its GPUs, as JSON
addresses=$(nvidia-smi --query-gpu=index --format=csv,noheader | sed 's/.*/"&"/' | paste -sd, -)
echo "{\\"name\\": \\"gpu\\", \\"addresses\\": [$addresses]}"
"""


@pytest.fixture
def shop(spark: Any, tmp_path_factory: Any, tmp_path: Path) -> Shop:
    shop = Shop(spark, tmp_path_factory, tmp_path / "shop")
    shop.change("language_model", engine="transformers", model=write_tiny_model(tmp_path / "Tiny"), base_url="")
    return shop


def check(shop: Shop) -> None:
    """Every tail item was asked for once, on the GPU, by one process that loaded the model once."""
    rows = shop.rows()
    assert len(rows) == len({row["item_idx"] for row in rows}) == shop.n_tail() > 40
    assert not [row["reason"] for row in rows if row["status"] == "failed"]
    assert {row["device"] for row in rows} == {"cuda:0"}
    assert {row["n_prompt_tokens"] > 0 for row in rows} == {True}
    report = shop.report()
    assert (report["workers"], report["loads_in_a_worker"]) == (1, 1)


def test_in_local_mode_one_task_at_a_time_has_the_gpu_without_being_told(spark: Any, shop: Shop) -> None:
    assert inference_tasks(spark, uses_gpu=True, gpus_per_task=1.0) == (1, None)
    assert shop.config.language_model.device == "auto"
    shop.run()
    check(shop)


def test_on_a_cluster_the_task_takes_the_gpu_that_spark_gave_it(shop: Shop, tmp_path: Path) -> None:
    script = tmp_path / "gpus.sh"
    script.write_text(DISCOVERY)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    n_gpus = str(torch.cuda.device_count())
    settings = {
        "spark.worker.resource.gpu.amount": n_gpus,
        "spark.worker.resource.gpu.discoveryScript": str(script),
        "spark.executor.resource.gpu.amount": n_gpus,
    }
    more = " ".join(f"--conf {name}={value}" for name, value in settings.items())
    master = {"LT_SPARK_MASTER": "local-cluster[1,4,2048]", "SPARK_HOME": str(spark_home(tmp_path))}
    done = shop.run_apart(**master, PYSPARK_SUBMIT_ARGS=f"{more} pyspark-shell")
    assert done.returncode == 0, done.stderr.decode()
    check(shop)
