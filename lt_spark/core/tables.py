"""Every table's and column's name, type, unit, key and comment, once."""

from dataclasses import dataclass, field
from typing import Literal, cast

from pyspark.sql.types import StructField, StructType

from lt_spark.core.config import MODELS

SCHEMA_VERSION = 2
"""Raised when a table's columns change in a way that old tables do not fit."""

FOLDS = ("valid", "test", "live")
SEGMENTS = ("head", "mid", "tail", "cold")


@dataclass(frozen=True)
class Column:
    """A column: its name, Spark SQL type and comment."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A Delta table.

    Attributes:
        layer: ``silver`` (working tables) or ``gold`` (what people read).
        key: the columns that name a row.
        partition_by: physical partition columns.
        append: gold tables that grow by run instead of being replaced.
    """

    layer: Literal["silver", "gold"]
    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    append: bool = False
    folded: bool = field(init=False)

    def __post_init__(self) -> None:
        """Derive whether the table has a ``fold`` column; its rows are then replaced fold by fold."""
        object.__setattr__(self, "folded", self.partition_by == ("fold",))

    @property
    def full_name(self) -> str:
        """``silver.items``."""
        return f"{self.layer}.{self.name}"

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def schema(self) -> StructType:
        """Spark schema with the comments; needs an active session."""
        return StructType(
            [
                StructField(
                    c.name,
                    cast(StructType, StructType.fromDDL(f"x {c.type}"))["x"].dataType,
                    True,
                    {"comment": c.comment},
                )
                for c in self.columns
            ]
        )


FOLD = Column("fold", "string", "what the row may know: valid (train), test (train + valid), live (everything)")
USER = Column("user_idx", "int", "dense internal user number, stable over runs")
ITEM = Column("item_idx", "int", "dense internal item number, stable over runs")
MODEL = Column("model_name", "string", "the model that made the row")
RANK = Column("rank", "int", "place in the list, from 1")
BECAUSE = Column(
    "because",
    "array<struct<item_idx:int,share:double>>",
    "at most 3 items of the user's history that speak most for it, with their share of the score",
)
EVENT = (
    USER,
    ITEM,
    Column("event_order", "int", "the user's position of the event, from 1, by time, then source order"),
    Column("order_value", "bigint", "time as microseconds since 1970 UTC, or the source's own order"),
    Column("event_ts", "timestamp", "time of the event (UTC); null where the source has only an order"),
    Column("event_type", "string", "kind of event as in the source"),
    Column("value", "double", "rating, quantity or seconds as in the source"),
    Column("event_weight", "double", "confidence of the event, from its type; 1 where none is set"),
)

_CONTENT_HASH = Column("content_hash", "string", "hex SHA-256 of what was read of the item")

INTERACTIONS = Table("silver", "interactions", "The cleaned log: one row an event.", EVENT, ("user_idx", "event_order"))
ITEMS = Table(
    "silver",
    "items",
    "The catalogue, and the log's items that the catalogue lacks.",
    (
        ITEM,
        Column("item_id", "string", "the item's own id, byte for byte"),
        Column("title", "string", "title; null where there is none"),
        Column("attributes", "array<struct<name:string,value:string>>", "the further text columns"),
        Column("is_in_catalogue", "boolean", "false for an item seen only in the log"),
        Column("is_available", "boolean", "false: learnt from, never recommended"),
        Column("available_from", "timestamp", "recommended from this time on (UTC)"),
        Column("available_until", "timestamp", "recommended until this time (UTC)"),
    ),
    ("item_idx",),
)
USERS = Table(
    "silver",
    "users",
    "The users and their numbers.",
    (USER, Column("user_id", "string", "the user's own id, byte for byte")),
    ("user_idx",),
)
USER_ATTRIBUTES = Table(
    "silver",
    "user_attributes",
    "What the users source says of the users; only the measurement by group reads it.",
    (
        USER,
        Column("name", "string", "column of the source"),
        Column("value", "string", "its value as text; no row where it is empty"),
    ),
    ("user_idx", "name"),
)
REJECTED_ROWS = Table(
    "silver",
    "rejected_rows",
    "Rows of the sources that were refused, and why.",
    (
        Column("source", "string", "interactions, items or users"),
        Column("file", "string", "name of the source file"),
        Column("record", "bigint", "number of the record in the file, from 1, header included"),
        Column("reason", "string", "why it was refused"),
        Column("column", "string", "the source column at fault, where it is one"),
    ),
    ("source", "file", "record"),
)
CLEAN_REPORT = Table(
    "silver",
    "clean_report",
    "What clean did: rows in = kept + refused + duplicates merged + left out.",
    (
        Column("source", "string", "interactions, items or users"),
        Column("measure", "string", "rows_in, kept, refused, duplicates, not_selected, forgotten, over_cap, ..."),
        Column("n_rows", "bigint", "rows"),
    ),
    ("source", "measure"),
)
FORGOTTEN_USERS = Table(
    "silver",
    "forgotten_users",
    "Users who asked to be forgotten, as keyed hashes (hex HMAC-SHA256 of the id).",
    (Column("user_hash", "string", "hex HMAC-SHA256 of the user id under LT_SPARK_FORGET_KEY"),),
    ("user_hash",),
)
INTERACTIONS_SPLIT = Table(
    "silver",
    "interactions_split",
    "The log with its split.",
    (*EVENT, Column("split", "string", "train, valid or test")),
    ("user_idx", "event_order"),
)
ITEM_SEGMENTS = Table(
    "silver",
    "item_segments",
    "Each item's popularity and segment in a fold.",
    (
        FOLD,
        ITEM,
        Column("n_interactions", "bigint", "known events of the item in the fold"),
        Column("popularity_rank", "int", "rank by n_interactions descending, then item_idx, from 1"),
        Column("segment", "string", "head, mid, tail or cold (never seen in the fold)"),
        Column("segment_top20", "string", "head: the first ceil(.2 x catalogue) by popularity_rank; else tail"),
    ),
    ("fold", "item_idx"),
    ("fold",),
)
INTERACTIONS_REBALANCED = Table(
    "silver",
    "interactions_rebalanced",
    "Known events with the weights that let rare items be learnt.",
    (
        FOLD,
        USER,
        ITEM,
        EVENT[2],
        Column("weight", "double", "weight of the event, mean 1 over the fold, event_weight included"),
        Column("propensity", "double", "estimated chance that the item was shown, in (0, 1]"),
        Column("n_copies", "int", "copies of the event (over-sampling), at least 1"),
    ),
    ("fold", "user_idx", "event_order"),
    ("fold",),
)
REBALANCE_REPORT = Table(
    "silver",
    "rebalance_report",
    "What rebalance did.",
    (
        FOLD,
        Column("measure", "string", "gini, tail_share, n_users, n_items, n_events"),
        Column("before", "double", "value before"),
        Column("after", "double", "value after"),
    ),
    ("fold", "measure"),
    ("fold",),
)
ITEM_EMBEDDINGS = Table(
    "silver",
    "item_embeddings",
    "Each item's vector from its own text.",
    (
        ITEM,
        _CONTENT_HASH,
        Column("model", "string", "the encoder and its revision"),
        Column("vector", "array<float>", "unit length; zeros where the item has no text"),
    ),
    ("item_idx",),
)
PROMPT_EXAMPLES = Table(
    "silver",
    "prompt_examples",
    "Versions of the pool of items whose attributes teach the model; the newest is used.",
    (
        Column("examples_version", "int", "version of the pool, from 1"),
        ITEM,
        Column("pool_rank", "int", "place in the pool, most known first, from 1"),
        Column("title", "string", "title of the item"),
        Column("attributes", "array<struct<name:string,value:string>>", "the further text columns"),
    ),
    ("examples_version", "item_idx"),
    append=True,
)
ITEM_ENRICHMENTS = Table(
    "silver",
    "item_enrichments",
    "What the language model wrote of each item, and what became of it; rows are added, never asked twice.",
    (
        Column("key", "string", "hex SHA-256 of the item's id, input_key and the limits of the gate; unique"),
        ITEM,
        _CONTENT_HASH,
        Column("description", "string", "T_L: the accepted description, or the fallback's"),
        Column("keywords", "array<string>", "K_L: the accepted keywords, or the fallback's"),
        Column("has_own_keywords", "boolean", "whether the keywords are the model's and passed, whatever the status"),
        Column("status", "string", "accepted; fallback: made of metadata and neighbours; refused; failed"),
        Column("reason", "string", "the check that failed, or the engine's error; null where accepted at once"),
        Column("fallback_description", "string", "what stands in for a refused description"),
        Column("fallback_keywords", "array<string>", "what stands in for refused keywords"),
        Column("answer", "string", "the model's last answer as it came, cleaned of control characters"),
        Column("n_tries", "int", "how often the model was asked"),
        Column("n_prompt_tokens", "int", "tokens read, over all tries"),
        Column("n_output_tokens", "int", "tokens written, over all tries"),
        Column("seconds", "double", "the row's share of its batches' time"),
        Column("similarity", "double", "cosine of the answer's vector and the item's"),
        Column("engine", "string", "transformers, openai or imported"),
        Column("model", "string", "name of the model"),
        Column("revision", "string", "its version"),
        Column("device", "string", "where it ran: cpu, cuda:0, remote"),
        Column("prompt_version", "string", "pack and version of the prompt"),
        Column("examples_version", "int", "version of the pool that the examples are from"),
        Column("input_key", "string", "hex SHA-256 of all that decides the answer; identical inputs share it"),
        Column("is_current", "boolean", "whether it belongs to the item as it is now, by the conf of the last run"),
        Column("reviewed_by", "string", "who accepted, edited or rejected it; null where nobody did"),
        Column("reviewed_at", "timestamp", "when (UTC)"),
        Column("run_id", "string", "the run that wrote the row"),
    ),
    ("key",),
)
ENRICHMENT_STAGING = Table(
    "silver",
    "enrichment_staging",
    "The answers of the last wave, before they were merged.",
    (
        *ITEM_ENRICHMENTS.columns,
        Column("is_asked", "boolean", "whether the model was asked for the row; false: its answer was known"),
        Column("worker", "string", "host and process that asked"),
        Column("n_loads", "int", "how often that process loaded the model; 1"),
        Column("load_s", "double", "seconds that loading took"),
        Column("checks", "array<string>", "names of the checks that the first answer failed"),
    ),
    ("key",),
)
ENRICHMENT_REPORT = Table(
    "silver",
    "enrichment_report",
    "What the stages of the language model did, by run.",
    (
        Column("run_id", "string", "the run"),
        Column("stage", "string", "describe or context"),
        FOLD,
        Column("measure", "string", "accepted, fallback, asked, passed_<check>, prompt_tokens, ..."),
        Column("value", "double", "count, tokens, seconds or share"),
    ),
    ("run_id", "stage", "fold", "measure"),
    append=True,
)
ITEM_EMBEDDINGS_ENRICHED = Table(
    "silver",
    "item_embeddings_enriched",
    "Each item's vector from its own and its accepted text, where the text was shown to help.",
    (
        *ITEM_EMBEDDINGS.columns,
        Column("has_text", "boolean", "whether an accepted text is part of the vector"),
    ),
    ("item_idx",),
)
TEXT_VERDICT = Table(
    "silver",
    "text_verdict",
    "Whether the written text may reach the models, and the measure behind it.",
    (
        Column("verdict", "string", "accepted or refused"),
        Column("reason", "string", "why"),
        Column("n_items", "bigint", "described items measured"),
        Column("plain", "double", "neighbour agreement of the items' own text, in [0, 1]"),
        Column("enriched", "double", "the same with the written text"),
        Column("gain", "double", "enriched - plain"),
        Column("gain_low", "double", "lower 95 % bound"),
        Column("gain_high", "double", "upper 95 % bound"),
    ),
)
_READING = (
    Column("context", "string", "C_L: the accepted reading; null where it was refused"),
    Column("vector", "array<float>", "vector of the accepted reading; null where it was refused"),
    Column("status", "string", "accepted, refused or failed"),
    Column("reason", "string", "the check that failed, or the engine's error"),
    Column("n_titles", "int", "titles that the prompt showed"),
    Column("n_prompt_tokens", "int", "tokens read, over all tries"),
    Column("n_output_tokens", "int", "tokens written, over all tries"),
    Column("seconds", "double", "the row's share of its batches' time"),
    Column("engine", "string", "transformers or openai"),
    Column("model", "string", "name of the model"),
    Column("revision", "string", "its version"),
    Column("prompt_version", "string", "pack and version of the prompt"),
)
_INPUT_KEY = Column("input_key", "string", "hex SHA-256 of all that decides the answer")
USER_CONTEXTS = Table(
    "silver",
    "user_contexts",
    "The language model's reading of a user's history (C_L).",
    (FOLD, USER, *_READING, _INPUT_KEY),
    ("fold", "user_idx"),
    ("fold",),
)
CONTEXT_STAGING = Table(
    "silver",
    "context_staging",
    "Readings of waves that are done, of a stage that is not; emptied when it is.",
    (
        _INPUT_KEY,
        *_READING,
        Column("worker", "string", "host and process that asked"),
        Column("n_loads", "int", "how often that process loaded the model; 1"),
    ),
    ("input_key",),
    append=True,
)
INTERACTIONS_AUGMENTED = Table(
    "silver",
    "interactions_augmented",
    "S_U+: the known events, and pseudo-events of tail items that a user's history speaks for.",
    (
        FOLD,
        *EVENT,
        Column("weight", "double", "1 for an event; context.weight for a pseudo-event"),
        Column("is_augmented", "boolean", "true: a pseudo-event, never a history, a seen item or a target"),
        Column("source", "string", "log; context (vector of the accepted C_L); history (mean vector of the history)"),
    ),
    ("fold", "user_idx", "event_order"),
    ("fold",),
)
ALS_SETTINGS = Table(
    "silver",
    "als_settings",
    "The grid of plain ALS on valid, and the point chosen.",
    (
        Column("rank", "int", "number of factors"),
        Column("alpha", "double", "confidence slope"),
        Column("reg_param", "double", "regularisation"),
        Column("ndcg", "double", "NDCG@10 of all on valid"),
        Column("ndcg_tail", "double", "NDCG@10 of the tail (segment_top20) on valid"),
        Column("is_chosen", "boolean", "whether test and live use it"),
    ),
    ("rank", "alpha", "reg_param"),
)
ALS_TEXT = Table(
    "silver",
    "als_text",
    "How much text counts in the item factors of als: what was tried on valid, and what was chosen there.",
    (
        FOLD,
        Column("support", "double", "s: an item used n times keeps n / (n + s) of its learnt factors"),
        Column("scale", "double", "length of mapped factors, in mean lengths of the learnt ones; 0: no text"),
        Column("ndcg", "double", "NDCG@10 of all on valid"),
        Column("ndcg_tail", "double", "NDCG@10 of the tail (segment_top20) on valid"),
        Column("is_chosen", "boolean", "whether test and live use it"),
    ),
    ("fold", "support", "scale"),
    ("fold",),
)
BERT_EPOCHS = Table(
    "silver",
    "bert_epochs",
    "The epochs of the sequence model's trainings on valid, and the one chosen.",
    (
        Column("objective", "string", "causal or masked"),
        Column("epoch", "int", "epoch, from 1"),
        Column("loss", "double", "weighted mean loss over the guessed places"),
        Column("ndcg", "double", "NDCG@10 of all users looked at, on valid"),
        Column("ndcg_tail", "double", "NDCG@10 of users with a tail target (segment_top20), on valid"),
        Column("learning_rate", "double", "learning rate of the last step"),
        Column("n_rows", "bigint", "windows read"),
        Column("seconds", "double", "seconds of the steps"),
        Column("is_chosen", "boolean", "whether test and live train this objective for so many epochs"),
        Column("folder", "string", "where the training's checkpoints lie"),
    ),
    ("objective", "epoch"),
)
ITEM_EMBEDDINGS_TUNED = Table(
    "silver",
    "item_embeddings_tuned",
    "Each item's vector by the encoder that was taught on the fold's log.",
    (
        FOLD,
        ITEM,
        Column("content_hash", "string", "hex SHA-256 of what was read of the item, and of the weights"),
        Column("model", "string", "the encoder and its revision, the method, and the start of the weights' hash"),
        Column("vector", "array<float>", "unit length; zeros where the item has no text"),
    ),
    ("fold", "item_idx"),
    ("fold",),
)
TEXT_BERT_EPOCHS = Table(
    "silver",
    "text_bert_epochs",
    "The epochs of text_bert's training; NDCG on valid, which chooses, and null in the other folds.",
    (
        FOLD,
        Column("train_on", "string", "all, or head: only pairs whose target is head"),
        Column("epoch", "int", "number of the epoch; 0: the encoder before it learnt"),
        Column("loss", "double", "mean contrastive loss; null for epoch 0"),
        Column("ndcg", "double", "NDCG@10 of all on valid"),
        Column("ndcg_tail", "double", "NDCG@10 of the tail (segment_top20) on valid"),
        Column("ndcg_cold", "double", "NDCG@10 of cold targets on valid; null where there are none"),
        Column("seconds", "double", "time of the epoch, judging included"),
        Column("is_chosen", "boolean", "whether the epoch's weights are used; test and live train so many epochs"),
    ),
    ("fold", "train_on", "epoch"),
    ("fold",),
)
TEXT_BERT_REPORT = Table(
    "silver",
    "text_bert_report",
    "How well 'will this user like this item' is told: the fold's targets against drawn unknown items.",
    (
        FOLD,
        Column("class", "string", "like: a target; dislike: an item drawn by popularity, neither known nor target"),
        Column("precision", "double", "of the pairs called so, the share that are, at threshold 0.5"),
        Column("recall", "double", "of the pairs that are, the share called so"),
        Column("f1", "double", "harmonic mean of precision and recall"),
        Column("n", "bigint", "pairs of the class"),
    ),
    ("fold", "class"),
    ("fold",),
)


def candidates(model_name: str) -> Table:
    """Return the candidate table of a model."""
    return Table(
        "silver",
        f"candidates_{model_name}",
        f"Best items of each user by the model {model_name}.",
        (
            FOLD,
            USER,
            MODEL,
            ITEM,
            Column("score", "double", "comparable within one model only"),
            RANK,
            BECAUSE,
        ),
        ("fold", "user_idx", "item_idx"),
        ("fold",),
    )


ITEM_NEIGHBOURS = Table(
    "silver",
    "item_neighbours",
    "Similar items by co-occurrence in histories.",
    (
        FOLD,
        ITEM,
        Column("neighbour_idx", "int", "item_idx of the similar item"),
        Column("similarity", "double", "similarity of the pair, above 0"),
        RANK,
    ),
    ("fold", "item_idx", "neighbour_idx"),
    ("fold",),
)
CONTENT_NEIGHBOURS = Table(
    "silver",
    "content_neighbours",
    "Items alike by meaning and by words.",
    (
        FOLD,
        Column("kind", "string", "semantic (cosine of vectors) or lexical (cosine of TF-IDF weights)"),
        ITEM,
        Column("neighbour_idx", "int", "item_idx of the item alike"),
        Column("similarity", "double", "cosine, in (0, 1]"),
        RANK,
    ),
    ("fold", "kind", "item_idx", "neighbour_idx"),
    ("fold",),
)
BLEND_WEIGHTS = Table(
    "silver",
    "blend_weights",
    "The weight of each model, and the power of popularity, chosen on valid.",
    (
        Column("half", "int", "0, 1: fitted without that half of the valid users; -1: fitted on all"),
        MODEL,
        Column("weight", "double", "weight, at least 0"),
        Column(
            "popularity_power", "double", "how much popular items are held back, at least 0; the same for all models"
        ),
    ),
    ("half", "model_name"),
)
RECOMMENDATIONS = Table(
    "silver",
    "recommendations",
    "The blend: each user's ranked items and why.",
    (
        FOLD,
        USER,
        ITEM,
        RANK,
        Column("score", "double", "blended score; in a re-ranked list that of the place: it falls with rank"),
        Column("segment", "string", "segment of the item in the fold"),
        Column("models", "array<struct<model_name:string,share:double>>", "models that spoke for it, share of score"),
        BECAUSE,
    ),
    ("fold", "user_idx", "item_idx"),
    ("fold",),
)
BUSINESS_RULES = Table(
    "silver",
    "business_rules",
    "What the shop pins, blocks and boosts: the rules that can be used, in force or not.",
    (
        ITEM,
        Column("user_idx", "int", "the user that it is for; null: everybody"),
        Column("action", "string", "pin, block or boost"),
        Column("value", "double", "pin: place from 1; boost: factor above 0; block: null"),
        Column("starts_on", "date", "first day (UTC); null: since ever"),
        Column("ends_on", "date", "last day (UTC); null: for ever"),
        Column("reason", "string", "why, in the shop's words"),
        Column("file", "string", "name of the source file"),
        Column("record", "bigint", "number of the record in the file, from 1, header included"),
    ),
    ("file", "record"),
)
REJECTED_RULES = Table(
    "silver",
    "rejected_rules",
    "Business rules that were refused, and why.",
    (
        Column("file", "string", "name of the source file"),
        Column("record", "bigint", "number of the record in the file, from 1, header included"),
        Column("reason", "string", "why it was refused"),
        Column("column", "string", "the source column at fault, where it is one"),
    ),
    ("file", "record"),
)
RERANK_REPORT = Table(
    "silver",
    "rerank_report",
    "What the re-ranking of the blend did, and what it cost.",
    (
        FOLD,
        Column("rule", "string", "quota, cap, rules (the shop's), or reach"),
        Column("measure", "string", "users, users_touched, items_moved, score_lost, tail_share_before, ..."),
        Column("value", "double", "count, or share"),
    ),
    ("fold", "rule", "measure"),
    ("fold",),
)
_METRICS = ("precision", "recall", "f1", "hit_rate", "ndcg", "mrr", "map")
USER_METRICS = Table(
    "silver",
    "user_metrics",
    "Metrics of one user's list by one model, over the targets of one segment.",
    (
        FOLD,
        MODEL,
        USER,
        Column("segment", "string", "all, head, mid, tail, cold, tail_and_cold, top20_head, top20_tail"),
        Column("k", "int", "length of the list looked at"),
        Column("n_targets", "int", "targets of the user in the segment"),
        *(Column(name, "double", f"{name} at k, in [0, 1]") for name in _METRICS),
    ),
    ("fold", "model_name", "user_idx", "segment", "k"),
    ("fold",),
)
METRICS = Table(
    "silver",
    "metrics",
    "Metrics by model, segment and k, with intervals and the difference from als_plain.",
    (
        FOLD,
        MODEL,
        Column("segment", "string", "segment of the targets, or all"),
        Column("k", "int", "length of the list"),
        Column("metric", "string", "ndcg, recall, tail_share, coverage, gini, ..."),
        Column("n_users", "bigint", "users averaged"),
        Column("value", "double", "the metric"),
        Column("value_low", "double", "lower 95 % bound"),
        Column("value_high", "double", "upper 95 % bound"),
        Column("baseline_value", "double", "value of als_plain"),
        Column("difference", "double", "value - baseline_value"),
        Column("difference_low", "double", "lower 95 % bound of the difference"),
        Column("difference_high", "double", "upper 95 % bound of the difference"),
        Column("p_value", "double", "two-sided bootstrap p of the difference"),
    ),
    ("fold", "model_name", "segment", "k", "metric"),
    ("fold",),
)
_GROUP = (
    Column("group_by", "string", "activity, history_length, tail_taste, or a column of the users source"),
    Column("group", "string", "light, medium, heavy; a range such as 3-5; a value of the column; unknown; other"),
    Column("group_order", "int", "place of the group: by value, names by their number of users; from 1"),
)
USER_GROUPS = Table(
    "silver",
    "user_groups",
    "The group of each measured user in each grouping.",
    (FOLD, USER, *_GROUP),
    ("fold", "user_idx", "group_by"),
    ("fold",),
)
GROUP_METRICS = Table(
    "silver",
    "group_metrics",
    "Who gains and who loses: NDCG of each group of users by model and k, against als_plain.",
    (
        FOLD,
        MODEL,
        Column("group_by", "string", "a grouping of silver.user_groups; change: users in order of what the model did"),
        *_GROUP[1:],
        Column("k", "int", "length of the list"),
        Column("n_users", "bigint", "users averaged"),
        Column("value", "double", "mean NDCG of the group"),
        Column("baseline_value", "double", "that of als_plain"),
        Column("difference", "double", "value - baseline_value"),
        Column("difference_low", "double", "lower 95 % bound of the difference; null for change"),
        Column("difference_high", "double", "upper 95 % bound of the difference; null for change"),
        Column("p_value", "double", "two-sided bootstrap p of the difference; null for change"),
        Column("share_gaining", "double", "share of the group's users with a higher NDCG than by als_plain"),
        Column("share_losing", "double", "share with a lower one"),
    ),
    ("fold", "model_name", "group_by", "group", "k"),
    ("fold",),
)
_RUN = (
    Column("run_id", "string", "the run that wrote the row"),
    Column("run_date", "date", "its date (UTC)"),
)
ACCEPTED_SETTINGS = Table(
    "silver",
    "accepted_settings",
    "What the gate decided; produce uses the newest row.",
    (
        *_RUN,
        Column("decided_at", "timestamp", "time of the decision (UTC)"),
        Column("config_hash", "string", "hash of the settings that were measured"),
        Column("verdict", "string", "accepted or refused"),
        Column("reason", "string", "the bound that failed, or what was gained"),
        Column("model_name", "string", "what produce publishes: blend or another accepted model; als_plain: none was"),
        Column("settings", "string", "the settings as JSON"),
    ),
    ("run_id",),
    append=True,
)
LEDGER = Table(
    "silver",
    "ledger",
    "One row a setting, model, fold, segment: figures, verdict and reason.",
    (
        Column("variant", "string", "name of the setting"),
        MODEL,
        FOLD,
        Column("segment", "string", "segment of the targets, or all"),
        Column("k", "int", "length of the list"),
        Column("metric", "string", "metric"),
        Column("value", "double", "the metric"),
        Column("difference", "double", "value - that of als_plain"),
        Column("difference_low", "double", "lower 95 % bound of the difference"),
        Column("difference_high", "double", "upper 95 % bound of the difference"),
        Column("p_value", "double", "two-sided bootstrap p"),
        Column("verdict", "string", "accepted or refused, on valid; baseline: als_plain itself"),
        Column("reason", "string", "why"),
        Column("config_hash", "string", "hash of the settings"),
        Column("run_date", "date", "date (UTC)"),
    ),
    ("variant", "model_name", "fold", "segment", "k", "metric"),
)
STAGE_RUNS = Table(
    "silver",
    "stage_runs",
    "Which stage is done, by key.",
    (
        Column("stage", "string", "stage"),
        FOLD,
        Column("stage_key", "string", "hash of settings, code and inputs"),
        Column("run_id", "string", "the run that did it"),
        Column("done_at", "timestamp", "when (UTC)"),
        Column("seconds", "double", "how long it took; seconds"),
        Column("rows", "string", "rows written by table, as JSON"),
        Column("is_complete", "boolean", "false: stopped by its budget; --continue goes on"),
    ),
    append=True,
)
RUNS = Table(
    "silver",
    "runs",
    "One row a run, stage and fold.",
    (
        *_RUN,
        Column("stage", "string", "stage"),
        FOLD,
        Column("status", "string", "done, up to date or failed"),
        Column("seconds", "double", "seconds"),
        Column("rows", "string", "rows written by table, as JSON"),
        Column("stage_key", "string", "hash of settings, code and inputs"),
    ),
    append=True,
)
RUN_LOCK = Table(
    "silver",
    "run_lock",
    "Who holds the tables.",
    (
        Column("run_id", "string", "run that holds the lock; empty: nobody"),
        Column("owner", "string", "host and process"),
        Column("seen_at", "double", "last sign of life; seconds since 1970 UTC"),
        Column("schema_version", "int", "schema version of the tables"),
    ),
)

_USER_ID = Column("user_id", "string", "the user's own id")
_ITEM_ID = Column("item_id", "string", "the item's own id")
_TITLE = Column("title", "string", "title of the item")
GOLD_RECOMMENDATIONS = Table(
    "gold",
    "recommendations",
    "What to show to whom, and why.",
    (
        _USER_ID,
        RANK,
        _ITEM_ID,
        _TITLE,
        Column("score", "double", "score; comparable within one user"),
        Column("segment", "string", "head, mid, tail or cold"),
        Column("models", "string", "models that spoke for it, strongest first, comma separated"),
        Column("reason_code", "string", "because_of, popular, what_you_did_last, alike, similar_taste, or pinned"),
        Column("reason_item_id", "string", "the item of the user's history that speaks most for it"),
        Column("reason_event_date", "date", "date of that event (UTC); null where the log has no real time"),
        Column("reason", "string", "the reason in words"),
        Column("reason_title", "string", "title of reason_item_id"),
        Column("reason_share", "double", "share of the score that reason_item_id has, in [0, 1]"),
        Column("shared_keywords", "string", "at most 3 keywords that both items have, comma separated"),
        *(
            column
            for place, nth in ((2, "second"), (3, "third"))
            for column in (
                Column(f"reason_{place}_item_id", "string", f"the {nth} item of the history that speaks for it"),
                Column(f"reason_{place}_title", "string", "its title"),
                Column(f"reason_{place}_share", "double", "its share of the score, in [0, 1]"),
            )
        ),
        *(Column(f"share_{name}", "double", f"share of the score that {name} gave, in [0, 1]") for name in MODELS),
        *_RUN,
    ),
    ("user_id", "rank"),
)
GOLD_RECOMMENDATIONS_DEFAULT = Table(
    "gold",
    "recommendations_default",
    "What to show to users without history.",
    (RANK, _ITEM_ID, _TITLE, Column("segment", "string", "head, mid, tail or cold"), *_RUN),
    ("rank",),
)
GOLD_TAIL_ITEMS = Table(
    "gold",
    "tail_items",
    "Each tail and cold item and whom it reaches.",
    (
        _ITEM_ID,
        _TITLE,
        Column("segment", "string", "tail or cold"),
        Column("n_interactions", "bigint", "events of the item"),
        Column("n_users_reached", "bigint", "users in whose list (first 10) it is"),
        Column("n_users_reached_als_plain", "bigint", "the same with plain ALS"),
        *_RUN,
    ),
    ("item_id",),
)
GOLD_SIMILAR_ITEMS = Table(
    "gold",
    "similar_items",
    "Items that go together.",
    (
        _ITEM_ID,
        RANK,
        Column("similar_item_id", "string", "id of the similar item"),
        Column("similar_title", "string", "its title"),
        Column("similarity", "double", "similarity, above 0"),
        *_RUN,
    ),
    ("item_id", "rank"),
)
GOLD_METRICS = Table(
    "gold",
    "metrics",
    "Metrics by run, with intervals.",
    (*METRICS.columns, *_RUN),
    append=True,
)
GOLD_GROUP_METRICS = Table(
    "gold",
    "group_metrics",
    "Who gains and who loses against als_plain, by run.",
    (*GROUP_METRICS.columns, *_RUN),
    append=True,
)
GOLD_TAIL_HEALTH = Table(
    "gold",
    "tail_health",
    "How well the tail is served, by run and model.",
    (
        *_RUN,
        MODEL,
        Column("k", "int", "length of the lists"),
        Column("tail_share", "double", "share of tail and cold items in the lists"),
        Column("coverage", "double", "share of the recommendable catalogue in any list"),
        Column("gini", "double", "inequality of exposure over the catalogue, 0 equal to 1"),
        Column("n_items_reached", "bigint", "items in any list"),
        Column("n_users", "bigint", "users with a list"),
    ),
    append=True,
)

CANDIDATES = {name: candidates(name) for name in MODELS}
EMBEDDINGS = {"plain": ITEM_EMBEDDINGS, "enriched": ITEM_EMBEDDINGS_ENRICHED, "tuned": ITEM_EMBEDDINGS_TUNED}
"""The tables of text vectors that ``models.embeddings`` chooses from."""
ALL_TABLES: tuple[Table, ...] = (
    *(value for value in list(globals().values()) if isinstance(value, Table)),
    *CANDIDATES.values(),
)
TABLES = {table.full_name: table for table in ALL_TABLES}
