"""The floors: what the default settings reach on two data sets, beside what they have to reach.

    python tests/benchmarks/floors.py DATA_FOLDER [--out FILE] [--set section.key=value]

DATA_FOLDER has the folders amazon_scientific and ml_latest_small, each with interactions.csv (user_id, item_id,
timestamp, perhaps rating) and items.csv (item_id, title, text columns). For each the configuration is the one that
`lt-spark init` writes; everything is chosen on valid, then test is looked at once. Prints a markdown table; ends with
exit code 1 where a floor is not met or was not measured.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

import lt_spark
from lt_spark.core import tables as t
from lt_spark.core.code import stage_code
from lt_spark.core.config import Config
from lt_spark.core.config_files import LoadedConfig, config_hash, load_config
from lt_spark.core.runs import stage_key
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.engines.found_encoder import find_encoder
from lt_spark.pipeline import STAGES
from lt_spark.prepare.conf_text import conf_text, files_root
from lt_spark.prepare.inspect import inspect_files

K = 10
MODELS = ("als_plain", "als", "neighbours", "semantic", "lexical", "bert", "popularity", "blend")
FIGURES = {
    "NDCG@10, all": ("all", "ndcg"),
    "NDCG@10, tail": ("top20_tail", "ndcg"),
    "coverage@10 of the tail": ("top20_tail", "coverage"),
}
"""Segment and metric of what has floors; tail: items outside the top 20 %, and users whose target is one."""
FLOORS: dict[str, dict[str, tuple[float | None, float | None, float | None]]] = {
    "amazon_scientific": {
        "als_plain": (0.066, 0.021, None),
        "neighbours": (0.078, 0.050, None),
        "blend": (0.092, 0.063, 0.95),
    },
    "ml_latest_small": {
        "als_plain": (0.037, None, None),
        "neighbours": (0.050, 0.011, None),
        "blend": (0.060, 0.025, None),
    },
}
"""The least of each of FIGURES."""
HEADS = ("data", "figure", "model", "value [95 %]", "floor", "", "against als_plain [95 %]", "p")
_PLACES = ("tables", "files", "run", "source")

Metrics = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""Rows of silver.metrics by (model_name, segment, metric)."""


def init_conf(data: Path, work: Path, overrides: Sequence[str]) -> LoadedConfig:
    """Write the configuration that `lt-spark init` would write for a folder, and load it."""
    inspection = inspect_files([str(data / "interactions.csv"), str(data / "items.csv")])
    text = conf_text(inspection, find_encoder(files_root(inspection)))
    conf = work / "lt-spark.yaml"
    conf.write_text(text, encoding="utf-8")
    places = [f"tables.root={work / 'tables'}", f"files.root={work / 'files'}"]
    return load_config(str(conf), [*places, *overrides])


def measure(spark: SparkSession, config: Config) -> dict[str, Metrics]:
    """Run the EVALUATE pass and return the metrics of valid and of test."""

    def tell(event: Any) -> None:
        if event.kind == "done":
            sys.stderr.write(f"  {event.stage} {event.fold or ''} {event.seconds:.1f} s\n")

    lt_spark.run(spark, config, purpose="evaluate", listener=tell)
    rows = Storage(spark, config).read(t.METRICS).where(f"k = {K}").collect()
    return {
        fold: {(row["model_name"], row["segment"], row["metric"]): row.asDict() for row in rows if row["fold"] == fold}
        for fold in ("valid", "test")
    }


def valid_row(name: str, metrics: Metrics) -> tuple[str, ...]:
    """Return a data set's line of NDCG on valid, overall / tail, a cell a model."""
    cells = [
        " / ".join(
            f"{row['value']:.4f}" if (row := metrics.get((model, segment, "ndcg"))) else "-"
            for segment in ("all", "top20_tail")
        )
        for model in MODELS
    ]
    return name, *cells


def with_interval(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    """Return a value of a row with its interval, where it has one."""
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{sign}.4f}" + (f" [{low:{sign}.4f}, {high:{sign}.4f}]" if low is not None else "")


def table_rows(name: str, metrics: Metrics) -> list[tuple[str, ...]]:
    """Return the lines of a data set: figures x models."""
    lines: list[tuple[str, ...]] = []
    for place, (figure, (segment, metric)) in enumerate(FIGURES.items()):
        for model in MODELS:
            row = metrics.get((model, segment, metric))
            if row is None:
                continue
            floor = FLOORS.get(name, {}).get(model, (None,) * len(FIGURES))[place]
            is_met = "" if floor is None else "met" if row["value"] >= floor else "NOT MET"
            against = with_interval(row, "difference", "+") if model != "als_plain" else ""
            p = f"{row['p_value']:.3f}" if against and row["p_value"] is not None else ""
            floor_cell = "-" if floor is None else f"{floor:.3f}"
            lines.append((name, figure, model, with_interval(row, "value"), floor_cell, is_met, against, p))
    return lines


def floors() -> list[tuple[str, str, str]]:
    """Return (data set, model, figure) of every floor; what was not measured has not met it."""
    return [
        (name, model, figure)
        for name, models in FLOORS.items()
        for model, least in models.items()
        for figure, floor in zip(FIGURES, least, strict=True)
        if floor is not None
    ]


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    return markdown_rows([heads, ["---"] * len(heads), *rows])


def markdown_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of a markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def blas_lines() -> list[str]:
    """Return a line a BLAS that numpy brings, with the kernels it chose for this processor.

    Sums in another order differ in their last digits, so figures are compared on the same line only.
    """
    import numpy  # noqa: F401  (loads its BLAS)

    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return ["BLAS unknown: pip install threadpoolctl"]
    found = [info for info in threadpool_info() if info.get("user_api") == "blas"]
    return [
        f"BLAS {info['internal_api']} {info.get('version')}, architecture {info.get('architecture')}, "
        f"{info['num_threads']} threads"
        for info in found
    ] or ["BLAS none"]


def processor() -> str:
    """Return the processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "processor unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "processor unknown")


def report(folder: Path, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """Run every data set that is there, and return the report as markdown, and the floors that are not met."""
    names = [name for name in FLOORS if (folder / name / "interactions.csv").is_file()]
    if not names:
        sys.exit(f"{folder}: expected the folders {', '.join(FLOORS)} with interactions.csv and items.csv, found none")
    rows: list[tuple[str, ...]] = []
    valid: list[tuple[str, ...]] = []
    notes = []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="lt-spark-floors-") as work:
            loaded = init_conf(folder / name, Path(work), overrides)
            spark = start_session(loaded.config, "lt-spark floors")
            sys.stderr.write(f"{name}\n")
            started = time.monotonic()
            metrics = measure(spark, loaded.config)
            rows += table_rows(name, metrics["test"])
            valid.append(valid_row(name, metrics["valid"]))
            took = time.monotonic() - started
        settings = config_hash(loaded.config, [key for key in Config.model_fields if key not in _PLACES])
        notes.append(f"- {name}: config {settings}, seed {loaded.config.core.seed}, {took:.0f} s")
    met = {(row[0], row[1], row[2]) for row in rows if row[5] == "met"}
    missed = [f"{name} {model} {figure}" for name, model, figure in floors() if (name, figure, model) not in met]
    code = stage_key([stage_code(stage.run) for stage in STAGES])[:16]
    notes.append(f"- code of the stages {code}")
    notes.append(f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, lt_spark {lt_spark.__version__}")
    notes.append(f"- {processor()}; {'; '.join(blas_lines())}")
    if overrides:
        notes.append(f"- set: {', '.join(overrides)}")
    missing = [name for name in FLOORS if name not in names]
    if missing:
        notes.append(f"- not there: {', '.join(missing)}")
    notes.append(f"- floors not met or not measured: {', '.join(missed)}" if missed else "- every floor is met")
    tables = [markdown(("valid, all / tail", *MODELS), valid), markdown(HEADS, rows)]
    return "\n\n".join([*tables, "\n".join(notes)]) + "\n", missed


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit code."""
    parser = argparse.ArgumentParser(description="What the default settings reach on two data sets, and their floors.")
    parser.add_argument("folder", type=Path, help="has the folders amazon_scientific and ml_latest_small")
    parser.add_argument("--out", type=Path, help="write the report to this file too")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting; repeatable")
    arguments = parser.parse_args(argv)
    text, missed = report(arguments.folder, arguments.set)
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
