"""Passes over the pipeline: what is up to date is skipped, the rest is done and recorded."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lt_spark import bert_stage as bs
from lt_spark import describe_stage as ds
from lt_spark import enrich_stages as es
from lt_spark import stages as s
from lt_spark import text_bert_stage as ts
from lt_spark.core import tables as t
from lt_spark.core.checkpoints import checkpoints
from lt_spark.core.config import Config
from lt_spark.core.errors import LtSparkError, RunLockedError
from lt_spark.core.files import Folder
from lt_spark.core.runs import IN_PROGRESS, RunLock, done_stages, new_run_id, record_run, record_stage
from lt_spark.core.session import check_classic, describe_job
from lt_spark.core.storage import Storage, disk_errors
from lt_spark.pipeline import STAGES, Purpose
from lt_spark.side_by_side import do_all, waits_for
from lt_spark.stage_tasks import Done, StageTask, going_on, stage_tasks

CHOOSERS = ("tune_als", "als", "tune_bert", "tune")
"""Stages whose choices on valid fold live obeys."""


@dataclass(frozen=True)
class StageEvent:
    """What happened to a stage of a fold."""

    kind: Literal["start", "progress", "done", "up_to_date", "failed"]
    stage: str
    fold: str | None
    index: int
    total: int
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    text: str = ""
    """How far a stage is, for kind progress."""
    is_complete: bool = True
    """False: the stage was stopped by its budget."""


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with a stage of a fold, and why."""

    stage: str
    fold: str | None
    runs: bool
    reason: str
    expected_seconds: float | None


@dataclass(frozen=True)
class RunSummary:
    """What a run did."""

    run_id: str
    purpose: str
    seconds: float
    stages: list[StageEvent]
    tables: dict[str, str]
    metrics: list[dict[str, object]]
    verdict: str
    notes: list[str]
    groups: list[dict[str, object]] = field(default_factory=list)
    """The blend on test by group of users: rows of silver.group_metrics."""


def run(
    spark: SparkSession,
    config: Config,
    *,
    purpose: Purpose = "both",
    stages: Sequence[str] | None = None,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
    go_on: bool = False,
    renew_examples: bool = False,
    run_id: str | None = None,
    listener: Callable[[StageEvent], None] | None = None,
) -> RunSummary:
    """Run the pipeline: what is up to date is skipped, the rest is done and recorded.

    Args:
        spark: a session with Delta Lake.
        config: the configuration, as ``load_config`` gives it.
        purpose: evaluate (folds valid and test), produce (fold live), or both.
        stages: only these stages.
        first: start with this stage.
        last: end with this stage.
        force: do the chosen stages even where they are up to date.
        go_on: go on with stages that their budget stopped, with a new budget.
        renew_examples: make a new version of the pool of examples that the language model is shown.
        run_id: id of an interrupted run to take over; a new one by default.
        listener: called at each stage's start and end.

    Returns:
        What was done, where the tables are, and the test metrics.

    Raises:
        LtSparkError: where input, configuration or storage stand in the way; the message says what to do.
    """
    check_classic(spark)
    started = time.monotonic()
    storage = Storage(spark, config, run_id or new_run_id())
    Folder(storage.exports()).opened()  # before any stage: executors read files of stages without Spark
    config, notes = _with_accepted(storage, config, purpose)

    def tasks_of(done: Done) -> list[StageTask]:
        found = stage_tasks(spark, config, storage, purpose, stages, first, last, done)
        return going_on(found, go_on=go_on, renew_examples=renew_examples)

    done = done_stages(storage)
    tasks = tasks_of(done)
    events: list[StageEvent] = []
    tell = _in_turn(listener or (lambda event: None))
    if all(task.is_done for task in tasks) and not force:
        for index, task in enumerate(tasks, start=1):
            events.append(StageEvent("up_to_date", task.stage.name, task.fold or None, index, len(tasks)))
            tell(events[-1])
        notes.append("everything is up to date: nothing was done")
        return _summary(storage, purpose, started, events, [], notes)
    due = {task.stage.name for task in tasks if force or not task.is_done}
    es.check_models(spark, config, due)
    ts.check_installed(config, due)
    bs.check_installed(due)
    with disk_errors(config), RunLock(storage, config) as lock, checkpoints(storage):
        now = done_stages(storage)
        if now != done:  # another run ended meanwhile
            tasks = tasks_of(now)
        for task in tasks:
            # what reads the tables of a stage that goes on is stale from now on, killed or not
            if task.goes_on and task.done is not None:
                record_stage(storage, task.stage.name, task.fold, IN_PROGRESS, 0.0, {})
        stopped = threading.Event()
        contexts = [_context(spark, config, storage, task, renew_examples, stopped, lock) for task in tasks]

        def do(place: int) -> None:
            _do(contexts[place], tasks[place], place + 1, len(tasks), force, lambda e: _note(e, events, tell))

        try:
            waits = waits_for([(task.stage, task.fold) for task in tasks])
            do_all(spark, waits, do, config.run.side_by_side, stopped)
        finally:
            notes += [note for context in contexts for note in context.notes]
            events.sort(key=lambda event: event.index)
            record_run(
                storage,
                [
                    (e.stage, e.fold, e.kind.replace("_", " "), e.seconds, e.rows, tasks[e.index - 1].key)
                    for e in events
                ],
            )
    return replace(
        _summary(storage, purpose, started, events, _test_metrics(storage), notes), groups=_test_groups(storage, config)
    )


def plan(
    spark: SparkSession,
    config: Config,
    *,
    purpose: Purpose = "both",
    stages: Sequence[str] | None = None,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
    go_on: bool = False,
    renew_examples: bool = False,
) -> list[PlannedStage]:
    """Return what :func:`run` would do with the same arguments: which stages run, and why. Writes nothing.

    Raises:
        LtSparkError: over Spark Connect, or where input, configuration or storage stand in the way.
    """
    check_classic(spark)
    storage = Storage(spark, config)
    config, _ = _with_accepted(storage, config, purpose)
    planned = []
    tasks = stage_tasks(spark, config, storage, purpose, stages, first, last)
    for task in going_on(tasks, go_on=go_on, renew_examples=renew_examples):
        runs = force or not task.is_done
        if not runs:
            reason = "up to date"
        elif task.done is None:
            reason = "never done"
        elif task.done["stage_key"] == IN_PROGRESS:
            reason = "it was stopped half-way"
        elif task.goes_on:
            reason = "goes on, or reads what goes on"
        else:
            reason = "forced" if task.is_done else "its settings, code or inputs changed"
        seconds = float(task.done["seconds"]) if task.done is not None else None
        planned.append(PlannedStage(task.stage.name, task.fold or None, runs, reason, seconds if runs else 0.0))
    return planned


def probe(spark: SparkSession, config: Config, planned: Sequence[PlannedStage]) -> ds.Estimate | None:
    """Return what describe would take if it ran as planned, by asking the model for 32 items. Writes no table.

    None where it would not run, has nothing to ask, or what it reads is not made yet.
    """
    by_name = {stage.stage: stage for stage in planned if stage.fold in (None, "valid")}
    due = [stage for stage in planned if stage.stage == "describe" and stage.runs]
    first = ("clean", "embed", "split", "segment")
    if not due or any(name in by_name and by_name[name].runs for name in first):
        return None
    storage = Storage(spark, config, new_run_id())
    if not all(storage.exists(table) for table in (t.ITEMS, t.ITEM_EMBEDDINGS, t.ITEM_SEGMENTS)):
        return None
    now = datetime.now(UTC).replace(tzinfo=None)
    return ds.estimate(s.Context(spark, config, storage, "describe", due[0].fold or "", now))


def _in_turn(tell: Callable[[StageEvent], None]) -> Callable[[StageEvent], None]:
    """Return a listener that is told of one event at a time."""
    turn = threading.Lock()

    def told(event: StageEvent) -> None:
        with turn:
            tell(event)

    return told


def _note(event: StageEvent, events: list[StageEvent], tell: Callable[[StageEvent], None]) -> None:
    if event.kind not in ("start", "progress"):
        events.append(event)
    tell(event)


def _context(
    spark: SparkSession,
    config: Config,
    storage: Storage,
    task: StageTask,
    renew_examples: bool,
    stopped: threading.Event,
    lock: RunLock,
) -> s.Context:
    def check() -> None:
        if lock.lost.is_set():
            raise RunLockedError(
                f"stage {task.stage.name} ends without what it was making: another run took these tables over, for "
                f"this one was silent for {config.run.lock_stale_after_s:.0f} s (a machine that slept?). Run again."
            )
        if stopped.is_set():
            raise LtSparkError(f"the run was interrupted: stage {task.stage.name} ends without what it was making")

    now = datetime.now(UTC).replace(tzinfo=None)
    return s.Context(
        spark,
        config,
        storage,
        task.stage.name,
        task.fold,
        now,
        task.key,
        renew_examples=renew_examples,
        check=check,
    )


def _do(
    context: s.Context,
    task: StageTask,
    index: int,
    total: int,
    force: bool,
    tell: Callable[[StageEvent], None],
) -> None:
    name, fold, storage = task.stage.name, task.fold or None, context.storage
    if task.is_done and not force:
        tell(StageEvent("up_to_date", name, fold, index, total))
        return
    tell(StageEvent("start", name, fold, index, total))
    if task.done is not None and not task.goes_on:
        # should this run be killed half-way, no conf may take the tables for those of the key that stands there now
        record_stage(storage, name, task.fold, IN_PROGRESS, 0.0, {})
    describe_job(context.spark, f"lt_spark {name}{f' ({fold})' if fold else ''}")
    started = time.monotonic()

    def tell_progress(text: str) -> None:
        context.check()
        tell(StageEvent("progress", name, fold, index, total, time.monotonic() - started, text=text))

    context.tell = tell_progress
    try:
        task.stage.run(context)
        context.check()
    except Exception:
        seconds = time.monotonic() - started
        tell(StageEvent("failed", name, fold, index, total, seconds, context.rows))
        raise
    seconds = time.monotonic() - started
    record_stage(storage, name, task.fold, task.key, seconds, context.rows, is_complete=context.is_complete)
    tell(StageEvent("done", name, fold, index, total, seconds, context.rows, is_complete=context.is_complete))


def _with_accepted(storage: Storage, config: Config, purpose: Purpose) -> tuple[Config, list[str]]:
    """Return the configuration that produce uses: the sections of the newest accepted settings laid over it."""
    if purpose != "produce":
        return config, []
    row = s.newest_accepted(storage)
    if row is None:
        return config, ["no accepted settings: run with --purpose evaluate first; the conf is used as it is"]
    notes = []
    age = datetime.now(UTC).replace(tzinfo=None) - row["decided_at"]
    if age > timedelta(days=config.produce.max_age_days):
        notes.append(
            f"warning: the accepted settings are {age.days} days old, above produce.max_age_days "
            f"({config.produce.max_age_days:g}): run with --purpose evaluate"
        )
    if later := _unjudged(done_stages(storage)):
        notes.append(
            f"warning: {', '.join(later)} of fold valid ran after the settings were accepted: what they chose is used, "
            "and nothing judged it: run with --purpose evaluate"
        )
    settings = json.loads(row["settings"])
    accepted = {name: type(getattr(config, name)).model_validate(settings[name]) for name in settings}
    changed = sorted(name for name, section in accepted.items() if section != getattr(config, name))
    if changed:
        notes.append(f"accepted settings of run {row['run_id']} stand in for the conf's: {', '.join(changed)}")
    return config.model_copy(update=accepted), notes


def _unjudged(done: Done) -> list[str]:
    """Return the stages that choose on valid, and did so after the gate or the ledger decided for the last time."""
    judges = [row for place in (("gate", "valid"), ("ledger", "")) if (row := done.get(place))]
    judged_at = max((row["done_at"] for row in judges if row["stage_key"] != IN_PROGRESS), default=datetime.min)
    chosen = ((name, done.get((name, "valid"))) for name in CHOOSERS)
    return [name for name, row in chosen if row is not None and row["done_at"] > judged_at]


def _test_metrics(storage: Storage) -> list[dict[str, object]]:
    if not storage.exists(t.METRICS):
        return []
    rows = storage.read(t.METRICS, "test").where(
        (F.col("metric") == "ndcg") & F.col("segment").isin("all", "top20_tail")
    )
    # a row a model and segment
    found = [row.asDict() for row in rows.collect()]
    lengths = sorted({int(row["k"]) for row in found})
    k = 10 if 10 in lengths else (lengths or [0])[0]
    return [row for row in found if row["k"] == k]


def _test_groups(storage: Storage, config: Config) -> list[dict[str, object]]:
    if not storage.exists(t.GROUP_METRICS):
        return []
    rows = storage.read(t.GROUP_METRICS, "test").where(
        (F.col("model_name") == s.BLEND) & (F.col("k") == s.gate_k(config))
    )
    # a row a group
    return [row.asDict() for row in rows.orderBy("group_by", "group_order").collect()]


def _summary(
    storage: Storage,
    purpose: str,
    started: float,
    events: list[StageEvent],
    metrics: list[dict[str, object]],
    notes: list[str],
) -> RunSummary:
    written = [
        table for stage in STAGES if any(event.stage == stage.name for event in events) for table in stage.writes
    ]
    verdict = ""
    if metrics:
        row = s.newest_accepted(storage)
        verdict = f"{row['verdict']}: {row['reason']}" if row is not None else ""
    return RunSummary(
        run_id=storage.run_id,
        purpose=purpose,
        seconds=time.monotonic() - started,
        stages=events,
        tables={table.full_name: storage.location(table) for table in written},
        metrics=metrics,
        verdict=verdict,
        notes=notes,
    )
