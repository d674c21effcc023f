"""Tables by name, as people write them."""

from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.tables import TABLES, Table


def find_table(name: str) -> Table:
    """Return the table of a name, with or without its layer.

    Raises:
        ConfigError: there is none, or both layers have one.
    """
    if name in TABLES:
        return TABLES[name]
    matches = [full for full in TABLES if full.split(".")[1] == name]
    if len(matches) == 1:
        return TABLES[matches[0]]
    if matches:
        raise ConfigError(f"'{name}' may be {' or '.join(matches)}: write the whole name.")
    raise ConfigError(f"no table '{name}'.{nearest(name, list(TABLES))} `lt-spark tables` lists them.")
