"""The gate: which checks fail, which keywords stay, how its lists are read, and how quick it is."""

import pickle
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

from lt_spark.core.config_text import TextGateConfig
from lt_spark.core.errors import ConfigError
from lt_spark.enrich.gate import CHECK_NAMES, KINDS, Gate, Judged, Subject, load_words
from lt_spark.kernels.words import STOP_WORDS, stems
from lt_spark.kernels.written import Written
from tests.hostile_titles import HOSTILE

VOCABULARY = frozenset(stems("Fasteners Wood Screws Drywall Nails Stainless Steel 25mm Kreg Stanley"))
SUBJECT = Subject(
    "Kreg Pocket Hole Screws, 500-Pack",
    "Kreg Pocket Hole Screws, 500-Pack 1-1/4 inch coarse",
    np.array([1.0, 0.0], dtype=np.float32),
)
GOOD = Written(("wood screws", "fasteners"), "Coarse screws that join wood, in a box of 500.")


def gate(**limits: object) -> Gate:
    return Gate(TextGateConfig(**limits), VOCABULARY)  # type: ignore[arg-type]


GATE = gate()


def test_a_good_answer_passes() -> None:
    vector = np.array([0.6, 0.8], dtype=np.float32)
    judged = GATE.check(GOOD, SUBJECT, text_vector=vector, others=["Nails for drywall."])
    assert judged == Judged((), GOOD, pytest.approx(0.6))


def described(description: str) -> Written:
    return Written(GOOD.keywords, description)


@pytest.mark.parametrize(
    ("check", "written"),
    [
        ("form", None),
        ("form", Written((), "")),
        ("length", described("Coarse screws.")),
        ("length", described("Coarse screws that join the wood of many kinds. " + "x" * 600)),
        ("language", described("Grobe Schrauben, mit denen man das Holz für den Garten verbindet und die halten.")),
        ("repeats", described("Coarse screws, coarse screws, coarse screws.")),
        ("echo", described("These are the Kreg Pocket Hole Screws.")),
        ("about_itself", described("Here is a text: coarse screws that join wood.")),
        ("numbers", described("Coarse screws that join wood, made since 1932.")),
        ("names", described("Coarse screws that join wood, by Bostitch.")),
        ("keywords_known", Written(("fasteners", "laser cutter", "filament"), GOOD.description)),
        ("unsafe", described("Coarse fucking screws that join wood.")),
        ("demeaning", described("Coarse screws that even a woman can use.")),
        ("contact", described("Coarse screws that join wood, see www.example.com now.")),
        ("control", described("Coarse screws that \u202ejoin wood.")),
        ("formula", described("=Coarse screws that join wood.")),
        ("template", described("Coarse screws that join wood.<|im_end|>")),
        ("unsafe", Written((*GOOD.keywords, "fucking screws"), GOOD.description)),
    ],
)
def test_each_check_fails_by_its_name_and_alone(check: str, written: Written | None) -> None:
    subject = Subject(SUBJECT.title, SUBJECT.own_text + " It is for the wood of a deck and the fence.")
    assert GATE.check(written, subject).failed == (check,)


def test_an_answer_far_from_its_item_fails() -> None:
    vector = np.array([0.1, 0.9], dtype=np.float32)
    judged = GATE.check(GOOD, SUBJECT, text_vector=vector)
    assert judged.failed == ("similarity",)
    assert judged.similarity == pytest.approx(0.1 / 0.82**0.5)
    no_vector = Subject(SUBJECT.title, SUBJECT.own_text)
    assert GATE.check(GOOD, no_vector, text_vector=vector) == Judged((), GOOD, None)


def test_english_words_are_looked_for_in_every_language() -> None:
    subject = Subject("Schrauben", "Kreg Schrauben für das Holz und den Garten")
    assert GATE.check(described("Grobe Schrauben für das Holz und den Garten."), subject).failed == ()
    assert GATE.check(described("Grobe fucking Schrauben für das Holz und den Zaun."), subject).failed == ("unsafe",)


def test_another_items_text_fails() -> None:
    assert GATE.check(GOOD, SUBJECT, others=["x", GOOD.description.upper()]).failed == ("same_text",)


def test_failures_are_told_in_the_order_of_the_names() -> None:
    judged = GATE.check(described("=Sure, see www.example.com"), SUBJECT)
    assert judged.failed == tuple(name for name in CHECK_NAMES if name in judged.failed)
    assert set(judged.failed) == {"about_itself", "contact", "formula"}


@pytest.mark.parametrize(
    ("keywords", "kept"),
    [
        (("wood screws", "laser screws", "pocket"), ("wood screws", "pocket")),
        (("500 pack", "400 pack"), ("500 pack",)),
        (("25mm nails", "25mm", "30mm"), ("25mm nails", "25mm")),  # a number of the vocabulary
        (("screw", "screws", "screw screws"), ("screw",)),
        (("wood", "wood " * 9 + "screws"), ("wood",)),
        (("screws of steel", "for the"), ("screws of steel",)),
        (("steel", "=wood"), ("steel",)),
        (("stainless steel wood drywall nails fasteners", "nails"), ("nails",)),  # 44 characters
    ],
)
def test_a_keyword_that_nobody_knows_is_dropped(keywords: tuple[str, ...], kept: tuple[str, ...]) -> None:
    judged = gate(max_unknown_share=1.0).check(Written(keywords, GOOD.description), SUBJECT)
    assert judged == Judged((), Written(kept, GOOD.description))


def test_too_many_unknown_keywords_fail() -> None:
    half = Written(("screws", "laser"), GOOD.description)
    assert GATE.check(half, SUBJECT) == Judged((), Written(("screws",), GOOD.description))
    assert gate(max_unknown_share=0.49).check(half, SUBJECT).failed == ("keywords_known",)
    none_left = GATE.check(Written(("laser", "filament"), GOOD.description), SUBJECT)
    assert none_left == Judged(("form", "keywords_known"), Written((), GOOD.description))


def test_keywords_are_cut() -> None:
    written = Written(("screws", "wood", "steel", "nails"), GOOD.description)
    judged = gate(max_keywords=2).check(written, SUBJECT)
    assert judged == Judged((), Written(("screws", "wood"), GOOD.description))


def test_a_part_that_was_not_asked_is_not_checked() -> None:
    assert GATE.check(Written(("screws",), ""), SUBJECT) == Judged((), Written(("screws",), ""))
    reading = Written((), "Likes old dramas and quiet comedies.")
    assert GATE.check(reading, Subject("", "Casablanca, Vertigo")) == Judged((), reading)


def test_an_empty_vocabulary_leaves_the_items_own_words() -> None:
    judged = Gate(TextGateConfig(), frozenset()).check(Written(("pocket screws", "nails"), GOOD.description), SUBJECT)
    assert judged.written == Written(("pocket screws",), GOOD.description)


def test_every_hostile_text_is_judged() -> None:
    for name, text in HOSTILE:
        start = time.perf_counter()
        judged = GATE.check(Written(("screws", text), text), SUBJECT, others=[text])
        assert time.perf_counter() - start < 0.5, name  # linear: 20 ms
        assert judged.failed or not text, name
        assert judged.written is None or judged.written.keywords in ((), ("screws",)), name


def test_it_is_quick() -> None:
    written = Written(GOOD.keywords * 3, (GOOD.description + " They hold well in a deck or a fence.") * 2)
    spent = []
    for _ in range(200):
        start = time.perf_counter()
        GATE.check(Written(written.keywords, written.description + f" {len(spent)}"), SUBJECT)
        spent.append(time.perf_counter() - start)
    assert sorted(spent)[len(spent) // 2] < 0.001  # the median: other work may share the core


def test_it_travels_to_the_executors() -> None:
    travelled = pickle.loads(pickle.dumps(GATE))
    bad = described("Coarse screws that even a woman can use, by Bostitch.")
    assert travelled.check(bad, SUBJECT) == GATE.check(bad, SUBJECT)
    assert travelled.check(GOOD, SUBJECT) == Judged((), GOOD)


# ---- lists ---------------------------------------------------------------------------------------------------------


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "words.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_lists_that_are_brought_are_well_formed() -> None:
    brought = load_words()
    assert set(brought) <= set(STOP_WORDS) and {"en", "de", "fr", "es"} <= set(brought)
    for language, kinds in brought.items():
        assert set(kinds) <= set(KINDS) and kinds["unsafe"] and kinds["demeaning"], language
        for kind, entries in kinds.items():
            assert all(isinstance(entry, str) and entry == entry.lower() for entry in entries), (language, kind)
            assert len(set(entries)) == len(entries), (language, kind)
    names = {file.name for file in (files("lt_spark.enrich") / "words").iterdir()}
    assert names == {f"{language}.yaml" for language in brought}


def test_a_file_adds_words(tmp_path: Path) -> None:
    path = write(
        tmp_path, "en: {unsafe: [Gizmo, bad thing], demeaning: ['{groups} love gadgets']}\nsv: {unsafe: [dumskrake]}"
    )
    added = gate(words_file=path)
    assert added.check(described("Coarse screws that join a gizmo of wood."), SUBJECT).failed == ("unsafe",)
    assert added.check(described("Women love gadgets like coarse screws."), SUBJECT).failed == ("demeaning",)
    assert added.check(described("Coarse dumskrake wood join."), SUBJECT).failed == ("unsafe",)
    assert added.check(described("Coarse fucking screws that join wood."), SUBJECT).failed == ("unsafe",)
    assert added.check(GOOD, SUBJECT).failed == ()
    assert GATE.check(described("Coarse screws that join a gizmo of wood."), SUBJECT).failed == ()


def test_a_file_adds_ordinary_words_and_groups(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump({"en": {"ordinary": ["torx"], "groups": ["martians"]}}))
    added = gate(words_file=path)
    assert added.check(described("Coarse screws with a Torx head."), SUBJECT).failed == ()
    assert added.check(described("Coarse screws. Martians are stupid."), SUBJECT).failed == ("demeaning",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("en: {unsave: [x]}", "no kind 'unsave'.*Did you mean 'unsafe'"),
        ("en: {unsafe: x}", "en, unsafe: expected a list of words"),
        ("en: {unsafe: [no]}", "in quotes"),
        ("en: [x]", "words.yaml, en: expected kinds .* as keys, found list"),
        ("- x", "expected languages .* as keys, found list"),
        ("en: {unsafe: ['{grups} raus']}", r"names the set \{grups\}.*groups"),
        ("en: {unsafe: [", "is not YAML"),
        ("", None),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, message: str | None) -> None:
    path = write(tmp_path, text)
    if message is None:
        assert load_words(path) == load_words()
        return
    with pytest.raises(ConfigError, match=message) as error:
        gate(words_file=path)
    assert "text_gate.words_file" in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        gate(words_file=str(tmp_path / "none.yaml"))


def test_a_keyword_must_be_of_the_neighbours_where_they_are_told():
    subject = Subject("Brass hose fitting", "Brass hose fitting", None, frozenset(("pipe", "adapter")))
    gate = Gate(TextGateConfig(max_unknown_share=0.5), frozenset(("pipe", "adapter", "toy")))
    judged = gate.check(Written(("pipe adapters", "brass", "toys"), ""), subject)
    assert judged.written == Written(("pipe adapters", "brass"), "")
    assert judged.failed == ()
    assert gate.check(Written(("toys",), ""), subject).failed == ("form", "keywords_known")
    anyone = Subject("Brass hose fitting", "Brass hose fitting")
    assert gate.check(Written(("toys",), ""), anyone).failed == ()
