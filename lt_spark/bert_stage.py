"""What the stages tune_bert and bert do with tables, exports and checkpoints; models/bert says how."""

import hashlib
import importlib.util
import json
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_models import BertConfig, Objective
from lt_spark.core.errors import ConfigError, DataError
from lt_spark.core.files import Folder
from lt_spark.frames import known as folds
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.top_k import top_k
from lt_spark.models.bert.distributed import run_training
from lt_spark.models.bert.export import export, missing_version, read_pinned, remove_old, run_scoped
from lt_spark.models.bert.sequences import weighted_events, windows
from lt_spark.models.bert.task import Trained, TrainTask
from lt_spark.stages import Context

MODEL = "bert"
_KEY, _DONE, _USERS = "key.json", "done.json", "users"
_DAY_S = 86_400.0
_FLOAT_BYTES = 4
_EVENTS_PER_SHARD = 2_000_000
_SHARDS_PER_PROCESS = 2


def bert_is_on(config: Config) -> bool:
    """Return whether the sequence model is one of the blend's."""
    return MODEL in config.blend.models


def tune_bert(c: Context) -> None:
    """Train each objective on valid until it gets no better, and choose the best with its number of epochs."""
    check_installed()
    section, found = c.config.bert, []
    with _exported(c, judged=True) as made:
        for objective in section.objectives:
            root = _own_folder(c, objective)
            trained = _train(c, made, objective, root, n_epochs=None)
            found.append((objective, root, trained))
    _, _, best = max(found, key=lambda each: each[2].best.score)
    rows: list[tuple[object, ...]] = [
        (
            objective,
            epoch.epoch,
            epoch.loss,
            epoch.ndcg,
            epoch.ndcg_tail,
            epoch.learning_rate,
            epoch.n_rows,
            epoch.seconds,
            trained is best and epoch.epoch == trained.chosen,
            root.uri,
        )
        for objective, root, trained in found
        for epoch in trained.epochs
    ]
    c.write_rows(t.BERT_EPOCHS, rows)
    for _, root, _ in found:
        _finish(c, root)


def bert(c: Context) -> None:
    """Recommend by the sequence model: valid's own as it was chosen, test's and live's trained for as many epochs."""
    from lt_spark.models.bert.serve import ITEMS, SERVED, ask_users

    check_installed()
    row = c.read(t.BERT_EPOCHS).where("is_chosen").first()
    if row is None:
        raise DataError("silver.bert_epochs has no chosen row: run the stage tune_bert again (`--only tune_bert`)")
    root = Folder(row["folder"])
    if c.fold != "valid":
        root = _own_folder(c, row["objective"])
        _train_fold(c, row["objective"], row["epoch"], root)
    version = _version(root)
    served = root.child(SERVED)
    section = c.config.bert
    own = folds.histories(c.known.join(c.users, "user_idx", "left_semi"), section.max_length)
    asked = ask_users(own, served.uri, version, section.device, int8=section.int8).join(c.seen, "user_idx", "left")
    items = c.spark.read.parquet(served.child(ITEMS).uri).join(c.recommendable, "item_idx", "left_semi")
    items = items.where(F.exists("vector", lambda x: x != 0))  # of one without events and text nothing is known
    with c.scratch("vectors") as scratch:
        ranked = top_k(asked, items, c.config.candidates.n, scratch=scratch, n_items=c.read(t.ITEMS).count())
        c.write(t.CANDIDATES[MODEL], as_candidates(ranked, MODEL, c.fold))
    if c.fold != "valid":
        _finish(c, root)


def check_installed(stages: Collection[str] = ("bert",)) -> None:
    """Check that torch and transformers are there, where the model is one of the stages.

    Raises:
        ConfigError: with what to install.
    """
    for name in ("torch", "transformers", "safetensors"):
        if {"tune_bert", MODEL} & set(stages) and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"blend.models names bert, which needs {name}: expected it installed here and on every executor. Run "
                "pip install 'lt-spark[bert]', or leave bert out of blend.models."
            )


@dataclass(frozen=True)
class _Exported:
    """Names of the folders that a training reads."""

    windows: str
    items: str
    questions: str


@contextmanager
def _exported(c: Context, *, judged: bool, changed_since: str = "") -> Iterator[_Exported]:
    """Write what a training reads, and remove it at the end.

    Args:
        c: the stage at work.
        judged: whether epochs are judged by the fold's targets.
        changed_since: folder of an earlier training's users: only what is new to it, and the replay; empty: all.
    """
    section, storage = c.config.bert, c.storage
    root = Folder(storage.exports())
    remove_old(root, section.export_max_age_days * _DAY_S, time.time())
    with run_scoped(root, f"{c.stage}-{c.fold}-{uuid4().hex[:12]}") as folder:
        version = storage.version(t.INTERACTIONS_AUGMENTED)
        with missing_version(t.INTERACTIONS_AUGMENTED.full_name, version):
            augmented = read_pinned(c.spark, storage, t.INTERACTIONS_AUGMENTED, version, c.fold)
            if not section.use_pseudo_events:
                augmented = augmented.where(~F.col("is_augmented"))
            rebalanced = c.read(t.INTERACTIONS_REBALANCED) if section.use_weights else None
            rows = windows(weighted_events(augmented, rebalanced), section.max_length, section.max_windows)
            if changed_since:
                rows = _new_and_replayed(c, rows, changed_since)
            n_items = c.read(t.ITEMS).count()
            _check_memory(c, n_items)
            n_events = augmented.count()
            export(
                rows,
                folder.child("windows"),
                n_shards=section.num_processes * max(_SHARDS_PER_PROCESS, -(-n_events // _EVENTS_PER_SHARD)),
                length=section.max_length,
                table=t.INTERACTIONS_AUGMENTED.full_name,
                version=version,
                fold=c.fold,
                n_items=n_items,
                seed=c.config.core.seed,
            )
        _items(c).write.mode("overwrite").parquet(folder.child("items").uri)
        questions = ""
        if judged:
            questions = folder.child("questions").uri
            _questions(c).write.mode("overwrite").parquet(questions)
        yield _Exported(folder.child("windows").uri, folder.child("items").uri, questions)


def _items(c: Context) -> DataFrame:
    """Return (item_idx, n_known, is_recommendable, vector): a row an item of the catalogue."""
    vectors = c.storage.read_or_empty(embeddings_table(c.config), c.fold)
    if not c.config.bert.use_text:
        vectors = vectors.limit(0)
    return (
        c.read(t.ITEM_SEGMENTS)
        .select("item_idx", F.col("n_interactions").cast("float").alias("n_known"))
        .join(c.recommendable.withColumn("is_recommendable", F.lit(True)), "item_idx", "left")
        .join(vectors.select("item_idx", "vector"), "item_idx", "left")
        .withColumn("is_recommendable", F.coalesce("is_recommendable", F.lit(False)))
        .repartition(1)
    )


def embeddings_table(config: Config) -> t.Table:
    """Return the table of text vectors that the models read."""
    return t.EMBEDDINGS[config.models.embeddings]


def _questions(c: Context) -> DataFrame:
    """Return (user_idx, items, seen, targets, is_tail): the users that an epoch is judged by."""
    section = c.config.bert
    targets = c.targets
    of_sample = targets.select("user_idx").distinct()
    chosen = of_sample.orderBy(F.xxhash64(F.lit("bert"), F.lit(c.config.core.seed), "user_idx"), "user_idx")
    users = chosen.limit(section.max_valid_users)
    pairs = F.array_sort(F.collect_list(F.struct("item_idx", (F.col("segment_top20") == "tail").alias("is_tail"))))
    wanted = targets.join(users, "user_idx", "left_semi").groupBy("user_idx").agg(pairs.alias("pairs"))
    own = folds.histories(c.known.join(users, "user_idx", "left_semi"), section.max_length)
    return (
        own.join(wanted, "user_idx")
        .join(c.seen, "user_idx", "left")
        .select(
            "user_idx",
            "items",
            "seen",
            F.col("pairs.item_idx").alias("targets"),
            F.col("pairs.is_tail").alias("is_tail"),
        )
        .repartition(1)
    )


def _train(
    c: Context, made: _Exported, objective: Objective, root: Folder, *, n_epochs: int | None, start: str = ""
) -> Trained:
    """Train, or go on; leave the chosen network ready to be asked."""
    from lt_spark.models.bert.train import serve

    task = TrainTask(
        _warm(c.config.bert) if start else c.config.bert,
        objective,
        c.config.core.seed,
        made.windows,
        made.items,
        made.questions,
        root.uri,
        n_epochs=n_epochs,
        start_from=start,
        logs=f"{c.storage.kept('logs')}/{c.stage}-{c.fold}-{objective}",
        run_name=f"lt_spark {c.stage} {c.fold} {objective}",
    )
    trained = run_training(c.spark, task, lambda text: c.tell(f"{objective}: {text}"))
    serve(task, trained.chosen)
    return trained


def _train_fold(c: Context, objective: Objective, n_epochs: int, root: Folder) -> None:
    earlier = _earlier(c, root) if c.fold == "live" and c.config.bert.warm_start else None
    start = ""
    if earlier is not None:
        start, n_epochs = _newest(earlier), c.config.bert.warm_epochs
    changed = earlier.child(_USERS).uri if earlier is not None else ""
    with _exported(c, judged=False, changed_since=changed) as made:
        _train(c, made, objective, root, n_epochs=n_epochs, start=start)
    if c.fold == "live":
        _counts(c).write.mode("overwrite").parquet(root.child(_USERS).uri)
        c.notes.append(f"bert (live): {'went on from the last model' if start else 'trained anew'}, {n_epochs} epochs")


def _warm(section: BertConfig) -> BertConfig:
    """Return the settings of a training that goes on from the last model."""
    rate = section.learning_rate * section.warm_rate
    return section.model_copy(update={"epochs": section.warm_epochs, "learning_rate": rate})


def _counts(c: Context) -> DataFrame:
    """Return (user_idx, n_events) of the known events."""
    return c.known.groupBy("user_idx").agg(F.count(F.lit(1)).alias("n_events"))


def _new_and_replayed(c: Context, rows: DataFrame, users_folder: str) -> DataFrame:
    """Return the newest windows of users with new events, and all windows of a sample of the others."""
    section = c.config.bert
    before = c.spark.read.parquet(users_folder).withColumnRenamed("n_events", "n_before")
    joined = _counts(c).join(before, "user_idx", "left")
    n_new = F.col("n_events") - F.coalesce("n_before", F.lit(0))
    drawn = folds.hash_uniform("replay", c.config.core.seed, "user_idx", "n_events") < section.replay_share
    # a window holds max_length targets: so many of the newest hold all new events
    more = c.config.context.n_items if c.config.context.enabled else 0  # pseudo-events stand behind a user's newest
    n_windows = (
        F.when(n_new > 0, F.ceil((n_new + more) / section.max_length)).when(drawn, section.max_windows).otherwise(0)
    )
    wanted = joined.select("user_idx", n_windows.alias("n_windows"))
    return rows.join(wanted, "user_idx").where(F.col("window") < F.col("n_windows")).drop("n_windows")


def _own_folder(c: Context, objective: Objective) -> Folder:
    """Return this stage's folder of checkpoints: an interrupted run's goes on, a finished one is made anew."""
    root = Folder(c.storage.kept(f"{c.stage}-{c.fold}")).child(f"{c.stage_key[:16] or 'unkeyed'}-{objective}")
    if root.exists(_DONE):
        root.remove()
    root.mark(time.time())
    root.write(_KEY, json.dumps({"stage_key": c.stage_key, "objective": objective}).encode())
    return root


def _finish(c: Context, root: Folder) -> None:
    """Mark a training as done, and remove those of other settings that this stage made before."""
    root.write(_DONE, json.dumps({"run_id": c.storage.run_id}).encode())
    parent = Folder(c.storage.kept(f"{c.stage}-{c.fold}"))
    own = root.uri.rpartition("/")[2].partition("-")[0]
    for name in parent.names():
        other = parent.child(name)
        if not name.startswith(own) and other.marked_at() is not None:
            other.remove()


def _earlier(c: Context, root: Folder) -> Folder | None:
    """Return the newest finished training of fold live by other inputs, whose network this one may go on from."""
    parent = Folder(c.storage.kept(f"{c.stage}-{c.fold}"))
    suffix = root.uri.rpartition("-")[2]
    found = [parent.child(name) for name in parent.names() if name.endswith(f"-{suffix}")]
    done = [folder for folder in found if folder.uri != root.uri and folder.exists(_DONE) and folder.exists(_USERS)]
    return max(done, key=lambda folder: folder.marked_at() or 0.0, default=None)


def _newest(folder: Folder) -> str:
    from lt_spark.models.bert import checkpoint as saved

    found = saved.newest(folder)
    if found is None:
        raise DataError(f"the last model at {folder.uri} is not whole: set bert.warm_start: false to train anew")
    return found.folder.uri


def _version(root: Folder) -> str:
    """Return the hash of the network that is ready to be asked."""
    from lt_spark.models.bert.serve import SERVED

    if not root.exists(SERVED):
        raise DataError(
            f"the chosen network of silver.bert_epochs is not at {root.uri}: expected what tune_bert left there. Run "
            "it again (`lt-spark run --force --only tune_bert`)."
        )
    return hashlib.sha256(root.child(SERVED).read("network.safetensors")).hexdigest()


def _check_memory(c: Context, n_items: int) -> None:
    """Check that a training process of the driver holds the items within what the driver may hold."""
    section, limit = c.config.bert, c.config.core.max_driver_bytes
    if section.num_processes > 1 or (c.spark.conf.get("spark.master", "local") or "local").startswith("local"):
        return
    n_text = len((c.storage.read_or_empty(embeddings_table(c.config)).select("vector").first() or [[]])[0])
    # an id vector, its gradient and two sums of the optimiser; the text's vector
    needed = n_items * _FLOAT_BYTES * (4 * section.embedding_size + (n_text if section.use_text else 0))
    if needed > limit:
        raise ConfigError(
            f"bert.num_processes is 1: the driver would hold {needed:,} bytes of {n_items:,} items, above "
            f"core.max_driver_bytes ({limit:,}). Set bert.num_processes to 2 or more, so that executors train, or "
            "raise core.max_driver_bytes."
        )
