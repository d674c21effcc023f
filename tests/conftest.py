"""One lazy Spark session for all tests, and rows built from only the columns that a test cares about."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ.setdefault("LT_SPARK_MASTER", "local[2]")
os.environ.setdefault("LT_SPARK_WORKERS_IMPORT", "")  # few tests ask a network
_TOGETHER = {
    **dict.fromkeys(("tests/test_pipeline.py", "tests/test_bert.py", "tests/test_kill.py"), "shop"),
    "tests/notebooks/test_on_shop.py": "shop",
    **dict.fromkeys(
        ("tests/test_describe.py", "tests/test_kill_describe.py", "tests/test_enrich_faults.py"), "described"
    ),
    **dict.fromkeys((f"tests/cluster/test_{name}.py" for name in ("gpus", "kills", "submits")), "cluster"),
}
"""Files whose tests one process runs, for what they share takes minutes to make."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process a file, or files that share something, in the order of ``pytest_collection_modifyitems``."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return _TOGETHER.get(file, file)

    config.option.loadscopereorder = False
    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what takes longest first, so that all processes end together: tests of the whole lie above those of parts."""

    def place(item: pytest.Item) -> tuple[bool, int]:
        file = item.nodeid.split("::")[0]
        return file not in _TOGETHER, file.count("/")

    items.sort(key=place)


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """The product's own local session: tests see what a laptop sees."""
    from lt_spark.core.config import Config
    from lt_spark.core.session import start_session

    session = start_session(Config(), "lt_spark tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def shop_and_reads(spark: Any, tmp_path_factory: Any) -> tuple[tuple[Any, Any, Any, Any], Any]:
    """The run of ``shop``, and which tables its stages read."""
    from lt_spark.core.config import Config
    from lt_spark.core.storage import Storage
    from lt_spark.passes import run
    from tests.reads import noted_reads
    from tests.small_shop import write_whole_shop

    config = Config.model_validate(write_whole_shop(tmp_path_factory.mktemp("shop")))
    with noted_reads() as reads:
        summary = run(spark, config, listener=reads.told)
    return (spark, config, Storage(spark, config), summary), reads


@pytest.fixture(scope="session")
def shop(shop_and_reads: Any) -> tuple[Any, Any, Any, Any]:
    """One whole, undisturbed run on the small shop: its session, configuration, storage and summary."""
    found: tuple[Any, Any, Any, Any] = shop_and_reads[0]
    return found


@pytest.fixture(scope="session")
def frame(spark: Any) -> Callable[..., Any]:
    """Build rows of a table from some of its columns: ``frame(TABLE, [{...}, ...])``; the others are null."""

    def build(table: Any, rows: list[dict[str, Any]]) -> Any:
        names = table.column_names
        return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], table.schema)

    return build
