from pathlib import Path

import pyarrow  # noqa: F401  (before torch)
import pytest

from tests.models.text_bert.tiny_bert import base_of, write_tiny_bert


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder: Path = tmp_path_factory.mktemp("tiny-bert")
    return write_tiny_bert(folder)


@pytest.fixture
def base(tiny: str):  # type: ignore[no-untyped-def]
    return base_of(tiny)
