"""The ledger's experiments: each variant of the settings evaluated in a root of its own, judged, and the best taken.

:mod:`lt_spark.variants` says which there are. A stage that another root has done with the same key is copied, not
computed again, so a variant costs what it changes. What a language model wrote, and an encoder that was taught, are
made once, for the conf as it stands, and read by all variants.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession

from lt_spark.core import tables as t
from lt_spark.core.code import code_version
from lt_spark.core.config import Config
from lt_spark.core.config_groups import binding_groupings
from lt_spark.core.config_rerank import RerankConfig
from lt_spark.core.runs import RunLock, done_stages, new_run_id, record_stage, stage_key
from lt_spark.core.storage import Storage
from lt_spark.measure import ledger
from lt_spark.measure.group_metrics import compared
from lt_spark.passes import CHOOSERS, StageEvent, run
from lt_spark.pipeline import STAGES, chosen_stages
from lt_spark.rank.features import ALL_USERS
from lt_spark.stage_tasks import StageTask, done_row, forgotten_fingerprint, stage_tasks
from lt_spark.stages import BASELINE, BLEND, SETTING_SECTIONS, gate_k, newest_accepted
from lt_spark.variants import settings_hash, variant_configs

LEDGER_STAGE = "ledger"
_LEFT_OUT = ("gate", "publish", "rules")
"""The gate is asked by the ledger, for each model."""
_JUDGED_BY = ("evaluate", "groups")
_FIRST = "clean"
_MADE_ONCE = {"describe", "context", "text_bert"}
"""What a language model writes, and an encoder that is taught: made for the conf as it stands, and read by all."""


_Donor = tuple[Storage, dict[tuple[str, str], Row]]


@dataclass(frozen=True)
class _Variant:
    name: str
    config: Config
    storage: Storage
    is_choice: bool

    @property
    def hash(self) -> str:
        return settings_hash(self.config)


def _made_once(config: Config) -> tuple[str, ...]:
    """Return the stages that are made for the conf as it stands only, and are on."""
    is_off = set() if config.context.enabled else {"context"}  # off, it still hands the log on, anew for each variant
    return tuple(stage.name for stage in STAGES if stage.name in _MADE_ONCE - is_off and stage.is_on(config))


def _measured(config: Config) -> tuple[str, ...]:
    """Return the stages that a variant does itself."""
    left_out = (*_LEFT_OUT, *_made_once(config))
    return tuple(stage.name for stage in STAGES if stage.name not in left_out)


def run_ledger(
    spark: SparkSession, config: Config, *, listener: Callable[[StageEvent], None] | None = None
) -> list[dict[str, Any]]:
    """Evaluate every variant, write ``silver.ledger``, and accept the best variant that the gate lets through.

    What is done is not done again, so a ledger that was stopped goes on where it was, and one that is up to date
    writes nothing. The choice looks at valid only; it is appended to ``silver.accepted_settings``, which produce obeys.

    Args:
        spark: a session with Delta Lake.
        config: the configuration; its own tables are read, and get the ledger and the choice.
        listener: called at each stage's start and end; stages are named ``<variant> <stage>``.

    Returns:
        The rows of ``silver.ledger``: variants x models x folds x segments x metrics, a few hundred.

    Raises:
        LtSparkError: where input, configuration or storage stand in the way; the message says what to do.
    """
    run_id = new_run_id()
    main = Storage(spark, config, run_id)
    variants = [
        _Variant(name, made.config, Storage(spark, made.config, run_id), made.is_choice)
        for name, made in variant_configs(config).items()
    ]
    # users and items get their numbers here, and all variants take them over
    stages = [stage.name for stage in chosen_stages(None, None, (_FIRST, *_made_once(config))[-1])]
    stages = [name for name in stages if name != "rules"]
    run(spark, config, purpose="evaluate", stages=stages, run_id=run_id, listener=listener)
    for place, variant in enumerate(variants):
        donors = [main, *(other.storage for other in variants if other is not variant)]
        _reuse(spark, variant, donors, main, config)
        run(
            spark,
            variant.config,
            purpose="evaluate",
            stages=_measured(variant.config),
            run_id=run_id,
            listener=_named(listener, variant.name, place, len(variants)),
        )
    key = _ledger_key(spark, config, variants)
    done = done_stages(main).get((LEDGER_STAGE, ""))
    if done is None or done["stage_key"] != key:
        with RunLock(main, config):
            _conclude(spark, config, main, variants, key)
    rows = main.read(t.LEDGER).orderBy(*t.LEDGER.key).collect()  # variants x models x folds x segments x metrics
    return [row.asDict() for row in rows]


def _named(
    listener: Callable[[StageEvent], None] | None, variant: str, place: int, n_variants: int
) -> Callable[[StageEvent], None] | None:
    """Return the listener for a variant's stages, counted over all variants."""
    if listener is None:
        return None
    tell = listener

    def told(event: StageEvent) -> None:
        tell(
            replace(
                event,
                stage=f"{variant} {event.stage}",
                index=place * event.total + event.index,
                total=n_variants * event.total,
            )
        )

    return told


def _tasks(spark: SparkSession, variant: _Variant) -> list[StageTask]:
    return stage_tasks(spark, variant.config, variant.storage, "evaluate", _measured(variant.config), None, None)


def _tasks_of_all(spark: SparkSession, config: Config, storage: Storage, names: Sequence[str]) -> list[StageTask]:
    """Return the tasks of some stages, with the keys they have where all stages are done by this configuration."""
    tasks = stage_tasks(spark, config, storage, "evaluate", None, None, None)
    return [task for task in tasks if task.stage.name in names]


def _reuse(spark: SparkSession, variant: _Variant, donors: Sequence[Storage], main: Storage, config: Config) -> None:
    """Copy into the variant's root the stages that another root has done with the same key.

    Each root numbers users and items by itself, so only roots whose ids come from the same run of clean give to each
    other; a copied stage keeps the id of the run that did it.
    """
    forget_everywhere(main, variant.storage, variant.config)
    _take_ids_and_texts(spark, variant, main, config)
    tasks = _tasks(spark, variant)
    if all(task.is_done for task in tasks):
        return
    with RunLock(main, config), RunLock(variant.storage, variant.config):  # no run may change what is copied
        givers, is_renumbered = _givers(tasks[0], [(donor, done_stages(donor)) for donor in donors])
        taken: dict[str, Storage] = {}
        for task in tasks:
            if task.is_done and not is_renumbered:
                continue
            for donor, stages in givers:
                row = done_row(stages, task.stage, task.fold)
                if row is not None and row["stage_key"] == task.key:
                    record = Storage(spark, variant.config, row["run_id"])
                    _copy(task, row, donor, variant.storage, record, taken)
                    break
            else:
                if task.is_done:  # with the ids that the copied users and items no longer have
                    record_stage(variant.storage, task.stage.name, task.fold, "superseded: other ids", 0.0, {})


def _take_ids_and_texts(spark: SparkSession, variant: _Variant, main: Storage, config: Config) -> None:
    """Copy what a language model wrote and an encoder that was taught, whatever the variant changes.

    They are new where another run made them; then all that the variant did by the old ones is to be done again, as it
    is where it numbered users and items by itself.
    """
    names = _made_once(variant.config)
    of_main, mine = done_stages(main), done_stages(variant.storage)
    ids = (_FIRST, "")
    is_new = ids in mine and mine[ids]["run_id"] != of_main[ids]["run_id"]
    if is_new:
        record_stage(variant.storage, *ids, "superseded: other ids", 0.0, {})
    tasks = _tasks_of_all(spark, variant.config, variant.storage, names)
    made = {task: done_row(of_main, task.stage, task.fold) for task in tasks}
    if not is_new and not any(_is_stale(task, row) for task, row in made.items()):
        return
    with RunLock(main, config), RunLock(variant.storage, variant.config):
        for stage, fold in mine:
            if stage not in (_FIRST, *names):
                record_stage(variant.storage, stage, fold, "superseded: other texts", 0.0, {})
        for task, row in made.items():
            if row is not None:
                # the key of a stage in between is another once its forerunner is copied
                now = _tasks_of_all(spark, variant.config, variant.storage, (task.stage.name,))
                key = next(each.key for each in now if each.fold == task.fold)
                record = Storage(spark, variant.config, row["run_id"])
                _copy(replace(task, key=key), row, main, variant.storage, record)


def _is_stale(task: StageTask, row: Row | None) -> bool:
    """Return whether the main root has this stage by another run than the variant."""
    if row is None:
        return False
    return not task.is_done or task.done is None or task.done["run_id"] != row["run_id"]


def forget_everywhere(main: Storage, other: Storage, config: Config) -> None:
    """Take over into another root who asked to be forgotten, where it does not know it yet."""
    if forgotten_fingerprint(main) != forgotten_fingerprint(other):
        with RunLock(other, config):
            other.write(t.FORGOTTEN_USERS, main.read_or_empty(t.FORGOTTEN_USERS))


def _givers(clean: StageTask, donors: Sequence[_Donor]) -> tuple[list[_Donor], bool]:
    """Return the donors with the same ids as the variant, and whether the variant has to take over theirs."""
    cleaned = [(donor, donor[1].get((clean.stage.name, ""))) for donor in donors]
    same = [(donor, row["run_id"]) for donor, row in cleaned if row is not None and row["stage_key"] == clean.key]
    if clean.is_done and clean.done is not None:
        return [donor for donor, run_id in same if run_id == clean.done["run_id"]], False
    return [donor for donor, run_id in same if run_id == same[0][1]], bool(same)


def _copy(
    task: StageTask,
    done: Row,
    source: Storage,
    target: Storage,
    record: Storage,
    taken: dict[str, Storage] | None = None,
) -> None:
    """Copy the tables that a stage wrote there: where it had nothing to say it left some of them out.

    Args:
        task: the stage and fold.
        done: the source's row of it.
        source: where the tables are.
        target: where they go.
        record: where it is recorded, under the run that did it.
        taken: tables that were copied whole, with all folds, and from where; filled here. None: fold by fold.
    """
    started = time.monotonic()
    fold, rows = task.fold or None, dict[str, int]()
    n_rows = json.loads(done["rows"])
    for table in task.stage.writes:
        if table.full_name not in n_rows:
            continue
        if taken is not None and (taken.get(table.full_name) is source or target.take(table, source)):
            taken[table.full_name] = source
            rows[table.full_name] = n_rows[table.full_name]
        else:
            rows[table.full_name] = target.write(table, source.read(table, fold), fold, task.key)
    record_stage(record, task.stage.name, task.fold, task.key, time.monotonic() - started, rows)


def _ledger_key(spark: SparkSession, config: Config, variants: Sequence[_Variant]) -> str:
    return stage_key(
        {
            "code": [code_version("lt_spark.measure.ledger"), code_version("lt_spark.experiments")],
            "gate": [config.gate.model_dump(), binding_groupings(config)],
            "variants": {
                variant.name: [
                    # by other texts of the same settings the same stage is another run's
                    (task.key, task.done["run_id"] if task.done is not None else "")
                    for task in _tasks(spark, variant)
                    if task.stage.name in _JUDGED_BY
                ]
                for variant in variants
            },
        }
    )


def _conclude(spark: SparkSession, config: Config, main: Storage, variants: Sequence[_Variant], key: str) -> None:
    """Judge all variants, write the ledger, take the best."""
    started = time.monotonic()
    now = datetime.now(UTC).replace(tzinfo=None)
    k = gate_k(config)
    judged, parts = [], []
    for variant in variants:
        metrics = variant.storage.read(t.METRICS)
        # a row a model and segment
        found = [row.asDict() for row in ledger.goals(metrics, k).collect()]
        groups = compared(variant.storage.read(t.GROUP_METRICS), k).collect()  # a row a model and group
        of_variant = ledger.judge(
            variant.name, found, config.gate, [row.asDict() for row in groups], binding_groupings(config)
        )
        if variant.is_choice:
            judged += of_variant
        if of_variant:
            of_groups = variant.storage.read(t.GROUP_METRICS)
            parts.append(ledger.ledger_rows(metrics, of_groups, of_variant, k, variant.hash, now.date()))
    rows = reduce(DataFrame.unionByName, parts) if parts else spark.createDataFrame([], t.LEDGER.schema)
    n_rows = main.write(t.LEDGER, rows, stage_key=key)
    chosen = ledger.choose(judged)
    if chosen is None:
        _append_choice(spark, main, config, BASELINE, "refused", _refusals(judged), now)
    else:
        variant = next(variant for variant in variants if variant.name == chosen.variant)
        produced = _produced(config, variant, chosen.model_name)
        _adopt(spark, config, main, variant, produced, chosen.model_name)
        reason = f"{chosen.variant} {chosen.model_name}: {chosen.verdict.reason}"
        _append_choice(spark, main, produced, chosen.model_name, "accepted", reason, now)
    record_stage(main, LEDGER_STAGE, "", key, time.monotonic() - started, {t.LEDGER.full_name: n_rows})


def _refusals(judged: Sequence[ledger.Judged]) -> str:
    refused = [f"{one.variant} {one.model_name}: {one.verdict.reason}" for one in judged if one.word == "refused"]
    return " | ".join(refused) or "nothing was measured on valid"


def _produced(config: Config, variant: _Variant, model_name: str) -> Config:
    """Return the main root's configuration with the chosen variant's settings; one model alone is a blend of one."""
    sections = {name: getattr(variant.config, name) for name in SETTING_SECTIONS}
    if model_name != BLEND:
        sections["blend"] = variant.config.blend.model_copy(update={"models": (model_name,)})
        sections["rerank"] = RerankConfig(reach_share=0)  # a model alone is measured as it ranks
    return config.model_copy(update=sections)


def _append_choice(
    spark: SparkSession, main: Storage, config: Config, model_name: str, verdict: str, reason: str, now: datetime
) -> None:
    settings = {name: getattr(config, name).model_dump(mode="json") for name in SETTING_SECTIONS}
    measured = settings_hash(config)
    newest = newest_accepted(main)
    if newest is not None and (newest["config_hash"], newest["reason"]) == (measured, reason):
        return  # a ledger that was stopped after this write
    row = (main.run_id, now.date(), now, measured, verdict, reason, model_name, json.dumps(settings, sort_keys=True))
    main.write(t.ACCEPTED_SETTINGS, spark.createDataFrame([row], t.ACCEPTED_SETTINGS.schema))


def _adopt(
    spark: SparkSession, config: Config, main: Storage, variant: _Variant, produced: Config, model_name: str
) -> None:
    """Put into the main root what produce reads of valid: the choices of ALS, its text and bert, and the blend weights.

    They are recorded under the chosen settings' keys. Where those are not the conf's own, the next evaluation of the
    conf tunes again, and has its own gate decide again: weights and accepted settings never belong to two settings.
    """
    own = {
        (task.stage.name, task.fold): task for task in stage_tasks(spark, config, main, "evaluate", None, None, None)
    }
    gate, done = own["gate", "valid"], done_stages(variant.storage)
    for task in _tasks_of_all(spark, produced, main, CHOOSERS):
        if task.is_done:
            continue
        mine = own.get((task.stage.name, task.fold))
        if (mine is None or mine.key != task.key) and gate.is_done:
            record_stage(main, "gate", "valid", "superseded by the ledger", 0.0, {})
        if task.stage.name == "tune" and model_name != BLEND:
            weights = spark.createDataFrame([(ALL_USERS, model_name, 1.0, 0.0)], t.BLEND_WEIGHTS.schema)
            rows = {t.BLEND_WEIGHTS.full_name: main.write(t.BLEND_WEIGHTS, weights, stage_key=task.key)}
            record_stage(main, "tune", task.fold, task.key, 0.0, rows)
        else:
            _copy(task, done[task.stage.name, task.fold], variant.storage, main, main)
