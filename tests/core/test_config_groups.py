"""The groupings that a configuration asks for."""

import re

import pytest

from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.config_groups import binding_groupings, user_columns
from lt_spark.core.errors import ConfigError


def conf(groups=("age", "country"), path="users.csv", **sections):
    users = {"path": path, "columns": {"groups": list(groups)}}
    return Config.model_validate({"source": {"users": users}, **sections})


@pytest.mark.parametrize(
    ("evaluate", "gate", "columns", "binding"),
    [
        ({}, {}, ("age", "country"), ("activity", "tail_taste", "age", "country")),
        ({"user_columns": ("country",)}, {}, ("country",), ("activity", "tail_taste", "country")),
        ({"user_columns": ()}, {}, (), ("activity", "tail_taste")),
        ({}, {"group_by": ("history_length", "age")}, ("age", "country"), ("history_length", "age")),
        ({}, {"group_by": ()}, ("age", "country"), ()),
    ],
)
def test_which_groupings_are_measured_and_bind(evaluate, gate, columns, binding):
    config = conf(evaluate=evaluate, gate=gate)
    assert (user_columns(config), binding_groupings(config)) == (columns, binding)


def test_without_a_users_source_only_the_log_groups():
    assert user_columns(Config()) == ()
    assert binding_groupings(Config()) == ("activity", "tail_taste")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["source.users.columns.groups=[age]"], "source.users.path is empty: expected the file"),
        (["source.users.columns.groups=[user_id]", "source.users.path=u.csv"], "found 'user_id', the user's own id"),
        (["source.users.columns.groups=[change]", "source.users.path=u.csv"], "found 'change': rename that column"),
        (["source.users.columns.groups=['']", "source.users.path=u.csv"], "found '': rename that column"),
        (["source.users.columns.groups=[a, a]", "source.users.path=u.csv"], "none twice; found 2"),
        (["evaluate.user_columns=[age]"], "evaluate.user_columns: expected some of source.users.columns.groups (none)"),
        (["gate.group_by=[activty]"], "found 'activty'. Did you mean 'activity'?"),
        (
            ["gate.group_by=[change]"],
            "gate.group_by: expected some of activity, history_length, tail_taste; found 'cha",
        ),
        (["gate.max_group_loss=2"], "gate.max_group_loss: expected less than or equal to 1"),
    ],
)
def test_a_grouping_that_is_not_there_is_refused(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(None, settings)


def test_a_column_that_is_not_measured_cannot_bind():
    users = ["source.users.path=u.csv", "source.users.columns.groups=[age, country]"]
    load_config(None, [*users, "gate.group_by=[age]"])
    with pytest.raises(ConfigError, match="found 'age'"):
        load_config(None, [*users, "gate.group_by=[age]", "evaluate.user_columns=[country]"])
