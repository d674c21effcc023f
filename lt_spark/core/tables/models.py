"""Tables of what models chose, found near and recommend."""

from lt_spark.core.config import MODELS
from lt_spark.core.tables.schema import BECAUSE, FOLD, ITEM, MODEL, RANK, USER, Column, Table

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


CANDIDATES = {name: candidates(name) for name in MODELS}
