"""What each stage reads, calls and writes: the only place where the pure stages meet storage."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from uuid import uuid4

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_groups import binding_groupings
from lt_spark.core.errors import DataError
from lt_spark.core.storage import Storage
from lt_spark.frames import known as folds
from lt_spark.frames import leakage
from lt_spark.frames.recommendable import recommendable
from lt_spark.frames.rules import in_force
from lt_spark.frames.user_metrics import user_metrics
from lt_spark.measure import evaluate as evaluation
from lt_spark.measure import gate as gating
from lt_spark.measure.group_metrics import compared
from lt_spark.models import als as als_model
from lt_spark.models import neighbours as neighbours_model
from lt_spark.models import popularity as popularity_model
from lt_spark.prepare import clean as cleaning
from lt_spark.prepare.disturb import disturbed_texts, without_dropped
from lt_spark.prepare.rebalance import rebalance_interactions
from lt_spark.prepare.rebalance_report import rebalance_report
from lt_spark.prepare.segment import segment_items
from lt_spark.prepare.sources import read_source
from lt_spark.prepare.split import split_interactions
from lt_spark.rank import tune as tuning

BLEND = "blend"
BASELINE = evaluation.BASELINE
SETTING_SECTIONS = (
    "segment",
    "rebalance",
    "popularity",
    "als_plain",
    "als",
    "neighbours",
    "content",
    "models",
    "text_bert",
    "bert",
    "candidates",
    "blend",
    "rerank",
)
"""The sections that the gate judges, and that produce takes from ``silver.accepted_settings``."""
_GATE_K = 10


@dataclass
class Context:
    """One stage of one fold at work: its tables in, its tables out."""

    spark: SparkSession
    config: Config
    storage: Storage
    stage: str
    fold: str
    now: datetime
    stage_key: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    renew_examples: bool = False
    """Whether a new version of the examples' pool is made."""
    is_complete: bool = True
    """False: stopped by a budget."""
    notes: list[str] = field(default_factory=list)
    """What the person who runs it should know."""
    tell: Callable[[str], None] = lambda text: None
    """Tells of progress within the stage."""
    check: Callable[[], None] = lambda: None
    """Raises where the run has ended meanwhile, and nothing may be written any more."""

    def read(self, table: t.Table, fold: str | None = None) -> DataFrame:
        """Read a table; of a folded one the rows of this fold, or of the one named."""
        return self.storage.read(table, fold or self.fold or None)

    def write(self, table: t.Table, rows: DataFrame) -> None:
        """Write a table in one transaction and remember the number of rows."""
        self.check()
        self.rows[table.full_name] = self.storage.write(table, rows, self.fold or None, self.stage_key)

    def write_rows(self, table: t.Table, rows: list[tuple[object, ...]]) -> None:
        """Write a few rows made on the driver."""
        self.write(table, self.spark.createDataFrame(rows, table.schema))

    @property
    def known(self) -> DataFrame:
        """The events that the fold may see."""
        return folds.known(self.read(t.INTERACTIONS_SPLIT), self.fold)

    @property
    def users(self) -> DataFrame:
        """The users of the fold who get lists."""
        split = self.read(t.INTERACTIONS_SPLIT)
        if self.fold == "live":
            return folds.active_users(split, self.config.produce.active_days)
        return folds.held_out_users(split, self.fold, self.config.evaluate.max_users, self.config.core.seed)

    @property
    def seen(self) -> DataFrame:
        """What each user knows and is not recommended again; nothing where seen items may be recommended."""
        rows = folds.seen(self.known)
        return rows.limit(0) if self.config.evaluate.recommend_seen else rows

    @property
    def recommendable(self) -> DataFrame:
        """The items that may be recommended in the fold."""
        return recommendable(self.read(t.ITEMS), self.fold, self.now)

    @property
    def items(self) -> DataFrame:
        """The catalogue with the texts that models read: disturbed where an experiment asks for it."""
        return disturbed_texts(self.read(t.ITEMS), self.config.disturb, self.config.core.seed)

    @property
    def targets(self) -> DataFrame:
        """What the fold's users did next."""
        evaluate = self.config.evaluate
        return folds.targets(
            self.read(t.INTERACTIONS_SPLIT),
            self.fold,
            self.read(t.ITEM_SEGMENTS),
            evaluate.recommend_seen,
            evaluate.max_users,
            self.config.core.seed,
        )

    @contextmanager
    def scratch(self, name: str) -> Iterator[str]:
        """Give a folder for files that executors read, and remove it afterwards.

        Its name is new each time: Python workers keep what they read by the folder's name.
        """
        folder = f"{self.stage}-{self.fold}-{name}-{uuid4().hex[:8]}"
        try:
            yield self.storage.scratch(folder)
        finally:
            self.storage.clear_scratch(folder)


def clean(c: Context) -> None:
    """Read the sources, refuse what cannot be used, give ids their numbers."""
    source = c.config.source
    log = read_source(c.spark, source.interactions, "interactions").persist()
    catalogue = read_source(c.spark, source.items, "items") if source.items.path else None
    shared: tuple[DataFrame, ...] = (log,)
    forgotten = c.read(t.FORGOTTEN_USERS) if c.storage.exists(t.FORGOTTEN_USERS) else None
    try:
        cleaned = cleaning.clean(
            log,
            catalogue,
            c.read(t.USERS) if c.storage.exists(t.USERS) else None,
            c.read(t.ITEMS) if c.storage.exists(t.ITEMS) else None,
            forgotten,
            c.config,
            c.now,
            os.environ.get("LT_SPARK_FORGET_KEY", ""),
            read_source(c.spark, source.users, "users") if source.users.path else None,
            read_source(c.spark, source.triples, "triples") if source.triples.path else None,
            read_source(c.spark, source.links, "links") if source.links.path else None,
        )
        shared = (log, *cleaned.shared)
        # the report first: what it refuses leaves the other tables as they were
        c.write(t.REJECTED_ROWS, cleaned.rejected_rows)
        c.write(t.CLEAN_REPORT, cleaned.clean_report)
        report = c.read(t.CLEAN_REPORT).collect()  # a few counts
        cleaning.verify_report(report, c.config)
        c.write(t.USERS, cleaned.users)
        c.write(t.USER_ATTRIBUTES, cleaned.user_attributes)
        c.write(t.ITEMS, cleaned.items)
        c.write(t.INTERACTIONS, cleaned.interactions)
    finally:
        for rows in shared:
            rows.unpersist()


def split(c: Context) -> None:
    """Give each event its split."""
    rows = split_interactions(c.read(t.INTERACTIONS), c.config.split, c.config.core.seed)
    c.write(t.INTERACTIONS_SPLIT, without_dropped(rows, c.config.disturb, c.config.core.seed))


def segment(c: Context) -> None:
    """Give each item its segment in the fold."""
    c.write(t.ITEM_SEGMENTS, segment_items(c.known, c.read(t.ITEMS), c.config.segment, c.fold))
    leakage.check_counts(c.read(t.ITEM_SEGMENTS), c.read(t.INTERACTIONS_SPLIT), c.fold)


def rebalance(c: Context) -> None:
    """Weigh the known events so that rare items are learnt too."""
    section, segments = c.config.rebalance, c.read(t.ITEM_SEGMENTS)
    c.write(t.INTERACTIONS_REBALANCED, rebalance_interactions(c.known, segments, section, c.fold, c.config.core.seed))
    rebalanced = c.read(t.INTERACTIONS_REBALANCED)
    folds.check_known(rebalanced, c.read(t.INTERACTIONS_SPLIT), c.fold)
    c.write(t.REBALANCE_REPORT, rebalance_report(c.known, rebalanced, segments, c.fold))


def popularity(c: Context) -> None:
    """Recommend what is most used."""
    rows = popularity_model.popularity_candidates(c.known, c.users, c.seen, c.recommendable, c.config, c.fold)
    c.write(t.CANDIDATES["popularity"], rows)


def tune_als(c: Context) -> None:
    """Choose plain ALS's settings on valid."""
    folds.check_known(c.known, c.read(t.INTERACTIONS_SPLIT), c.fold)
    with c.scratch("grid") as folder:
        rows = als_model.tune_als(
            c.known,
            c.targets,
            c.seen,
            c.recommendable,
            c.config,
            c.known.count(),
            c.read(t.ITEMS).count(),
            lambda name: f"{folder}/{name}",
        )
    c.write_rows(t.ALS_SETTINGS, list(rows))


def als_plain(c: Context) -> None:
    """Recommend by plain ALS, the baseline."""
    _als(c, BASELINE, als_model.plain_ratings(c.known), plain_settings(c))


def neighbours(c: Context) -> None:
    """Find similar items, and recommend by them."""
    known = c.known
    folds.check_known(known, c.read(t.INTERACTIONS_SPLIT), c.fold)
    c.write(t.ITEM_NEIGHBOURS, neighbours_model.item_neighbours(known, c.config.neighbours, c.fold))
    with c.scratch("edges") as folder:
        rows = neighbours_model.neighbours_candidates(
            known,
            c.read(t.ITEM_NEIGHBOURS),
            c.users,
            c.seen,
            c.recommendable,
            c.config,
            c.read(t.ITEMS).count(),
            fold=c.fold,
            scratch=folder,
        )
        c.write(t.CANDIDATES["neighbours"], rows)


def tune(c: Context) -> None:
    """Choose the blend weights on valid."""
    models = c.config.blend.models
    rows = tuning.sample_rows(
        [c.read(t.CANDIDATES[name]) for name in models],
        c.targets,
        c.read(t.ITEM_SEGMENTS),
        c.config.tune,
        c.config.core.seed,
        c.config.core.max_driver_bytes,
        c.config.candidates.n,
    )
    sample = tuning.to_sample(rows.toPandas(), models)  # at most tune.max_users pairs, within core.max_driver_bytes
    c.write_rows(t.BLEND_WEIGHTS, list(tuning.weights_rows(sample, models, c.config.tune)))


def evaluate(c: Context) -> None:
    """Measure every model and the blend against plain ALS."""
    names = (*dict.fromkeys((*c.config.blend.models, BASELINE)), BLEND)
    section = c.config.evaluate
    lists = model_lists(c, names)
    c.write(t.USER_METRICS, user_metrics(lists, c.targets, names, section.ks))
    c.write(
        t.METRICS,
        evaluation.metrics(c.read(t.USER_METRICS), lists, c.read(t.ITEM_SEGMENTS), section, c.config.core.seed, c.fold),
    )


def gate(c: Context) -> None:
    """Decide on valid whether produce may use the blend."""
    found = c.read(t.METRICS).where(
        (F.col("model_name") == BLEND) & (F.col("metric") == "ndcg") & (F.col("k") == gate_k(c.config))
    )
    differences = {
        row["segment"]: gating.Difference(row["value"], row["baseline_value"], row["difference_low"])
        for row in found.collect()  # a row a segment
    }
    by_group = compared(c.read(t.GROUP_METRICS), gate_k(c.config)).where(F.col("model_name") == BLEND)
    # a row a group
    groups = gating.group_differences([row.asDict() for row in by_group.collect()], binding_groupings(c.config))
    verdict = gating.decide(differences, c.config.gate, groups)
    if note := gating.robbed(verdict, f"the {BLEND}", groups):
        c.notes.append(note)
    settings = {name: getattr(c.config, name).model_dump(mode="json") for name in SETTING_SECTIONS}
    c.write_rows(
        t.ACCEPTED_SETTINGS,
        [
            (
                c.storage.run_id,
                c.now.date(),
                datetime.now(UTC).replace(tzinfo=None),
                c.stage_key,
                "accepted" if verdict.is_accepted else "refused",
                verdict.reason,
                BLEND if verdict.is_accepted else BASELINE,
                json.dumps(settings, sort_keys=True),
            )
        ],
    )


def newest_accepted(storage: Storage) -> Row | None:
    """Return the newest row of ``silver.accepted_settings``, or None."""
    if not storage.exists(t.ACCEPTED_SETTINGS):
        return None
    return storage.read(t.ACCEPTED_SETTINGS).orderBy(F.desc("decided_at")).first()


def accepted_model(c: Context) -> str:
    """Return the name of the model that the gate accepted; the blend where nothing was decided yet."""
    row = newest_accepted(c.storage)
    return str(row["model_name"]) if row is not None else BLEND


def rules_in_force(c: Context) -> DataFrame | None:
    """Return the shop's rules in force on the run's day; None where there are none, and in valid and test."""
    if c.fold != "live" or not c.config.source.rules.path:
        return None
    return in_force(c.read(t.BUSINESS_RULES), c.now.date())


def gate_k(config: Config) -> int:
    """Return the list length that the gate looks at: 10 where it is measured, else the shortest."""
    return _GATE_K if _GATE_K in config.evaluate.ks else min(config.evaluate.ks)


def plain_settings(c: Context) -> als_model.AlsSettings:
    """Return the settings of plain ALS that valid chose."""
    row = c.read(t.ALS_SETTINGS).where("is_chosen").first()
    if row is None:
        raise DataError("silver.als_settings has no chosen row: run the stage tune_als again (`--only tune_als`)")
    return als_model.plain_settings([(row["rank"], row["alpha"], row["reg_param"])], c.config)


def _als(c: Context, name: str, ratings: DataFrame, settings: als_model.AlsSettings) -> None:
    leakage.check_pairs(ratings, c.read(t.INTERACTIONS_SPLIT), c.fold, is_plain=name == BASELINE)
    with c.scratch("factors") as folder:
        rows = als_model.als_candidates(
            ratings,
            c.users,
            c.seen,
            c.recommendable,
            settings,
            c.config.candidates.n,
            model_name=name,
            fold=c.fold,
            scratch=folder,
            n_items=c.read(t.ITEMS).count(),
        )
        c.write(t.CANDIDATES[name], rows)


def model_lists(c: Context, names: tuple[str, ...]) -> DataFrame:
    """Return the lists of the models in the fold, the blend's among them where it is named."""
    columns = ["fold", "model_name", "user_idx", "item_idx", "score", "rank"]
    blended = c.read(t.RECOMMENDATIONS).withColumn("model_name", F.lit(BLEND))
    parts = [blended if name == BLEND else c.read(t.CANDIDATES[name]) for name in names]
    return reduce(DataFrame.unionByName, [part.select(*columns) for part in parts])
