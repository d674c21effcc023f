"""Tables that people and BI tools read."""

from lt_spark.core.config import MODELS
from lt_spark.core.tables.measure import GROUP_METRICS, METRICS
from lt_spark.core.tables.schema import MODEL, RANK, RUN, Column, Table

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
        *RUN,
    ),
    ("user_id", "rank"),
)
GOLD_RECOMMENDATIONS_DEFAULT = Table(
    "gold",
    "recommendations_default",
    "What to show to users without history.",
    (RANK, _ITEM_ID, _TITLE, Column("segment", "string", "head, mid, tail or cold"), *RUN),
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
        *RUN,
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
        *RUN,
    ),
    ("item_id", "rank"),
)
GOLD_METRICS = Table(
    "gold",
    "metrics",
    "Metrics by run, with intervals.",
    (*METRICS.columns, *RUN),
    append=True,
)
GOLD_GROUP_METRICS = Table(
    "gold",
    "group_metrics",
    "Who gains and who loses against als_plain, by run.",
    (*GROUP_METRICS.columns, *RUN),
    append=True,
)
GOLD_TAIL_HEALTH = Table(
    "gold",
    "tail_health",
    "How well the tail is served, by run and model.",
    (
        *RUN,
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
