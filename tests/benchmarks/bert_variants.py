"""Settings of the sequence model beside each other on fold valid, with intervals; only the export needs Spark.

    python -m tests.benchmarks.bert_variants export -c conf.yaml --to FOLDER [--set SECTION.KEY=VALUE]
    python -m tests.benchmarks.bert_variants learn FOLDER [--variants NAME ...] [--seeds 42 43 44] [--test]

``export`` runs the stages before the model and writes what it learns from, once; ``learn`` needs no Spark, so it also
runs where there is a GPU and nothing else. A row a variant: NDCG@10 of all users and of those with a tail target
(segment_top20), means over the seeds; the differences from ``base`` are paired by user, mean over the seeds first, with
95 % of the Poisson bootstrap over users. ``--test`` also trains on what test knows, for as many epochs as valid chose,
and asks for its targets once a seed: for a variant that is chosen, not to choose one.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow  # noqa: F401 - before torch, or the two libraries' threads clash
import torch

from lt_spark.core.config_models import BertConfig, Objective
from lt_spark.core.files import Folder
from lt_spark.engines.int8 import with_int8
from lt_spark.kernels.bootstrap import interval, partial_sums
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert.inputs import read_items, read_questions
from lt_spark.models.bert.task import Trained, TrainTask
from lt_spark.models.bert.train import build_network, train
from lt_spark.models.bert.validation import ndcg_by_user, user_vectors

BEFORE = ("clean", "embed", "split", "segment", "embed_enriched", "context", "rebalance")
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "ids alone": {"use_text": False},
    "no weights": {"use_weights": False},
    "one layer": {"n_layers": 1},
    "batches of 128": {"batch_size": 128},
    "batches of 64": {"batch_size": 64},
    "batches of 32": {"batch_size": 32},
    "logit_adjustment .1": {"logit_adjustment": 0.1},
    "logit_adjustment .3": {"logit_adjustment": 0.3},
    "contrastive .1": {"contrastive": 0.1},
    "adversarial .5": {"adversarial": 0.5},
    "adversarial 2": {"adversarial": 2.0},
    "masked": {"objectives": ["masked"], "epochs": 60, "patience": 10},
    "masked, both losses": {"objectives": ["masked"], "causal_share": 1.0, "epochs": 60, "patience": 10},
    "masked, causal .3": {"objectives": ["masked"], "causal_share": 0.3, "epochs": 60, "patience": 10},
    "masked, all last": {"objectives": ["masked"], "last_mask_share": 1.0, "epochs": 60, "patience": 10},
}
INT8 = "base in int8"
_REPLICATES, _SEED = 2_000, 42


@dataclass(frozen=True)
class Job:
    """One training on valid, perhaps followed by one on test."""

    folder: str
    variant: str
    changes: dict[str, Any]
    seed: int
    on_test: bool
    device: str


@dataclass(frozen=True)
class Done:
    """What a training reached: (2, users) NDCG@10 of all and of tail targets; NaN of users without any."""

    job: Job
    epochs: int
    seconds: float
    valid: Any
    test: Any = None
    int8: Any = None
    speed: tuple[float, float] = (0.0, 0.0)


def export(config_file: str, overrides: Sequence[str], to: Path) -> None:
    """Write what folds valid and test learn from and are asked, into ``to/valid`` and ``to/test``."""
    from lt_spark import bert_stage
    from lt_spark.core.config_files import load_config
    from lt_spark.core.session import start_session
    from lt_spark.core.storage import Storage
    from lt_spark.passes import run
    from lt_spark.stages import Context

    config = load_config(config_file, overrides).config
    spark = start_session(config, "bert variants")
    run(spark, config, purpose="evaluate", stages=list(BEFORE))
    for fold in ("valid", "test"):
        now = datetime.now(UTC).replace(tzinfo=None)
        context = Context(spark, config, Storage(spark, config, "bench"), "bench", fold, now)
        with bert_stage._exported(context, judged=True) as made:
            for name in ("windows", "items", "questions"):
                shutil.copytree(getattr(made, name).removeprefix("file:"), to / fold / name)
    (to / "bert.json").write_text(config.bert.model_dump_json())


def learn(job: Job) -> Done:
    """Train on valid until it gets no better, and measure; in a process of its own."""
    torch.set_num_threads(1)
    settings = json.loads((Path(job.folder) / "bert.json").read_text())
    section = BertConfig.model_validate(settings | job.changes | {"device": job.device, "loader": "pyarrow"})
    began = time.monotonic()
    trained, network, valid = _trained(section, job, "valid", None)
    seconds = time.monotonic() - began
    test, int8, speed = None, None, (0.0, 0.0)
    if job.on_test:
        _, _, test = _trained(section, job, "test", trained.chosen)
    if job.variant == "base":
        int8, speed = _in_int8(network.cpu(), job)
    return Done(job, trained.chosen, seconds, valid, test, int8, speed)


def _trained(section: BertConfig, job: Job, fold: str, n_epochs: int | None) -> tuple[Trained, Any, Any]:
    objective: Objective = section.objectives[0]
    windows, items_at, asked = (str(Path(job.folder) / fold / name) for name in ("windows", "items", "questions"))
    with tempfile.TemporaryDirectory() as folder:
        task = TrainTask(section, objective, job.seed, windows, items_at, "" if n_epochs else asked, folder, n_epochs)
        trained = train(task)
        items = read_items(items_at)
        network = build_network(section, objective, items, section.max_length)
        found = saved.whole(Folder(folder), trained.chosen)
        assert found is not None
        saved.restore_network(found, network)
    network.eval()
    return trained, network, ndcg_by_user(network, items, read_questions(asked, section.max_length), "cpu")


def _in_int8(network: Any, job: Job) -> tuple[Any, tuple[float, float]]:
    """Return NDCG in 8 bits, and users a second as trained and in 8 bits, one CPU thread."""
    folder = Path(job.folder) / "valid"
    questions = read_questions(str(folder / "questions"), network.shape.length)
    rates = []
    for _ in range(2):
        began = time.monotonic()
        for _ in range(3):
            user_vectors(network, questions.histories, "cpu")
        rates.append(3 * len(questions) / (time.monotonic() - began))
        network.bert = with_int8(network.bert) if len(rates) == 1 else network.bert
    return ndcg_by_user(network, read_items(str(folder / "items")), questions, "cpu"), (rates[0], rates[1])


def rows(done: Sequence[Done]) -> list[str]:
    """Return the table's rows: means, and differences from ``base`` by user."""
    by_variant: dict[str, list[Done]] = {}
    for each in done:
        by_variant.setdefault(each.job.variant, []).append(each)
    base = _mean([each.valid for each in by_variant["base"]]) if "base" in by_variant else None
    lines = []
    for name, found in by_variant.items():
        values = _mean([each.valid for each in found])
        epochs = " ".join(str(each.epochs) for each in found)
        seconds = statistics.mean(each.seconds for each in found)
        told = [f"{epochs}", _two(values), *_differences(values, base, name != "base"), f"{seconds:.0f}"]
        tests = [each.test for each in found if each.test is not None]
        told.append(f"{_two(_mean(tests))} (" + ", ".join(_two(each) for each in tests) + ")" if tests else "")
        lines.append(f"| {name} | {' | '.join(told)} |")
        if name == "base":
            values = _mean([each.int8 for each in found])
            rates = [statistics.mean(each.speed[at] for each in found) for at in (0, 1)]
            told = [
                "",
                _two(values),
                *_differences(values, base, True),
                "",
                f"{rates[0]:.0f} -> {rates[1]:.0f} users/s",
            ]
            lines.append(f"| {INT8} | {' | '.join(told)} |")
    return lines


def _mean(found: Sequence[Any]) -> Any:
    return np.mean(np.stack(found), axis=0)


def _two(values: Any) -> str:
    return " / ".join(f"{np.nanmean(row):.4f}" for row in values)


def _differences(values: Any, base: Any, is_other: bool) -> list[str]:
    if base is None or not is_other:
        return ["", ""]
    cells = []
    for own, other in zip(values, base, strict=True):
        users = np.flatnonzero(~np.isnan(own))
        change = (own - other)[users]
        bounds = interval(partial_sums(users.astype(np.int32), change[:, None], _REPLICATES, _SEED))
        cells.append(f"{change.mean():+.4f} [{bounds.low[0]:+.4f}, {bounds.high[0]:+.4f}]")
    return cells


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("export")
    made.add_argument("-c", "--config", required=True)
    made.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    made.add_argument("--to", type=Path, required=True)
    learnt = commands.add_parser("learn")
    learnt.add_argument("folder", type=Path)
    learnt.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    learnt.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    learnt.add_argument("--test", action="store_true", help="look at test too, once a seed")
    learnt.add_argument("--device", default="cpu")
    learnt.add_argument("--workers", type=int, default=1, help="trainings at a time")
    arguments = parser.parse_args(argv)
    if arguments.command == "export":
        export(arguments.config, arguments.set, arguments.to)
        return
    how = arguments.test, arguments.device
    jobs = [
        Job(str(arguments.folder.resolve()), name, VARIANTS[name], seed, *how)
        for name in arguments.variants
        for seed in arguments.seeds
    ]
    done = []
    # a fresh interpreter each: a forked one cannot use a GPU
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for each in pool.map(learn, jobs):
            done.append(each)
            test = f", test {_two(each.test)}" if each.test is not None else ""
            told = f"{each.job.variant}, seed {each.job.seed}: {each.epochs} epochs, {_two(each.valid)}{test}"
            print(f"{told}, {each.seconds:.0f} s", flush=True)
    heads = ("variant", "epochs", "valid all / tail", "all - base", "tail - base", "s", "test all / tail (a seed)")
    print("", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows(done), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
