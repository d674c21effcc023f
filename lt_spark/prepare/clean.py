"""The stage ``clean``: the sources made into silver tables, each refused row with its reason."""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from functools import reduce

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError
from lt_spark.core.names import quoted
from lt_spark.core.tables import CLEAN_REPORT, INTERACTIONS, ITEMS, REJECTED_ROWS, USER_ATTRIBUTES, USERS, Table
from lt_spark.prepare import clean_rules as rules
from lt_spark.prepare.clean_items import cleaned_items
from lt_spark.prepare.clean_report import report, triples_report, users_report, verify_report
from lt_spark.prepare.clean_triples import cleaned_links, cleaned_triples, item_facts, with_facts
from lt_spark.prepare.clean_users import cleaned_users, user_attributes
from lt_spark.prepare.conditions import condition
from lt_spark.prepare.ids import dense_ids
from lt_spark.prepare.sources import require_columns
from lt_spark.prepare.times import detect_time_format, order_value, time_reason, unreadable_reason

_SOURCE_ORDER = ("_file", "_record")
_EVENT_KEY = ("order_value", "event_type")

__all__ = ["Cleaned", "checked_interactions", "clean", "user_hash", "verify_report"]


@dataclass(frozen=True)
class Cleaned:
    """The tables of ``clean``; ``clean_report`` and ``rejected_rows`` can be computed without the others."""

    interactions: DataFrame
    items: DataFrame
    users: DataFrame
    rejected_rows: DataFrame
    clean_report: DataFrame
    user_attributes: DataFrame
    shared: tuple[DataFrame, ...] = ()
    """Persisted rows that the tables share; the caller unpersists them when all are written."""


def clean(
    interactions_source: DataFrame,
    items_source: DataFrame | None,
    previous_users: DataFrame | None,
    previous_items: DataFrame | None,
    forgotten_users: DataFrame | None,
    config: Config,
    now: datetime,
    forget_key: str,
    users_source: DataFrame | None = None,
    triples_source: DataFrame | None = None,
    links_source: DataFrame | None = None,
) -> Cleaned:
    """Clean the log, the catalogue, and what is known of the users and, as triples, of the items.

    Rows in = kept + refused + duplicates + not_selected + forgotten + over_cap, each counted in ``clean_report``;
    ``verify_report`` checks it. Small jobs run here for what needs numbers: whether times are only an order, and how
    many new ids there are. Each table is lazy: persist ``interactions_source`` where parsing is dear.

    Args:
        interactions_source: the log, by ``read_source``.
        items_source: the catalogue, by ``read_source``; None: the catalogue is the items of the log, without text.
        previous_users: ``silver.users`` of the last run: its numbers are kept; None: the first run.
        previous_items: ``silver.items`` of the last run; None: the first run.
        forgotten_users: ``silver.forgotten_users``; None: nobody is forgotten.
        config: its sections ``source`` and ``clean``.
        now: time of the run; without a zone: UTC.
        forget_key: key of the hashes of ``forgotten_users``.
        users_source: what is known of the users, by ``read_source``; None: nothing is.
        triples_source: what is known of the items as triples; they become attributes of the items; None: nothing is.
        links_source: which entity of the triples an item is; None: triples begin with the items' own ids.

    Raises:
        SourceError: a configured column is missing, or its type cannot be what it stands for.
        ConfigError: ``where`` or ``event_weights`` cannot be used; forgotten users without a key.
    """
    require_columns(interactions_source, config.source.interactions, "interactions")
    checked, has_times = checked_interactions(interactions_source, config, now)
    if forgotten_users is not None:
        checked = _marked_forgotten(checked, forgotten_users, forget_key)
        previous_users = None if previous_users is None else _remembered(previous_users, forgotten_users, forget_key)
    # persisted, and so computed once: pushed below the checks, each filter on the status would repeat them all
    checked = checked.persist()
    events = checked.filter(F.col("status") == "kept")
    catalogue = None
    if items_source is not None:
        require_columns(items_source, config.source.items, "items")
        catalogue = cleaned_items(items_source, config).persist()
    id_types = {"interactions": _id_type(interactions_source, config.source.interactions.columns.item)}
    if items_source is not None:
        id_types["items"] = _id_type(items_source, config.source.items.columns.item)
    known_of_users = None if users_source is None else cleaned_users(users_source, config).persist()
    users = dense_ids(events.select("user_id"), "user_id", "user_idx", previous_users)
    items = _items(events, catalogue, previous_items)
    told = report(checked, catalogue, config.clean.max_events_per_user, id_types)
    facts = None
    triples = None if triples_source is None else cleaned_triples(triples_source, config).persist()
    links = None if links_source is None or triples is None else cleaned_links(links_source, config).persist()
    if triples is not None:
        facts = item_facts(triples, links, config.source.triples, config.clean.max_title_chars).persist()
        ids = [events, *(() if catalogue is None else (catalogue.filter(F.col("status") == "kept"),))]
        known = reduce(DataFrame.unionByName, [frame.select("item_id") for frame in ids]).distinct()
        told = told.unionByName(triples_report(triples, links, known, facts, config))
        items = with_facts(items, facts)
    if users_source is None or known_of_users is None:
        attributes = users.sparkSession.createDataFrame([], USER_ATTRIBUTES.schema)
    else:
        attributes = user_attributes(known_of_users, users)
        told = told.unionByName(
            users_report(known_of_users, checked, _id_type(users_source, config.source.users.columns.user))
        )
    return Cleaned(
        _as_table(_numbered(events, users, items, config.clean.max_events_per_user, has_times), INTERACTIONS),
        _as_table(items, ITEMS),
        _as_table(users, USERS),
        _rejected(
            {"interactions": checked, "items": catalogue, "users": known_of_users, "triples": triples, "links": links}
        ),
        _as_table(told, CLEAN_REPORT),
        _as_table(attributes, USER_ATTRIBUTES),
        tuple(frame for frame in (checked, catalogue, known_of_users, triples, links, facts) if frame is not None),
    )


def _id_type(source: DataFrame, column: str) -> str:
    return f"{column} of type {source.schema[column].dataType.simpleString()}"


def _as_table(frame: DataFrame, table: Table) -> DataFrame:
    return frame.select(*[F.col(column.name).cast(column.type).alias(column.name) for column in table.columns])


def checked_interactions(interactions_source: DataFrame, config: Config, now: datetime) -> tuple[DataFrame, bool]:
    """Read each row of the log by the conf.

    Returns:
        ``_file``, ``_record``, ``user_id``, ``item_id``, ``order_value``, ``event_type``, ``value``, ``event_weight``,
        ``status`` (kept, refused or not_selected), ``reason``, ``column``; and whether the log has real times.
    """
    source, limits = config.source.interactions, config.clean
    names, types = source.columns, {field.name: field.dataType for field in interactions_source.schema.fields}
    if source.event_weights and not names.event_type:
        raise ConfigError(
            "source.interactions.event_weights is set without source.interactions.columns.event_type: expected the "
            "name of the column with the kind of event, found none. Set it, or remove event_weights."
        )
    time_format = detect_time_format(interactions_source, names.time, source.time_format)
    raw = {role: F.col(quoted(name)) if name else F.lit(None) for role, name in names.model_dump().items()}
    user_id = rules.id_text(raw["user"], types[names.user], f"source.interactions.columns.user '{names.user}'")
    item_id = rules.id_text(raw["item"], types[names.item], f"source.interactions.columns.item '{names.item}'")
    if names.time:
        order, frame = order_value(raw["time"], types[names.time], time_format), interactions_source
    else:
        order, frame = _file_order(interactions_source)
    read = frame.select(
        *_SOURCE_ORDER,
        F.col("_error"),
        (condition(source.where, interactions_source.schema) if source.where else F.lit(True)).alias("_is_wanted"),
        user_id.alias("user_id"),
        item_id.alias("item_id"),
        raw["user"].cast("string").alias("_user"),
        raw["item"].cast("string").alias("_item"),
        order.alias("order_value"),
        raw["time"].cast("string").alias("_time"),
        raw["event_type"].cast("string").alias("event_type"),
        rules.number(raw["value"], types[names.value] if names.value else None).alias("value"),
        raw["value"].cast("string").alias("_value"),
    )
    has_times = bool(names.time) and time_format != "order"
    raw_time, value = F.col("_time"), F.col("order_value")
    if has_times:
        bad_time = time_reason(raw_time, value, limits.min_year, now, limits.max_future_days)
    else:
        bad_time = unreadable_reason(raw_time, value) if names.time else F.lit(None).cast("string")
    weight = rules.event_weight(F.col("event_type"), source.event_weights)
    unknown_type = F.when(weight.isNull(), F.lit("event type is not among event_weights"))
    checks: list[tuple[Column, str]] = [
        (rules.id_reason(F.col("_user"), F.col("user_id"), "user"), names.user),
        (rules.id_reason(F.col("_item"), F.col("item_id"), "item"), names.item),
        (bad_time, names.time),
        (unknown_type, names.event_type),
        (rules.number_reason(F.col("_value"), F.col("value")), names.value),
    ]
    found = rules.first_reason(F.col("_error"), checks, F.col("_is_wanted"))
    judged = read.withColumn("event_weight", weight).withColumn("_found", found)
    chosen = F.col("_is_wanted")
    if source.min_value is not None:
        chosen = chosen & F.coalesce(F.col("value") >= F.lit(source.min_value), F.lit(False))
    status = F.when(F.col("_found").isNotNull(), "refused").when(chosen, "kept").otherwise("not_selected")
    judged = judged.withColumn("status", status)
    if source.since_days is not None:
        judged = _recent(judged, source.since_days, has_times)
    columns = ("user_id", "item_id", "order_value", "event_type", "value", "event_weight", "status")
    return judged.select(*_SOURCE_ORDER, *columns, "_found.reason", "_found.column"), has_times


def _file_order(interactions_source: DataFrame) -> tuple[Column, DataFrame]:
    """Return the order of a log without times: the record, after the records of the files before it."""
    files = interactions_source.select("_file").distinct()
    place = F.row_number().over(Window.orderBy("_file")) - 1  # a row a file: few rows
    placed = interactions_source.join(F.broadcast(files.withColumn("_place", place)), "_file")
    return F.col("_place") * F.lit(1 << 40) + F.col("_record"), placed


def _recent(judged: DataFrame, since_days: float, has_times: bool) -> DataFrame:
    if not has_times:
        raise ConfigError(
            "source.interactions.since_days is set, and the log has no real time (only an order). Remove since_days."
        )
    newest = judged.filter(F.col("status") == "kept").agg(F.max("order_value").alias("_newest"))
    is_old = F.col("order_value") < F.col("_newest") - F.lit(int(since_days * 86_400_000_000))
    status = F.when((F.col("status") == "kept") & is_old, "not_selected").otherwise(F.col("status"))
    return judged.crossJoin(F.broadcast(newest)).withColumn("status", status)


def user_hash(user_id: str, forget_key: str) -> str:
    """Return the hex HMAC-SHA256 of a user id under a key."""
    return hmac.new(forget_key.encode(), user_id.encode(), hashlib.sha256).hexdigest()


def _hashes(user_ids: DataFrame, forget_key: str) -> DataFrame:
    if not forget_key:
        raise ConfigError(
            "silver.forgotten_users needs the key of its hashes: expected the environment variable "
            "LT_SPARK_FORGET_KEY, found none. Set it to the key that the hashes were made with."
        )

    # in Python, not in SQL: a key among an expression's literals would show in plans and event logs
    @pandas_udf("string")  # type: ignore[call-overload,untyped-decorator,unused-ignore]
    def keyed_hash(user_id: pd.Series) -> pd.Series:
        return user_id.map(lambda text: user_hash(text, forget_key))

    return user_ids.distinct().withColumn("user_hash", keyed_hash("user_id"))


def _marked_forgotten(checked: DataFrame, forgotten_users: DataFrame, forget_key: str) -> DataFrame:
    user_ids = checked.filter(F.col("status") == "kept").select("user_id")
    forgotten = _hashes(user_ids, forget_key).join(forgotten_users, "user_hash", "left_semi").select("user_id")
    marked = checked.join(forgotten.withColumn("_forgotten", F.lit(True)), "user_id", "left")
    is_forgotten = F.col("_forgotten").isNotNull() & (F.col("status") == "kept")
    return marked.withColumn("status", F.when(is_forgotten, "forgotten").otherwise(F.col("status"))).drop("_forgotten")


def _remembered(previous_users: DataFrame, forgotten_users: DataFrame, forget_key: str) -> DataFrame:
    hashed = _hashes(previous_users.select("user_id"), forget_key)
    kept = hashed.join(forgotten_users, "user_hash", "left_anti").select("user_id")
    return previous_users.join(kept, "user_id")


def _items(events: DataFrame, catalogue: DataFrame | None, previous_items: DataFrame | None) -> DataFrame:
    """Return the catalogue, the log's items that it lacks, and items of earlier runs that are gone (unavailable)."""
    seen = events.select("item_id").distinct().withColumn("_is_seen", F.lit(True))
    if catalogue is None:
        offered = seen.filter(F.lit(False)).select(
            "item_id",
            F.lit(None).cast("string").alias("title"),
            F.array().cast(rules.ATTRIBUTES).alias("attributes"),
            F.lit(True).alias("is_available"),
            F.lit(None).cast("timestamp").alias("available_from"),
            F.lit(None).cast("timestamp").alias("available_until"),
        )
    else:
        offered = catalogue.filter(F.col("status") == "kept").drop("status", "reason", "column", *_SOURCE_ORDER)
    ids = dense_ids(
        offered.select("item_id").unionByName(seen.select("item_id")), "item_id", "item_idx", previous_items
    )
    joined = ids.join(offered.withColumn("_is_offered", F.lit(True)), "item_id", "left").join(seen, "item_id", "left")
    is_offered = F.coalesce(F.col("_is_offered"), F.lit(False))
    return (
        joined.withColumn("is_in_catalogue", is_offered)
        .withColumn("is_available", F.coalesce(F.col("is_available"), F.col("_is_seen"), F.lit(False)))
        .withColumn("attributes", F.coalesce(F.col("attributes"), F.array().cast(rules.ATTRIBUTES)))
    )


def _numbered(events: DataFrame, users: DataFrame, items: DataFrame, cap: int, has_times: bool) -> DataFrame:
    """Return the events with dense ids and positions: duplicates merged, bots cut to their newest events."""
    frame = events.join(users, "user_id").join(items.select("item_idx", "item_id"), "item_id")
    frame = frame.drop("user_id", "item_id").repartition("user_idx")
    same = Window.partitionBy("user_idx", "item_idx", *_EVENT_KEY).orderBy(*_SOURCE_ORDER)
    merged = frame.withColumn("_copy", F.row_number().over(same)).filter(F.col("_copy") == 1)
    by_user = Window.partitionBy("user_idx")
    over = F.greatest(F.count(F.lit(1)).over(by_user) - F.lit(cap), F.lit(0))
    place = F.row_number().over(by_user.orderBy("order_value", *_SOURCE_ORDER)) - over
    event_ts = F.timestamp_micros("order_value") if has_times else F.lit(None).cast("timestamp")
    return merged.withColumn("event_order", place).filter(F.col("event_order") > 0).withColumn("event_ts", event_ts)


def _rejected(sources: dict[str, DataFrame | None]) -> DataFrame:
    frames = [
        frame.filter(F.col("status") == "refused").select(
            F.lit(name).alias("source"),
            F.col("_file").alias("file"),
            F.col("_record").alias("record"),
            "reason",
            "column",
        )
        for name, frame in sources.items()
        if frame is not None
    ]
    return _as_table(reduce(DataFrame.unionByName, frames), REJECTED_ROWS)
