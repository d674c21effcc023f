"""Asking with one more try: what the gate refuses is asked for once more, drawn in another way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lt_spark.engines.base import Answer, Decoding, Engine, Prompt
from lt_spark.enrich.gate import Judged

Judge = Callable[[Sequence[int], Sequence[Answer]], list[Judged]]
"""Judges answers: (rows that they belong to, as places from 0; the answers)."""


@dataclass(frozen=True)
class Tried:
    """What came of a row.

    Attributes:
        answer: the text that stands; tokens and seconds of all tries.
        judged: what the gate says of it.
        n_tries: how often the engine was asked; 0 where the text was there already.
        first_failed: the checks that the row's first text failed.
    """

    answer: Answer
    judged: Judged
    n_tries: int
    first_failed: tuple[str, ...]


def ask_twice(
    engine: Engine | None,
    prompts: Sequence[Prompt],
    known: Sequence[str | None],
    judge: Judge,
    decoding: Decoding,
    retry_temperature: float | None,
) -> list[Tried]:
    """Ask for each row that has no text yet, judge all, and ask once more for those whose text was refused.

    Args:
        engine: the language model; None where all texts are known.
        prompts: one a row.
        known: the row's text where it is there already; it is judged, and never asked for.
        judge: judges answers. Its first call is of all rows, its second of those that were asked again.
        decoding: how the first answer is drawn; the second has the next seed.
        retry_temperature: of the second try; None: there is none.

    Returns:
        One a row, in their order. A row that the engine failed on gets no second try; where a second try fails, the
        first answer stands.
    """
    answers = [Answer(text or "") for text in known]
    asked = [place for place, text in enumerate(known) if text is None] if engine is not None else []
    if engine is not None and asked:
        for place, answer in zip(asked, engine.generate([prompts[p] for p in asked], decoding), strict=True):
            answers[place] = answer
    first = judge(range(len(known)), answers)
    tried = [
        Tried(answer, judged, int(text is None), judged.failed)
        for answer, judged, text in zip(answers, first, known, strict=True)
    ]
    again = [place for place in asked if tried[place].judged.failed and not answers[place].error]
    if engine is None or not again or retry_temperature is None:
        return tried
    second = replace(decoding, temperature=retry_temperature, seed=decoding.seed + 1)
    new = engine.generate([prompts[p] for p in again], second)
    both = [_both(answers[place], answer) for place, answer in zip(again, new, strict=True)]
    for place, answer, judged in zip(again, both, judge(again, both), strict=True):
        tried[place] = Tried(answer, judged, 2, tried[place].first_failed)
    return tried


def _both(old: Answer, new: Answer) -> Answer:
    return Answer(
        old.text if new.error else new.text,
        old.n_prompt_tokens + new.n_prompt_tokens,
        old.n_output_tokens + new.n_output_tokens,
        old.seconds + new.seconds,
    )
