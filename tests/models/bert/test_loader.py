"""Both loaders under one contract: each row once, in an order of seed and epoch, and lost rows are an error."""

import pickle
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lt_spark.core.errors import ConfigError, DataError, StorageError
from lt_spark.core.files import Folder
from lt_spark.models.bert import loader as loaders
from lt_spark.models.bert.loader import Batch, deal, make_loader
from lt_spark.models.bert.manifest import MANIFEST, SCHEMA_HASH, Manifest, Shard, read_manifest
from tests.loaders import KINDS, needs_petastorm

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:petastorm")
LENGTH = 3
N_ITEMS = 1_000


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def row(user: int, items: list[int] | None = None) -> dict[str, Any]:
    items = [-1, user % N_ITEMS, (user + 1) % N_ITEMS, (user + 2) % N_ITEMS] if items is None else items
    real = [item >= 0 for item in items]
    return {
        "user_idx": user,
        "window": 0,
        "items": items,
        "orders": [place + 1 if there else 0 for place, there in enumerate(real)],
        "weights": [0.5 + user if there else 0.0 for there in real],
    }


def write_export(folder: Path, shards: list[list[dict[str, Any]]], group: int = 16) -> Path:
    """Write an export as export() does, without Spark."""
    listed = []
    schema = pa.schema(
        [
            ("user_idx", pa.int32()),
            ("window", pa.int32()),
            ("items", pa.list_(pa.int32())),
            ("orders", pa.list_(pa.int32())),
            ("weights", pa.list_(pa.float32())),
        ]
    )
    for number, rows in enumerate(shards):
        name = f"rows/shard={number}/part-0.parquet"
        listed.append(Shard(name if rows else "", len(rows)))
        if rows:
            (folder / name).parent.mkdir(parents=True)
            pq.write_table(pa.Table.from_pylist(rows, schema), folder / name, row_group_size=group)
    n_rows = sum(map(len, shards))
    manifest = Manifest("t", 1, "valid", LENGTH, N_ITEMS, n_rows, 2 * n_rows, SCHEMA_HASH, tuple(listed))
    Folder(str(folder)).write(MANIFEST, manifest.to_json().encode())
    return folder


def change_manifest(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    manifest = change(read_manifest(Folder(str(folder))))
    Folder(str(folder)).write(MANIFEST, manifest.to_json().encode())


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """200 rows in uneven shards, one of them empty; the folder's name is hard to put in a URL."""
    sizes = [90, 60, 0, 49, 1]
    starts = np.cumsum([0, *sizes])
    folder = tmp_path / "a b%20c#d?e;f"
    return write_export(
        folder, [[row(int(start) + i) for i in range(n)] for start, n in zip(starts, sizes, strict=False)]
    )


def users(batches: Iterator[Batch]) -> list[int]:
    return [user for batch in batches for user in batch.users.tolist()]


def test_each_row_once_and_whole(export: Path, kind: Any) -> None:
    loader = make_loader(kind, str(export), batch_size=32, seed=1, shuffle_rows=50)
    batches = list(loader.epoch(0))
    assert loader.n_rows == 200
    assert [len(batch.users) for batch in batches] == [32] * 6 + [200 - 6 * 32]
    assert sorted(users(iter(batches))) == list(range(200))
    for batch in batches:
        for index, user in enumerate(batch.users.tolist()):
            expected = row(user)
            assert batch.items[index].tolist() == expected["items"]
            assert batch.orders[index].tolist() == expected["orders"]
            assert batch.weights[index].tolist() == expected["weights"]
    types = {name: value.dtype for name, value in vars(batches[0]).items()}
    assert types == {"users": torch.int64, "items": torch.int64, "orders": torch.int64, "weights": torch.float32}


@pytest.mark.parametrize("shuffle_rows", [1, 50, 1_000])
def test_order_is_of_seed_and_epoch_alone(export: Path, kind: Any, shuffle_rows: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return users(make_loader(kind, str(export), batch_size=8, seed=seed, shuffle_rows=shuffle_rows).epoch(epoch))

    first = order(0, 0)
    torch.manual_seed(99)
    np.random.seed(99)
    assert order(0, 0) == first
    assert order(0, 1) != first
    assert order(1, 0) != first
    again = make_loader(kind, str(export), batch_size=8, seed=0, shuffle_rows=shuffle_rows)
    assert [users(again.epoch(epoch)) for epoch in (1, 0)] == [order(0, 1), first]
    together = make_loader(kind, str(export), batch_size=8, seed=0, shuffle_rows=shuffle_rows).epoch(0)
    for_model = []
    for batch in together:  # a model that draws in between changes nothing
        torch.rand(7)
        for_model += batch.users.tolist()
    assert for_model == first


def test_row_groups_come_in_an_order_of_the_epoch(export: Path, kind: Any) -> None:
    loader = make_loader(kind, str(export), batch_size=8, seed=0, shuffle_rows=1)
    first = [next(iter(loader.epoch(epoch))).users for epoch in range(6)]
    assert all(len(set((users // 16).tolist())) <= 2 for users in first)  # of one row group of 16 rows
    assert len({int(users.min()) // 16 for users in first}) > 2


def test_rows_are_mixed_within_the_buffer(export: Path, kind: Any) -> None:
    order = users(make_loader(kind, str(export), batch_size=8, seed=0, shuffle_rows=1_000).epoch(0))
    steps = np.abs(np.diff(order))
    assert np.mean(steps == 1) < 0.05  # rows that lay side by side; 0.01 by chance
    assert abs(np.mean(steps) - 200 / 3) < 15  # the mean distance of two draws of 200


def test_generators_of_the_model_are_left_alone(export: Path, kind: Any) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    expected = [torch.rand(4).tolist() for _ in range(3)], np.random.rand(3).tolist(), random.random()
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    batches = make_loader(kind, str(export), batch_size=64, seed=3, shuffle_rows=20).epoch(0)
    drawn = []
    for _ in range(3):
        next(batches)
        drawn.append(torch.rand(4).tolist())
    assert (drawn, np.random.rand(3).tolist(), random.random()) == expected


@pytest.mark.parametrize("world", [1, 2, 3, 5, 7])
def test_ranks_share_without_overlap_or_gap(export: Path, kind: Any, world: int) -> None:
    shares = []
    for rank in range(world):
        loader = make_loader(kind, str(export), batch_size=16, seed=1, rank=rank, world=world, shuffle_rows=40)
        shares.append(users(loader.epoch(0)))
        assert len(shares[-1]) == loader.n_rows
    assert sorted(user for share in shares for user in share) == list(range(200))
    assert sum(not share for share in shares) == max(0, world - 4)


def test_deal_balances_rows() -> None:
    shards = tuple(Shard(f"{number}", n) for number, n in enumerate([10, 70, 0, 30, 40]))
    hands = deal(shards, 2)
    assert [[shard.n_rows for shard in hand] for hand in hands] == [[70, 10], [40, 30]]
    assert deal(shards[::-1], 2) == hands


def test_one_batch_holds_all(export: Path, kind: Any) -> None:
    batches = list(make_loader(kind, str(export), batch_size=500, seed=1).epoch(0))
    assert [len(batch.users) for batch in batches] == [200]


def test_an_export_without_rows_has_no_batches(tmp_path: Path, kind: Any) -> None:
    write_export(tmp_path, [[], []])
    assert list(make_loader(kind, str(tmp_path), batch_size=4, seed=1).epoch(0)) == []


@pytest.mark.parametrize("change", [-5, 5])
def test_lost_or_added_rows_are_an_error(export: Path, kind: Any, change: int) -> None:
    def other(manifest: Manifest) -> Manifest:
        shards = (replace(manifest.shards[0], n_rows=90 + change), *manifest.shards[1:])
        return replace(manifest, n_rows=200 + change, shards=shards)

    change_manifest(export, other)
    batches = make_loader(kind, str(export), batch_size=16, seed=1).epoch(0)
    with pytest.raises(DataError, match=f"expected {200 + change} rows of 4 files by the manifest, found 200"):
        users(batches)


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_file_is_an_error(export: Path, kind: Any, damage: str) -> None:
    file = export / "rows/shard=1/part-0.parquet"
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="cannot be read.*Export again"):
        users(make_loader(kind, str(export), batch_size=16, seed=1).epoch(0))


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        ([-1, -2, 3, 4], "item -2, below"),
        ([5, -1, 3, 4], "left of padding"),
        ([1, 2, 3, -1], "left of padding"),
        ([-1, -1, -1, -1], "padding alone"),
        ([-1, 3, 4, N_ITEMS], "item 1000, above the last of 1000"),
        ([3, 4, 5], r"arrays of shape \(1, 3\), not \(1, 4\)"),
    ],
)
def test_impossible_rows_are_an_error(tmp_path: Path, kind: Any, items: list[int], fault: str) -> None:
    write_export(tmp_path, [[row(0, items)]])
    with pytest.raises(DataError, match=fault):
        users(make_loader(kind, str(tmp_path), batch_size=16, seed=1).epoch(0))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1.0])
def test_impossible_weights_are_an_error(tmp_path: Path, kind: Any, weight: float) -> None:
    write_export(tmp_path, [[row(0) | {"weights": [0.0, 1.0, weight, 1.0]}]])
    with pytest.raises(DataError, match="a weight that is negative or no number"):
        users(make_loader(kind, str(tmp_path), batch_size=16, seed=1).epoch(0))


def test_lists_of_many_lengths_are_an_error(tmp_path: Path, kind: Any) -> None:
    write_export(tmp_path, [[row(0), row(1, [1, 2, 3])]])
    with pytest.raises(DataError, match="cannot be read"):
        users(make_loader(kind, str(tmp_path), batch_size=16, seed=1).epoch(0))


class Planted:
    """A pickle that makes a file where it is loaded; petastorm's list of safe modules holds builtins, so exec too."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.proof)!r}, 'w').close()",)


def plant(folder: Path, proof: Path) -> None:
    key = b"dataset-toolkit.unischema.v1"
    schema = pa.schema([("user_idx", pa.int32())]).with_metadata({key: pickle.dumps(Planted(proof))})
    for name in ("_common_metadata", "_metadata"):
        pq.write_metadata(schema, folder / name)


@pytest.mark.parametrize("n_shards", [1, 2])
def test_a_planted_pickle_is_never_loaded(tmp_path: Path, kind: Any, n_shards: int) -> None:
    folder = write_export(tmp_path / "export", [[row(user)] for user in range(n_shards)])
    for within in (folder, folder / "rows", folder / "rows/shard=0"):
        plant(within, tmp_path / "loaded")
    assert len(users(make_loader(kind, str(folder), batch_size=4, seed=1).epoch(0))) == n_shards
    assert not (tmp_path / "loaded").exists()


def test_a_file_that_became_a_folder_is_not_looked_into(tmp_path: Path, kind: Any) -> None:
    folder = write_export(tmp_path / "export", [[row(0)]])
    file = folder / "rows/shard=0/part-0.parquet"
    data = file.read_bytes()
    file.unlink()
    file.mkdir()
    (file / "part-0.parquet").write_bytes(data)
    plant(file, tmp_path / "loaded")
    with pytest.raises(DataError, match="cannot be read"):
        users(make_loader(kind, str(folder), batch_size=4, seed=1).epoch(0))
    assert not (tmp_path / "loaded").exists()


@needs_petastorm
def test_petastorm_loads_the_planted_pickle_of_a_folder(tmp_path: Path) -> None:
    """What the tests above guard against is real: where it is given a folder, it loads the pickle."""
    from petastorm import make_batch_reader

    folder = write_export(tmp_path / "export", [[row(0)]])
    plant(folder / "rows/shard=0", tmp_path / "loaded")
    with pytest.raises(Exception):  # noqa: B017
        make_batch_reader(f"file://{folder}/rows/shard=0")
    assert (tmp_path / "loaded").exists()


@needs_petastorm
def test_the_reader_is_closed_when_the_epoch_is_broken_off(export: Path) -> None:
    from petastorm.workers_pool.thread_pool import WorkerThread

    batches: Any = make_loader("petastorm", str(export), batch_size=4, seed=1, shuffle_rows=4).epoch(0)
    next(batches)
    assert any(isinstance(thread, WorkerThread) for thread in threading.enumerate())
    batches.close()
    assert not any(isinstance(thread, WorkerThread) for thread in threading.enumerate())


@needs_petastorm
def test_an_end_told_too_early_loses_nothing(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """petastorm's pool finds nothing to do, its feeder feeds the last row groups, and the pool takes that for the end.

    The order of events is forced; by chance it was never seen.
    """
    from petastorm.workers_pool.thread_pool import ThreadPool
    from petastorm.workers_pool.ventilator import ConcurrentVentilator

    feed, completed = threading.Event(), ConcurrentVentilator.completed
    ventilate = ThreadPool.ventilate

    def held(self: Any, *args: Any, **kwargs: Any) -> None:
        feed.wait(5)
        ventilate(self, *args, **kwargs)

    def late(self: Any) -> bool:
        if threading.current_thread() is threading.main_thread():
            feed.set()
            time.sleep(0.05)
        return bool(completed(self))

    monkeypatch.setattr(ThreadPool, "ventilate", held)
    monkeypatch.setattr(ConcurrentVentilator, "completed", late)
    loader = make_loader("petastorm", str(export), batch_size=64, seed=1, rank=3, world=4, shuffle_rows=4)
    assert len(users(loader.epoch(0))) == loader.n_rows == 1


def test_petastorm_that_is_not_there(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "petastorm", None)
    monkeypatch.delitem(sys.modules, "lt_spark.models.bert.loader_petastorm", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'petastorm==0.12.1'.*or set bert.loader: pyarrow"):
        make_loader("petastorm", str(export), batch_size=4, seed=1)
    fallback = users(make_loader("auto", str(export), batch_size=4, seed=1).epoch(0))
    assert fallback == users(make_loader("pyarrow", str(export), batch_size=4, seed=1).epoch(0))


@needs_petastorm
def test_auto_takes_petastorm(export: Path) -> None:
    of_auto = users(make_loader("auto", str(export), batch_size=4, seed=1).epoch(0))
    assert of_auto == users(make_loader("petastorm", str(export), batch_size=4, seed=1).epoch(0))
    assert of_auto != users(make_loader("pyarrow", str(export), batch_size=4, seed=1).epoch(0))


def test_wrong_settings_are_named(export: Path) -> None:
    with pytest.raises(ConfigError, match="found rank 2, world 2"):
        make_loader("auto", str(export), batch_size=4, seed=1, rank=2, world=2)
    with pytest.raises(ConfigError, match="expected auto, petastorm or pyarrow; found 'dask'"):
        make_loader("dask", str(export), batch_size=4, seed=1)  # type: ignore[arg-type]
    with pytest.raises(StorageError, match="holds no whole export"):
        make_loader("auto", str(export.parent), batch_size=4, seed=1)


def test_the_buffer_is_bounded(export: Path) -> None:
    """The plain loader holds the buffer, a batch and a row group, and no more."""
    held: list[int] = []
    shuffled = loaders._imported("pyarrow").__globals__["_shuffled"]

    def watched(parts: Any, rng: Any) -> Any:
        held.append(sum(len(part["user_idx"]) for part in parts))
        return shuffled(parts, rng)

    module = sys.modules["lt_spark.models.bert.loader_pyarrow"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_shuffled", watched)
        users(make_loader("pyarrow", str(export), batch_size=8, seed=1, shuffle_rows=20).epoch(0))
    assert max(held) <= 20 + 8 + 16 + 8
