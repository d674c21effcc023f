"""A chat model's answer as the lines of a completing model."""

import pytest

from lt_spark.engines.base import Prompt
from lt_spark.engines.chat_answers import answer_text, as_lines, messages, without_fence

LINES = "Keywords: red, blue\nDescription: A thing."


def test_what_is_shared_is_the_systems_message() -> None:
    system, user = messages(Prompt("Describe.\n\n", "Title: Lamp\n", "Keywords:"))
    assert system == {"role": "system", "content": "Describe."}
    assert user["role"] == "user"
    assert user["content"] == 'Title: Lamp\n\nReply with the answer alone. Begin it with "Keywords:".'


def test_a_prompt_of_one_part_is_one_message() -> None:
    assert messages(Prompt("", "Title: Lamp")) == [{"role": "user", "content": "Title: Lamp"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Keywords: red, blue", "red, blue"),
        (" red, blue", "red, blue"),
        ("keywords: red, blue", "red, blue"),
        ("**Keywords:** red, blue\n**Description**: A thing.", "red, blue\nDescription: A thing."),
        ("Sure! Here it is:\nKeywords: red", "red"),
        ("```\nKeywords: red, blue\n```", "red, blue"),
        ("Here is the answer:\n\n```text\nKeywords: red\n```\nI hope it helps.", "red"),
        ("```json\nKeywords: red", "red"),
        ("<think>\nKeywords: wrong\n</think>\n\nKeywords: right", "right"),
        ("<think> without an end", ""),
        ("Keywords: a\r\nDescription: b", "a\nDescription: b"),
        # the model goes on with an item of its own: the answer is what stands first
        ("red, blue\nDescription: A thing.\n\nKeywords: green", "red, blue\nDescription: A thing.\n\nKeywords: green"),
        ("Keywords: red\n```python\nprint()\n```", "red\n```python\nprint()\n```"),
        ("", ""),
    ],
)
def test_only_the_answer_stays(content: str, expected: str) -> None:
    assert answer_text(content, "Keywords:") == expected


def test_lines_are_counted_from_that_of_the_start_without_empty_ones() -> None:
    content = "Keywords: red\n\nDescription: A thing.\n\nTitle: another"
    assert answer_text(content, "Keywords:", max_lines=2) == "red\nDescription: A thing."
    assert answer_text(content, "Keywords:", max_lines=1) == "red"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"keywords": ["red", "blue"], "description": "A thing."}', LINES),
        ('{"Keywords": "red, blue", "DESCRIPTION": "A\\n\\nthing."}', LINES),
        ('{"keywords": ["red", "blue"], "score": 3, "description": "A thing."}', LINES),
        ('{"keywords": ["red", "bl', '{"keywords": ["red", "bl'),
        ('{"score": 3}', '{"score": 3}'),
        ("{}", "{}"),
        ("Keywords: {x}", "Keywords: {x}"),
        ('{"a":' * 100_000, '{"a":' * 100_000),
    ],
)
def test_an_object_becomes_lines(text: str, expected: str) -> None:
    assert as_lines(text) == expected


def test_an_object_in_a_fence_loses_both() -> None:
    text = '```json\n{"keywords": ["red", "blue"], "description": "A thing."}\n```'
    assert without_fence(text).startswith("{")
    assert answer_text(text, "Keywords:") == "red, blue\nDescription: A thing."
