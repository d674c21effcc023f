"""Times of events, from whatever people write into a time column, as exact microseconds or an order."""

from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType, FloatType, NumericType, StringType, TimestampNTZType, TimestampType

from lt_spark.core.config_sources import TimeFormat
from lt_spark.core.names import quoted

_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
_ISO = (
    r"^[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}"
    r"([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)? ?(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)?)?$"
)
_TO_FULL_ISO = (
    (r"^([^:]*)$", "$1 00:00:00"),  # a date
    (r"^([^:]*:[0-9]{2})($|[^0-9:])", "$1:00$2"),  # without seconds
    (r"^([^:]*:[0-9]{2}:[0-9.]+) ?(UTC|GMT|Z)?$", "$1Z"),  # without an offset, or UTC by name
    (r" ?([+-][0-9]{2})$", "$1:00"),  # an offset in hours
    (r" ?([+-][0-9]{2}):?([0-9]{2})$", "$1:$2"),
)
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_SMALLEST = {"s": 10**8, "ms": 10**11, "us": 10**14}
_EXACT_IN_FLOAT = 2**24
_DAY_MICROS = 86_400_000_000


def number(column: Column, data_type: DataType) -> Column:
    """Return a column as decimal(30,6); null where it holds no number that fits (NaN and infinity are none)."""
    if isinstance(data_type, StringType):
        text = F.trim(column)
        return F.when(text.rlike(_NUMBER), text.try_cast("decimal(30,6)"))
    if isinstance(data_type, FloatType):
        exact = F.abs(column) <= F.lit(_EXACT_IN_FLOAT)
        return F.when(exact, column.cast("double").try_cast("decimal(30,6)"))
    if isinstance(data_type, NumericType):
        return column.try_cast("decimal(30,6)")
    return F.lit(None).cast("decimal(30,6)")


def iso_micros(column: Column) -> Column:
    """Return ISO 8601 text as microseconds since 1970 UTC; text without an offset is UTC; null where unreadable."""
    text = F.translate(F.trim(column), "/,", "-.")
    for pattern, replacement in _TO_FULL_ISO:  # one chain: each copy of it would make every plan longer
        text = F.regexp_replace(text, pattern, replacement)
    return F.when(F.trim(column).rlike(_ISO), F.unix_micros(text.try_cast("timestamp")))


def _epoch_micros(value: Column, unit: str) -> Column:
    """Return a decimal in a unit as microseconds; null above what a bigint holds."""
    return F.floor(value * F.lit(_MICROS[unit])).try_cast("bigint")


def _auto_micros(value: Column) -> Column:
    size = F.abs(value)
    micros = F.lit(None).cast("bigint")
    for unit in ("s", "ms", "us"):
        micros = F.when(size >= F.lit(_SMALLEST[unit]), _epoch_micros(value, unit)).otherwise(micros)
    return micros


def order_value(column: Column, data_type: DataType, time_format: TimeFormat) -> Column:
    """Return what events are ordered by: microseconds since 1970 UTC, or the order itself; bigint.

    Args:
        column: the source's time column.
        data_type: its type. Timestamps and dates are taken as they are, whatever ``time_format`` says; those without
            a zone are UTC. 32-bit floats are taken only up to 2^24, above which they hold no whole numbers.
        time_format: ``auto`` takes ISO text, and numbers from 10^8 as seconds, from 10^11 as milliseconds, from 10^14
            as microseconds. ``order`` takes whole numbers.

    Returns:
        bigint; null where the value cannot be read.
    """
    if isinstance(data_type, TimestampType):
        return F.unix_micros(column)
    if isinstance(data_type, TimestampNTZType):
        return iso_micros(column.cast("string"))
    if isinstance(data_type, DateType):
        return F.unix_date(column).cast("bigint") * F.lit(_DAY_MICROS)
    value = number(column, data_type)
    if time_format == "order":
        return F.when(value == F.floor(value), value.try_cast("bigint"))
    if time_format in _MICROS:
        return _epoch_micros(value, time_format)
    iso = iso_micros(column) if isinstance(data_type, StringType) else F.lit(None).cast("bigint")
    return iso if time_format == "iso" else F.coalesce(_auto_micros(value), iso)


def detect_time_format(interactions_source: DataFrame, time: str, time_format: TimeFormat) -> TimeFormat:
    """Return ``order`` where ``auto`` meets a column whose numbers are all below 10^8; else ``time_format``.

    Runs one aggregate over the source (one row comes back) when ``time_format`` is ``auto`` and a decision is needed.

    Args:
        interactions_source: the log as read.
        time: its time column; empty: there is none, which is an order too.
        time_format: as configured.
    """
    if not time:
        return "order"
    data_type = interactions_source.schema[time].dataType
    if time_format != "auto" or not isinstance(data_type, StringType | NumericType):
        return time_format
    value = number(F.col(quoted(time)), data_type)
    if isinstance(data_type, FloatType):
        value = F.col(quoted(time)).try_cast("decimal(30,6)")
    has_error = F.col("_error").isNotNull() if "_error" in interactions_source.columns else F.lit(False)
    largest = interactions_source.filter(~has_error).agg(F.max(F.abs(value)).alias("largest")).first()
    found = None if largest is None else largest["largest"]
    return "order" if found is not None and found < _SMALLEST["s"] else "auto"


def utc_micros(moment: datetime) -> int:
    """Return a moment as microseconds since 1970 UTC; one without a zone is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    delta = aware - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def time_reason(raw: Column, value: Column, min_year: int, now: datetime, max_future_days: float) -> Column:
    """Return why an event's time is refused, or null.

    Args:
        raw: the source's time as text.
        value: ``order_value`` of it, in microseconds.
        min_year: the first year that is right.
        now: time of the run; without a zone: UTC.
        max_future_days: how far after ``now`` an event may be; days.
    """
    latest = utc_micros(now) + int(max_future_days * _DAY_MICROS)
    last_year = min(9998, datetime.fromtimestamp(latest / 1e6, UTC).year)
    too_early = value < F.lit(utc_micros(datetime(min_year, 1, 1)))
    too_late = value >= F.lit(utc_micros(datetime(last_year + 1, 1, 1)))
    wrong_year = f"time is outside the years {min_year} to {last_year}: check time_format (s, ms, us)"
    return (
        unreadable_reason(raw, value)
        .when(too_early | too_late, F.lit(wrong_year))
        .when(value > F.lit(latest), F.lit(f"time is more than {max_future_days:g} days in the future"))
    )


def unreadable_reason(raw: Column, value: Column) -> Column:
    """Return why a time or position is refused as empty or unreadable, or null; can be chained with ``when``."""
    return F.when(raw.isNull() | (F.trim(raw) == ""), F.lit("time is empty")).when(
        value.isNull(), F.lit("time is unreadable")
    )
