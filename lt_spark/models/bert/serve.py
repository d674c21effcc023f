"""A trained network as executors ask it: the items' vectors made once, then users' vectors batch by batch."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyspark.sql import DataFrame
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from lt_spark.core.config_text import Device
from lt_spark.core.errors import StorageError
from lt_spark.core.files import Folder
from lt_spark.engines import placement
from lt_spark.engines.int8 import with_int8
from lt_spark.engines.loaded import prepare_process
from lt_spark.frames.spread import spread
from lt_spark.models.bert.manifest import PAD
from lt_spark.models.bert.network import SequenceNetwork, Shape
from lt_spark.models.bert.validation import item_vectors, user_vectors

SERVED = "served"
ITEMS = "items"
_NETWORK, _SHAPE, _VECTORS = "network.safetensors", "shape.json", "part-0.parquet"
_USERS = "user_idx int, vector array<float>"
_BATCH = pa.schema([("user_idx", pa.int32()), ("vector", pa.list_(pa.float32()))])
_IDS = "items.ids.weight"


def write_served(network: SequenceNetwork, folder: Folder) -> str:
    """Write what the executors need: the network with finished item vectors, and these vectors as Parquet.

    Returns:
        The hex SHA-256 of the weights.

    Args:
        network: trained, on any device.
        folder: lt_spark's own; the shape is written last.
    """
    vectors = item_vectors(network)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    weights.pop("items.project.weight", None)
    if network.is_causal:
        weights.pop("mask", None)  # only the views of its training hid anything
    weights[_IDS] = torch.from_numpy(vectors)
    folder.mark(time.time())
    folder.remove_file(_SHAPE)
    data = bytes_of(weights)
    folder.write(_NETWORK, data)
    items = folder.child(ITEMS)
    sizes = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    table = pa.table(
        {
            "item_idx": pa.array(np.arange(len(vectors), dtype=np.int32)),
            "vector": pa.ListArray.from_arrays(pa.array(sizes), pa.array(vectors.ravel())),
        }
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    items.write(_VECTORS, sink.getvalue().to_pybytes())
    shape = replace(network.shape, text_size=0)
    folder.write(_SHAPE, json.dumps(asdict(shape)).encode())
    return hashlib.sha256(data).hexdigest()


def read_served(folder: Folder, device: str, *, int8: bool = False) -> SequenceNetwork:
    """Return the network of a folder, ready to be asked.

    Args:
        folder: as ``write_served`` left it.
        device: where it runs; ``cpu`` with ``int8``.
        int8: whether its linear layers compute in 8 bits.

    Raises:
        StorageError: it is not there, or not whole.
    """
    shape = Shape(**json.loads(folder.read(_SHAPE)))
    # item vectors are finished: no text to add, and no gate
    network = SequenceNetwork(shape, torch.zeros(shape.n_items, 0), torch.ones(shape.n_items))
    try:
        network.load_state_dict(tensors_of(folder.read(_NETWORK)))
    except (RuntimeError, ValueError) as error:
        raise StorageError(f"{_NETWORK} at {folder.uri} does not fit its shape: run the stage bert again") from error
    network = network.eval().to(device)
    if int8:
        network.bert = with_int8(network.bert)
    return network


def ask_users(histories: DataFrame, folder: str, version: str, device: Device, *, int8: bool = False) -> DataFrame:
    """Return (user_idx, vector): what each history asks for, to be multiplied with the item vectors.

    The network is loaded once a Python worker.

    Args:
        histories: (user_idx, items array<int>), oldest first, at least one item.
        folder: as ``write_served`` left it; every executor reads it.
        version: the hash that it returned: a worker that has read another one reads again.
        device: where it runs.
        int8: whether the linear layers compute in 8 bits; on the CPU then, whatever ``device``.
    """

    def ask(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield ask_batch(batch, folder, version, device, int8=int8)

    return spread(histories.select("user_idx", "items"), "user_idx").mapInArrow(ask, _USERS)


def ask_batch(
    batch: pa.RecordBatch, folder: str, version: str, device: Device, *, int8: bool = False
) -> pa.RecordBatch:
    """Ask the network for the users of an Arrow batch (user_idx, items)."""
    network = _loaded(folder, version, placement.device("cpu" if int8 else device), int8)
    length = network.shape.length
    histories = np.full((batch.num_rows, length), PAD, np.int64)
    for row, items in enumerate(batch.column(1).to_pylist()):
        newest = [item for item in items if item < network.shape.n_items][-length:]
        if newest:
            histories[row, -len(newest) :] = newest
    is_asked = (histories != PAD).any(1)
    vectors = user_vectors(network, histories[is_asked], str(next(network.parameters()).device))
    sizes = np.arange(len(vectors) + 1, dtype=np.int32) * (vectors.shape[1] if vectors.ndim == 2 else 0)
    lists = pa.ListArray.from_arrays(pa.array(sizes), pa.array(vectors.ravel(), pa.float32()))
    return pa.RecordBatch.from_arrays([batch.column(0).filter(pa.array(is_asked)), lists], schema=_BATCH)


_kept: dict[tuple[str, str, str, bool], SequenceNetwork] = {}
"""The network that this process read last: one fold's at a time."""


def _loaded(folder: str, version: str, device: str, int8: bool) -> SequenceNetwork:
    key = (folder, version, device, int8)
    if key not in _kept:
        prepare_process()
        _kept.clear()
        _kept[key] = read_served(Folder(folder), device, int8=int8)
    return _kept[key]
