"""Items that nobody used yet: what each model finds of them.

    python -m tests.benchmarks.cold_items DATA_FOLDER [--out FILE] [--set section.key=value]

DATA_FOLDER has a folder a data set, as for floors.py. Whole items are held out (``split.method: cold_items``), each
user's events on them are the targets, and all items are ranked. The configuration is the one that `lt-spark init`
writes, without the sequence model and without neighbours, which know no cold item. Everything is chosen on valid, whose
items are others than test's. Prints a markdown table.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lt_spark.core.session import start_session
from tests.benchmarks.floors import init_conf, markdown, measure

OVERRIDES = ("split.method=cold_items", "blend.models=[als, semantic, lexical, popularity]")
MODELS = ("popularity", "als_plain", "als", "semantic", "lexical", "blend")
HEADS = ("data", "fold", "users", "model", "NDCG@10 [95 %]", "recall@10 [95 %]", "coverage@10")


def rows(name: str, data: Path, overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Run one data set; return a line a fold and model."""
    with tempfile.TemporaryDirectory(prefix="lt-spark-cold-") as work:
        loaded = init_conf(data, Path(work), [*OVERRIDES, *overrides])
        found = measure(start_session(loaded.config, "lt-spark cold items"), loaded.config)
    lines = []
    for fold, metrics in found.items():
        for model in MODELS:
            ndcg, recall, coverage = (metrics.get((model, "all", metric)) for metric in ("ndcg", "recall", "coverage"))
            if ndcg is None or recall is None or coverage is None:
                continue
            values = [f"{row['value']:.4f} [{row['value_low']:.4f}, {row['value_high']:.4f}]" for row in (ndcg, recall)]
            lines.append((name, fold, f"{ndcg['n_users']:,}", model, *values, f"{coverage['value']:.3f}"))
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit code."""
    parser = argparse.ArgumentParser(description="What each model finds of items that nobody used yet.")
    parser.add_argument("folder", type=Path, help="has a folder a data set, each with interactions.csv and items.csv")
    parser.add_argument("--out", type=Path, help="write the table there too")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    folders = sorted(path.parent for path in arguments.folder.glob("*/interactions.csv"))
    if not folders:
        sys.exit(f"{arguments.folder}: expected folders with interactions.csv and items.csv, found none")
    lines = [line for folder in folders for line in rows(folder.name, folder, arguments.overrides)]
    table = markdown(HEADS, lines)
    sys.stdout.write(table + "\n")
    if arguments.out:
        arguments.out.write_text(table + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
