"""What the stage text_bert does with tables and files; models/text_bert says how the encoder is taught."""

import importlib.util
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark import enrich_stages as es
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import ConfigError
from lt_spark.core.files import Folder
from lt_spark.core.session import inference_tasks
from lt_spark.core.storage import absolute
from lt_spark.engines import make
from lt_spark.enrich.embed import item_texts
from lt_spark.enrich.on_executors import model_info
from lt_spark.models.text_bert import data, head, pairs, predict, saved, train
from lt_spark.models.text_bert.tower import Base, Tower, build
from lt_spark.stages import Context


@dataclass(frozen=True)
class Taught:
    """A trained tower, and what it was trained and judged by.

    Attributes:
        tower: holds the chosen epoch's weights.
        epochs: a row an epoch.
        training: what it learnt from.
        valid: the fold's users with targets; None in fold live.
    """

    tower: Tower
    epochs: list[train.Epoch]
    training: data.TrainingSet
    valid: data.ValidSet | None


def text_bert_is_on(config: Config) -> bool:
    """Return whether the encoder is taught: something uses its candidates, or its vectors."""
    return _asked_by(config) != ""


def section_of(config: Config) -> TextBertConfig:
    """Return section ``text_bert``."""
    return config.text_bert


def check_config(config: Config) -> None:
    """Check what ``text_bert`` asks of other sections.

    Raises:
        ConfigError: what is missing, and what to do.
    """
    asked_by = _asked_by(config)
    if asked_by and not config.embed.model:
        raise ConfigError(
            f"{asked_by}, and embed.model is empty: expected a sentence encoder, which text_bert teaches. Get one with "
            "`lt-spark models fetch`, and set embed.model, or leave text_bert out of blend.models and set "
            "models.embeddings=plain."
        )


def check_installed(config: Config, stages: set[str]) -> None:
    """Check that the library of the adapters is there, before the first stage of a run starts.

    Args:
        config: the configuration.
        stages: names of the stages that the run will do.

    Raises:
        ConfigError: with what to install.
    """
    method = config.text_bert.method
    if "text_bert" in stages and method != "full" and importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"peft not installed, and text_bert.method {method} needs it. Run: pip install 'lt-spark[llm]', or set "
            "text_bert.method=full."
        )


def _asked_by(config: Config) -> str:
    """Return which setting uses text_bert; empty where none does."""
    if predict.MODEL_NAME in config.blend.models:
        return "blend.models names text_bert"
    if config.models.embeddings == "tuned" and {"als", "bert", "semantic"} & set(config.blend.models):
        return "models.embeddings is tuned"
    return ""


def text_bert(c: Context) -> None:
    """Teach the encoder on the fold's log, save it, and write its vectors, its candidates and its report."""
    section = section_of(c.config)
    base = base_model(c)
    n_epochs = None if c.fold == "valid" else _chosen_epochs(c)
    with c.scratch("texts") as texts_folder, c.scratch("rows") as rows, c.scratch("vectors") as vectors:
        texts = written(c, texts_of(c, section), texts_folder)
        write_rows(c, section, texts, rows)
        taught = teach(c, section, base, rows, n_epochs)
        classifier, report = _classified(c, taught)
        folder = saved_in(c.config, c.fold)
        manifest = saved.save(folder, taught.tower, classifier)
        c.write_rows(t.TEXT_BERT_EPOCHS, [_epoch_row(c.fold, section, row) for row in taught.epochs])
        c.write_rows(
            t.TEXT_BERT_REPORT, [(c.fold, row.name, row.precision, row.recall, row.f1, row.n) for row in report]
        )
        tasks = inference_tasks(
            c.spark, uses_gpu=section.device != "cpu", gpus_per_task=c.config.language_model.gpus_per_task
        )
        tuned = predict.Tuned(folder.uri, manifest, base, *tasks)
        c.write(t.ITEM_EMBEDDINGS_TUNED, predict.item_vectors(texts, tuned, c.fold))
        asked = pairs.history_texts(c.known, c.users, texts, section.history_items)
        candidates = predict.text_bert_candidates(
            predict.user_vectors(asked, tuned),
            c.seen,
            c.read(t.ITEM_EMBEDDINGS_TUNED),
            c.recommendable,
            c.config.candidates.n,
            fold=c.fold,
            scratch=vectors,
            n_items=c.read(t.ITEMS).count(),
        )
        c.write(t.CANDIDATES[predict.MODEL_NAME], candidates)
    _tell_of(c, taught, report)


def base_model(c: Context) -> Base:
    """Return the encoder that is taught; its folder is checked on the way."""
    make.check_installed("transformers")
    folder = es.encoder_folder(c.config)
    return Base(folder, model_info(c.spark, folder, c.config.embed.revision, ""), c.config.embed)


def saved_in(config: Config, fold: str) -> Folder:
    """Return where a fold's tower is kept."""
    return Folder(f"{absolute(config.files.root)}/models/{predict.MODEL_NAME}/{fold}")


def texts_of(c: Context, section: TextBertConfig) -> DataFrame:
    """Return (item_idx, text): own text, and keywords of the language model where its texts were shown to help."""
    texts = item_texts(c.items, c.config.embed)
    if not (section.use_keywords and es.text_is_accepted(c)):
        return texts
    return pairs.with_keywords(texts, c.storage.read_or_empty(t.ITEM_ENRICHMENTS))


def written(c: Context, rows: DataFrame, folder: str) -> DataFrame:
    """Write rows as Parquet, and return them as read from there."""
    rows.write.mode("overwrite").parquet(folder)
    return c.spark.read.parquet(folder)


def write_rows(c: Context, section: TextBertConfig, texts: DataFrame, folder: str) -> None:
    """Write what training and judging read, as ``data.SCHEMAS`` says, each kind in a folder of its own.

    Args:
        c: the stage at work.
        section: section ``text_bert``.
        texts: (item_idx, text).
        folder: of this call alone.
    """
    seed, events, repeats = c.config.core.seed, c.known, c.config.evaluate.recommend_seen
    weights = c.read(t.INTERACTIONS_REBALANCED) if section.use_weights else None
    head_items = None
    neighbours = c.read(t.ITEM_NEIGHBOURS)
    if section.train_on == "head":
        head_items = c.read(t.ITEM_SEGMENTS).where(F.col("segment_top20") == "head").select("item_idx")
        # nothing of the tail may be a target, nor be pushed away by name
        near = head_items.select(F.col("item_idx").alias("neighbour_idx"))
        neighbours = neighbours.join(near, "neighbour_idx", "left_semi")
    chosen = pairs.training_pairs(events, texts, section, seed, weights=weights, head=head_items, repeats=repeats)
    chosen = written(c, chosen, f"{folder}/chosen")
    found = pairs.with_hard_negatives(chosen, neighbours, events, texts, section.n_hard_negatives)
    found = written(c, found, f"{folder}/{data.PAIRS}")
    written(c, pairs.known_items(events, found), f"{folder}/{data.KNOWN}")
    needed = found.select(F.explode(F.flatten(F.array("history", "hard", F.array("item_idx")))).alias("item_idx"))
    if c.fold != "live":
        users = pairs.valid_users(events, c.targets, c.seen, texts, section, seed)
        users = written(c, users, f"{folder}/{data.VALID}")
        items = pairs.valid_items(c.recommendable, texts, users, section.max_valid_items, seed)
        items = written(c, items, f"{folder}/{data.ITEMS}")
        needed = needed.union(items).union(users.select(F.explode("history")))
    counts = events.groupBy("item_idx").agg(F.count(F.lit(1)).alias("n_events"))
    rows = texts.join(needed, "item_idx", "left_semi").join(counts, "item_idx", "left")
    written(c, rows, f"{folder}/{data.TEXTS}")


def teach(c: Context, section: TextBertConfig, base: Base, rows: str, n_epochs: int | None) -> Taught:
    """Train in this process on what ``write_rows`` wrote.

    Args:
        c: the stage at work.
        section: section ``text_bert``.
        base: the encoder.
        rows: folder of ``write_rows``.
        n_epochs: epochs to do without looking at valid; None: valid chooses.
    """
    folder, seed = Folder(rows), c.config.core.seed
    training = data.read_training(folder, section)
    valid = None if c.fold == "live" else data.read_valid(folder, training.catalogue)
    tower = build(base, section, n_steps=train.n_steps(len(training.pairs), section), seed=seed)
    epochs = train.train(
        tower,
        training,
        valid if n_epochs is None else None,
        seed=seed,
        n_epochs=n_epochs,
        tail_importance=c.config.tune.tail_importance,
        tell=c.tell,
    )
    return Taught(tower, epochs, training, valid)


def _chosen_epochs(c: Context) -> int:
    """Return how many epochs valid chose; without a look at valid all of them count."""
    row = c.read(t.TEXT_BERT_EPOCHS, "valid").where("is_chosen").select("epoch").first()
    return int(row["epoch"]) if row is not None else section_of(c.config).epochs


def _classified(c: Context, taught: Taught) -> tuple[head.Head | None, list[head.ClassReport]]:
    if not taught.tower.section.classify:
        return None, []
    seed = c.config.core.seed
    classifier = head.fit_head(head.held_out_pairs(taught.tower, taught.training, seed))
    if taught.valid is None:
        return classifier, []
    labelled = head.valid_pairs(taught.tower, taught.valid, taught.training.catalogue, seed)
    return classifier, head.report(classifier, labelled)


def _epoch_row(fold: str, section: TextBertConfig, row: train.Epoch) -> tuple[object, ...]:
    told = (row.loss, row.ndcg, row.ndcg_tail, row.ndcg_cold, row.seconds, row.is_chosen)
    return (fold, section.train_on, row.epoch, *told)


def _tell_of(c: Context, taught: Taught, report: list[head.ClassReport]) -> None:
    chosen = next(row for row in taught.epochs if row.is_chosen)
    ndcg = "" if chosen.ndcg is None else f", NDCG@10 {chosen.ndcg:.4f}, tail {chosen.ndcg_tail or 0.0:.4f}"
    c.notes.append(
        f"text_bert ({c.fold}): {len(taught.training.pairs):,} pairs taught, epoch {chosen.epoch} of "
        f"{len(taught.epochs) - 1} is used{ndcg}"
    )
    if c.fold == "valid" and chosen.epoch == 0:
        c.notes.append("text_bert: no epoch was better on valid than the encoder as it came, which stays as it is")
    if c.fold == "valid" and (taught.valid is None or not len(taught.valid)):
        c.notes.append("text_bert: valid has no targets: the last epoch is used, and nothing was chosen by looking")
    for row in report:
        c.notes.append(
            f"text_bert ({c.fold}): {row.name}: precision {row.precision:.2f}, recall {row.recall:.2f}, "
            f"F1 {row.f1:.2f} of {row.n:,}"
        )
