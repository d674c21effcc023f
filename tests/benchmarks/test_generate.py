"""The generator: the same rows under any partitioning, of the shape that its text promises."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

pytestmark = pytest.mark.spark


def _module() -> Any:
    spec = spec_from_file_location("generate", Path(__file__).with_name("generate.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _module()
FIRST_RECORD = b"U000000014,I000000021,1733518482,view"  # of 2,000 events, 150 users, 90 items, seed 7


def _text(folder: Path) -> bytes:
    """The records of a CSV folder in the order of its parts, headers left out."""
    return b"".join(path.read_bytes().split(b"\n", 1)[1] for path in sorted(folder.glob("part-*.csv")))


@pytest.mark.slow
def test_the_same_bytes_for_any_number_of_partitions(spark: SparkSession, tmp_path: Path) -> None:
    for partitions in (1, 3):
        generate.write(
            generate.interactions(spark, 2_000, 150, 90, 7, partitions), tmp_path / f"log{partitions}", "csv"
        )
        generate.write(generate.catalogue(spark, 90, 7, partitions), tmp_path / f"items{partitions}", "csv")
    assert len(list((tmp_path / "log3").glob("part-*.csv"))) == 3
    assert _text(tmp_path / "log1") == _text(tmp_path / "log3")
    assert _text(tmp_path / "log1").count(b"\n") == 2_000
    assert _text(tmp_path / "items1") == _text(tmp_path / "items3")
    assert _text(tmp_path / "items1").startswith(b"I000000000,")
    # a known record holds the generator to itself over versions
    assert _text(tmp_path / "log1").split(b"\n", 1)[0] == FIRST_RECORD


def test_another_seed_gives_another_log(spark: SparkSession) -> None:
    one = generate.interactions(spark, 300, 50, 40, 1, 1)
    other = generate.interactions(spark, 300, 50, 40, 2, 1)
    assert one.exceptAll(other).count() > 250


def test_the_log_has_a_long_tail_and_stays_in_range(spark: SparkSession) -> None:
    n_events, n_users, n_items = 20_000, 2_000, 1_000
    log = generate.interactions(spark, n_events, n_users, n_items, 3, 2)
    items = generate.catalogue(spark, n_items, 3, 1)
    counts = [row["count"] for row in log.groupBy("item_id").count().orderBy(F.desc("count")).collect()]
    assert sum(counts[: n_items // 5]) > 0.6 * n_events  # the top fifth holds most
    assert log.join(items, "item_id", "left_anti").isEmpty()
    assert items.filter("title is null or category is null or brand is null").isEmpty()
    limits = log.agg(F.min("timestamp"), F.max("timestamp"), F.countDistinct("user_id")).first()
    assert limits is not None
    assert generate.START_S <= limits[0] < limits[1] < generate.START_S + generate.SPAN_S
    assert limits[2] > 0.9 * n_users


@pytest.mark.parametrize("size", [(1, 1, 1), (300, 20, 11)])
def test_small_sizes(spark: SparkSession, size: tuple[int, int, int]) -> None:
    events, users, items = size
    log = generate.interactions(spark, events, users, items, 1, 1)
    titles = {row["item_id"]: row["title"] for row in generate.catalogue(spark, items, 1, 1).collect()}
    assert len(titles) == items and all(titles.values())
    liked = [row["item_id"] for row in log.select("item_id").collect()]
    assert len(liked) == events and set(liked) <= set(titles)
