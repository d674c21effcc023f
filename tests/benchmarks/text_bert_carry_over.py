"""What teaching the encoder brings, and whether what it learns on the head carries over to the tail and to cold items.

    python -m tests.benchmarks.text_bert_carry_over export -c conf.yaml --to FOLDER [--set SECTION.KEY=VALUE]
    python -m tests.benchmarks.text_bert_carry_over learn FOLDER --model MODEL [--variants NAME ...]

``export`` runs the stages before text_bert and writes what it learns from, once; ``learn`` needs no Spark. Each variant
is taught from the pretrained encoder with the same budget of pairs and seed, keeps its epoch of the best all + tail
NDCG, as the stage does, and is judged by NDCG@10 of a full ranking on the users of fold valid. ``head`` learns from
pairs whose target is head (segment_top20) alone. Intervals are 95 % of the paired Poisson bootstrap over users.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow  # noqa: F401 - before torch, or the two libraries' threads clash
import torch

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.files import Folder
from lt_spark.engines.model_files import check_folder
from lt_spark.kernels.bootstrap import interval, partial_sums
from lt_spark.models.text_bert import data, head, judge, saved, train
from lt_spark.models.text_bert.tower import Base, Tower, build

UNTOUCHED = "untouched"
VARIANTS: dict[str, dict[str, Any]] = {
    UNTOUCHED: {},
    "lora": {},
    "lora, head": {"train_on": "head"},
    "adalora": {"method": "adalora"},
    "full": {"method": "full"},
    "full, head": {"method": "full", "train_on": "head"},
    "lora, lowest 3 layers": {"n_layers": 3},
    "full, lowest 3 layers": {"method": "full", "n_layers": 3},
}
PAIRED = (("lora, head", "lora"), ("full, head", "full"))
"""Differences that are told besides those from the untouched encoder."""
IN_INT8 = (UNTOUCHED, "lora", "lora, lowest 3 layers")
"""Variants that are measured in 8 bits too, which one CPU thread does."""
_REPLICATES, _SPEED_TEXTS = 2_000, 1_000


@dataclass(frozen=True)
class Job:
    """One tower to teach."""

    folder: str
    model: str
    variant: str
    seed: int
    device: str
    n_pairs: int | None
    changes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Done:
    """A taught tower, as valid judges it; ``int8``: the same tower with its linear layers in 8 bits."""

    job: Job
    n_pairs: int
    epochs: list[train.Epoch]
    judged: judge.Judgement
    report: list[head.ClassReport]
    seconds: float
    int8: judge.Judgement | None
    speed: tuple[float, float]


def export(config_file: str, overrides: Sequence[str], to: Path) -> None:
    """Write what fold valid teaches, from all pairs and from those with a head target, into ``to/all``, ``to/head``."""
    from lt_spark.core.config_files import load_config
    from lt_spark.core.session import start_session
    from lt_spark.core.storage import Storage
    from lt_spark.passes import run
    from lt_spark.stages import Context
    from tests.benchmarks.bert_variants import BEFORE

    config = load_config(config_file, overrides).config
    spark = start_session(config, "text_bert carry over")
    run(spark, config, purpose="evaluate", stages=[*BEFORE, "neighbours"])
    now = datetime.now(UTC).replace(tzinfo=None)
    write(Context(spark, config, Storage(spark, config, "bench"), "text_bert", "valid", now), to)


def write(c: Any, to: Path) -> None:
    """Write a stage's rows on fold valid, and the settings that they are learnt by."""
    from lt_spark import text_bert_stage as ts

    section = ts.section_of(c.config)
    with c.scratch("texts") as place:
        texts = ts.written(c, ts.texts_of(c, section), place)
        for train_on in ("all", "head"):
            with c.scratch("rows") as rows:
                ts.write_rows(c, section.model_copy(update={"train_on": train_on}), texts, rows)
                shutil.copytree(rows.removeprefix("file:"), to / train_on)
    said = {"text_bert": section.model_dump(mode="json"), "embed": c.config.embed.model_dump(mode="json")}
    (to / "conf.json").write_text(json.dumps(said | {"tail_importance": c.config.tune.tail_importance}))


def learn(job: Job) -> Done:
    """Teach one tower and judge it; in a process of its own."""
    torch.set_num_threads(1)
    said = json.loads((Path(job.folder) / "conf.json").read_text())
    changes = said["text_bert"] | VARIANTS[job.variant] | dict(job.changes) | {"device": job.device}
    section = TextBertConfig.model_validate(changes)
    rows = Folder(str(Path(job.folder) / section.train_on))
    training = data.read_training(rows, section)
    if job.n_pairs:
        places = np.random.default_rng(job.seed).permutation(len(training.pairs))[: job.n_pairs]
        training = replace(training, pairs=training.pairs.take(np.sort(places)))
    valid = data.read_valid(rows, training.catalogue)
    base = Base(job.model, check_folder(job.model), EmbedConfig.model_validate(said["embed"]))
    began = time.monotonic()
    n_steps = train.n_steps(len(training.pairs), section)
    tower = build(base, section, n_steps=n_steps, seed=job.seed)
    epochs: list[train.Epoch] = []
    if job.variant != UNTOUCHED:
        importance = said["tail_importance"]
        epochs = train.train(tower, training, valid, seed=job.seed, tail_importance=importance)
    seconds = time.monotonic() - began
    found = judge.judge(tower, valid, training.catalogue)
    classifier = head.fit_head(head.held_out_pairs(tower, training, job.seed))
    report = head.report(classifier, head.valid_pairs(tower, valid, training.catalogue, job.seed))
    int8, speed = None, (0.0, 0.0)
    if job.variant in IN_INT8:
        int8, speed = _in_int8(tower, valid, training.catalogue)
    return Done(job, len(training.pairs), epochs, found, report, seconds, int8, speed)


def _in_int8(
    tower: Tower, valid: data.ValidSet, catalogue: data.Catalogue
) -> tuple[judge.Judgement, tuple[float, float]]:
    """Judge the tower in 8 bits; and texts a second as taught and in 8 bits, one CPU thread."""
    with tempfile.TemporaryDirectory() as place:
        folder = Folder(place)
        saved.save(folder, tower)
        own = saved.load(folder, tower.base, "cpu")
    texts = list(catalogue.texts.values())[:_SPEED_TEXTS]
    rates = []
    for _ in range(2):
        own.encode_items(texts[:64])
        began = time.monotonic()
        own.encode_items(texts)
        rates.append(len(texts) / (time.monotonic() - began))
        if len(rates) == 1:
            own.to_int8()
    return judge.judge(own, valid, catalogue), (rates[0], rates[1])


def lines(done: Sequence[Done]) -> list[str]:
    """Return the report: means, differences from the untouched encoder and from each other, classes, and speed."""
    by_name = {each.job.variant: each for each in done}
    text = [_row("NDCG@10", judge.SEGMENTS), "|---" * 5 + "|"]
    counts = done[0].judged.values
    text.append(_row("users", [f"{len(counts[segment]):,}" for segment in judge.SEGMENTS]))
    text += [_measured(each.job.variant, each.judged, None) for each in done]
    pairs = [(name, UNTOUCHED) for name in by_name if name != UNTOUCHED and UNTOUCHED in by_name]
    for name, other in (*pairs, *PAIRED):
        if name in by_name and other in by_name:
            text.append(_measured(f"{name} - {other}", by_name[name].judged, by_name[other].judged))
    text += [_measured(f"{each.job.variant}, int8 - float", each.int8, each.judged) for each in done if each.int8]
    heads = ("variant", "pairs", "epoch chosen", "s", "texts/s -> int8", "class: precision, recall, F1, n")
    text += ["", _row(heads[0], heads[1:]), "|---" * len(heads) + "|"]
    for each in done:
        chosen = next((f"{row.epoch} of {len(each.epochs) - 1}" for row in each.epochs if row.is_chosen), "-")
        classes = "; ".join(f"{r.name} {r.precision:.3f}, {r.recall:.3f}, {r.f1:.3f}, {r.n:,}" for r in each.report)
        speed = f"{each.speed[0]:.0f} -> {each.speed[1]:.0f}"
        text.append(_row(each.job.variant, (f"{each.n_pairs:,}", chosen, f"{each.seconds:.0f}", speed, classes)))
    return text


def _measured(name: str, of: judge.Judgement, other: judge.Judgement | None) -> str:
    cells = []
    for segment in judge.SEGMENTS:
        values = of.values[segment] - (other.values[segment] if other is not None else 0.0)
        cells.append(_cell(of.users[segment], values))
    return _row(name, cells)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _cell(users: npt.NDArray[np.int32], values: npt.NDArray[np.float64]) -> str:
    if not len(values):
        return "no targets"
    bounds = interval(partial_sums(users, values[:, None], _REPLICATES, 42))
    return f"{values.mean():.4f} [{bounds.low[0]:.4f}, {bounds.high[0]:.4f}]"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("export")
    made.add_argument("-c", "--config", required=True)
    made.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    made.add_argument("--to", type=Path, required=True)
    learnt = commands.add_parser("learn")
    learnt.add_argument("folder", type=Path)
    learnt.add_argument("--model", type=Path, required=True, help="folder of the pretrained encoder")
    learnt.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="NAME")
    learnt.add_argument("--seed", type=int, default=42)
    learnt.add_argument("--epochs", type=int, help="most epochs")
    learnt.add_argument("--pairs", type=int, help="a sample of so many pairs teaches each variant")
    learnt.add_argument("--device", default="cpu")
    learnt.add_argument("--workers", type=int, default=1, help="trainings at a time")
    arguments = parser.parse_args(argv)
    if arguments.command == "export":
        export(arguments.config, arguments.set, arguments.to)
        return
    changes = (("epochs", arguments.epochs),) if arguments.epochs else ()
    folder, model = (str(path.resolve()) for path in (arguments.folder, arguments.model))
    job = Job(folder, model, "", arguments.seed, arguments.device, arguments.pairs, changes)
    done = []
    # a fresh interpreter each: a forked one cannot use a GPU
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for each in pool.map(learn, [replace(job, variant=name) for name in arguments.variants]):
            done.append(each)
            told = " ".join(f"{row.epoch}: {row.ndcg:.4f}/{row.ndcg_tail:.4f}" for row in each.epochs)
            print(f"{each.job.variant}: {told}, {each.seconds:.0f} s", flush=True)
    print("", *lines(done), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
