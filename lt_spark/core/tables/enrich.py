"""Tables of vectors, written texts and readings."""

from lt_spark.core.tables.schema import EVENT, FOLD, ITEM, USER, Column, Table

_CONTENT_HASH = Column("content_hash", "string", "hex SHA-256 of what was read of the item")

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
