"""The part of ``clean`` that reads what is known of the items as triples: item, relation, entity."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.core.config_sources import LinksSource, TriplesSource
from lt_spark.core.names import quoted
from lt_spark.prepare import clean_rules as rules
from lt_spark.prepare.conditions import condition
from lt_spark.prepare.sources import Kind, require_columns


def cleaned_triples(source: DataFrame, config: Config) -> DataFrame:
    """Read each row of the triples by the conf.

    Args:
        source: the triples, by ``read_source``.
        config: its sections ``source.triples`` and ``clean``.

    Returns:
        ``_file``, ``_record``, ``head``, ``relation``, ``tail``, ``status`` (kept, refused or not_selected),
        ``reason``, ``column``.

    Raises:
        SourceError: a configured column is missing, or the head's cannot be an id.
    """
    section = config.source.triples
    require_columns(source, section, "triples")
    names = section.columns
    wanted = F.lit(True)
    if section.relations:
        wanted = _text(source, names.relation).isin(*section.relations)
    texts = {"relation": names.relation, "tail": names.tail}
    return _judged(source, section, "triples", ("head", names.head), texts, wanted, config.clean.max_title_chars)


def cleaned_links(source: DataFrame, config: Config) -> DataFrame:
    """Read each row that says which entity an item is.

    Args:
        source: the links, by ``read_source``.
        config: its sections ``source.links`` and ``clean``.

    Returns:
        ``_file``, ``_record``, ``item_id``, ``entity``, ``status``, ``reason``, ``column``.

    Raises:
        SourceError: a configured column is missing, or the item's cannot be an id.
    """
    section = config.source.links
    require_columns(source, section, "links")
    names = section.columns
    texts = {"entity": names.entity}
    item = ("item_id", names.item)
    return _judged(source, section, "links", item, texts, F.lit(True), config.clean.max_title_chars)


def item_facts(triples: DataFrame, links: DataFrame | None, section: TriplesSource, limit: int) -> DataFrame:
    """Return what the triples say of each item, as attributes: a relation and its entities with commas between.

    Args:
        triples: rows by :func:`cleaned_triples`.
        links: rows by :func:`cleaned_links`; None: heads are the items themselves.
        section: section ``source.triples``; of an item and relation the first ``max_values`` entities by name stay.
        limit: longest text of an attribute; characters.

    Returns:
        (item_id, facts): a row an item that a triple begins with; facts as ``silver.items.attributes``, by relation.
    """
    found = triples.where(F.col("status") == "kept").select("head", "relation", "tail").distinct()
    if links is None:
        found = found.withColumnRenamed("head", "item_id")
    else:
        kept = links.where(F.col("status") == "kept").select("item_id", F.col("entity").alias("head")).distinct()
        found = found.join(kept, "head").select("item_id", "relation", "tail").distinct()
    place = F.row_number().over(Window.partitionBy("item_id", "relation").orderBy("tail"))
    by_relation = (
        found.withColumn("place", place)
        .where(F.col("place") <= section.max_values)
        .groupBy("item_id", "relation")
        .agg(F.array_sort(F.collect_list("tail")).alias("tails"))
    )
    value = F.substring(F.concat_ws(", ", "tails"), 1, limit)
    fact = F.struct(F.col("relation").alias("name"), value.alias("value"))
    return by_relation.groupBy("item_id").agg(F.array_sort(F.collect_list(fact)).cast(rules.ATTRIBUTES).alias("facts"))


def with_facts(items: DataFrame, facts: DataFrame) -> DataFrame:
    """Return the items with the facts behind their own attributes; an attribute of the same name stays as it is.

    Args:
        items: ``silver.items``.
        facts: by :func:`item_facts`.
    """
    own = F.transform("attributes", lambda attribute: attribute["name"])
    new = F.filter("facts", lambda fact: ~F.array_contains(own, fact["name"]))
    joined = items.join(facts, "item_id", "left")
    more = F.coalesce(new, F.array().cast(rules.ATTRIBUTES))
    return joined.withColumn("attributes", F.concat("attributes", more)).drop("facts")


def _text(source: DataFrame, name: str) -> Column:
    return rules.plain_text(F.col(quoted(name)), source.schema[name].dataType)


def _judged(
    source: DataFrame,
    section: TriplesSource | LinksSource,
    kind: Kind,
    of_id: tuple[str, str],
    texts: dict[str, str],
    wanted: Column,
    limit: int,
) -> DataFrame:
    """Return an id and texts of each row, with the row's status and why it is refused."""
    role, name = of_id
    raw, setting = F.col(quoted(name)), f"source.{kind}.columns.{role.removesuffix('_id')} '{name}'"
    is_wanted = wanted
    if section.where:
        is_wanted = is_wanted & condition(section.where, source.schema)
    read = source.select(
        "_file",
        "_record",
        F.col("_error"),
        rules.id_text(raw, source.schema[name].dataType, setting).alias(role),
        raw.cast("string").alias("_raw"),
        *[F.substring(_text(source, column), 1, limit).alias(alias) for alias, column in texts.items()],
        F.coalesce(is_wanted, F.lit(True)).alias("_is_wanted"),
    )
    checks: list[tuple[Column, str]] = [(rules.id_reason(F.col("_raw"), F.col(role), role.removesuffix("_id")), name)]
    for alias, column in texts.items():
        checks.append((F.when(F.col(alias).isNull(), F.lit(f"{alias} is empty")), column))
    found = rules.first_reason(F.col("_error"), checks, F.col("_is_wanted"))
    status = F.when(F.col("_found").isNotNull(), "refused").when(F.col("_is_wanted"), "kept").otherwise("not_selected")
    judged = read.withColumn("_found", found).withColumn("status", status)
    return judged.select("_file", "_record", role, *texts, "status", "_found.reason", "_found.column")
