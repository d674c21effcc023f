"""What a run finds up to date: by settings, by what it makes anew, and by what lies there. Without Spark."""

import threading
from datetime import datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pyspark.sql import Row

from lt_spark import passes, stage_tasks
from lt_spark.core.config import Config
from lt_spark.core.errors import RunLockedError
from lt_spark.core.runs import IN_PROGRESS
from lt_spark.pipeline import STAGES, Purpose
from lt_spark.stage_tasks import StageTask

NOTHING = cast(Any, None)
STAGE = {stage.name: stage for stage in STAGES}
ENCODER = {"embed": {"model": "encoder"}}


class Root:
    """A root's record of what was done, without its tables."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, str], Row] = {}
        self._clock = (datetime(2026, 1, 1) + timedelta(minutes=n) for n in count())

    def record(self, stage: str, fold: str, key: str) -> None:
        """Record a stage as done, or as half done."""
        self.done[stage, fold] = Row(stage_key=key, run_id="r", done_at=next(self._clock), is_complete=True)

    def tasks(self, config: Config, purpose: Purpose, stages: tuple[str, ...] | None = None) -> list[StageTask]:
        """Return what a run has to look at."""
        return stage_tasks.stage_tasks(NOTHING, config, NOTHING, purpose, stages, None, None, self.done)

    def run(self, config: Config, purpose: Purpose = "evaluate", stages: tuple[str, ...] | None = None) -> set[str]:
        """Do and record what is not up to date, and return it: ``stage`` or ``stage fold``."""
        due = [task for task in self.tasks(config, purpose, stages) if not task.is_done]
        for task in due:
            self.record(task.stage.name, task.fold, task.key)
        return {f"{task.stage.name} {task.fold}".strip() for task in due}


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Root:
    """An empty root whose sources never change."""
    monkeypatch.setattr(stage_tasks, "source_fingerprint", lambda *_: "")
    monkeypatch.setattr(stage_tasks, "forgotten_fingerprint", lambda *_: "")
    monkeypatch.setattr("lt_spark.enrich_stages.outside", lambda *_: [])
    monkeypatch.setattr("lt_spark.enrich_stages.check_config", lambda *_: None)
    return Root()


def conf(**sections: Any) -> Config:
    return Config.model_validate(sections)


def test_a_second_run_does_nothing(root: Root) -> None:
    assert {"clean", "als valid", "als test", "als live", "publish live"} <= root.run(conf(), "both")
    assert root.run(conf(), "both") == root.run(conf()) == root.run(conf(), "produce") == set()


def test_what_read_the_old_table_is_done_again_once_there_is_a_new_one(root: Root) -> None:
    root.run(conf())
    changed = conf(als={"rank": 7})
    # blend reads the candidates that lie there: those of the old rank
    assert root.run(changed, stages=("blend",)) == set()
    assert root.run(conf(als={"rank": 7}, blend={"n": 20}), stages=("blend",)) == {"blend valid", "blend test"}
    assert {"als valid", "tune valid", "blend valid", "blend test", "evaluate test"} <= root.run(changed)


def test_lists_for_users_follow_what_valid_chose_anew(root: Root) -> None:
    root.run(conf(), "both")
    changed = conf(gate={"max_overall_loss": 0.5})
    assert root.run(changed, "produce") == set(), "the choice that lies there is the old one"
    assert root.run(changed) == {"gate valid"}
    assert root.run(changed, "produce") == {"blend live", "publish live"}


def test_what_has_no_fold_is_done_once_and_known_in_every_fold(root: Root) -> None:
    on, off = conf(**ENCODER, describe={"enabled": True}), conf(**ENCODER)
    assert {"describe valid", "embed_enriched valid"} <= root.run(on)
    assert not {"describe live", "embed_enriched live"} & root.run(on, "produce")
    # the other conf writes the same table anew, in another fold
    assert "embed_enriched live" in root.run(off, "produce")
    assert root.run(on) == {"embed_enriched valid"}


def test_a_half_made_table_is_never_taken_for_done(root: Root) -> None:
    root.run(conf(), "both")
    root.record("neighbours", "test", IN_PROGRESS)
    assert root.run(conf()) == {"neighbours test"}, "made again from the same, it is the same"


def test_a_log_that_is_only_handed_on_depends_on_no_language_model(root: Root) -> None:
    root.run(conf(**ENCODER))
    assert root.run(conf(**ENCODER, language_model={"concurrency": 3})) == set()
    assert "context valid" in root.run(conf(**ENCODER, context={"enabled": True}, language_model={"model": "lm"}))


def test_choices_that_nothing_judged_are_told(root: Root) -> None:
    root.run(conf())
    assert passes._unjudged(root.done) == []
    root.run(conf(tune={"tail_importance": 0.9}), stages=("tune",))
    assert passes._unjudged(root.done) == ["tune"]
    root.record("gate", "valid", IN_PROGRESS)
    assert "tune_als" in passes._unjudged(root.done), "a gate that was stopped decided nothing"
    root.record("ledger", "", "key")
    assert passes._unjudged(root.done) == []


def test_a_run_that_lost_its_lock_writes_no_more() -> None:
    lock = SimpleNamespace(lost=threading.Event())
    task = StageTask(STAGE["clean"], "", "key", None)
    context = passes._context(NOTHING, conf(), NOTHING, task, False, threading.Event(), cast(Any, lock))
    context.check()
    lock.lost.set()
    with pytest.raises(RunLockedError, match="clean ends without what it was making: another run took these tables"):
        context.check()


def test_disturbed_texts_leave_the_log_as_it_is(root: Root) -> None:
    root.run(conf(**ENCODER))
    redone = root.run(conf(disturb={"text": "shuffled"}, **ENCODER))
    assert {"embed", "content valid", "als valid", "bert valid"} <= redone
    assert not redone & {"split", "segment valid", "tune_als valid", "als_plain valid", "neighbours test"}
    assert {"split", "als_plain valid"} <= root.run(conf(disturb={"drop_share": 0.1}, **ENCODER))
