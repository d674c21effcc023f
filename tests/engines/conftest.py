"""What the tests of the engines share."""

import pytest

from tests.engines.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny language model of random numbers."""
    pytest.importorskip("transformers")
    return write_tiny_model(tmp_path_factory.mktemp("models") / "Tiny")
