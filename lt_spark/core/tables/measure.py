"""Tables of metrics, of users and groups."""

from lt_spark.core.tables.schema import FOLD, MODEL, USER, Column, Table

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
