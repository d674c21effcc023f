"""What the stage groups reads, calls and writes."""

from lt_spark.core import tables as t
from lt_spark.core.config_groups import user_columns
from lt_spark.measure.group_metrics import group_metrics
from lt_spark.measure.groups import user_groups
from lt_spark.stages import Context


def groups(c: Context) -> None:
    """Measure every model by group of users."""
    columns, section = user_columns(c.config), c.config.evaluate
    attributes = c.read(t.USER_ATTRIBUTES) if columns else None
    metrics, segments = c.read(t.USER_METRICS), c.read(t.ITEM_SEGMENTS)
    c.write(
        t.USER_GROUPS,
        user_groups(metrics, c.known, segments, attributes, columns, section.min_group_users, c.fold),
    )
    c.write(t.GROUP_METRICS, group_metrics(metrics, c.read(t.USER_GROUPS), section, c.config.core.seed))
