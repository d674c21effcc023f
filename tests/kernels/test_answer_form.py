"""The line format of answers."""

import doctest
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lt_spark.kernels import answer_form as module
from lt_spark.kernels.answer_form import parse_answer, parse_plain
from lt_spark.kernels.written import Written

GOOD = Written(("screws", "wood screws"), "Coarse screws for wood.")


def test_examples_of_the_docstrings() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 3 and result.failed == 0


@pytest.mark.parametrize(
    "text",
    [
        " screws, wood screws\nDescription: Coarse screws for wood.",
        "Keywords: screws, wood screws\nDescription: Coarse screws for wood.",
        "Keywords: Keywords: screws, wood screws\nDescription: Description: Coarse screws for wood.",
        "\n\nKEYWORDS: Screws, WOOD screws\r\n\r\n\ndescription :  Coarse  screws for wood. \n",
        'screws, "wood screws", Screws\nDescription: "Coarse screws for wood."',
        "**Keywords:** screws; wood screws.\n**Description:** Coarse screws for wood.",
        "- screws\n- wood screws\nDescription: Coarse screws for wood.",
        "\n1. screws\n2) wood screws\n\nDescription: Coarse screws for wood.",
        "1. screws, 2. wood screws\n2. Description: Coarse screws for wood.",
        "Keywords:\nscrews, wood screws\nDescription:\nCoarse screws for wood.",
        "```\nKeywords: screws, wood screws\nDescription: Coarse screws for wood.\n```",
        "```text\nscrews, wood screws\nDescription: Coarse screws for wood.```",
        "Sure! Here they are:\nKeywords: screws, wood screws\nDescription: Coarse screws for wood.",
        "screws, wood screws,, ,\nDescription: Coarse screws for wood.\n\nTitle: N\nKeywords: nails\nDescription: N",
        "screws、wood screws\nDescription：Coarse screws for wood.\nI hope this helps!",
        "#screws, [wood screws]\nDescription: “Coarse screws for wood.”",
    ],
)
def test_the_form_is_read_with_its_blemishes(text: str) -> None:
    assert parse_answer(text, "Keywords:") == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\n",
        "screws, wood screws",
        "screws, wood screws\nDescription:",
        "screws, wood screws\nDescription:\n",
        "Description: Coarse screws for wood.",
        ", ,\nDescription: Coarse screws for wood.",
        "I cannot help with that.",
        '{"keywords": ["screws"], "description": "Coarse screws."}',
        '```json\n{"keywords": "screws",\n"description": "Coarse screws."}\n```',
        # the description of an item that the model made up
        "screws, wood screws\nTitle: Nails\nKeywords: nails\nDescription: Nails for wood.",
        "screws, wood screws\nThat is all.\nDescription: Coarse screws for wood.",
        "Keywords:\nDescription: Coarse screws for wood.",
        "nails, tacks\nKeywords: screws, wood screws\nDescription: Coarse screws for wood.",
        "screws\nDescription:\nKeywords: nails",
    ],
)
def test_what_is_not_the_form(text: str) -> None:
    assert parse_answer(text, "Keywords:") is None


def test_without_a_start_the_labels_must_be_there() -> None:
    assert parse_answer("Keywords: screws, wood screws\nDescription: Coarse screws for wood.", "") == GOOD
    assert parse_answer("Of course\nKeywords: screws, wood screws\nDescription: Coarse screws for wood.", "") == GOOD
    assert parse_answer("screws, wood screws\nDescription: Coarse screws for wood.", "") is None


def test_one_part_alone() -> None:
    assert parse_answer("Screws, nails\nItem: x\nKeywords: y", "Keywords:", ("keywords",)) == Written(
        ("screws", "nails"), ""
    )
    assert parse_answer(" Coarse screws.\nmore", "Description:", ("description",)) == Written((), "Coarse screws.")
    assert parse_answer("Keywords: a\nDescription: B c.", "", ("description",)) == Written((), "B c.")
    assert parse_answer("Keywords: a\nDescription: B c.", "", ("keywords",)) == Written(("a",), "")
    assert parse_answer("", "Description:", ("description",)) is None


def test_keywords_keep_what_is_theirs() -> None:
    written = parse_answer(
        "1,000 count, 3.5mm jack, 1/2 in, #8 screws, o'neill, Straße, C++, salt - pepper, pan (steel)\nDescription: X.",
        "Keywords:",
    )
    assert written is not None
    assert written.keywords == (
        "1,000 count",
        "3.5mm jack",
        "1/2 in",
        "#8 screws",
        "o'neill",
        "straße",
        "c++",
        "salt - pepper",
        "pan (steel)",
    )


def test_plain_text() -> None:
    assert parse_plain("  Coarse screws\n for wood. ") == Written((), "Coarse screws for wood.")
    assert parse_plain(" \n ") is None


LINES = st.lists(
    st.sampled_from(["Keywords:", "Description:", "a, b", "- a", "1. b", "```", "", "Sure:", "Title: x", "\u2028", ","])
    | st.text(max_size=20)
).map("\n".join)


@given(LINES, st.sampled_from(["", "Keywords:", "Description:"]))
@settings(max_examples=300, deadline=None)
def test_what_comes_back_is_of_the_form(text: str, start: str) -> None:
    written = parse_answer(text, start)
    if written is not None:
        assert written.keywords and written.description
        assert len(set(written.keywords)) == len(written.keywords)
        assert all(keyword == keyword.strip() != "" and "\n" not in keyword for keyword in written.keywords)
        assert len(written.description.splitlines()) == 1


@pytest.mark.parametrize("piece", [" ", '"', "- ", "1. ", "Keywords: ", "a, ", "\u0315\u0316", "#_*"])
def test_a_long_answer_takes_no_time(piece: str) -> None:
    text = "a" + piece * (50_000 // len(piece)) + "b"
    start = time.perf_counter()
    parse_answer(f"{text}\nDescription: {text}", "Keywords:")
    assert time.perf_counter() - start < 1  # linear: 20 ms; quadratic: several seconds
