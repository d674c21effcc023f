"""One lazy Spark session for all tests, and rows built from only the columns that a test cares about."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

os.environ.setdefault("LT_SPARK_MASTER", "local[2]")


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """The product's own local session: tests see what a laptop sees."""
    from lt_spark.core.config import Config
    from lt_spark.core.session import start_session

    session = start_session(Config(), "lt_spark tests")
    yield session
    session.stop()


@pytest.fixture(scope="session")
def shop(spark: Any, tmp_path_factory: Any) -> tuple[Any, Any, Any, Any]:
    """One whole, undisturbed run on the small shop: its session, configuration, storage and summary."""
    from lt_spark.core.config import Config
    from lt_spark.core.storage import Storage
    from lt_spark.passes import run
    from tests.small_shop import write_shop, write_users

    folder = tmp_path_factory.mktemp("shop")
    settings = write_shop(folder)
    settings["source"]["users"] = write_users(folder)
    config = Config.model_validate(settings)
    summary = run(spark, config)
    return spark, config, Storage(spark, config), summary


@pytest.fixture(scope="session")
def frame(spark: Any) -> Callable[..., Any]:
    """Build rows of a table from some of its columns: ``frame(TABLE, [{...}, ...])``; the others are null."""

    def build(table: Any, rows: list[dict[str, Any]]) -> Any:
        names = table.column_names
        return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], table.schema)

    return build
