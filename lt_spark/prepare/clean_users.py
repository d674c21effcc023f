"""The part of ``clean`` that reads what is known of the users beside the log."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config import Config
from lt_spark.core.names import quoted
from lt_spark.prepare import clean_rules as rules
from lt_spark.prepare.conditions import condition
from lt_spark.prepare.sources import require_columns

_ORDER = ("_file", "_record")


def cleaned_users(users_source: DataFrame, config: Config) -> DataFrame:
    """Read each row of the users source by the conf.

    Args:
        users_source: what is known of the users, by ``read_source``.
        config: its sections ``source.users`` and ``clean``.

    Returns:
        ``_file``, ``_record``, ``user_id``, ``attributes`` (name and text of each column that is not empty, the text
        cut to ``clean.max_title_chars``), ``status`` (kept, refused, not_selected, or duplicates for all but a user's
        first row), ``reason``, ``column``.

    Raises:
        SourceError: a configured column is missing, or the user's cannot be an id.
    """
    source = config.source.users
    require_columns(users_source, source, "users")
    names, types = source.columns, {field.name: field.dataType for field in users_source.schema.fields}
    user = F.col(quoted(names.user))
    texts = [rules.plain_text(F.col(quoted(name)), types[name]) for name in names.groups]
    read = users_source.select(
        *_ORDER,
        F.col("_error"),
        rules.id_text(user, types[names.user], f"source.users.columns.user '{names.user}'").alias("user_id"),
        user.cast("string").alias("_user"),
        rules.attributes(
            {
                name: F.substring(text, 1, config.clean.max_title_chars)
                for name, text in zip(names.groups, texts, strict=True)
            }
        ),
        (condition(source.where, users_source.schema) if source.where else F.lit(True)).alias("_is_wanted"),
    )
    checks: list[tuple[Column, str]] = [(rules.id_reason(F.col("_user"), F.col("user_id"), "user"), names.user)]
    found = rules.first_reason(F.col("_error"), checks, F.col("_is_wanted"))
    status = F.when(F.col("_found").isNotNull(), "refused").when(F.col("_is_wanted"), "kept").otherwise("not_selected")
    judged = read.withColumn("_found", found).withColumn("status", status)
    first = F.row_number().over(Window.partitionBy("user_id", "status").orderBy(*_ORDER)) == 1
    is_copy = (F.col("status") == "kept") & ~first
    return judged.withColumn("status", F.when(is_copy, "duplicates").otherwise(F.col("status"))).select(
        *_ORDER, "user_id", "attributes", "status", "_found.reason", "_found.column"
    )


def user_attributes(known_of_users: DataFrame, users: DataFrame) -> DataFrame:
    """Return ``silver.user_attributes``: a row a user of the log and column that is not empty.

    Args:
        known_of_users: rows by :func:`cleaned_users`.
        users: ``silver.users``, without the forgotten: whoever is not there is left out.
    """
    kept = known_of_users.filter(F.col("status") == "kept").join(users, "user_id")
    return kept.select("user_idx", F.inline("attributes"))
