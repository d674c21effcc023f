"""The names of the groups, by hand."""

import numpy as np
import pandas as pd
import pytest

from lt_spark.measure.group_cuts import MAX_NAMES, cut_cells


def cut(group_by, cells, least=1):
    """Return {value: (group, order)}; the cells come in no order."""
    names = ["group_by", "value", "text", "n"]
    rows = pd.DataFrame([(group_by, value, None, n) for value, n in cells.items()], columns=names)
    found = cut_cells(rows.sample(frac=1.0, random_state=1).reset_index(drop=True), least)
    assert len(found) == len(rows)
    return {
        "-" if np.isnan(row.value) else row.value: (row.group, row.group_order) for row in found.itertuples(index=False)
    }


def test_light_is_the_lower_half_and_heavy_the_upper_tenth():
    # 10 users with 1 to 10 events: 5 light, 4 medium, 1 heavy
    found = cut("activity", {float(n): 1 for n in range(1, 11)})
    assert [found[float(n)][0] for n in range(1, 11)] == ["light"] * 5 + ["medium"] * 4 + ["heavy"]
    assert [found[float(n)][1] for n in (1, 6, 10)] == [1, 2, 3]


def test_joined_names_say_all_that_is_in_the_group():
    found = cut("activity", {float(n): 10 for n in range(1, 11)}, least=20)
    assert {group for group, _ in found.values()} == {"light", "medium and heavy"}
    assert set(cut("activity", {1.0: 5}, least=20).values()) == {("light", 1)}


def test_a_range_is_named_after_the_values_that_are_there():
    found = cut("history_length", {1.0: 30, 3.0: 10, 5.0: 20, 9.0: 20, 400.0: 20})
    # below: 0, 30, 40, 60, 80 of 100
    assert [found[value] for value in (1.0, 3.0, 5.0, 9.0, 400.0)] == [
        ("1", 1),
        ("3", 2),
        ("5", 3),
        ("9", 4),
        ("400", 5),
    ]
    found = cut("history_length", {1.0: 95, 2.0: 1, 3.0: 1, 8.0: 3})
    assert found[2.0] == found[8.0] == ("2-8", 2)


def test_shares_and_changes_have_their_decimals():
    assert cut("tail_taste", {0.0: 90, 0.125: 4, 1.0: 6}, least=10)[1.0] == ("0.125-1.000", 2)
    found = cut("change", {-0.6309: 10, -0.1: 10, 0.0: 60, 0.5: 20}, least=20)
    assert found[-0.1] == ("-0.6309 to -0.1000", 1)
    assert (found[0.0], found[0.5]) == (("0.0000", 2), ("0.5000", 3))
    assert cut("change", {-0.0: 3})[0.0][0] == "0.0000"


def test_a_change_of_nothing_stands_apart_from_losses_and_gains():
    # deciles alone would put the few who lose, and the few who gain, among those for whom nothing changes
    found = cut("change", {-0.5: 3, 0.0: 94, 0.5: 3})
    assert [found[value][0] for value in (-0.5, 0.0, 0.5)] == ["-0.5000", "0.0000", "0.5000"]


def columns(texts, least):
    """Return {text: (group, order)} of a user column."""
    rows = pd.DataFrame(
        [("land", np.nan, text, n) for text, n in texts.items()], columns=["group_by", "value", "text", "n"]
    )
    found = cut_cells(rows, least).itertuples(index=False)
    # pandas 3 has NaN where there is no text
    return {None if pd.isna(row.text) else row.text: (row.group, row.group_order) for row in found}


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (("18", "25.0"), "18-25"),
        (("-3", "+25"), "-3 to 25"),
        ((".1", "0.25"), "0.1-0.25"),
        (("123456", "1.2e15"), "123500 to 1.2e+15"),
        (("34", "34.0", "34.00001"), "34"),
    ],
)
def test_numbers_of_a_user_column_are_short(texts, name):
    # eleven more kinds make it a column of numbers; the first two quintiles have 1,000 users each and are joined
    more = {str(5 * 10**20 + number * 10**18): 100 for number in range(11)}
    found = columns(dict.fromkeys(texts, 1000) | more, least=1050)
    assert found[texts[0]][0] == found[texts[1]][0] == name


def test_a_column_is_one_of_numbers_where_nearly_all_are_and_of_many_kinds():
    ages = {str(20 + age): 10 for age in range(20)}
    found = columns({**ages, None: 30, "n/a": 10}, least=20)
    assert found["20"] == found["23"] == ("20-23", 1)
    assert found["39"] == ("36-39", 5)
    assert found[None] == found["n/a"] == ("unknown", 6)  # 10 of 210 are no numbers
    assert columns({**ages, "n/a": 11}, least=1)["20"] == ("20", 1 + [*sorted(ages)].index("20") + 1)  # 11 of 211 are
    assert columns({str(n): 10 for n in range(10)}, least=1)["3"] == ("3", 4)  # ten kinds are names
    assert columns({str(n): 10 for n in range(11)}, least=1)["3"] == ("3-4", 2)


def test_what_only_looks_like_a_number_is_none():
    texts = {str(n): 100 for n in range(20)}
    found = columns({**texts, "1e999": 1, "NaN": 1, "inf": 1, "1_000": 1, "0x1": 1, "12d": 1, "٣": 1, "": 1}, least=1)
    assert {found[text][0] for text in ("1e999", "NaN", "inf", "1_000", "0x1", "12d", "٣", "")} == {"unknown"}


def test_names_stand_by_their_size_and_small_ones_are_other():
    found = columns({"b": 40, "a": 40, "Ö": 90, None: 30, "few": 19, "one": 1}, least=20)
    assert found == {
        "Ö": ("Ö", 1),
        "a": ("a", 2),
        "b": ("b", 3),
        None: ("unknown", 4),
        "few": ("other", 51),
        "one": ("other", 51),
    }


def test_other_is_never_too_small():
    # 2 + 9 are too few to be shown alone: the smallest group goes with them
    found = columns({"big": 150, "small": 40, "one": 2, None: 9}, least=20)
    assert {text: group for text, (group, _) in found.items()} == {
        "big": "big",
        "small": "other",
        "one": "other",
        None: "other",
    }
    assert set(columns({"a": 3, "b": 3}, least=20).values()) == {("other", 51)}


def test_a_value_that_is_called_other_itself():
    assert columns({"other": 40, "a": 50, "few": 25, "one": 1}, least=20)["other"] == ("other", 51)
    assert columns({"unknown": 40, None: 5}, least=20) == {"unknown": ("unknown", 1), None: ("unknown", 1)}


def test_ids_make_no_groups_of_their_own():
    found = columns({f"user {n}": 1 for n in range(200)}, least=1)
    assert len({group for group, _ in found.values()}) == MAX_NAMES + 1
    assert set(columns({f"user {n}": 1 for n in range(200)}, least=20).values()) == {("other", 51)}


def test_who_is_not_known_stands_last_and_is_named():
    none = float("nan")
    assert cut("history_length", {18.0: 20, 25.0: 20, none: 20})["-"] == ("unknown", 3)
    assert cut("history_length", {18.0: 20, 25.0: 20, none: 5}, least=20)["-"] == ("25 and unknown", 2)
    assert cut("tail_taste", {none: 5}, least=20)["-"] == ("unknown", 1)
    # deciles are of those who are known: 20 of 40, whatever the number of others
    assert cut("activity", {1.0: 20, 2.0: 20, none: 1000})[2.0] == ("medium", 2)
