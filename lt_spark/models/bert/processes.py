"""The processes that train together: one, or the ranks that TorchDistributor started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from lt_spark.core.config_models import BertConfig
from lt_spark.core.errors import ConfigError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: from 0.
        world: number of processes.
        device: cpu, or cuda:INDEX.
        is_group: whether they were started to learn together, be it one alone.
    """

    rank: int
    world: int
    device: str
    is_group: bool = False

    def total(self, values: Tensor) -> Tensor:
        """Return the element-wise sum over all processes, on the CPU; every process must call it."""
        if not self.is_group:
            return values
        summed = values.detach().clone().to(self.device)
        dist.all_reduce(summed)
        return summed.cpu()


@contextmanager
def ranks(section: BertConfig) -> Iterator[Ranks]:
    """Join the processes that TorchDistributor started, as its variables say; else stand alone.

    A process that waits for the others longer than ``bert.timeout_s`` gives up with torch's error, so that one that is
    gone cannot hang the rest.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    device = _device(section, int(os.environ.get("LOCAL_RANK", "0")))
    if not dist.is_torchelastic_launched():  # variables of the same names may be the platform's own
        yield Ranks(0, 1, device)
        return
    backend = "nccl" if device.startswith("cuda") and not _share_gpus() else "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    dist.init_process_group(backend, timeout=timedelta(seconds=section.timeout_s))
    try:
        yield Ranks(rank, world, device, is_group=True)
    finally:
        dist.destroy_process_group()


def _share_gpus() -> bool:
    """Whether this machine has fewer GPUs than processes: nccl refuses two of them on one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > torch.cuda.device_count()


def _device(section: BertConfig, local_rank: int) -> str:
    if section.device == "cpu" or (section.device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            "bert.device: expected a GPU, found none that torch can use here; install torch's CUDA build and the "
            "driver, or set bert.device: cpu"
        )
    return f"cuda:{local_rank % torch.cuda.device_count()}"


def number_format(section: BertConfig, device: str) -> torch.dtype:
    """Return the format of the mixed-precision parts; float32: none are mixed."""
    if section.dtype != "auto":
        return getattr(torch, section.dtype)  # type: ignore[no-any-return]
    if device == "cpu":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
