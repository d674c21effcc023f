"""A floor under the quality on real data: MovieLens-100K, as `make data` brings it."""

from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config_files import load_config
from lt_spark.core.storage import Storage
from lt_spark.passes import run

ROOT = Path(__file__).parent.parent
FLOORS = {  # NDCG@10 of all, and of the tail by segment_top20, on test
    "als_plain": (0.070, 0.0),
    "neighbours": (0.108, 0.045),
    "blend": (0.108, 0.050),
}


@pytest.mark.spark
@pytest.mark.slow
def test_movielens_100k_stays_above_its_floor(spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / "data/ml-100k/ml-100k.inter").exists():
        pytest.skip("run `make data` first")
    monkeypatch.chdir(ROOT)
    quick = ["als_plain.ranks=[64]", "als_plain.max_iter=5", "blend.models=[neighbours, popularity]"]
    places = [f"tables.root={tmp_path / 't'}", f"files.root={tmp_path / 'f'}", "evaluate.n_replicates=200"]
    config = load_config("conf/demo.yaml", [*quick, *places]).config
    stages = [
        "clean",
        "split",
        "segment",
        "popularity",
        "tune_als",
        "als_plain",
        "neighbours",
        "tune",
        "blend",
        "evaluate",
    ]
    run(spark, config, purpose="evaluate", stages=stages)
    rows = Storage(spark, config).read(t.METRICS, "test").where("metric = 'ndcg' AND k = 10").collect()
    found = {(row["model_name"], row["segment"]): row["value"] for row in rows}
    for model, (overall, tail) in FLOORS.items():
        assert found[model, "all"] >= overall, model
        assert found[model, "top20_tail"] >= tail, model
    assert found["blend", "all"] > found["als_plain", "all"]
    assert found["blend", "top20_tail"] > 2 * found["als_plain", "top20_tail"]
