"""Identifiers (catalogs, schemas, tables, columns) checked before they reach SQL or a path."""

import re

from lt_spark.core.errors import ConfigError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


def identifier(name: str, what: str) -> str:
    """Return ``name`` where it is a plain identifier.

    Args:
        name: letters, digits and underscores, not starting with a digit, at most 128 characters.
        what: what the name is of, for the error.

    Raises:
        ConfigError: for anything else, such as quotes, dots, spaces or semicolons.
    """
    if not _IDENTIFIER.match(name):
        raise ConfigError(
            f"{what} is not a plain identifier: expected letters, digits and underscores, not starting with a digit; "
            f"found {name!r}. Rename it or correct the conf."
        )
    return name


def quoted(name: str) -> str:
    """Return a column name quoted for Spark SQL (backticks doubled), for columns of people's own files."""
    return "`" + name.replace("`", "``") + "`"


def table_name(catalog: str, schema: str, table: str) -> str:
    """Return a checked three-level name ``catalog.schema.table``, or two levels where the catalog is empty."""
    parts = [identifier(schema, "schema"), identifier(table, "table")]
    if catalog:
        parts = [identifier(part, "catalog") for part in catalog.split(".")] + parts
    return ".".join(f"`{part}`" for part in parts)
