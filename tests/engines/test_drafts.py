from collections.abc import Callable
from typing import Any

import pytest

from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.drafts import Draft, Writing, read_next
from lt_spark.engines.loaded import prepare_process
from lt_spark.engines.model_files import describe_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
prepare_process()

from lt_spark.engines.transformers_engine import TransformersEngine  # noqa: E402

STOP, LINE = 1, 2
SHARED = "Title: steel drill bit\nKeywords: steel, drill\n\nTitle: soap\nKeywords: soap, candle, lens\n\n"
PROMPTS = [Prompt(SHARED, f"Title: {'steel candle ' * (1 + n % 3)}{n}\n", "Keywords:") for n in range(9)]


def writing(prompt: list[int], n_new: int = 10, max_lines: int = 0) -> Writing:
    """A row whose prompt was just read."""
    return Writing(0, prompt, Decoding(n_new, max_lines=max_lines))


def test_the_longest_and_newest_place_is_gone_on_from() -> None:
    draft = Draft([5, 6, 7, 9, 6, 7, 8, 3, 6, 7])
    assert draft.guess(2) == [8, 3]  # 6, 7 stood twice: the second time counts
    draft.add([9])
    assert draft.guess(3) == [6, 7, 8]  # 6, 7, 9 stood once
    draft.add([4])
    assert draft.guess(3) == []


def test_right_guesses_are_kept_up_to_the_first_wrong_one() -> None:
    row = writing([5, 6, 7, 8, 5])
    assert row.take([6], {STOP}, {}) == 1
    assert row.next(3) == [6, 7, 8, 5]
    assert row.n_read == 5
    # after 6 comes 7 and after 7 comes 9: the guess 8, and what the model says after it, are dropped
    assert row.take([7, 9, 4, 4], {STOP}, {}) == 2
    assert (row.tokens, row.n_read, row.is_going) == ([6, 7, 9], 7, True)


@pytest.mark.parametrize(
    ("chosen", "options", "tokens"),
    [
        ([7, STOP, 5, 6], {}, [6, 7]),
        ([7, 8, 5, 6], {"n_new": 3}, [6, 7, 8]),
        ([7, LINE, 5, 6], {"max_lines": 1}, [6, 7, LINE]),
    ],
)
def test_an_answer_ends_within_right_guesses(chosen: list[int], options: dict[str, Any], tokens: list[int]) -> None:
    row = writing([5, 6, 7, LINE if "max_lines" in options else STOP if not options else 8, 5], **options)
    row.take([6], {STOP}, {LINE: 1})
    row.next(3)
    row.take(chosen, {STOP}, {LINE: 1})
    assert (row.tokens, row.is_going) == (tokens, False)
    assert row.take([7], {STOP}, {}) == 0
    assert row.tokens == tokens


def test_rows_without_guesses_are_filled_up() -> None:
    guessing, other = writing([5, 6, 7, 5]), writing([5, 6])
    for row, token in ((guessing, 6), (other, 9)):
        row.take([token], {STOP}, {})
    assert read_next([guessing, other], 2) == [[6, 7, 5], [9, 0, 0]]
    assert read_next([guessing, other], 0) == [[6], [9]]


@pytest.mark.parametrize("max_batch", [1, 9])
@pytest.mark.parametrize("decoding", [Decoding(40), Decoding(40, max_lines=2), Decoding(3), Decoding(1)])
def test_guessing_changes_no_answer_and_saves_steps(tiny_model: str, decoding: Decoding, max_batch: int) -> None:
    def run(draft: bool) -> tuple[list[tuple[str, int]], int]:
        info = describe_folder(tiny_model)
        engine = TransformersEngine(tiny_model, info, dtype="float32", device="cpu", draft=draft, max_batch=max_batch)
        steps = 0
        forward: Callable[..., Any] = engine._model.forward

        def counted(**inputs: Any) -> Any:
            nonlocal steps
            steps += 1
            return forward(**inputs)

        engine._model.forward = counted
        return [(a.text, a.n_output_tokens) for a in engine.generate(PROMPTS, decoding)], steps

    (guessed, n_guessed), (plain, n_plain) = run(True), run(False)
    assert guessed == plain
    assert n_guessed <= n_plain
    if decoding == Decoding(40) and max_batch == 1:  # a batch takes as many steps as its slowest row
        assert n_guessed < n_plain
