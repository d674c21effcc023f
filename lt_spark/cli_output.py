"""What the command line shows: progress, the summary of a run, plans and tables."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lt_spark.core.config import Config
    from lt_spark.describe_stage import Estimate
    from lt_spark.passes import PlannedStage, RunSummary, StageEvent

BASELINE = "als_plain"
MODEL_ORDER = ("popularity", BASELINE, "als", "neighbours", "semantic", "lexical", "text_bert", "bert", "blend")
_PLAIN_WIDTH = 160
_CELL_CHARS = 60
_GROUP_LINES = 10
_LEFT_TO_THE_TABLE = ("history_length", "change")
_LINE_OF = {"start": "started", "done": "done", "up_to_date": "up to date", "failed": "failed"}

Listener = Callable[["StageEvent"], None]


def stdout() -> Console:
    """Return a console on standard output, made now so that redirections hold; wide where there is no terminal."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Return a console on standard error, made now so that redirections hold; wide where there is no terminal."""
    return _console(sys.stderr)


def _console(stream: Any) -> Console:
    return Console(file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, markup=False)


def print_json(value: Any) -> None:
    """Write one JSON object on one line of standard output; what is no number (NaN) becomes null."""
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None  # inf and NaN are no JSON
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


# ---- progress


def stage_label(stage: str, fold: str | None) -> str:
    """Return ``segment (valid)``, or ``clean`` for a stage without folds."""
    return f"{stage} ({fold})" if fold else stage


class Lines:
    """Progress as one line a stage, for files and logs."""

    def __call__(self, event: "StageEvent") -> None:
        """Write a line when a stage ends, and as it goes on where it tells."""
        if event.kind != "start":
            _write_error(f"[{event.index}/{event.total}] {event_line(event)}")


class JsonLines:
    """Progress as one JSON object a line: run id, stage, fold, rows, seconds; no ids of users or items."""

    def __init__(self, run_id: str) -> None:
        """Bind the lines to a run."""
        self._run_id = run_id

    def __call__(self, event: "StageEvent") -> None:
        """Write the event."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        _write_error(json.dumps({"time": stamp, "run_id": self._run_id, **_finite(asdict(event))}))


class Bar:
    """Progress as a bar on a terminal, with a line for each stage that is done."""

    def __init__(self, progress: Progress) -> None:
        """Bind the bar to a live display."""
        self._progress = progress
        self._task = progress.add_task("starting", total=None)
        self._at_work: dict[int, str] = {}

    def __call__(self, event: "StageEvent") -> None:
        """Move the bar."""
        label = stage_label(event.stage, event.fold)
        self._at_work[event.index] = f"{label}: {event.text}" if event.kind == "progress" else label
        if event.kind not in ("start", "progress"):
            del self._at_work[event.index]
            self._progress.update(self._task, completed=event.index)
            if event.kind != "up_to_date":
                self._progress.console.print(event_line(event))
        if self._at_work:
            self._progress.update(self._task, total=event.total, description=" | ".join(self._at_work.values()))


def _write_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def event_line(event: "StageEvent") -> str:
    """Return ``segment (valid) done in 1.2 s, 1,682 rows`` and the like."""
    if event.kind == "progress":
        return f"{stage_label(event.stage, event.fold)}: {event.text}"
    line = f"{stage_label(event.stage, event.fold)} {_LINE_OF[event.kind]}"
    if event.kind in ("done", "failed"):
        line += f" in {seconds(event.seconds)}"
    if event.kind == "done" and event.rows:
        line += ", " + ", ".join(f"{name.split('.')[-1]} {count:,} rows" for name, count in event.rows.items())
    if not event.is_complete:
        line += ", complete=false"
    return line


class ProgressDisplay(AbstractContextManager["Listener | None"]):
    """The progress that fits where the command runs: a bar, lines, JSON lines, or nothing."""

    def __init__(self, run_id: str, *, quiet: bool, log_json: bool) -> None:
        """Choose the display.

        Args:
            run_id: id of the run, for the JSON lines.
            quiet: no progress at all, unless ``log_json``.
            log_json: JSON lines on standard error.
        """
        self._bar: AbstractContextManager[Any] = nullcontext()
        self._listener: Listener | None = None
        if log_json:
            self._listener = JsonLines(run_id)
        elif not quiet and sys.stderr.isatty():
            columns = (
                SpinnerColumn(),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.description}", markup=False),
                TimeElapsedColumn(),
            )
            progress = Progress(*columns, console=stderr(), transient=True)
            self._bar, self._listener = progress, Bar(progress)
        elif not quiet:
            self._listener = Lines()

    def __enter__(self) -> "Listener | None":
        """Start the display and return the listener for ``lt_spark.run``."""
        self._bar.__enter__()
        return self._listener

    def __exit__(self, *error: Any) -> None:
        """Take the display away."""
        self._bar.__exit__(*error)


# ---- tables


def seconds(value: float) -> str:
    """Return ``0.4 s``, ``12.3 s`` or ``2 min 05 s``."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s"


def grid(heads: Sequence[str], rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> Table:
    """Return a table of plain cells; the columns named in ``right`` are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(Text(head, style="bold"), justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def cell(value: Any) -> str:
    """Return a value of a table as short text on one line; null as ``-``."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = " ".join(str(value).split())
    return text if len(text) <= _CELL_CHARS else text[: _CELL_CHARS - 1] + "…"


def interval(row: Mapping[str, Any] | None, name: str, sign: str = "") -> str:
    """Return ``.0693 [.0650, .0736]`` from a row of silver.metrics; ``-`` where it is not known."""
    if row is None or _finite(row.get(name)) is None:
        return "-"
    low, high = _finite(row.get(f"{name}_low")), _finite(row.get(f"{name}_high"))
    bounds = "" if low is None or high is None else f" [{low:{sign}.4f}, {high:{sign}.4f}]"
    return f"{row[name]:{sign}.4f}{bounds}"


def metrics_table(metrics: Sequence[Mapping[str, Any]]) -> Table:
    """Return NDCG@10 over all users and over the tail, by model, with the difference from plain ALS."""
    by_key = {(row["model_name"], row["segment"]): row for row in metrics}
    found = {row["model_name"] for row in metrics}
    models = [*(name for name in MODEL_ORDER if name in found), *sorted(found - set(MODEL_ORDER))]
    rows = []
    for segment, users in (("all", "all"), ("top20_tail", "tail")):
        for model in models:
            row = by_key.get((model, segment))
            difference = "(the baseline)" if model == BASELINE else interval(row, "difference", "+")
            rows.append((users, model, interval(row, "value"), difference))
    heads = ("users", "model", "NDCG@10 [95 %]", "against plain ALS [95 %]")
    return grid(heads, rows, right=heads[2:])


def groups_table(groups: Sequence[Mapping[str, Any]]) -> Table:
    """Return who gains and who loses by the blend: a line a group, at most ``_GROUP_LINES`` a grouping.

    ``history_length``, which ``activity`` sums up, and ``change``, which has no intervals, are left to the table.

    Args:
        groups: rows of ``silver.group_metrics`` of one model, fold and k.
    """
    lines = []
    for group_by in dict.fromkeys(("activity", "tail_taste", *sorted({str(row["group_by"]) for row in groups}))):
        rows = [row for row in groups if row["group_by"] == group_by and group_by not in _LEFT_TO_THE_TABLE]
        rows.sort(key=lambda row: row["group_order"])
        for row in rows[:_GROUP_LINES]:
            lines.append(
                (
                    cell(group_by),
                    cell(row["group"]),
                    f"{row['n_users']:,}",
                    cell(row["value"]),
                    interval(row, "difference", "+"),
                    f"{row['share_gaining']:.0%}",
                    f"{row['share_losing']:.0%}",
                )
            )
        if len(rows) > _GROUP_LINES:
            lines.append((cell(group_by), f"({len(rows) - _GROUP_LINES} more)", "", "", "", "", ""))
    k = next((row["k"] for row in groups), 10)
    heads = ("users by", "group", "users", f"NDCG@{k}", "blend against plain ALS [95 %]", "gain", "lose")
    return grid(heads, lines, right=heads[2:])


def stage_seconds(events: Sequence["StageEvent"]) -> Table:
    """Return the seconds each stage took over its folds, the slowest first."""
    spent: dict[str, float] = {}
    for event in events:
        if event.kind in ("done", "failed"):
            spent[event.stage] = spent.get(event.stage, 0.0) + event.seconds
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return grid(("stage", "seconds"), [(stage, f"{s:.1f}") for stage, s in ordered], right=("seconds",))


def print_summary(summary: "RunSummary", config: "Config", next_arguments: str) -> None:
    """Write the end of a run for a person: figures, times, where the tables are, what to do next."""
    out = stdout()
    out.print()
    if summary.metrics:
        out.print(metrics_table(summary.metrics))
        out.print("(on held-out events; tail: users whose event is on an item outside the top 20 %)")
        out.print()
    if summary.groups:
        out.print(groups_table(summary.groups))
        out.print("(on test; gain, lose: share of the users with a higher, or lower, NDCG than by plain ALS)")
        out.print()
    if summary.verdict:
        out.print(f"Verdict: {summary.verdict}")
        out.print()
    n_done = sum(event.kind == "done" for event in summary.stages)
    n_kept = sum(event.kind == "up_to_date" for event in summary.stages)
    if n_done:
        out.print(stage_seconds(summary.stages))
        out.print()
    kept = f", {n_kept} up to date and not run again" if n_kept else ""
    out.print(f"Run {summary.run_id} took {seconds(summary.seconds)}: {n_done} stage runs done{kept}.")
    where = f"catalog {config.tables.catalog}" if config.tables.catalog else config.tables.root
    n_gold = sum(name.startswith("gold.") for name in summary.tables)
    out.print(f"Tables: {len(summary.tables)} Delta tables in {where}, {n_gold} of them gold (what people read).")
    for note in summary.notes:
        out.print(f"Note: {note}")
    out.print("Next:")
    shown = "gold.recommendations" if summary.purpose != "evaluate" else "silver.metrics"
    commands = [
        (f"lt-spark show {shown} {next_arguments}", "a few rows"),
        (f"lt-spark tables {next_arguments}", "every table"),
    ]
    if summary.purpose == "evaluate":
        commands.insert(0, (f"lt-spark run --purpose produce {next_arguments}", "recommendations for everyone"))
    else:
        commands.append((f"lt-spark run --purpose produce {next_arguments}", "the daily command"))
    for command, why in commands:
        out.print(f"  {command}   # {why}", soft_wrap=True)


def plan_table(planned: Sequence["PlannedStage"]) -> Table:
    """Return what a run would do and why."""
    rows = [
        (
            stage_label(stage.stage, stage.fold),
            "runs" if stage.runs else "up to date",
            "" if not stage.runs else "?" if stage.expected_seconds is None else f"{stage.expected_seconds:.1f}",
            stage.reason,
        )
        for stage in planned
    ]
    return grid(("stage", "plan", "expected s", "why"), rows, right=("expected s",))


def plan_total(planned: Sequence["PlannedStage"]) -> str:
    """Return how many stages would run and about how long it takes, as far as earlier runs tell."""
    running = [stage for stage in planned if stage.runs]
    known = [stage.expected_seconds for stage in running if stage.expected_seconds is not None]
    n_unknown = len(running) - len(known)
    total = f"{len(running)} of {len(planned)} stage runs would run"
    if not running:
        return f"{total}: everything is up to date."
    if not known:
        return f"{total}; how long is not known before a first run."
    unknown = f", and {n_unknown} of unknown length" if n_unknown else ""
    return f"{total}, about {seconds(sum(known))} by earlier runs{unknown}."


def probe_lines(planned: Sequence["PlannedStage"], probe: "Estimate | None") -> list[str]:
    """Return what the language model would take, or why that is not known; nothing where it has no work."""
    if probe is not None:
        return [
            f"describe: {probe.items:,} items are left; by a probe of {probe.probed}: about {probe.tokens:,.0f} tokens "
            f"and {probe.hours:.2f} hours, cost {probe.cost:,.2f} (by language_model.price_per_million_tokens)."
        ]
    if any(stage.stage == "describe" and stage.runs for stage in planned):
        return [
            "describe: no probe: nothing is left to ask, or what it reads is not made yet (run --to segment first)."
        ]
    return []


def print_quality(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what `lt-spark enrich-quality` measured, a row a method and measure."""
    cells = [
        (row["examples"], row["method"], row["measure"], _share(row["value"]),
         f"[{_share(row['low'])}, {_share(row['high'])}]", row["n"])
        for row in rows
    ]  # fmt: skip
    heads = ("examples", "method", "measure", "mean", "95 %", "items")
    stdout().print(grid(heads, cells, right=heads[3:]))


def _share(value: float) -> str:
    return f"{value:.3f}" if value == value else "-"


def arguments(config_path: str, overrides: Sequence[str]) -> str:
    """Return the arguments that name the same configuration again, quoted for a shell."""
    return " ".join(["-c", shlex.quote(config_path), *(f"--set {shlex.quote(override)}" for override in overrides)])
