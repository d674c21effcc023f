"""The sequence model beside RecTools' SASRec and BERT4Rec: one split, one metric, both chosen on valid.

    python -m tests.benchmarks.bert_against_rectools --data FOLDER --ml-100k FILE --rectools-python PYTHON

FOLDER has amazon_scientific (interactions.csv, items.csv); FILE is ml-100k.inter; PYTHON belongs to an environment with
`rectools[torch]`. A user's last event is test, the one before valid; users with fewer than 3 events only train. NDCG@10
over the whole catalogue: what a user has is masked, a target that the user has is none, ties count against the target,
items without a known event come last. Tail: targets outside the first ceil(.2 x catalogue) items by known events. Every
setting is tried on valid with every seed; a model's best by the mean NDCG@10 of all users is trained on train and valid
together, each seed for as many epochs as it chose on valid, and asked for test once a seed. One thread each.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lt_spark.core.config_models import BertConfig, Objective
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert.inputs import read_items, read_questions
from lt_spark.models.bert.manifest import MANIFEST, SCHEMA_HASH, Manifest, Shard
from lt_spark.models.bert.task import TrainTask
from lt_spark.models.bert.train import build_network, train
from lt_spark.models.bert.validation import item_vectors, user_vectors
from tests.benchmarks.rectools_side import Fold, windows

SIDE = Path(__file__).with_name("rectools_side.py")
FOLDS = ("train", "valid", "test")
HEADS = ("data", "model", "settings", "epochs", "valid all / tail", "test all / tail", "seconds an epoch")
SPEED_HEADS = (
    "data", "size", "length", "lt_spark, CPU / wall s", "RecTools", "RecTools packed", "RecTools / lt_spark, CPU"
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A setting to try; ``settings`` by the names of the model's own package."""

    model: str
    settings: dict[str, Any]
    epochs: int = 30
    patience: int = 5
    every: int = 1

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())


def ours(objective: str, size: int, length: int, dropout: float, **more: Any) -> Candidate:
    settings = {"embedding_size": size, "max_length": length, "dropout": dropout, **more}
    return Candidate(f"lt_spark {objective}", settings)


def theirs(model: str, size: int, length: int, dropout: float, **more: Any) -> Candidate:
    how = {name: more.pop(name) for name in ("epochs", "patience", "every") if name in more}
    sizes = {"n_factors": size, "n_blocks": 2, "n_heads": 2, "session_max_len": length, "dropout_rate": dropout}
    return Candidate(f"RecTools {model}", {**sizes, "lr": 1e-3, "batch_size": 128, "loss": "softmax", **more}, **how)


SHORT = {"epochs": 40, "patience": 6, "every": 2}
LONG = {"epochs": 150, "patience": 20, "every": 5}
"""A user of MovieLens is one row of RecTools, whatever the history: few steps an epoch."""
WINDOWED = ((64, 50, 0.2), (64, 50, 0.4), (128, 50, 0.2), (128, 50, 0.4))
"""Sizes, lengths and dropouts of SASRec where a history is cut into windows: what ours tries at length 50."""
CANDIDATES = {
    "amazon_scientific": [
        *(theirs("SASRec", *sizes, **SHORT) for sizes in ((64, 20, 0.2), (64, 20, 0.4))),
        *(theirs("SASRec", size, 50, drop) for size in (64, 128) for drop in (0.2, 0.4)),
        *(ours("causal", size, 50, drop) for size in (64, 128) for drop in (0.2, 0.4)),
        *(theirs("BERT4Rec", 64, length, 0.2, epochs=60, patience=10, every=2) for length in (20, 50)),
        *(ours("masked", size, 50, 0.2, causal_share=share) for size in (64, 128) for share in (0.0, 1.0)),
    ],
    "ml-100k": [
        *(theirs("SASRec", size, length, 0.2, **LONG) for size in (64, 128) for length in (50, 100)),
        *(theirs("SASRec", *sizes, max_windows=20, epochs=60, patience=10, every=2) for sizes in WINDOWED),
        *(ours("causal", size, length, drop) for size in (64, 128) for length in (50, 100) for drop in (0.2, 0.4)),
        theirs("BERT4Rec", 64, 100, 0.2, **LONG),
        *(theirs("BERT4Rec", size, 50, 0.2, max_windows=20, epochs=150, patience=10, every=2) for size in (64, 128)),
    ],
}
"""The 5-core log of Amazon has 7 events a user: 20 places cost RecTools, which fills up to them all, less than 50."""


@dataclass
class Tried:
    """What a candidate reached on a fold."""

    candidate: Candidate
    epochs: int
    ndcg: float
    ndcg_tail: float
    seconds: float
    n_epochs_run: int


def read_amazon(folder: Path) -> tuple[pd.DataFrame, int]:
    """Return (user, item) by timestamp and file order, numbered from 0, and the catalogue's size."""
    log = pd.read_csv(folder / "interactions.csv").sort_values("timestamp", kind="stable")
    items = pd.read_csv(folder / "items.csv", usecols=["item_id"])["item_id"]
    number = pd.Series(np.arange(len(items)), index=items)
    return pd.DataFrame(
        {"user": pd.factorize(log["user_id"], sort=True)[0], "item": number[log["item_id"]].values}
    ), len(items)


def read_ml(file: Path) -> tuple[pd.DataFrame, int]:
    """The same of ml-100k.inter; its catalogue is what is in the log."""
    log = pd.read_csv(file, sep="\t")
    log = log.rename(columns=lambda name: name.split(":")[0]).sort_values("timestamp", kind="stable")
    numbered = {"user": pd.factorize(log["user_id"], sort=True)[0], "item": pd.factorize(log["item_id"], sort=True)[0]}
    return pd.DataFrame(numbered), log["item_id"].nunique()


def write_fold(log: pd.DataFrame, n_items: int, fold: str, path: Path) -> Fold:
    """Write what a fold knows and asks, as ``Fold`` reads it."""
    log = log.sort_values("user", kind="stable")
    from_end = log.groupby("user").cumcount(ascending=False)
    is_long = log.groupby("user")["item"].transform("size") >= len(FOLDS)
    place = np.where(is_long, np.maximum(0, 2 - from_end), 0)  # of FOLDS
    known, asked = log[place < FOLDS.index(fold)], log[place == FOLDS.index(fold)]
    has = set(zip(known["user"], known["item"], strict=True))
    asked = asked[[pair not in has for pair in zip(asked["user"], asked["item"], strict=True)]]
    n_known = np.bincount(known["item"], minlength=n_items)
    head = np.lexsort((np.arange(n_items), -n_known))[: math.ceil(n_items / 5)]
    np.savez(
        path, user=known["user"], item=known["item"], asked=asked["user"], target=asked["item"],
        is_tail=~np.isin(asked["item"], head), n_items=n_items,
    )  # fmt: skip
    return Fold(path)


def write_export(fold: Fold, section: BertConfig, text: Any, root: Path) -> None:
    """Write windows, items and questions as the stage exports them."""
    places, rows = section.max_length + 1, []
    for user in np.unique(fold.user):
        for number, window in enumerate(windows(fold.history(user), section.max_length, section.max_windows)):
            empty, n = places - len(window), len(window)
            orders = [0] * empty + list(range(1, n + 1))
            rows.append((user, number, [-1] * empty + window.tolist(), orders, [0.0] * empty + [1.0] * n))
    kinds = {
        "user_idx": pa.int32(), "window": pa.int32(), "items": pa.list_(pa.int32()), "orders": pa.list_(pa.int32()),
        "weights": pa.list_(pa.float32()),
    }  # fmt: skip
    columns = zip(*rows, strict=True)
    arrays = {name: pa.array(list(column), kinds[name]) for name, column in zip(kinds, columns, strict=True)}
    for name in ("windows", "items", "questions"):
        (root / name).mkdir(parents=True)
    Folder(str(root / "windows")).mark(time.time())
    pq.write_table(pa.table(arrays), root / "windows" / "rows.parquet")
    n_events = sum(sum(item >= 0 for item in row[2]) - 1 for row in rows)
    manifest = Manifest(
        "benchmark", 0, "valid", section.max_length, fold.n_items, len(rows), n_events, SCHEMA_HASH,
        (Shard("rows.parquet", len(rows)),),
    )  # fmt: skip
    (root / "windows" / MANIFEST).write_text(manifest.to_json())
    items = {
        "item_idx": pa.array(np.arange(fold.n_items), pa.int32()),
        "n_known": pa.array(fold.n_known.astype(np.float32)),
        "is_recommendable": pa.array(fold.n_known > 0),
        "vector": pa.array([None] * fold.n_items if text is None else list(text), pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(items), root / "items" / "part.parquet")
    known = pa.array([fold.history(user) for user in fold.asked], pa.list_(pa.int32()))
    questions = {
        "user_idx": pa.array(fold.asked, pa.int32()),
        "items": known,
        "seen": known,
        "targets": pa.array([[target] for target in fold.target], pa.list_(pa.int32())),
        # all users alone choose the epoch, as with RecTools; the tail is measured afterwards
        "is_tail": pa.array([[False]] * len(fold.asked)),
    }
    pq.write_table(pa.table(questions), root / "questions" / "part.parquet")


def run_ours(candidate: Candidate, fold: Fold, seed: int, text: Any, epochs: int | None, device: str) -> Tried:
    """Train lt_spark's model on a fold, until valid gets no better or for a number of epochs."""
    torch.set_num_threads(1)
    section = BertConfig(
        n_layers=2, n_heads=2, device=device, loader="pyarrow", use_text=text is not None, epochs=candidate.epochs,
        patience=candidate.patience, **candidate.settings,
    )  # fmt: skip
    objective: Objective = "masked" if candidate.model.endswith("masked") else "causal"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_export(fold, section, text, root)
        questions = "" if epochs else str(root / "questions")
        task = TrainTask(
            section, objective, seed, str(root / "windows"), str(root / "items"), questions, str(root / "saved"), epochs
        )
        trained = train(task)
        items = read_items(task.items)
        network = build_network(section, objective, items, section.max_length)
        found = saved.whole(Folder(task.checkpoints), trained.chosen)
        assert found is not None
        saved.restore_network(found, network)
        network.eval()
        asked = read_questions(str(root / "questions"), section.max_length)
    scores = user_vectors(network, asked.histories, "cpu") @ item_vectors(network).T
    scores[:, ~items.is_recommendable] = -np.inf
    # the questions are read by user, and so are a fold's
    ndcg, tail = fold.ndcg(range(len(fold.asked)), scores)
    seconds = statistics.median(epoch.seconds for epoch in trained.epochs)
    return Tried(candidate, trained.chosen, ndcg, tail, seconds, len(trained.epochs))


def side(python: str, path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Run rectools_side.py; return its line of each epoch."""
    done = subprocess.run(
        [python, str(SIDE), str(path), json.dumps(settings)], check=True, stdout=subprocess.PIPE, text=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def run_theirs(candidate: Candidate, path: Path, seed: int, python: str, epochs: int | None, device: str) -> Tried:
    """Train RecTools' model likewise, in its own environment."""
    settings = {**candidate.settings, "model": candidate.model.split()[1], "seed": seed, "epochs": candidate.epochs}
    settings |= {"patience": candidate.patience, "every": candidate.every, "packed": True, "device": device}
    if epochs:
        settings |= {"epochs": epochs, "patience": None, "every": epochs}
    lines = side(python, path, settings)
    best = max((line for line in lines if "ndcg" in line), key=lambda line: (line["ndcg"], -line["epoch"]))
    seconds = statistics.median(line["seconds"] for line in lines)
    return Tried(candidate, best["epoch"], best["ndcg"], best["ndcg_tail"], seconds, len(lines))


def wanted(candidates: list[Candidate], models: list[str] | None, settings: list[int] | None) -> list[Candidate]:
    """Return the candidates of some models, of each those with some numbers; None: all."""
    found = []
    for model in dict.fromkeys(each.model for each in candidates):
        own = [each for each in candidates if each.model == model]
        if not models or model in models:
            found += [each for number, each in enumerate(own) if not settings or number in settings]
    return found


@dataclass(frozen=True)
class Bench:
    """One data set's folds, and where RecTools is."""

    name: str
    folds: dict[str, Fold]
    paths: dict[str, Path]
    python: str
    text: Any = None
    device: str = "cpu"
    workers: int = 1

    def run(self, fold: str, asked: tuple[Candidate, int, int | None]) -> Tried:
        """Train a candidate with a seed, for a number of epochs or until valid gets no better."""
        candidate, seed, epochs = asked
        if candidate.model.startswith("lt_spark"):
            return run_ours(candidate, self.folds[fold], seed, self.text, epochs, self.device)
        return run_theirs(candidate, self.paths[fold], seed, self.python, epochs, self.device)

    def compare(self, candidates: list[Candidate], seeds: list[int]) -> list[str]:
        """Try all on valid, then ask each model's best for test; return rows of the table."""
        # a fresh interpreter each: a forked one cannot use a GPU
        with ProcessPoolExecutor(self.workers, mp_context=get_context("spawn")) as pool:
            return self._compared(pool, candidates, seeds)

    def _compared(self, pool: ProcessPoolExecutor, candidates: list[Candidate], seeds: list[int]) -> list[str]:
        found = pool.map(partial(self.run, "valid"), [(each, seed, None) for each in candidates for seed in seeds])
        best: dict[str, list[Tried]] = {}
        for each in candidates:
            valid = [next(found) for _ in seeds]
            told = ", ".join(f"{one.epochs} of {one.n_epochs_run}: {shown([one])}" for one in valid)
            print(f"{self.name}, {each.model}, {each}: valid {shown(valid)} ({told})", flush=True)
            if each.model not in best or mean_ndcg(valid) > mean_ndcg(best[each.model]):
                best[each.model] = valid
        asked = [
            (one.candidate, seed, one.epochs) for valid in best.values() for one, seed in zip(valid, seeds, strict=True)
        ]
        answers = pool.map(partial(self.run, "test"), asked)
        rows = []
        for model, valid in best.items():
            test = [next(answers) for _ in seeds]
            epochs = ", ".join(str(one.epochs) for one in valid)
            seconds = f"{statistics.median(one.seconds for one in valid):.1f}"
            told = ", ".join(shown([one]) for one in test)
            row = (self.name, model, valid[0].candidate, epochs, shown(valid), f"{shown(test)} ({told})", seconds)
            rows.append("| " + " | ".join(map(str, row)) + " |")
            print(rows[-1], flush=True)
        return rows


def mean_ndcg(tried: list[Tried]) -> float:
    return statistics.mean(one.ndcg for one in tried)


def shown(tried: list[Tried]) -> str:
    """Return the means of NDCG@10, all / tail."""
    return f"{mean_ndcg(tried):.4f} / {statistics.mean(one.ndcg_tail for one in tried):.4f}"


def speed(bench: Bench, size: int, length: int) -> str:
    """Return seconds of an epoch at one size as a row: causal, a window a user, the epoch after the first."""
    section = BertConfig(
        n_layers=2, n_heads=2, device="cpu", loader="pyarrow", use_text=False, embedding_size=size, dropout=0.2,
        max_length=length, max_windows=1,
    )  # fmt: skip
    at = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_export(bench.folds["valid"], section, None, root)
        train(
            TrainTask(section, "causal", 42, str(root / "windows"), str(root / "items"), "", str(root / "saved"), 2),
            lambda _: at.append((time.process_time(), time.monotonic())),
        )
    cells = [[at[1][one] - at[0][one] for one in (0, 1)]]
    settings = {**theirs("SASRec", size, length, 0.2).settings, "model": "SASRec", "seed": 42, "epochs": 2}
    for packed in (False, True):
        lines = side(bench.python, bench.paths["valid"], {**settings, "every": 2, "packed": packed})
        cells.append([lines[1]["cpu_seconds"], lines[1]["seconds"]])
    told = [f"{cpu:.1f} / {wall:.1f}" for cpu, wall in cells]
    row = f"| {bench.name} | {size} | {length} | {' | '.join(told)} | {cells[1][0] / cells[0][0]:.1f} |"
    print(row, flush=True)
    return row


def open_bench(name: str, log: pd.DataFrame, n_items: int, folder: str, text: Any, how: argparse.Namespace) -> Bench:
    """Split a log, and tell how large its folds are."""
    paths = {fold: Path(folder) / f"{name}-{fold}.npz" for fold in ("valid", "test")}
    folds = {fold: write_fold(log, n_items, fold, path) for fold, path in paths.items()}
    for fold, made in folds.items():
        asked = f"{len(made.asked)} users asked, {int(made.is_tail.sum())} for tail"
        items = f"{n_items} items, {int((made.n_known == 0).sum())} without event"
        print(f"{name}, {fold}: {len(made.item)} known events, {asked}; {items}", flush=True)
    return Bench(name, folds, paths, how.rectools_python, text, how.device, how.workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with amazon_scientific")
    parser.add_argument("--ml-100k", type=Path, help="ml-100k.inter")
    parser.add_argument("--rectools-python", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--text-vectors", type=Path, help="npz with vectors (n_items, d) for lt_spark on amazon")
    parser.add_argument("--models", nargs="+", help="these alone, as `lt_spark causal`")
    parser.add_argument("--settings", nargs="+", type=int, help="which settings of each model: 0 is its first")
    parser.add_argument("--speed", nargs="+", type=int, metavar="SIZE", help="only seconds of an epoch, at these sizes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    data = []
    if arguments.data:
        text = next(iter(np.load(arguments.text_vectors).values())) if arguments.text_vectors else None
        data.append(("amazon_scientific", *read_amazon(arguments.data / "amazon_scientific"), text))
    if arguments.ml_100k:
        data.append(("ml-100k", *read_ml(arguments.ml_100k), None))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, log, n_items, text in data:
            bench = open_bench(name, log, n_items, folder, text, arguments)
            if arguments.speed:
                rows += [speed(bench, size, 50) for size in arguments.speed]
            else:
                candidates = wanted(CANDIDATES[name], arguments.models, arguments.settings)
                rows += bench.compare(candidates, arguments.seeds)
    heads = SPEED_HEADS if arguments.speed else HEADS
    print("", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows, sep="\n")


if __name__ == "__main__":
    main()
