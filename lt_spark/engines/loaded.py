"""What a worker process has loaded, once, and how often: a module, so that every UDF of the process finds the same."""

import ctypes
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lt_spark.core.config_text import Device, Dtype, LanguageModelConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines.model_files import ModelInfo, describe_folder, local_copy
from lt_spark.engines.placement import device, dtype

if TYPE_CHECKING:
    from lt_spark.engines.transformers_engine import TransformersEngine

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """What was loaded, how often in this process (1, or something is wrong), and the seconds it took."""

    value: T
    n_loads: int
    seconds: float


@dataclass(frozen=True)
class ModelSettings:
    """What an executor needs to load a language model; small, and sent with the task."""

    folder: str
    info: ModelInfo
    dtype: Dtype = "auto"
    device: Device = "auto"
    max_batch: int | None = None
    batch_tokens: int | None = None
    reuse_prefix: bool = True
    max_prompt_tokens: int = 3_072

    @staticmethod
    def of(config: LanguageModelConfig, folder: str, info: ModelInfo) -> "ModelSettings":
        """Take the settings from the conf; ``folder`` is resolved and checked."""
        return ModelSettings(
            folder,
            info,
            config.dtype,
            config.device,
            config.max_batch,
            config.batch_tokens,
            config.reuse_prefix,
            config.max_prompt_tokens,
        )


_lock = threading.RLock()
_loaded: dict[tuple[Any, ...], Loaded[Any]] = {}
_counts: dict[tuple[Any, ...], int] = {}


def once(key: tuple[Any, ...], make: Callable[[], T]) -> Loaded[T]:
    """Return what was loaded under a key, loaded now where it is the first time in this process.

    Args:
        key: what tells it from others: path, hash, dtype, device.
        make: loads it; where it raises, nothing is kept.
    """
    with _lock:
        if key not in _loaded:
            began = time.perf_counter()
            value = make()
            _counts[key] = _counts.get(key, 0) + 1
            _loaded[key] = Loaded(value, _counts[key], time.perf_counter() - began)
        return _loaded[key]


def n_loads(key: tuple[Any, ...]) -> int:
    """Return how often something was loaded under a key, in this process."""
    with _lock:
        return _counts.get(key, 0)


def forget() -> None:
    """Drop everything loaded; the counts stay."""
    with _lock:
        _loaded.clear()


def load_engine(settings: ModelSettings) -> "Loaded[TransformersEngine]":
    """Return this process's language model, loaded where it is not there yet.

    Raises:
        ConfigError: torch is not installed here, or there is no such device.
        StorageError: the folder cannot be read here.
    """
    prepare_process()
    place = device(settings.device)
    number_format = dtype(settings.dtype, place)
    key = (settings, place.partition(":")[0], number_format)

    def load() -> "TransformersEngine":
        from lt_spark.engines.transformers_engine import TransformersEngine

        return TransformersEngine(
            local_copy(settings.folder),
            settings.info,
            dtype=number_format,
            device=place,
            max_batch=settings.max_batch,
            batch_tokens=settings.batch_tokens,
            reuse_prefix=settings.reuse_prefix,
            max_prompt_tokens=settings.max_prompt_tokens,
        )

    loaded = once(key, load)
    if loaded.value.device != place:
        # Spark may give the next task of this process another of the executor's GPUs
        loaded.value.move(place)
    return loaded


def settings_for(config: LanguageModelConfig, folder: str) -> ModelSettings:
    """Return the settings of a folder that was checked."""
    return ModelSettings.of(config, folder, describe_folder(folder))


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""Names of settings in glibc's malloc.h."""


def keep_memory() -> None:
    """Let glibc keep what a batch gave back for the next one, up to 256 MiB; nothing elsewhere.

    It would return each tensor of some MiB to the system, and the system clears every page anew at the next one: that
    is two thirds of all page faults when prompts are read.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that all versions take
    mallopt(_M_TRIM_THRESHOLD, 256 * 2**20)
    mallopt(_M_TOP_PAD, 64 * 2**20)


def prepare_process() -> None:
    """Make this process ready for torch and transformers: offline, silent, one order of imports.

    Raises:
        ConfigError: they are not installed.
    """
    keep_memory()
    # read by the libraries when they are imported
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        import pyarrow  # noqa: F401 - before torch, or one of the two crashes
        import torch
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"the language model needs {error.name} on every executor; run: pip install 'lt-spark[llm]'"
        ) from error
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    for library in ("transformers", "torch", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=library)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    # Spark sets it to a task's cores; more threads than that only get in each other's way
    if threads.isdigit() and 0 < int(threads) < torch.get_num_threads():
        torch.set_num_threads(int(threads))
