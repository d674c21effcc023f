"""The sequence model alone, with and without text: chosen on valid, then measured on test, over several seeds.

    python -m tests.benchmarks.bert_floors --config conf.yaml --seeds 42 43 44

runs the stages before the model once, then trains on valid until it gets no better, on test for as many epochs. Prints
NDCG@10 of all users and of those with a tail target (segment_top20), the whole catalogue ranked.
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from lt_spark import bert_stage
from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.files import Folder
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert import validation
from lt_spark.models.bert.inputs import read_items, read_questions
from lt_spark.models.bert.task import Epoch, TrainTask
from lt_spark.models.bert.train import build_network, train
from lt_spark.passes import run
from lt_spark.stages import Context
from tests.benchmarks.bert_variants import BEFORE


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", "-c", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--without-text", action="store_true", help="the same model without text beside it")
    parser.add_argument("--valid-only", action="store_true", help="do not look at test")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set).config
    spark = start_session(config, "bert floors")
    run(spark, config, purpose="evaluate", stages=[name for name in BEFORE])
    with ExitStack() as stack:
        made = {}
        for fold in ("valid", "test"):
            now = datetime.now(UTC).replace(tzinfo=None)
            context = Context(spark, config, Storage(spark, config, "bench"), "bench", fold, now)
            made[fold] = stack.enter_context(bert_stage._exported(context, judged=True))
        variants = [(name, text) for name, text in (("with text", True), ("ids alone", False))]
        for name, text in variants[: 2 if arguments.without_text else 1]:
            section = config.bert.model_copy(update={"use_text": text})
            rows = [measure(config, section, made, seed, name, arguments.valid_only) for seed in arguments.seeds]
            means = " ".join(f"{statistics.mean(column):.4f}" for column in zip(*rows, strict=True))
            print(f"{name}, mean of {len(rows)} seeds: valid all, tail, test all, tail: {means}", flush=True)


def measure(config: Config, section, made, seed: int, name: str, valid_only: bool) -> tuple[float, ...]:
    """Return NDCG@10 on valid (all, tail) and test (all, tail)."""
    best: Epoch | None = None
    objective = section.objectives[0]
    began = time.monotonic()
    for each in section.objectives:
        with tempfile.TemporaryDirectory() as folder:
            found = train(task(section, each, seed, made["valid"], folder, made["valid"].questions, None)).best
        print(f"  {name}, seed {seed}, {each}: epoch {found.epoch}, {found.ndcg:.4f} {found.ndcg_tail:.4f}", flush=True)
        if best is None or found.score > best.score:
            best, objective = found, each
    assert best is not None
    seconds = time.monotonic() - began
    on_test = (0.0, 0.0)
    if not valid_only:
        on_test = asked(section, objective, seed, made["test"], best.epoch)
    print(
        f"{name}, seed {seed}: {objective}, {best.epoch} epochs, valid {best.ndcg:.4f} / {best.ndcg_tail:.4f}, "
        f"test {on_test[0]:.4f} / {on_test[1]:.4f}; valid's training took {seconds:.0f} s",
        flush=True,
    )
    return best.ndcg, best.ndcg_tail, *on_test


def asked(section, objective: str, seed: int, made, n_epochs: int) -> tuple[float, float]:
    """Train on what test knows, and ask for its targets once."""
    with tempfile.TemporaryDirectory() as folder:
        trained = train(task(section, objective, seed, made, folder, "", n_epochs))
        items = read_items(made.items)
        network = build_network(section, objective, items, section.max_length)
        saved.restore_network(saved.whole(Folder(folder), trained.chosen), network)
    questions = read_questions(made.questions, section.max_length)
    sums = validation.ndcg_sums(network, items, questions, "cpu")
    return sums[0] / sums[1], sums[2] / max(sums[3], 1)


def task(section, objective: str, seed: int, made, folder: str, questions: str, n_epochs: int | None) -> TrainTask:
    checkpoints = str(Path(folder))
    return TrainTask(section, objective, seed, made.windows, made.items, questions, checkpoints, n_epochs)


if __name__ == "__main__":
    main(sys.argv[1:])
