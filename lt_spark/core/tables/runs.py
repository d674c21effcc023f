"""Tables of what was run, accepted and locked."""

from lt_spark.core.tables.schema import FOLD, MODEL, RUN, Column, Table

ACCEPTED_SETTINGS = Table(
    "silver",
    "accepted_settings",
    "What the gate decided; produce uses the newest row.",
    (
        *RUN,
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
        *RUN,
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
