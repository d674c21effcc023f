"""A trained network as executors ask it."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lt_spark.core.errors import StorageError
from lt_spark.core.files import Folder
from lt_spark.models.bert.serve import ITEMS, ask_batch, read_served, write_served
from tests.models.bert.test_network import network


def asked(*histories: list[int]) -> pa.RecordBatch:
    users = pa.array(range(len(histories)), pa.int32())
    return pa.RecordBatch.from_arrays([users, pa.array(histories, pa.list_(pa.int32()))], ["user_idx", "items"])


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_it_answers_as_the_network_that_was_trained(tmp_path: Path, objective: str) -> None:
    net, folder = network(objective, id_support=2.0), Folder(str(tmp_path / "served"))
    version = write_served(net, folder)
    histories = [[1], [1, 2, 3], list(range(10)) * 3]
    answer = ask_batch(asked(*histories), folder.uri, version, "cpu")
    for history, vector in zip(histories, answer.column(1).to_pylist(), strict=True):
        with torch.no_grad():
            expected = net.user_vectors(torch.tensor([history[-6:]]))[0].numpy()
        assert np.allclose(vector, expected, atol=1e-5)
    items = pq.read_table(Path(folder.uri) / ITEMS).to_pylist()
    assert [row["item_idx"] for row in items] == list(range(10))
    assert np.allclose([row["vector"] for row in items], net.items().detach().numpy(), atol=1e-6)


def test_a_history_without_items_is_not_answered(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "served"))
    version = write_served(network(), folder)
    answer = ask_batch(asked([], [4], []), folder.uri, version, "cpu")
    assert answer.column(0).to_pylist() == [1]
    assert ask_batch(asked([]), folder.uri, version, "cpu").num_rows == 0


def test_a_new_network_in_the_same_folder_is_read(tmp_path: Path) -> None:
    folder, batch = Folder(str(tmp_path / "served")), asked([1, 2])
    first = ask_batch(batch, folder.uri, write_served(network(), folder), "cpu")
    other = network()
    with torch.no_grad():
        other.items.ids.weight.mul_(2)
    second = ask_batch(batch, folder.uri, write_served(other, folder), "cpu")
    assert first.column(1).to_pylist() != second.column(1).to_pylist()


def test_what_is_not_whole_is_refused(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "served"))
    with pytest.raises(StorageError, match=r"shape\.json"):
        read_served(folder, "cpu")
    write_served(network(), folder)
    other = Folder(str(tmp_path / "other"))
    write_served(network(length=4), other)
    shutil.copy(f"{other.uri}/network.safetensors", f"{folder.uri}/network.safetensors")
    with pytest.raises(StorageError, match="does not fit its shape"):
        read_served(folder, "cpu")


def test_items_that_the_network_does_not_know_are_left_out(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "served"))
    version = write_served(network(), folder)
    one, other = (ask_batch(asked(h), folder.uri, version, "cpu").column(1).to_pylist() for h in ([1, 2, 99], [1, 2]))
    assert one == other


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_in_8_bits_it_answers_nearly_the_same_and_each_kind_is_kept_apart(tmp_path: Path, objective: str) -> None:
    folder, batch = Folder(str(tmp_path / "served")), asked([1], [1, 2, 3], [4, 5, 6, 7])
    version = write_served(network(objective), folder)

    def vectors(**how: bool) -> np.ndarray:
        return np.array(ask_batch(batch, folder.uri, version, "cpu", **how).column(1).to_pylist())

    whole, small = vectors(), vectors(int8=True)
    assert not np.array_equal(whole, small)
    cosines = (whole * small).sum(1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(small, axis=1)
    assert cosines.min() > 0.99
    assert np.array_equal(vectors(), whole)
