"""Where the model runs and in what number format, asked on the executor, at run time."""

import os
from pathlib import Path

from lt_spark.core.config_text import Device, Dtype
from lt_spark.core.errors import ConfigError
from lt_spark.core.session import MACHINE_GPU


def gpu_address() -> str | None:
    """Return the address of the GPU that Spark gave this task; None where it gave none, or this is no task."""
    from pyspark import TaskContext

    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task is not None else None
    return gpu.addresses[0] if gpu is not None and gpu.addresses else None


def device(kind: Device) -> str:
    """Return the device of this task.

    Args:
        kind: ``auto``: the task's GPU, else the CPU (outside of a task, and in local mode: the first GPU, else the
            CPU); ``cpu``; ``cuda``: the task's GPU, else the first one that is visible.

    Returns:
        cpu, or cuda:INDEX among the visible GPUs.

    Raises:
        ConfigError: ``cuda`` is asked for and there is none, or the task's GPU is not visible here.
    """
    if kind == "cpu":
        return "cpu"
    address = gpu_address()
    if kind == "auto" and address is None and _in_task() and not _has_machine_gpu():
        return "cpu"  # another task's GPU is not this one's

    import torch

    if not torch.cuda.is_available():
        if kind == "auto" and address is None:
            return "cpu"
        raise ConfigError(
            "language_model.device: CUDA was asked for, or the task was given a GPU, and torch finds none on this "
            "executor; install torch's CUDA build and the driver there, or set language_model.device: cpu"
        )
    if address is None:
        return "cuda:0"
    return f"cuda:{visible_index(address, os.environ.get('CUDA_VISIBLE_DEVICES'), torch.cuda.device_count())}"


def visible_index(address: str, visible: str | None, n_visible: int) -> int:
    """Return the index, among the visible GPUs, of the one at an address.

    Args:
        address: index on the host or UUID, as the discovery script gave it.
        visible: CUDA_VISIBLE_DEVICES, indices or UUIDs; None or empty: all are visible.
        n_visible: GPUs that torch counts.

    Raises:
        ConfigError: it is none of them.
    """
    entries = [entry.strip() for entry in (visible or "").split(",") if entry.strip()]
    for at, entry in enumerate(entries):
        # a UUID may be shortened to what tells it apart
        if entry == address or (entry.startswith(("GPU-", "MIG-")) and address.startswith(entry)):
            return at
    # the cluster narrowed what is visible, and the discovery script counts within that
    if address.isdigit() and int(address) < n_visible:
        return int(address)
    if n_visible == 1 and not address.isdigit():
        return 0
    raise ConfigError(
        f"the task's GPU {address} is not among the {n_visible} that are visible "
        f"(CUDA_VISIBLE_DEVICES={visible or ''}); let the discovery script and CUDA_VISIBLE_DEVICES name the same GPUs"
    )


def dtype(kind: Dtype, device: str) -> str:
    """Return the number format.

    Args:
        kind: a format, or ``auto``.
        device: as ``device`` returns it.

    Returns:
        For ``auto`` on a GPU bfloat16, else float16, where it computes them; on a CPU bfloat16 where it has the
        instructions (it is 15 times slower than float32 without), else float32.
    """
    if kind != "auto":
        return kind
    if device == "cpu":
        return "bfloat16" if {"avx512_bf16", "amx_bf16"} & cpu_flags() else "float32"

    import torch

    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return "bfloat16"
    return "float16" if (major, minor) >= (7, 0) else "float32"


def cpu_flags(path: str = "/proc/cpuinfo") -> set[str]:
    """Return the instruction sets that Linux says the CPU has; none on another system."""
    file = Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())


def _in_task() -> bool:
    from pyspark import TaskContext

    return TaskContext.get() is not None


def _has_machine_gpu() -> bool:
    """Whether the driver said that this task has the machine's GPU to itself: it does so in local mode."""
    from pyspark import TaskContext

    task = TaskContext.get()
    return task is not None and task.getLocalProperty(MACHINE_GPU) == "true"
