"""The catalogue's part of ``clean``."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.core.names import quoted
from lt_spark.prepare import clean_rules as rules
from lt_spark.prepare.conditions import condition
from lt_spark.prepare.times import order_value


def _is_unread(raw: Column, value: Column) -> Column:
    text = raw.cast("string")
    return text.isNotNull() & (F.trim(text) != "") & value.isNull()


def cleaned_items(items_source: DataFrame, config: Config) -> DataFrame:
    """Read each row of the catalogue by the conf.

    Args:
        items_source: the catalogue, by ``read_source``.
        config: its sections ``source.items`` and ``clean``.

    Returns:
        ``_file``, ``_record``, ``item_id``, ``title``, ``attributes``, ``is_available`` (true where the catalogue says
        nothing), ``available_from``, ``available_until``, ``n_cut`` (texts cut to ``clean.max_title_chars``),
        ``status`` (kept, refused, not_selected, or duplicates for all but an item's first row), ``reason``, ``column``.
    """
    source, limit = config.source.items, config.clean.max_title_chars
    names, types = source.columns, {field.name: field.dataType for field in items_source.schema.fields}

    def text(name: str) -> Column:
        return rules.plain_text(F.col(quoted(name)), types[name])

    def moment(name: str) -> Column:
        if not name:
            return F.lit(None).cast("bigint")
        return order_value(F.col(quoted(name)), types[name], "auto")

    available = names.is_available
    is_available = rules.truth(F.col(quoted(available)), types[available]) if available else F.lit(True)
    item = F.col(quoted(names.item))
    texts = {f"_text{place}": text(name) for place, name in enumerate(names.text)}
    read = items_source.select(
        *[F.col(column) for column in ("_file", "_record", "_error")],
        *[F.col(quoted(name)).alias(f"_raw{place}") for place, name in enumerate(_moments(config))],
        rules.id_text(item, types[names.item], f"source.items.columns.item '{names.item}'").alias("item_id"),
        item.cast("string").alias("_item"),
        (text(names.title) if names.title else F.lit(None).cast("string")).alias("title"),
        *[value.alias(alias) for alias, value in texts.items()],
        is_available.alias("is_available"),
        moment(names.available_from).alias("available_from"),
        moment(names.available_until).alias("available_until"),
        (condition(source.where, items_source.schema) if source.where else F.lit(True)).alias("_is_wanted"),
    )
    checks = [(rules.id_reason(F.col("_item"), F.col("item_id"), "item"), names.item)]
    for place, (name, role) in enumerate(_moments(config).items()):
        why = "is neither true nor false" if role == "is_available" else "is no time that can be read"
        unread = _is_unread(F.col(f"_raw{place}"), F.col(role))
        checks.append((F.when(unread, F.lit(f"{role} {why}")), name))
    found = rules.first_reason(F.col("_error"), checks, F.col("_is_wanted"))
    status = F.when(F.col("_found").isNotNull(), "refused").when(F.col("_is_wanted"), "kept").otherwise("not_selected")
    judged = read.withColumn("_found", found).withColumn("status", status)
    first = F.row_number().over(Window.partitionBy("item_id", "status").orderBy("_file", "_record")) == 1
    is_copy = (F.col("status") == "kept") & ~first
    all_texts = [F.col(name) for name in ("title", *texts)]
    n_cut = sum((F.when(F.length(value) > limit, 1).otherwise(0) for value in all_texts), F.lit(0))
    return judged.withColumn("status", F.when(is_copy, "duplicates").otherwise(F.col("status"))).select(
        "_file",
        "_record",
        "item_id",
        F.substring("title", 1, limit).alias("title"),
        rules.attributes({name: F.substring(f"_text{place}", 1, limit) for place, name in enumerate(names.text)}),
        F.coalesce("is_available", F.lit(True)).alias("is_available"),
        F.timestamp_micros("available_from").alias("available_from"),
        F.timestamp_micros("available_until").alias("available_until"),
        n_cut.alias("n_cut"),
        "status",
        "_found.reason",
        "_found.column",
    )


def _moments(config: Config) -> dict[str, str]:
    """Return the source columns of availability with the roles they play."""
    names = config.source.items.columns
    roles = ("is_available", "available_from", "available_until")
    return {getattr(names, role): role for role in roles if getattr(names, role)}
