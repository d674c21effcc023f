"""Words said before and what is likely for any item: against a loop that reads the whole text for every token."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.loaded import prepare_process
from lt_spark.engines.model_files import describe_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
prepare_process()

from lt_spark.engines import transformers_engine  # noqa: E402
from lt_spark.engines.scores import LEAST_LIKELY, log_of_mean  # noqa: E402
from lt_spark.engines.transformers_engine import TransformersEngine  # noqa: E402

SHARED = "Title: steel drill bit\nKeywords: steel, drill\n\nTitle: soap\nKeywords: soap, candle, lens\n\n"
WORDS = ["steel", "filament", "candle", "soap", "tape"]
PROMPTS = [Prompt(SHARED, f"Title: {' '.join(WORDS[: 1 + n % 5])} {n}\n", "Keywords:") for n in range(12)]
OTHERS = tuple(Prompt(SHARED, f"Title: {word} {word}\n", "Keywords:") for word in (*WORDS, "glove", "resin"))
DECODINGS = {
    "penalty": Decoding(16, presence_penalty=1.5),
    "calibration": Decoding(16, calibration=0.7, others=OTHERS),
    "both": Decoding(16, presence_penalty=2.0, calibration=0.5, others=OTHERS),
}


@pytest.fixture
def make(tiny_model: str) -> Callable[..., TransformersEngine]:
    def engine(**options: Any) -> TransformersEngine:
        return TransformersEngine(tiny_model, describe_folder(tiny_model), dtype="float32", device="cpu", **options)

    return engine


@torch.inference_mode()
def last_scores(engine: TransformersEngine, tokens: list[int]) -> Any:
    return engine._model(torch.tensor([tokens])).logits[0, -1].double()


@torch.inference_mode()
def plainly(engine: TransformersEngine, prompt: Prompt, decoding: Decoding) -> str:
    """The same rule, token by token, with no batch, no kept keys and values, and no guesses."""
    tokenizer = engine._tokenizer
    texts = {token: tokenizer.decode([token]) for token in range(len(tokenizer))}
    speaks = torch.tensor([any(map(str.isalnum, texts[token])) for token in range(len(texts))])
    usual = None
    if decoding.calibration:
        first = [last_scores(engine, tokenizer(other.text).input_ids).softmax(-1) for other in decoding.others]
        usual = (torch.stack(first).mean(0) + 1e-4).log()
        usual = torch.where(speaks, usual, usual.max())
    read, written = tokenizer(prompt.text).input_ids, list[int]()
    while len(written) < decoding.max_new_tokens:
        scores = last_scores(engine, read + written)
        for token in set(written):
            scores[token] -= decoding.presence_penalty if speaks[token] else 0.0
        is_first_line = not any("\n" in texts[token] for token in written)
        if usual is not None and (not written or (is_first_line and texts[written[-1]].endswith(","))):
            likely = scores.log_softmax(-1)
            scores = likely - decoding.calibration * usual
            scores[likely < likely.max() - LEAST_LIKELY] = -torch.inf
        token = int(scores.argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    return str(tokenizer.decode(written, skip_special_tokens=True))


def texts_of(engine: TransformersEngine, decoding: Decoding, prompts: list[Prompt] = PROMPTS) -> list[str]:
    answers = engine.generate(prompts, decoding)
    assert [answer.error for answer in answers] == [""] * len(prompts)
    return [answer.text for answer in answers]


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
def test_each_row_is_what_the_plain_rule_gives_it(make: Callable[..., TransformersEngine], decoding: Decoding) -> None:
    engine = make()
    found = texts_of(engine, decoding)
    assert found == [plainly(engine, prompt, decoding) for prompt in PROMPTS]
    assert found != texts_of(engine, Decoding(16)), "or the comparison says nothing"


@pytest.mark.parametrize(
    "options",
    [
        {"sort": False, "max_batch": 5},
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ({"draft": False}, {"max_batch": 1}, {"reuse_prefix": False})
        ),
    ],
)
def test_answers_do_not_depend_on_guesses_batches_or_reuse(
    make: Callable[..., TransformersEngine], options: dict[str, Any]
) -> None:
    for decoding in (*DECODINGS.values(), replace(DECODINGS["both"], temperature=0.8, seed=3)):
        assert texts_of(make(**options), decoding) == texts_of(make(), decoding)


def test_what_is_usual_is_read_once_and_anew_for_others(make: Callable[..., TransformersEngine]) -> None:
    engine = make(max_batch=4)
    texts_of(engine, DECODINGS["calibration"])
    usual = engine._usual
    texts_of(engine, DECODINGS["both"])
    assert engine._usual is usual
    texts_of(engine, replace(DECODINGS["both"], others=OTHERS[:2]))
    assert engine._usual is not usual


def test_other_prompts_that_are_too_long_are_left_out(make: Callable[..., TransformersEngine]) -> None:
    engine = make(max_prompt_tokens=400)
    long = Prompt(SHARED, f"Title: {'steel ' * 400}\n", "Keywords:")
    decoding = DECODINGS["calibration"]
    assert texts_of(engine, replace(decoding, others=(long, *OTHERS))) == texts_of(engine, decoding)
    assert texts_of(engine, replace(decoding, others=(long,))) == texts_of(engine, Decoding(16))


def test_no_memory_for_the_others_halves_the_batch(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts_of(make(), DECODINGS["both"])
    calls = []

    def once_full(found: Any) -> Any:
        calls.append(found)
        if len(calls) == 1:
            raise MemoryError
        return log_of_mean(found)

    monkeypatch.setattr(transformers_engine, "log_of_mean", once_full)
    assert texts_of(make(), DECODINGS["both"]) == expected
    assert len(calls) == 2


def test_the_log_of_the_mean_is_never_below_its_floor() -> None:
    found = log_of_mean(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert found.tolist() == pytest.approx([-0.28755, -1.38589, -9.21034], abs=1e-4)
