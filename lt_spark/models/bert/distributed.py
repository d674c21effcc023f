"""The training on one process or many, and again from its last checkpoint where it failed."""

import json
import logging
import os
import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from pyspark.sql import SparkSession

from lt_spark.core.config_models import BertConfig
from lt_spark.core.errors import ConfigError, LtSparkError, TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert.task import Epoch, Trained, TrainTask, told

_FAILURE, _RESULT = "failure-{rank}.txt", "result.json"
_POLL_S = 2.0
_MAX_TRACE = 4_000


def run_training(spark: SparkSession, task: TrainTask, tell: Callable[[str], None] = lambda text: None) -> Trained:
    """Train on ``bert.num_processes`` processes; one trains in the driver, without a barrier.

    More than one are started by Spark's TorchDistributor: in local mode on this machine, on a cluster a task each, in
    one barrier stage. Where a process, its worker or its executor is lost, the stage fails, and the training starts
    again from the last checkpoint, at most ``bert.max_restarts`` times.

    Args:
        spark: the session.
        task: what to do; its folders are reached by every executor.
        tell: hears of each epoch, and of restarts.

    Raises:
        TrainingError: it failed too often, with the process's own traceback.
        LtSparkError: what the user can mend (bad rows, a loss that is no number) is not tried again.
    """
    section = task.section
    # torch is imported where something is trained, not where a run is planned
    from lt_spark.models.bert import checkpoint as saved
    from lt_spark.models.bert.train import train

    if section.num_processes == 1:
        return train(task, tell)
    check_slots(spark, section)
    root = Folder(task.checkpoints)
    for attempt in range(section.max_restarts + 1):
        _forget_failures(root, section.num_processes)
        try:
            with _progress(root, tell):
                _distribute(spark, task)
            return _result(root)
        except Exception as error:  # Spark's and torch's own, of any kind
            found = _failures(root, section.num_processes)
            mine = next((told_ for kind, told_ in found if kind == "mend"), None)
            if mine is not None:
                raise TrainingError(mine) from error
            reason = found[0][1] if found else f"{type(error).__name__}: {str(error)[:_MAX_TRACE]}"
            if attempt == section.max_restarts:
                raise TrainingError(
                    f"the training of {section.num_processes} processes failed {attempt + 1} times (bert.max_restarts "
                    f"is {section.max_restarts}). The last checkpoint stands at {root.uri}: run the same command again "
                    f"to go on from it. The last failure:\n{reason}"
                ) from error
            newest = saved.newest(root)
            tell(
                f"the training failed ({reason.strip().splitlines()[-1][:200]}); it goes on from "
                f"{f'epoch {newest.epoch}' if newest else 'the beginning'} ({attempt + 1} of {section.max_restarts})"
            )
    raise AssertionError("not reached")


def check_slots(spark: SparkSession, section: BertConfig) -> None:
    """Check that all processes can run at once, as a barrier stage needs.

    Raises:
        ConfigError: with what to set.
    """
    context = spark.sparkContext
    if _is_local(context.master):
        return
    conf = context.getConf()
    if (conf.get("spark.dynamicAllocation.enabled", "false") or "false").lower() == "true":
        raise ConfigError(
            f"bert.num_processes is {section.num_processes} and spark.dynamicAllocation.enabled is true: a barrier "
            "stage needs all its tasks at once. Set spark.dynamicAllocation.enabled=false, or bert.num_processes: 1."
        )
    slots = context.defaultParallelism
    if slots < section.num_processes:
        raise ConfigError(
            f"bert.num_processes is {section.num_processes} and the cluster runs {slots} tasks at once: expected as "
            f"many at least. Add executors or cores, or set bert.num_processes: {max(1, slots)}."
        )


def _distribute(spark: SparkSession, task: TrainTask) -> None:
    from pyspark.ml.torch.distributor import TorchDistributor

    context = spark.sparkContext
    local = _is_local(context.master)
    gpus = float(context.getConf().get("spark.executor.resource.gpu.amount", "0") or 0)
    use_gpu = task.section.device != "cpu" and gpus > 0 and not local
    distributor = TorchDistributor(task.section.num_processes, local_mode=local, use_gpu=use_gpu)
    # it tells of its own steps as warnings
    logging.getLogger("TorchDistributor").setLevel(logging.ERROR)
    with _threads(task.section.num_processes if local else 1):
        distributor.run(rank_main, task)


def rank_main(task: TrainTask) -> None:
    """Train in a process that torchrun started; what fails is written to the checkpoints' folder.

    TorchDistributor hides a process's own exception, so that the driver would only learn that one failed.
    """
    from lt_spark.models.bert.train import train

    root, rank = Folder(task.checkpoints), int(os.environ.get("RANK", "0"))
    try:
        trained = train(task)
    except BaseException as error:
        kind = "mend" if isinstance(error, LtSparkError) else "lost"
        text = str(error) if kind == "mend" else "".join(traceback.format_exception(error))[-_MAX_TRACE:]
        root.write(_FAILURE.format(rank=rank), json.dumps([kind, f"process {rank}: {text}"]).encode())
        raise
    if rank == 0:
        result = {"epochs": [asdict(epoch) for epoch in trained.epochs], "chosen": trained.chosen}
        root.write(_RESULT, json.dumps(result).encode())


def _result(root: Folder) -> Trained:
    found = json.loads(root.read(_RESULT))
    return Trained(tuple(Epoch(**epoch) for epoch in found["epochs"]), found["chosen"])


def _failures(root: Folder, n: int) -> list[tuple[str, str]]:
    """Return (kind, text) of the processes that failed; those that failed first hand before those that lost a peer."""
    names = [_FAILURE.format(rank=rank) for rank in range(n)]
    found = [tuple(json.loads(root.read(name))) for name in names if root.exists(name)]
    return sorted(found, key=lambda each: "Connection" in each[1] or "timed out" in each[1].lower())


def _forget_failures(root: Folder, n: int) -> None:
    for name in (*(_FAILURE.format(rank=rank) for rank in range(n)), _RESULT):
        root.remove_file(name)


@contextmanager
def _progress(root: Folder, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell of each checkpoint that the processes write meanwhile."""
    from lt_spark.models.bert import checkpoint as saved

    done = threading.Event()
    seen = [max(saved.epochs_in(root), default=0)]

    def tell_news() -> None:
        state = saved.newest_state(root)
        if state is not None:
            for row in state["epochs"][seen[0] :]:
                tell(told(Epoch(**row), state["chosen"]))
            seen[0] = max(seen[0], len(state["epochs"]))

    def watch() -> None:
        while not done.wait(_POLL_S):
            tell_news()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Let ``n`` processes of this machine share its cores, for as long as it lasts."""
    name, before = "OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")
    os.environ[name] = str(max(1, (os.cpu_count() or 1) // n))
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _is_local(master: Any) -> bool:
    return bool(re.fullmatch(r"local(\[[^\]]*\])?", str(master or "")))
