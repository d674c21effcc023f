"""Tables of the prepared log and catalogue."""

from lt_spark.core.tables.schema import EVENT, FOLD, ITEM, USER, Column, Table

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
