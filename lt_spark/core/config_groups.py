"""The groupings of users: their names, and which of them a configuration asks for."""

from typing import TYPE_CHECKING

from lt_spark.core.errors import nearest

if TYPE_CHECKING:
    from lt_spark.core.config import Config

ACTIVITY, HISTORY_LENGTH, TAIL_TASTE, CHANGE = "activity", "history_length", "tail_taste", "change"
OF_THE_LOG = (ACTIVITY, HISTORY_LENGTH, TAIL_TASTE)
"""Groupings that every log has."""
RESERVED = (*OF_THE_LOG, CHANGE)
_MAX_COLUMNS = 20


def user_columns(config: "Config") -> tuple[str, ...]:
    """Return the columns of the users source by which users are grouped; none where there is no such source."""
    if not config.source.users.path:
        return ()
    chosen = config.evaluate.user_columns
    return config.source.users.columns.groups if chosen is None else chosen


def binding_groupings(config: "Config") -> tuple[str, ...]:
    """Return the groupings whose groups the gate protects where ``gate.max_group_loss`` is set."""
    chosen = config.gate.group_by
    return (ACTIVITY, TAIL_TASTE, *user_columns(config)) if chosen is None else chosen


def check_groups(config: "Config") -> None:
    """Check that every grouping that is named exists.

    Raises:
        ValueError: what is wrong, for the configuration's own error.
    """
    columns = config.source.users.columns
    _check_columns(columns.groups, columns.user, config.source.users.path)
    for name in config.evaluate.user_columns or ():
        if name not in columns.groups:
            raise ValueError(
                f"evaluate.user_columns: expected some of source.users.columns.groups "
                f"({', '.join(columns.groups) or 'none'}); found {name!r}.{nearest(name, columns.groups)}"
            )
    known = (*OF_THE_LOG, *user_columns(config))
    for name in config.gate.group_by or ():
        if name not in known:
            why = " (groups users by what a model did to them: some lose by definition)" if name == CHANGE else ""
            raise ValueError(
                f"gate.group_by: expected some of {', '.join(known)}; found {name!r}{why}.{nearest(name, known)}"
            )


def _check_columns(groups: tuple[str, ...], user: str, path: str) -> None:
    where = "source.users.columns.groups"
    if groups and not path:
        raise ValueError(
            f"{where} names columns and source.users.path is empty: expected the file, folder or table that has them"
        )
    if user in groups:
        raise ValueError(f"{where}: expected columns that many users share; found {user!r}, the user's own id")
    for name in groups:
        if not name or name in RESERVED:
            raise ValueError(
                f"{where}: expected names of columns, none of them {', '.join(RESERVED)}, which are lt_spark's own "
                f"groupings; found {name!r}: rename that column"
            )
    if len(set(groups)) < len(groups) or len(groups) > _MAX_COLUMNS:
        raise ValueError(f"{where}: expected at most {_MAX_COLUMNS} columns, none twice; found {len(groups)}")
