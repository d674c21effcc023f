"""The sequence model on a GPU: mixed precision, going on exactly, and the two ways in which processes add up."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from lt_spark.models.bert.processes import number_format, ranks
from lt_spark.models.bert.train import train
from tests.models.bert.small_export import SmallExport, losses, section

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
]
RANK = """
import sys
from pathlib import Path
from tests.models.bert.small_export import SmallExport, losses
from lt_spark.models.bert.train import train
how = {"device": "cuda", "dtype": "float32", "n_epochs": 3, "num_processes": 2, "dropout": 0.0, "batch_size": 120}
task = SmallExport(Path(sys.argv[1])).task("shared", **how)
print("LOSSES", losses(train(task)), flush=True)
"""


@pytest.fixture
def export(tmp_path: Path) -> SmallExport:
    return SmallExport(tmp_path).write()


def free_port() -> str:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return str(own.getsockname()[1])


def test_it_learns_in_mixed_precision(export: SmallExport) -> None:
    task = export.task(device="cuda", epochs=20, patience=20, dropout=0.0)
    assert number_format(task.section, "cuda:0") in (torch.bfloat16, torch.float16)
    torch.cuda.reset_peak_memory_stats()
    assert train(task).best.ndcg > 0.9
    assert torch.cuda.max_memory_allocated() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_format_learns_what_the_cpu_learns(export: SmallExport, dtype: str) -> None:
    cpu = losses(train(export.task("cpu", n_epochs=3, dropout=0.0)))
    gpu = losses(train(export.task("gpu", device="cuda", dtype=dtype, n_epochs=3, dropout=0.0)))
    assert gpu == pytest.approx(cpu, rel=1e-3 if dtype == "float32" else 5e-2)
    if dtype != "float32":
        assert gpu != cpu


def test_float16_learns_once_its_scale_has_come_down(export: SmallExport) -> None:
    # the first steps overflow and are left out: what it learns is not what the CPU learnt by then
    gpu = losses(train(export.task("gpu", device="cuda", dtype="float16", n_epochs=3, dropout=0.0)))
    assert gpu[2] < gpu[0] / 2


def test_nccl_adds_up_to_the_same(export: SmallExport, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = losses(train(export.task("alone", device="cuda", dtype="float32", n_epochs=3, dropout=0.0)))
    for name, value in {
        "TORCHELASTIC_RUN_ID": "test", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with ranks(section(device="cuda")) as here:
        assert (dist.get_backend(), here.device) == ("nccl", "cuda:0")
        assert here.total(torch.tensor([2.0])).tolist() == [2.0]
    monkeypatch.setenv("MASTER_PORT", free_port())
    grouped = losses(train(export.task("grouped", device="cuda", dtype="float32", n_epochs=3, dropout=0.0)))
    assert grouped == pytest.approx(alone, rel=1e-4)


def test_two_processes_that_share_a_gpu_learn_as_one(export: SmallExport, tmp_path: Path) -> None:
    if torch.cuda.device_count() > 1:
        pytest.skip("every process has a GPU of its own here")
    # all 60 windows are one step, whoever reads them
    how = {"device": "cuda", "dtype": "float32", "n_epochs": 3, "dropout": 0.0}
    one = losses(train(export.task("one", batch_size=60, **how)))
    shared = {
        **os.environ, "TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(),
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    found = [line for line in outputs[0].splitlines() if line.startswith("LOSSES")]
    assert [float(x) for x in found[0].removeprefix("LOSSES [").rstrip("]").split(",")] == pytest.approx(one, rel=1e-3)
