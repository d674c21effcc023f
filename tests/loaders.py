"""Which loaders of the sequence model can be tested here."""

import pyarrow as pa
import pytest

needs_petastorm = pytest.mark.skipif(
    int(pa.__version__.split(".")[0]) >= 15, reason="Petastorm reads by an interface that pyarrow 15 dropped"
)
KINDS = (pytest.param("petastorm", marks=needs_petastorm), "pyarrow")
