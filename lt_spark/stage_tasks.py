"""What a run has to do: the stages of each fold, whether they are up to date, and what goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from lt_spark import blend_stage as ls
from lt_spark import enrich_stages as es
from lt_spark import text_bert_stage as ts
from lt_spark.core import tables as t
from lt_spark.core.code import stage_code
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError
from lt_spark.core.runs import done_stages, stage_key
from lt_spark.core.storage import Storage
from lt_spark.pipeline import EVALUATE, PRODUCE, STAGES, Purpose, Stage, chosen_stages, settings_of, tables_read
from lt_spark.prepare.sources import source_fingerprint

Done = Mapping[tuple[str, str], Row]
"""The newest row of each stage and fold, as :func:`lt_spark.core.runs.done_stages` gives it."""

_OFF = "off"
"""Stands in for the key of a stage that is off, whatever its settings: who reads its tables makes do without."""


@dataclass(frozen=True)
class StageTask:
    """A stage in a fold ('' where it has none), its key by settings, code and inputs, and its newest done row."""

    stage: Stage
    fold: str
    key: str
    done: Row | None

    goes_on: bool = False
    """Whether it was stopped by its budget and is to go on, or reads what such a stage will write."""

    @property
    def is_done(self) -> bool:
        """Whether the newest done row has this key, and it is not to go on."""
        return self.done is not None and self.done["stage_key"] == self.key and not self.goes_on


def stage_tasks(
    spark: SparkSession,
    config: Config,
    storage: Storage,
    purpose: Purpose,
    stages: Sequence[str] | None,
    first: str | None,
    last: str | None,
    done: Done | None = None,
) -> list[StageTask]:
    """Return the tasks in order: stages without a fold, then fold by fold.

    A key comes from settings, code and inputs. An input is told by the key that its stage will have where this run
    does it, and else by the key that it was done with: what a run does not make anew it reads as it is. ``done`` is
    read where it is not given.
    """
    wanted = {stage.name for stage in chosen_stages(stages, first, last)}
    es.check_config(config)
    ts.check_config(config)
    ls.check_config(config)
    if config.disturb.is_on and purpose != "evaluate":
        raise ConfigError(
            "disturb.text or disturb.drop_share is set: expected --purpose evaluate, found one that makes "
            "recommendations for users. Disturbed data are measured only; set disturb.text=own, disturb.drop_share=0."
        )
    folds = {"evaluate": EVALUATE, "produce": PRODUCE, "both": (*EVALUATE, *PRODUCE)}[purpose]
    done = done_stages(storage) if done is None else done
    source = config.source
    sources = {
        "clean": [
            source_fingerprint(spark, source.interactions),
            source_fingerprint(spark, source.items, "items"),
            source_fingerprint(spark, source.users, "users"),
            source_fingerprint(spark, source.triples, "triples"),
            source_fingerprint(spark, source.links, "links"),
            forgotten_fingerprint(storage),
        ],
        "rules": [source_fingerprint(spark, source.rules, "rules")],
    }
    keys: dict[tuple[str, str], str] = {}
    tasks = []
    for fold in ("", *t.FOLDS):
        for stage in STAGES:
            if (fold not in stage.folds) if fold else bool(stage.folds):
                continue
            inputs = [key for each in tables_read(stage, fold, config) if (key := _input_key(keys, *each))]
            key = stage_key(
                {
                    "stage": stage.name,
                    # what has no fold is the same whichever fold asks for it
                    "fold": "" if stage.once_a_run else fold,
                    "schema": t.SCHEMA_VERSION,
                    "settings": [config.core.seed, *settings_of(stage, config)],
                    "code": stage_code(stage.run),
                    "inputs": inputs,
                    "sources": sources.get(stage.name) or es.outside(spark, config, storage, stage.name),
                    "day": _day(config, stage) if fold == "live" else "",
                }
            )
            newest = done_row(done, stage, fold)
            is_due = (not fold or fold in folds) and stage.is_on(config) and stage.name in wanted
            if stage.once_a_run and fold != next((f for f in stage.folds if f in folds), ""):
                is_due = False
            if is_due:
                tasks.append(StageTask(stage, fold, key, newest))
            keys[stage.name, fold] = key if is_due else _key_there(newest) if stage.is_on(config) else _OFF
    return tasks


def done_row(done: Done, stage: Stage, fold: str) -> Row | None:
    """Return the newest row of a stage in a fold, or in any of its folds where what it writes has none.

    Args:
        done: the newest rows.
        stage: the stage.
        fold: the fold, '' where the stage has none.
    """
    folds = stage.folds if stage.once_a_run else (fold,)
    rows = [done[stage.name, each] for each in folds if (stage.name, each) in done]
    return max(rows, key=lambda row: row["done_at"], default=None)


def _key_there(newest: Row | None) -> str:
    """Return the key that a stage's tables were written with: this run does not write them anew, but may read them."""
    return "" if newest is None else str(newest["stage_key"])


def going_on(tasks: list[StageTask], *, go_on: bool, renew_examples: bool) -> list[StageTask]:
    """Return the tasks, those marked that go on after a budget stopped them, and all that read what they will write.

    Args:
        tasks: in order.
        go_on: whether stages that are not complete go on.
        renew_examples: whether describe is done again for a new pool of examples.
    """
    changed: set[t.Table] = set()
    marked = []
    for task in tasks:
        stopped = task.is_done and task.done is not None and task.done["is_complete"] is False
        is_again = (go_on and stopped) or (renew_examples and task.stage.name == "describe")
        reads = {*task.stage.reads, *task.stage.reads_live, *task.stage.reads_valid}
        goes_on = is_again or bool(changed & reads)
        if goes_on:
            changed |= set(task.stage.writes)
        marked.append(replace(task, goes_on=goes_on))
    return marked


def forgotten_fingerprint(storage: Storage) -> str:
    """Return a hash of who asked to be forgotten, the same in every root; nothing where nobody did, or no table is."""
    if not storage.exists(t.FORGOTTEN_USERS):
        return ""
    of_users = F.xxhash64("user_hash")
    # two numbers
    row = storage.read(t.FORGOTTEN_USERS).agg(F.count(of_users).alias("n"), F.bit_xor(of_users).alias("hash")).first()
    return f"{row['n']} {row['hash']}" if row is not None and row["n"] else ""


def _day(config: Config, stage: Stage) -> str:
    """Return today (UTC) where what may be recommended, or which rules are in force, depends on it, else nothing."""
    columns = config.source.items.columns
    by_item = "produce" in stage.sections and (columns.available_from or columns.available_until)
    by_rule = ls.rules_are_on(config) and t.BUSINESS_RULES in (*stage.reads, *stage.reads_live)
    return f"{datetime.now(UTC):%Y-%m-%d}" if by_item or by_rule else ""


def _input_key(keys: dict[tuple[str, str], str], table: t.Table, fold: str) -> str | None:
    writer = next(stage for stage in STAGES if table in stage.writes)
    if not writer.folds:
        return keys[writer.name, ""]
    return keys.get((writer.name, fold)) or keys.get((writer.name, "valid"))
