"""The account of ``clean``: what became of each row, and whether the run may go on."""

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.core.errors import DataError, SourceError
from lt_spark.prepare import clean_rules as rules
from lt_spark.prepare.strict_csv import UNREADABLE

OUTCOMES = ("kept", "refused", "duplicates", "not_selected", "forgotten", "over_cap")
"""What can become of a row; their counts add up to ``rows_in``."""
_REFUSED = "refused: "
_IDS = "ids: "


def _measures(frame: DataFrame, source: str, measures: Iterable[str]) -> DataFrame:
    """Return the named counts of a one-row frame as report rows."""
    pairs = [F.struct(F.lit(name).alias("m"), F.col(name).cast("bigint").alias("n")) for name in measures]
    rows = frame.select(F.explode(F.array(*pairs)).alias("pair"))
    return rows.select(F.lit(source).alias("source"), F.col("pair.m").alias("measure"), F.col("pair.n").alias("n_rows"))


def _total(value: Column | str) -> Column:
    return F.coalesce(F.sum(value), F.lit(0))


def _statuses(
    frame: DataFrame, source: str, names: Sequence[str], id_type: str, id_column: str = "item_id"
) -> DataFrame:
    """Return the report rows that come straight from the status of each row, and the kinds of its ids."""
    counts = [_total(F.when(F.col("status") == name, 1).otherwise(0)).alias(name) for name in names]
    totals = _measures(frame.agg(F.count(F.lit(1)).alias("rows_in"), *counts), source, ("rows_in", *names))
    n_rows = F.count(F.lit(1)).alias("n_rows")
    refused = frame.filter(F.col("status") == "refused").groupBy("reason", "column").agg(n_rows)
    has_column = F.coalesce(F.col("column"), F.lit("")) != ""
    named = F.when(has_column, F.format_string("%s (column %s)", "reason", "column")).otherwise(F.col("reason"))
    kept = frame.filter(F.col("status") == "kept")
    kinds = kept.groupBy(rules.id_kind(F.col(id_column)).alias("kind")).agg(n_rows)
    ids = F.concat(F.lit(f"{_IDS}{id_type}, "), F.col("kind"))
    source_name = F.lit(source).alias("source")
    reasons = refused.select(source_name, F.concat(F.lit(_REFUSED), named).alias("measure"), "n_rows")
    return totals.unionByName(reasons).unionByName(kinds.select(source_name, ids.alias("measure"), "n_rows"))


def users_report(known_of_users: DataFrame, checked: DataFrame, id_type: str) -> DataFrame:
    """Return the rows of ``silver.clean_report`` of the users source.

    Args:
        known_of_users: its rows with ``status``.
        checked: rows of the log with ``status``.
        id_type: name and type of its user column.

    Returns:
        ``rows_in``, their outcomes, ``refused: REASON (column NAME)``, ``ids: NAME of type TYPE, KIND``, and
        ``users_in_log``, ``users_matched`` (users of the log that the source has).
    """
    kept = known_of_users.filter(F.col("status") == "kept").select("user_id", F.lit(1).alias("_match"))
    seen = checked.filter(F.col("status") == "kept").select("user_id").distinct()
    matches = seen.join(kept, "user_id", "left").agg(
        F.count(F.lit(1)).alias("users_in_log"), F.count("_match").alias("users_matched")
    )
    names = ("kept", "refused", "duplicates", "not_selected")
    rows = _statuses(known_of_users, "users", names, id_type, "user_id")
    return rows.unionByName(_measures(matches, "users", ("users_in_log", "users_matched")))


def triples_report(
    triples: DataFrame, links: DataFrame | None, items: DataFrame, facts: DataFrame, config: Config
) -> DataFrame:
    """Return the rows of ``silver.clean_report`` of the triples and of the links.

    Args:
        triples: rows of the triples with ``status``.
        links: rows of the links with ``status``; None: there are none.
        items: (item_id): a row an item of catalogue and log, without dense ids.
        facts: (item_id, facts): a row an item that a triple begins with.
        config: its sections ``source.triples`` and ``source.links``.

    Returns:
        ``rows_in``, their outcomes, ``refused: REASON (column NAME)``, ``ids: NAME, KIND``, and of the triples
        ``items`` and ``items_matched`` (items that they say something of).
    """
    matches = items.join(facts.select("item_id", F.lit(1).alias("_match")), "item_id", "left")
    counted = matches.agg(F.count(F.lit(1)).alias("items"), F.count("_match").alias("items_matched"))
    names = ("kept", "refused", "not_selected")
    rows = _statuses(triples, "triples", names, config.source.triples.columns.head, "head")
    rows = rows.unionByName(_measures(counted, "triples", ("items", "items_matched")))
    if links is None:
        return rows
    return rows.unionByName(_statuses(links, "links", names, config.source.links.columns.item))


def report(checked: DataFrame, catalogue: DataFrame | None, cap: int, id_types: dict[str, str]) -> DataFrame:
    """Return the rows of ``silver.clean_report``; needs no dense ids, so it is there before the tables are written.

    Args:
        checked: rows of the log with ``status``.
        catalogue: rows of the catalogue with ``status``; None: there is none.
        cap: ``clean.max_events_per_user``.
        id_types: name and type of the item column, by source.

    Returns:
        Beside ``rows_in`` and ``OUTCOMES``: ``refused: REASON (column NAME)``, ``ids: NAME of type TYPE, KIND``, and
        ``users``, ``items_in_log``, ``items_matched`` (items of the log that the catalogue has), ``texts_cut``.
    """
    events = checked.filter(F.col("status") == "kept")
    merged = events.groupBy("user_id", "item_id", "order_value", "event_type").agg(F.count(F.lit(1)).alias("n"))
    by_user = merged.groupBy("user_id").agg(F.sum("n").alias("n"), F.count(F.lit(1)).alias("n_events"))
    over = F.greatest(F.col("n_events") - F.lit(cap), F.lit(0))
    sums = by_user.agg(
        _total(F.col("n_events") - over).alias("kept"),
        _total(F.col("n") - F.col("n_events")).alias("duplicates"),
        _total(over).alias("over_cap"),
        F.count(F.lit(1)).alias("users"),
    )
    rows = _statuses(checked, "interactions", ("refused", "not_selected", "forgotten"), id_types["interactions"])
    rows = rows.unionByName(_measures(sums, "interactions", ("kept", "duplicates", "over_cap", "users")))
    seen = events.select("item_id").distinct()
    if catalogue is None:
        return rows.unionByName(
            _measures(seen.agg(F.count("*").alias("items_in_log")), "interactions", ["items_in_log"])
        )
    kept = catalogue.filter(F.col("status") == "kept")
    matches = seen.join(kept.select("item_id", F.lit(1).alias("_match")), "item_id", "left").agg(
        F.count(F.lit(1)).alias("items_in_log"), F.count("_match").alias("items_matched")
    )
    rows = rows.unionByName(_measures(matches, "interactions", ("items_in_log", "items_matched")))
    names = ("kept", "refused", "duplicates", "not_selected")
    rows = rows.unionByName(_statuses(catalogue, "items", names, id_types["items"]))
    return rows.unionByName(_measures(kept.agg(_total("n_cut").alias("texts_cut")), "items", ["texts_cut"]))


def _kinds(measures: dict[str, int]) -> str:
    found = sorted(((n, name) for name, n in measures.items() if name.startswith(_IDS)), reverse=True)
    return "; ".join(f"{name.removeprefix(_IDS)} ({n} rows)" for n, name in found[:3]) or "none"


def verify_report(report_rows: Sequence[Row], config: Config) -> None:
    """Stop the run where the account of ``clean`` says that its tables must not be used.

    Args:
        report_rows: the rows of ``silver.clean_report``.
        config: its section ``clean``.

    Raises:
        SourceError: a file could not be read to its end.
        DataError: too many refused rows (with the top reasons), nothing kept, no item of the log in the catalogue, no
            user of it in the users source, no item in the triples, or rows that are not accounted for.
    """
    by_source: dict[str, dict[str, int]] = {}
    for row in report_rows:
        by_source.setdefault(row["source"], {})[row["measure"]] = int(row["n_rows"])
    for source, measures in by_source.items():
        _verify_source(source, measures, config)
    log, catalogue = by_source.get("interactions", {}), by_source.get("items")
    if catalogue is not None and log.get("items_in_log") and not log.get("items_matched"):
        raise DataError(
            "no item of the log is in the catalogue: expected source.interactions.columns.item and "
            f"source.items.columns.item to hold the same ids, compared as text; found in the log: {_kinds(log)}; in "
            f"the catalogue: {_kinds(catalogue)}. Name the columns that belong together, or bring the ids to one form."
        )
    facts = by_source.get("triples", {})
    if facts.get("kept") and not facts.get("items_matched"):
        raise DataError(
            "no triple begins with an item: expected source.triples.columns.head to hold the items' ids, or entities "
            f"that source.links names, compared as text; found heads: {_kinds(facts)}. Name the columns that belong "
            "together, or set source.links.path."
        )
    known = by_source.get("users", {})
    if known.get("users_in_log") and not known.get("users_matched"):
        raise DataError(
            "no user of the log is in the users source: expected source.interactions.columns.user and "
            "source.users.columns.user to hold the same ids, compared as text; found in the users source: "
            f"{_kinds(known)}. Name the columns that belong together, or bring the ids to one form."
        )


def _verify_source(source: str, measures: dict[str, int], config: Config) -> None:
    reasons = {name.removeprefix(_REFUSED): n for name, n in measures.items() if name.startswith(_REFUSED)}
    broken = sorted(reason for reason in reasons if reason.startswith(UNREADABLE))
    if broken:
        more = f" (and {len(broken) - 1} more files)" if len(broken) > 1 else ""
        raise SourceError(f"source.{source}: {broken[0]}{more}")
    top = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
    listed = "; ".join(f"{n} rows: {reason}" for reason, n in top) or "no row refused"
    rows_in, refused = measures.get("rows_in", 0), measures.get("refused", 0)
    if rows_in and refused > config.clean.max_rejected_share * rows_in:
        raise DataError(
            f"source.{source}: {refused} of {rows_in} rows refused ({refused / rows_in:.1%}): expected at most "
            f"clean.max_rejected_share {config.clean.max_rejected_share:.1%}. Top reasons: {listed}. Correct the file "
            "or the conf (columns, time_format, separator), or raise clean.max_rejected_share."
        )
    if not measures.get("kept", 0):
        left_out = ", ".join(f"{measures.get(name, 0)} {name}" for name in OUTCOMES[1:])
        raise DataError(
            f"source.{source}: no row is left: expected at least one, found {rows_in} rows in, {left_out}. "
            f"Reasons: {listed}. Check the file, and where, since_days and min_value in the conf."
        )
    accounted = sum(measures.get(name, 0) for name in OUTCOMES)
    if accounted != rows_in:
        raise DataError(
            f"source.{source}: rows are not accounted for: expected {rows_in} rows in = {' + '.join(OUTCOMES)}, found "
            f"{accounted}. The source changed while it was read, or this is a fault of lt_spark: run again."
        )
