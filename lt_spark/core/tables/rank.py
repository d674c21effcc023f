"""Tables of the blend, its lists and the shop's rules."""

from lt_spark.core.tables.schema import BECAUSE, FOLD, ITEM, MODEL, RANK, USER, Column, Table

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
