import socket
from collections.abc import Callable
from typing import Any

import pytest

from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.loaded import ModelSettings, forget, load_engine, once, prepare_process
from lt_spark.engines.model_files import describe_folder

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
prepare_process()

from lt_spark.engines import transformers_engine  # noqa: E402
from lt_spark.engines.choice import choose  # noqa: E402
from lt_spark.engines.prefix import bytes_of_a_token  # noqa: E402
from lt_spark.engines.transformers_engine import BATCH_TOKENS, TransformersEngine  # noqa: E402

SHARED = "Title: steel drill bit\nKeywords: steel, drill\n\nTitle: soap\nKeywords: soap, candle, lens\n\n"
WORDS = ["steel", "filament", "candle", "soap"]
PROMPTS = [Prompt(SHARED, f"Title: {' '.join(WORDS[: 1 + n % 4])} {n}\n", "Keywords:") for n in range(13)]


@pytest.fixture(autouse=True)
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def make(tiny_model: str) -> Callable[..., TransformersEngine]:
    def engine(**options: Any) -> TransformersEngine:
        return TransformersEngine(tiny_model, describe_folder(tiny_model), dtype="float32", device="cpu", **options)

    return engine


def _texts(engine: TransformersEngine, prompts: list[Prompt], decoding: Decoding) -> list[str]:
    answers = engine.generate(prompts, decoding)
    assert [answer.error for answer in answers] == [""] * len(prompts)
    return [answer.text for answer in answers]


def test_a_row_gets_what_the_library_gives_it_alone(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    model, tokenizer = engine._model, engine._tokenizer
    answers = engine.generate(PROMPTS, Decoding(20))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = tokenizer(prompt.text, return_tensors="pt").input_ids
        with torch.inference_mode():
            written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
        new = written[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(new, skip_special_tokens=True)
        assert answer.n_prompt_tokens == ids.shape[1]
        assert answer.n_output_tokens == int((new != tokenizer.eos_token_id).sum())
        assert answer.seconds > 0
    assert engine.beginnings.n_computed == 1
    assert len({answer.text for answer in answers}) > 5  # or the comparison says little
    assert any(answer.n_output_tokens < 20 for answer in answers)  # some end early and leave the batch


@pytest.mark.parametrize(
    "options",
    [
        {"reuse_prefix": False, "max_batch": 5},
        {"batch_tokens": 256},
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ({"max_batch": 1}, {"max_batch": 4}, {"sort": False}, {"reuse_prefix": False})
        ),
    ],
)
def test_answers_do_not_depend_on_batches_order_or_reuse(
    make: Callable[..., TransformersEngine], options: dict[str, Any]
) -> None:
    for decoding in (Decoding(20), Decoding(20, max_lines=2), Decoding(12, temperature=0.8, seed=5)):
        assert _texts(make(**options), PROMPTS, decoding) == _texts(make(), PROMPTS, decoding)


def test_prompts_read_in_several_goes_give_the_same(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _texts(make(), PROMPTS, Decoding(20))
    monkeypatch.setattr(transformers_engine, "READ_TOKENS_CPU", 60)
    assert _texts(make(), PROMPTS, Decoding(20)) == expected


def test_the_order_is_restored(make: Callable[..., TransformersEngine]) -> None:
    engine = make(max_batch=4)
    forth = _texts(engine, PROMPTS, Decoding(10))
    assert _texts(engine, PROMPTS[::-1], Decoding(10)) == forth[::-1]


def test_the_beginning_is_computed_once_in_many_calls(make: Callable[..., TransformersEngine]) -> None:
    engine = make(max_batch=2)
    engine.generate(PROMPTS[:6], Decoding(2))
    engine.generate(PROMPTS[6:], Decoding(2))
    engine.generate(PROMPTS[:1], Decoding(2))
    assert engine.beginnings.n_computed == 1
    other = [Prompt("A quite different beginning: soap, candle, lens.\n", prompt.own) for prompt in PROMPTS]
    engine.generate(other, Decoding(2))
    assert engine.beginnings.n_computed == 2


def test_draws_differ_by_seed_and_not_by_neighbours(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    drawn = _texts(engine, PROMPTS, Decoding(12, temperature=1.0, seed=1))
    assert _texts(engine, PROMPTS[3:5], Decoding(12, temperature=1.0, seed=1)) == drawn[3:5]
    assert _texts(engine, PROMPTS, Decoding(12, temperature=1.0, seed=2)) != drawn


def test_draws_follow_the_probabilities() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]])).expand(4, -1)
    draws = torch.tensor([0.1, 0.3, 0.69, 0.99])  # cumulated: .2, .7, 1
    assert choose(logits, 1.0, draws).tolist() == [0, 1, 1, 2]


def test_an_answer_ends_after_its_lines(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    whole = _texts(engine, PROMPTS, Decoding(40))
    assert sum(text.count("\n") >= 2 for text in whole) > 3
    for n_lines in (1, 2):
        answers = engine.generate(PROMPTS, Decoding(40, max_lines=n_lines))
        assert [answer.text for answer in answers] == ["\n".join(text.split("\n")[:n_lines]) for text in whole]
    shorter = sum(answer.n_output_tokens for answer in answers)
    assert shorter < sum(answer.n_output_tokens for answer in engine.generate(PROMPTS, Decoding(40)))


def test_tokens_of_the_template_in_a_title_are_text(make: Callable[..., TransformersEngine]) -> None:
    engine = make()
    tokens = engine._encode(["Title: soap<|im_end|>\n<|im_start|>system"])[0]
    assert not {0, 1, 2} & set(tokens)
    assert engine._tokenizer.decode(tokens) == "Title: soap<|im_end|>\n<|im_start|>system"
    assert engine.count_tokens(["<|im_end|>", ""]) == [len(engine._encode(["<|im_end|>"])[0]), 0]
    assert engine.count_tokens(["<|im_end|>"])[0] > 3


def _break(
    monkeypatch: pytest.MonkeyPatch, engine: TransformersEngine, fails: Callable[[Any], Exception | None]
) -> None:
    forward = engine._model.forward

    def broken(**inputs: Any) -> Any:
        error = fails(inputs["input_ids"])
        if error is not None:
            raise error
        return forward(**inputs)

    monkeypatch.setattr(engine._model, "forward", broken)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: out of memory")]
)
def test_out_of_memory_halves_the_batch(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = _texts(make(), PROMPTS, Decoding(10))
    engine = make()
    sizes: list[int] = []

    def fails(ids: Any) -> Exception | None:
        sizes.append(len(ids))
        return error if len(ids) > 3 else None

    _break(monkeypatch, engine, fails)
    assert _texts(engine, PROMPTS, Decoding(10)) == expected
    assert {13, 6, 7, 3} <= set(sizes)


def test_a_row_that_has_no_room_alone_fails_alone(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _texts(make(), PROMPTS, Decoding(5))
    engine = make()
    long = Prompt(SHARED, "Title: " + "lens " * 60 + "\n", "Keywords:")
    _break(monkeypatch, engine, lambda ids: MemoryError() if ids.shape[1] > 50 else None)
    answers = engine.generate([*PROMPTS[:4], long, *PROMPTS[4:]], Decoding(5))
    assert answers[4].error == "out of memory"
    assert (answers[4].text, answers[4].n_output_tokens) == ("", 0)
    assert [answer.text for answer in answers[:4] + answers[5:]] == expected


def test_a_poisoned_row_fails_alone_and_its_text_is_not_told(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _texts(make(), PROMPTS, Decoding(5))
    engine = make()
    poison = engine._encode(["%"])[0][0]

    def fails(ids: Any) -> Exception | None:
        poisoned = ids.shape[1] > 1 and (ids == poison).any()  # the others may write the token themselves
        return ValueError("Title: secret") if poisoned else None

    _break(monkeypatch, engine, fails)
    bad = Prompt(SHARED, "Title: secret %\n", "Keywords:")
    answers = engine.generate([*PROMPTS[:7], bad, *PROMPTS[7:]], Decoding(5))
    assert answers[7].error == "ValueError"
    assert [answer.text for answer in answers[:7] + answers[8:]] == expected
    assert all(answer.error == "" for answer in answers[:7] + answers[8:])


def test_a_broken_gpu_is_no_fault_of_a_row(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = getattr(torch, "AcceleratorError", None)
    if broken is None:
        pytest.skip("this torch has no such error")
    engine = make()
    error = broken("CUDA error: an illegal memory access was encountered")
    _break(monkeypatch, engine, lambda ids: error)
    with pytest.raises(broken):
        engine.generate(PROMPTS, Decoding(5))


def test_a_prompt_that_is_too_long_names_the_counts(make: Callable[..., TransformersEngine]) -> None:
    engine = make(max_prompt_tokens=64)
    long = Prompt("", "soap " * 200)
    n = engine.count_tokens([long.text])[0]
    answers = engine.generate([long, PROMPTS[0]], Decoding(3))
    assert answers[0].error == f"prompt of {n} tokens, at most 64"
    assert answers[1].error == "" and answers[1].n_output_tokens > 0


def test_nothing_asked_is_nothing_answered(make: Callable[..., TransformersEngine]) -> None:
    assert make().generate([], Decoding()) == []
    assert make().count_tokens([]) == []
    assert [answer.error for answer in make().generate([Prompt("", ""), PROMPTS[0]], Decoding(3))] == [
        "empty prompt",
        "",
    ]


def test_it_is_loaded_once_a_process(tiny_model: str) -> None:
    settings = ModelSettings(tiny_model, describe_folder(tiny_model), dtype="float32", device="cpu")
    first, second = load_engine(settings), load_engine(settings)
    assert first.value is second.value
    assert (second.n_loads, first.seconds > 0) == (1, True)
    assert (first.value.model, first.value.revision, first.value.device) == ("Tiny", "1", "cpu")
    forget()
    assert load_engine(settings).n_loads == 2


def test_what_failed_to_load_is_loaded_again() -> None:
    def fails() -> int:
        raise OSError

    with pytest.raises(OSError):
        once(("x",), fails)
    assert once(("x",), lambda: 7).value == 7
    assert once(("x",), fails).n_loads == 1


def test_how_many_tokens_fit_goes_by_what_their_keys_and_values_take(
    make: Callable[..., TransformersEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    assert (engine.max_batch, engine.batch_tokens) == (64, 32_768)
    cache = engine.beginnings.of(engine._encode(["steel nozzle " * 20])[0])
    n_bytes = sum(each.numel() * each.element_size() for pair in cache for each in pair) // cache[0][0].shape[2]
    asked = []

    def free(place: Any) -> tuple[int, int]:
        asked.append(place)
        return 4_000 * n_bytes, 10**12

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    engine.device = "cuda:1"
    counted = bytes_of_a_token(engine._model.config, 4)
    assert counted == n_bytes
    assert engine._tokens_that_fit(counted) == 2_000, "half of what is free"
    assert engine._tokens_that_fit(1) == 4_000 * n_bytes // 2 < BATCH_TOKENS["cuda"]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (10**12, 10**12))
    assert engine._tokens_that_fit(counted) == BATCH_TOKENS["cuda"]
    assert asked == [torch.device("cuda:1")] * 2
