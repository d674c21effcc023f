"""How fast texts are asked for: through Spark against the bare engine, against a plain UDF, and each switch on and off.

    python tests/benchmarks/ask_speed.py --model FOLDER --encoder FOLDER --items CSV --title title --fields brand \
        --keywords categories --description description --n 128

All figures are of one run, one number format, and as many processes of one thread each; models are loaded, and a few
rows are asked, before a clock runs. Nothing is asserted. Beside wall time stands the processes' own CPU time: on a
machine that others use too, the ratio of CPU times is the steadier one.

- `spark` is the function of stage describe, on a DataFrame of rendered rows, written to Parquet in local[P]. `bare`
  is the engine alone on the same rows, dealt to P processes as Spark dealt them. Spark's wave judges the answers
  besides; what gate and encoder take is measured apart. No answer gets a second try.
- `newcomer` is the UDF one would write first: the model loaded once, `generate` row by row on the same prompts, greedy,
  as many tokens at most. It knows no rule of lines; a second figure gives it one. It is measured on a few rows.
- On a GPU (`--device cuda --processes 1`) batches of some sizes stand beside the switches; take 512 items, or the
  largest batch is not filled.
- Nearest examples ask for keywords and a description; fixed ones for keywords alone (the short prompt), calibrated and
  with the penalty, as the stage sets them. What is read of other items for that belongs to loading: once a process.
"""

import argparse
import csv
import hashlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from speed_crew import WARM_UP, Bare, Crew, Newcomer, Row, prompts_of

from lt_spark.core.config import Config
from lt_spark.core.config_text import DescribeConfig, EmbedConfig, LanguageModelConfig, TextGateConfig
from lt_spark.core.session import start_session
from lt_spark.engines.base import Decoding
from lt_spark.engines.make import load_encoder
from lt_spark.engines.model_files import describe_folder
from lt_spark.enrich import render
from lt_spark.enrich.ask import AskSettings, ask
from lt_spark.enrich.gate import Gate

KINDS = ("nearest", "fixed")
SWITCHES: dict[str, dict[str, Any]] = {
    "as set": {},
    "no reuse of the beginning": {"reuse_prefix": False},
    "no sorting by length": {"sort": False},
    "batches of 64 in row order": {"sort": False, "max_batch": 64, "batch_tokens": 10**9},
    "no guessed tokens": {"_drafts": False},
}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {},
    "cuda": {f"batches of {n}": {"max_batch": n, "batch_tokens": 10**9} for n in (64, 128, 256)},
}


def catalogue(arguments: argparse.Namespace) -> list[Row]:
    """Return the catalogue's items, in an order that nobody chose, with their vectors; the first n are asked for."""
    with open(arguments.items, encoding="utf-8", newline="") as file:
        items = [row for row in csv.DictReader(file) if row[arguments.title].strip()]
    items.sort(key=lambda row: hashlib.sha256(repr(row).encode()).hexdigest())
    items = items[: max(arguments.pool, arguments.n)]
    encoder = load_encoder(EmbedConfig(model=arguments.encoder), arguments.encoder).value
    vectors = encoder.encode([row[arguments.title] for row in items])
    names = (*arguments.fields, *arguments.keywords, *filter(None, [arguments.description]))
    return [
        {
            "item_idx": at,
            "item_id": str(at),
            "pool_rank": at,
            "title": row[arguments.title],
            "attributes": [{"name": name, "value": row[name]} for name in names if row[name]],
            "vector": vector.tolist(),
            "content_hash": "",
            "thinness": {"has_keywords": False, "n_chars": 0, "item_idx": at},
        }
        for at, (row, vector) in enumerate(zip(items, vectors, strict=True))
    ]


def settings_of(arguments: argparse.Namespace, kind: str, pool_folder: str) -> AskSettings:
    """Return what stage describe would send to the executors."""
    model = LanguageModelConfig(model=arguments.model, dtype=arguments.dtype, device=arguments.device)
    section = DescribeConfig(
        pack="ecommerce",
        examples=kind,  # type: ignore[arg-type]
        input_fields=arguments.fields,
        keyword_fields=arguments.keywords,
        description_field=arguments.description,
        ask_for="both" if kind == "nearest" else "keywords",
    )
    info = describe_folder(arguments.model)
    name = render.ModelName("transformers", info.name, info.revision)
    rendering = render.RenderSettings(section, model, "", name, pool_folder, 1)
    embed, gate = EmbedConfig(model=arguments.encoder), Gate(TextGateConfig(), frozenset())
    return AskSettings(rendering, embed, arguments.model, info, arguments.encoder, gate, "speed", 1, is_retried=False)


class Waves:
    """Waves through Spark."""

    def __init__(self, rows: Sequence[Row], settings: AskSettings, folder: Path, n: int) -> None:
        """Start the session and lay the rows down as the stage does."""
        os.environ["LT_SPARK_MASTER"] = f"local[{n}]"
        self.spark = start_session(Config(), "ask_speed")
        self.settings, self.folder, self.n = settings, folder, n
        schema = pa.schema([*render._RENDERED_ARROW, ("known_answer", pa.string())])
        for name, part in (("wave", rows), ("warm", rows[: WARM_UP * n])):
            pq.write_table(pa.Table.from_pylist(list(part), schema=schema), str(folder / f"{name}.parquet"))

    def run(self, name: str) -> tuple[float, list[Row]]:
        """Ask for the rows of a file; return wall time and the staging rows."""
        ddl = f"{render.RENDERED}, known_answer string"
        wave = self.spark.read.schema(ddl).parquet(str(self.folder / f"{name}.parquet"))
        out = str(self.folder / f"{name}_answers")
        began = time.perf_counter()
        ask(wave, self.settings, self.n).write.mode("overwrite").parquet(out)
        seconds = time.perf_counter() - began
        columns = ("item_idx", "seconds", "worker", "load_s", "n_output_tokens", "reason", "status")
        return seconds, [row.asDict() for row in self.spark.read.parquet(out).select(*columns).collect()]

    def measured(self) -> tuple[float, float, list[Row]]:
        """Warm up, then run the wave; return wall time, CPU time of the Python workers, and the rows."""
        _, warm = self.run("warm")
        pids = {int(row["worker"].rpartition(":")[2]) for row in warm}
        before = sum(map(cpu_of, pids))
        seconds, rows = self.run("wave")
        if {int(row["worker"].rpartition(":")[2]) for row in rows} != pids:
            sys.stdout.write("Spark took other Python workers for the wave: its time holds a load of the models\n")
        return seconds, sum(map(cpu_of, pids)) - before, rows


def cpu_of(pid: int) -> float:
    """Return the CPU seconds of a process so far; 0 where the system does not tell (only Linux does)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_spark(
    crew: Crew, waves: Waves, rows: list[Row], decoding: Decoding, repeats: int, say: Callable[..., None]
) -> float:
    """Print Spark's wave against the bare engine; return the wave's seconds."""
    by_idx = {row["item_idx"]: row for row in rows}
    figures = defaultdict(list)
    for _ in range(repeats):
        wall, cpu, answered = waves.measured()
        dealt = defaultdict(list)
        for row in answered:
            dealt[row["worker"]].append(row)
        parts = [[by_idx[row["item_idx"]] for row in part] for part in dealt.values()]
        parts += [[] for _ in range(waves.n - len(parts))]
        bare_wall, bare_cpu, texts = crew.ask("generate", [(prompts_of(part), {}, decoding) for part in parts])
        crew.ask("load_judge", [(waves.settings,)] * waves.n)
        judge_wall, judge_cpu, _ = crew.ask(
            "judge",
            [(part, [a.text for a in own]) for part, own in zip(parts, texts, strict=True)],
        )
        asking = max(sum(row["seconds"] for row in part) for part in dealt.values())
        for name, value in {
            "wave": wall,
            "bare": bare_wall,
            "gate and encoder": judge_wall,
            "whole": bare_wall / wall,
            "asking": bare_wall / asking,
            "without judging": bare_wall / (wall - judge_wall),
            "whole, CPU": bare_cpu / cpu if cpu else float("nan"),
            "without judging, CPU": bare_cpu / (cpu - judge_cpu) if cpu else float("nan"),
        }.items():
            figures[name].append(value)
    middle = {name: median(values) for name, values in figures.items()}
    say(
        "| through Spark against the bare engine | by wall time | by CPU time |\n| --- | --- | --- |\n"
        f"| generation alone, by the rows' own seconds | {middle['asking']:.3f} | |\n"
        f"| the wave less gate and encoder: Arrow and scheduling are in it | {middle['without judging']:.3f} | "
        f"{middle['without judging, CPU']:.3f} |\n"
        f"| the whole wave | {middle['whole']:.3f} | {middle['whole, CPU']:.3f} |\n"
        f"wave {middle['wave']:.1f} s, bare {middle['bare']:.1f} s, "
        f"gate and encoder {middle['gate and encoder']:.2f} s "
        f"({middle['gate and encoder'] / middle['wave']:.1%} of it)\n"
    )
    return middle["wave"]


def measure_switches(
    crew: Crew,
    rows: list[Row],
    decoding: Decoding,
    repeats: int,
    say: Callable[..., None],
    each: dict[str, dict[str, Any]],
) -> tuple[float, float]:
    """Print what each switch is worth; return the bare engine's wall and CPU seconds."""
    n = len(crew.workers)
    parts = [prompts_of(rows[at::n]) for at in range(n)]
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(repeats):
        for name, switches in each.items():
            wall, cpu, answers = crew.ask("generate", [(part, switches, decoding) for part in parts])
            times[name].append((wall, cpu))
            if name == "as set":
                flat = [answer for part in answers for answer in part]
    as_set = times["as set"]
    wall, cpu = (median(each[place] for each in as_set) for place in (0, 1))
    read, written = sum(a.n_prompt_tokens for a in flat), sum(a.n_output_tokens for a in flat)
    say(
        f"{len(flat)} prompts of {read / len(flat):.0f} tokens, answers of {written / len(flat):.0f}: "
        f"{(read + written) / wall:,.0f} tokens/s steady ({written / wall:,.0f} written), {len(flat) / wall:.2f} "
        f"items/s; {wall:.1f} s, CPU {cpu:.1f} s in {n} processes\n"
        "| takes so many times as long | by wall time | by CPU time |\n| --- | --- | --- |\n"
    )
    for name, own in times.items():
        ratios = [median(mine[place] / base[place] for mine, base in zip(own, as_set, strict=True)) for place in (0, 1)]
        say(f"| {name} | {ratios[0]:.2f} | {ratios[1]:.2f} |\n")
    return wall, cpu


def measure_newcomer(
    crew: Crew, rows: list[Row], decoding: Decoding, n_rows: int, ours: tuple[float, float], say: Callable[..., None]
) -> None:
    """Print how many times as long the plain UDF takes."""
    n = len(crew.workers)
    parts = [prompts_of(rows[:n_rows][at::n]) for at in range(n)]
    n_tokens, n_lines = decoding.max_new_tokens, decoding.max_lines
    for is_cut, name in (
        (False, f"ends at its end token or {n_tokens} tokens"),
        (True, f"ends after {n_lines} {'line' if n_lines == 1 else 'lines'} too"),
    ):
        wall, cpu, answers = crew.ask("generate", [(part, is_cut, decoding) for part in parts])
        done = sum(map(len, answers))
        written = sum(a.n_output_tokens for part in answers for a in part) / done
        ratios = [took / done * len(rows) / own for took, own in zip((wall, cpu), ours, strict=True)]
        say(
            f"newcomer's UDF, {name} ({done} rows, {written:.0f} tokens an answer, extrapolated): takes "
            f"{ratios[0]:.1f} times as long as the bare engine by wall time, {ratios[1]:.1f} by CPU "
            f"time; {done / wall:.2f} items/s\n"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="How fast texts are asked for.")
    parser.add_argument("--model", required=True, help="folder of the language model")
    parser.add_argument("--encoder", required=True, help="folder of the encoder")
    parser.add_argument("--items", required=True, help="CSV of the items")
    parser.add_argument("--title", default="title", help="column of the title")
    parser.add_argument("--fields", nargs="*", default=[], help="describe.input_fields")
    parser.add_argument("--keywords", nargs="*", default=[], help="describe.keyword_fields")
    parser.add_argument("--description", default="", help="describe.description_field")
    parser.add_argument("--show-all", action="store_true", help="prompts show keywords and description of the item too")
    parser.add_argument("--n", type=int, default=128, help="items that are asked for")
    parser.add_argument("--pool", type=int, default=2_000, help="items of the examples' pool")
    parser.add_argument("--processes", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where all sides run")
    parser.add_argument("--dtype", default="auto", help="number format of all sides")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each pair, in turns; medians are told")
    parser.add_argument("--newcomer-rows", type=int, default=12, help="rows of the newcomer's UDF")
    parser.add_argument("--what", default="spark,newcomer,switches", help="some of these")
    parser.add_argument("--examples", default=",".join(KINDS), help="some of these")
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch and Spark start: both pass it on
    what, n = arguments.what.split(","), arguments.processes

    def say(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    items = catalogue(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        pool_folder = Path(scratch) / "pool"
        (pool_folder / "shard=0").mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist([{name: row[name] for name in render._POOL.names} for row in items], render._POOL),
            str(pool_folder / "shard=0" / "pool.parquet"),
        )
        pool = render.Pool(items)
        shown = set(arguments.fields)
        asked = [
            row | {"attributes": [a for a in row["attributes"] if arguments.show_all or a["name"] in shown]}
            for row in items[: arguments.n]
        ]
        settings = {kind: settings_of(arguments, kind, str(pool_folder)) for kind in KINDS}
        rows = {kind: render.render_rows(asked, pool, each.render) for kind, each in settings.items()}
        crew = Crew(Bare, settings["nearest"], n)
        plain = Crew(Newcomer, settings["nearest"], n) if "newcomer" in what else None
        say(
            f"{os.cpu_count()} cores, {n} processes of 1 thread, {crew.kernels}\n"
            f"loading, apart: {crew.load_s:.1f} s a process\n"
        )
        for kind in arguments.examples.split(","):
            say(f"\n## {kind} examples\n")
            own = [row | {"known_answer": None} for row in rows[kind]]
            switches = (SWITCHES | SIZES[arguments.device]) if "switches" in what else {"as set": {}}
            decoding = settings[kind].render.calibrated(pool)
            crew.ask("generate", [(prompts_of(own[:WARM_UP]), {}, decoding)] * n)
            ours = measure_switches(crew, own, decoding, arguments.repeats, say, switches)
            if plain is not None:
                measure_newcomer(plain, own, decoding, arguments.newcomer_rows, ours, say)
            if "spark" in what:
                folder = Path(scratch) / kind
                folder.mkdir()
                measure_spark(crew, Waves(own, settings[kind], folder, n), own, decoding, arguments.repeats, say)
        for each in filter(None, (crew, plain)):
            each.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
