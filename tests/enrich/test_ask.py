"""Asking, judging, asking once more, and what stands in for a bad answer: a wave's rows with a stand-in engine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lt_spark.core.config_text import DescribeConfig, EmbedConfig, LanguageModelConfig, TextGateConfig
from lt_spark.core.tables import ENRICHMENT_STAGING
from lt_spark.engines.base import Answer, Decoding, Prompt
from lt_spark.enrich.ask import Asker, AskSettings, _arrow_schema, storable
from lt_spark.enrich.gate import Gate
from lt_spark.enrich.render import ModelName, RenderSettings
from lt_spark.enrich.waves import time_left
from lt_spark.kernels.words import stems

GOOD = " garden tool\nDescription: Digs holes for young trees."
OTHER = " garden tool\nDescription: Waters flowers on a balcony."
ADVERT = " garden tool\nDescription: Buy it at https://example.com and be happy."
SHORT = " garden tool\nDescription: Digs."
TALK = "I cannot help with that."


class Scripted:
    """An engine that gives each prompt's answers in turn, and remembers what it was asked."""

    name, model, revision, device = "scripted", "toy", "1", "cpu"

    def __init__(self, **answers: list[str | Answer]) -> None:
        self.answers = answers
        self.calls: list[tuple[list[str], Decoding]] = []

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        self.calls.append(([prompt.own for prompt in prompts], decoding))
        found = [self.answers[prompt.own].pop(0) for prompt in prompts]
        return [answer if isinstance(answer, Answer) else Answer(answer, 10, 5, 0.5) for answer in found]


def failed(error: str = "the server's time ran out") -> Answer:
    return Answer("", 10, 0, 0.5, error)


def row(own: str, **values: Any) -> dict[str, Any]:
    """A rendered row of one item, its prompt ``own``."""
    item = {"key": f"key {own}", "item_idx": 7, "content_hash": f"hash {own}"}
    return {
        "input_key": f"input {own}",
        "shared": "Products.\n\n",
        "own": own,
        "start": "Keywords:",
        "title": "Spade 9",
        "own_text": "Spade 9",
        "vector": None,
        "others": [],
        "fallback_description": "Spade 9 is a product in tool.",
        "fallback_keywords": ["tool"],
        "imported": None,
        "known_answer": None,
        "items": [item],
    } | values


def asker(engine: Scripted | None, encode: Any = None, ask_for: str = "both", **settings: Any) -> Asker:
    gate = Gate(TextGateConfig(), frozenset(stems("garden tool")))
    rendering = RenderSettings(
        DescribeConfig(keyword_fields=("kind",), ask_for=ask_for),  # type: ignore[arg-type]
        LanguageModelConfig(max_new_tokens=32, retry_temperature=0.9),
        "gate",
        ModelName("transformers", "toy", "r1"),
        "",
        seed=5,
    )
    asking = replace(AskSettings(rendering, EmbedConfig(), "", None, "", gate, "run-1", 3), **settings)

    def get_engine() -> Any:
        if engine is None:
            raise AssertionError("the engine was loaded")
        return engine, 1, 2.5

    return Asker(asking, gate, encode, get_engine, rendering.decoding)


def ask(engine: Scripted | None, *rows: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return asker(engine, **settings).rows(rows)


def test_a_good_answer_is_accepted_and_told_in_full() -> None:
    engine = Scripted(a=[GOOD])
    (found,) = ask(engine, row("a"))
    worker = found.pop("worker")
    assert worker.rpartition(":")[2].isdigit()
    assert found == {
        "key": "key a",
        "item_idx": 7,
        "content_hash": "hash a",
        "description": "Digs holes for young trees.",
        "keywords": ["garden tool"],
        "has_own_keywords": True,
        "status": "accepted",
        "reason": None,
        "fallback_description": "Spade 9 is a product in tool.",
        "fallback_keywords": ["tool"],
        "answer": GOOD,
        "n_tries": 1,
        "n_prompt_tokens": 10,
        "n_output_tokens": 5,
        "seconds": 0.5,
        "similarity": None,
        "engine": "transformers",
        "model": "toy",
        "revision": "r1",
        "device": "cpu",
        "prompt_version": "ecommerce-1",
        "examples_version": 3,
        "input_key": "input a",
        "is_current": True,
        "reviewed_by": None,
        "reviewed_at": None,
        "run_id": "run-1",
        "is_asked": True,
        "n_loads": 1,
        "load_s": 2.5,
        "checks": [],
    }
    assert engine.calls == [(["a"], Decoding(32, 0.0, 5, 2))]
    assert set(found) | {"worker"} == set(ENRICHMENT_STAGING.column_names)
    pa.RecordBatch.from_pylist([found | {"worker": worker}], schema=_arrow_schema()).validate(full=True)


def test_a_refused_answer_gets_one_more_try_by_chance() -> None:
    engine = Scripted(a=[ADVERT, GOOD], b=[OTHER])
    first, second = ask(engine, row("a"), row("b"))
    assert (first["status"], first["description"], first["n_tries"]) == ("accepted", "Digs holes for young trees.", 2)
    assert first["checks"] == ["contact"], "the first answer's failures are counted"
    assert (first["n_prompt_tokens"], first["n_output_tokens"], first["seconds"]) == (20, 10, 1.0)
    assert (first["reason"], first["answer"]) == (None, GOOD)
    assert (second["n_tries"], second["n_prompt_tokens"]) == (1, 10)
    assert [own for own, _ in engine.calls] == [["a", "b"], ["a"]]
    assert engine.calls[1][1] == Decoding(32, 0.9, 6, 2)


def test_keywords_that_passed_stay_where_only_the_description_failed() -> None:
    (found,) = ask(Scripted(a=[SHORT, SHORT]), row("a"))
    assert (found["status"], found["reason"], found["n_tries"]) == ("fallback", "length", 2)
    assert (found["keywords"], found["has_own_keywords"]) == (["garden tool"], True)
    assert found["description"] == "Spade 9 is a product in tool."


def test_after_two_bad_answers_the_fallback_stands_in() -> None:
    (found,) = ask(Scripted(a=[ADVERT, TALK]), row("a"))
    assert (found["status"], found["reason"], found["checks"]) == ("fallback", "form", ["contact"])
    assert (found["description"], found["keywords"]) == ("Spade 9 is a product in tool.", ["tool"])
    assert not found["has_own_keywords"]
    assert found["answer"] == TALK


@pytest.mark.parametrize(("description", "keywords"), [("", []), (None, None)])
def test_without_a_fallback_it_is_refused(description: Any, keywords: Any) -> None:
    lost = row("a", fallback_description=description, fallback_keywords=keywords)
    (found,) = ask(Scripted(a=[TALK, ADVERT]), lost)
    assert (found["status"], found["reason"]) == ("refused", "contact")
    assert (found["description"], found["keywords"], found["has_own_keywords"]) == (None, None, False)


def test_an_engine_error_is_failed_and_not_asked_again_at_once() -> None:
    engine = Scripted(a=[failed()], b=[GOOD])
    first, second = ask(engine, row("a"), row("b"))
    assert (first["status"], first["reason"], first["answer"]) == ("failed", "the server's time ran out", None)
    assert (first["description"], first["keywords"], first["n_tries"]) == (None, None, 1)
    assert second["status"] == "accepted"
    assert len(engine.calls) == 1


def test_a_second_try_that_fails_leaves_the_first_answer() -> None:
    (found,) = ask(Scripted(a=[ADVERT, failed()]), row("a"))
    assert (found["status"], found["reason"], found["answer"]) == ("fallback", "contact", ADVERT)
    assert (found["n_tries"], found["n_prompt_tokens"], found["n_output_tokens"]) == (2, 20, 5)


def test_a_known_answer_is_judged_and_not_asked() -> None:
    good, bad = ask(None, row("a", known_answer=GOOD), row("b", known_answer=ADVERT))
    assert (good["status"], good["is_asked"], good["n_tries"], good["n_prompt_tokens"]) == ("accepted", False, 0, 0)
    assert (good["device"], good["n_loads"]) == (None, 0)
    assert (bad["status"], bad["reason"], bad["n_tries"]) == ("fallback", "contact", 0)


def test_an_imported_text_is_judged_plain_or_in_the_form() -> None:
    plain, formed = ask(None, row("a", imported="Digs holes for young trees."), row("b", imported=f"Keywords:{OTHER}"))
    assert (plain["status"], plain["description"]) == ("accepted", "Digs holes for young trees.")
    assert (plain["keywords"], plain["has_own_keywords"], plain["is_asked"]) == ([], False, False)
    assert formed["keywords"] == ["garden tool"]


def test_keywords_alone_get_a_sentence_of_those_that_the_gate_left() -> None:
    """The second keyword is none of the catalogue's: it must not come back through the sentence."""
    engine = Scripted(a=[" garden tool, gizmo"], b=[TALK.replace(" ", ""), " garden tool"], c=[f"Keywords:{SHORT}"])
    given = asker(engine, ask_for="keywords")
    first, second, imported = given.rows([row("a"), row("b"), row("c", imported="Digs holes for young trees.")])
    assert (first["status"], first["keywords"], first["has_own_keywords"]) == ("accepted", ["garden tool"], True)
    assert first["description"] == "Spade 9 is a product in garden tool."
    assert (second["status"], second["checks"], second["n_tries"]) == ("accepted", ["form", "keywords_known"], 2)
    assert second["description"] == "Spade 9 is a product in garden tool."
    assert imported["description"] == "Digs holes for young trees.", "what a user brings is taken whole"
    assert [decoding.max_lines for _, decoding in engine.calls] == [1, 1]


def test_items_that_share_an_input_share_its_answer() -> None:
    items = [{"key": f"k{n}", "item_idx": n, "content_hash": f"h{n}"} for n in range(3)]
    engine = Scripted(a=[GOOD])
    found = ask(engine, row("a", items=items))
    assert [(each["key"], each["item_idx"], each["content_hash"]) for each in found] == [
        ("k0", 0, "h0"), ("k1", 1, "h1"), ("k2", 2, "h2")
    ]  # fmt: skip
    assert {each["description"] for each in found} == {"Digs holes for young trees."}
    assert len(engine.calls) == 1


def test_no_second_try_where_it_is_off() -> None:
    engine = Scripted(a=[SHORT])
    (found,) = ask(engine, row("a"), is_retried=False)
    assert (found["status"], found["n_tries"], len(engine.calls)) == ("fallback", 1, 1)


def test_the_same_text_as_the_row_before_or_an_example_is_refused() -> None:
    engine = Scripted(a=[GOOD], b=[GOOD, OTHER], c=[OTHER, OTHER])
    first, second, third = ask(
        engine, row("a"), row("b"), row("c", others=["Waters flowers on a balcony."]), is_retried=True
    )
    assert (first["status"], first["checks"]) == ("accepted", [])
    assert (second["status"], second["checks"]) == ("accepted", ["same_text"])
    assert (third["status"], third["reason"]) == ("fallback", "same_text")


def test_a_second_try_must_differ_from_what_the_first_round_accepted_too() -> None:
    first, second = ask(Scripted(a=[GOOD], b=[SHORT, GOOD]), row("a"), row("b"))
    assert first["status"] == "accepted"
    assert (second["status"], second["checks"], second["reason"]) == ("fallback", ["length"], "same_text")


def test_an_answer_far_from_its_item_is_refused() -> None:
    """The first numbers of the item's vector are the text's; the others the user brought."""

    def encode(texts: Sequence[str]) -> Any:
        return np.array([[1.0, 0.0] if "trees" in text else [0.0, 1.0] for text in texts], np.float32)

    engine = Scripted(a=[GOOD], b=[OTHER, OTHER], c=[TALK, TALK])
    rows = [row(own, vector=[0.6, 0.0, 0.8]) for own in "abc"]
    near, far, formless = asker(engine, encode).rows(rows)
    assert (near["status"], near["similarity"]) == ("accepted", pytest.approx(1.0))
    assert (far["status"], far["reason"], far["similarity"]) == ("fallback", "similarity", pytest.approx(0.0))
    assert not far["has_own_keywords"], "what is far from the item does not speak of it"
    assert (formless["reason"], formless["similarity"]) == ("form", None)


def test_answers_are_stored_without_what_cannot_be_seen() -> None:
    assert storable("a\x00b\u202ec\r\nd\u2028e") == "abc\nd\ne"
    assert len(storable("x" * 9_000)) == 8_000


def test_time_left_is_by_the_rate_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 130.0)
    assert time_left(10, 40, 100.0) == 30 / 10 * 30
    assert time_left(0, 40, 100.0) == 0
