"""The models on a real GPU: what a CPU says, in the same order, and halves where the memory is too small."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow  # noqa: F401  (before torch)
import pytest

from lt_spark.core.config_text import EmbedConfig, LanguageModelConfig
from lt_spark.engines import encoder, loaded, placement
from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.loaded import prepare_process
from lt_spark.engines.model_files import describe_folder
from tests.enrich_shop import encoder_folder, language_model_folder

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
prepare_process()

from lt_spark.engines.transformers_engine import BATCH_TOKENS, MAX_BATCH, TransformersEngine  # noqa: E402

SHARED = "Title: steel drill bit\nKeywords: steel, drill\n\nTitle: soap\nKeywords: soap, candle, lens\n\n"
WORDS = ["steel", "filament", "candle", "soap"]
PROMPTS = [Prompt(SHARED, f"Title: {' '.join(WORDS[: 1 + n % 4])} {n}\n", "Keywords:") for n in range(40)]
SCORED = Decoding(16, max_lines=1, calibration=0.5, presence_penalty=2.0, others=tuple(PROMPTS[20:28]))
DECODINGS = {
    "likeliest": Decoding(20),
    "two lines": Decoding(20, max_lines=2),
    "drawn": Decoding(12, temperature=0.8, seed=5),
    "scored": SCORED,
    "scored and drawn": replace(SCORED, temperature=0.8, seed=3),
}


def engine(folder: str, device: str, **options: Any) -> TransformersEngine:
    settings = {"dtype": "float32"} | options
    return TransformersEngine(folder, describe_folder(folder), device=device, **settings)


def texts(model: TransformersEngine, decoding: Decoding, prompts: list[Prompt] = PROMPTS) -> list[str]:
    answers = model.generate(prompts, decoding)
    assert [answer.error for answer in answers] == [""] * len(prompts)
    return [answer.text for answer in answers]


@pytest.fixture
def little_memory() -> Iterator[Any]:
    """Leave torch this many bytes more than it holds; the whole GPU again afterwards."""

    def leave(n_bytes: int) -> None:
        torch.cuda.empty_cache()
        held = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction((held + n_bytes) / torch.cuda.get_device_properties(0).total_memory)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.parametrize("decoding", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("options", [{}, {"max_batch": 3}, {"reuse_prefix": False}, {"draft": False}])
def test_a_gpu_says_what_a_cpu_says(tiny_model: str, decoding: Decoding, options: dict[str, Any]) -> None:
    on_gpu = texts(engine(tiny_model, "cuda:0", **options), decoding)
    assert on_gpu == texts(engine(tiny_model, "cpu"), decoding)
    assert len(set(on_gpu)) > 10, "or the comparison says little"


def test_what_is_loaded_in_a_process_takes_the_gpu_and_its_format(tiny_model: str) -> None:
    loaded.forget()
    model = loaded.load_engine(loaded.settings_for(LanguageModelConfig(model=tiny_model), tiny_model)).value
    assert (model.device, model.dtype) == ("cuda:0", placement.dtype("auto", "cuda:0"))
    assert model.dtype == ("bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16")
    assert (model.max_batch, model.batch_tokens) == (MAX_BATCH["cuda"], BATCH_TOKENS["cuda"])
    assert len(texts(model, Decoding(8))) == len(PROMPTS)
    loaded.forget()


def test_a_model_moves_to_the_gpu_and_back(tiny_model: str) -> None:
    model = engine(tiny_model, "cpu")
    said = texts(model, SCORED)
    for device in ("cuda:0", "cpu"):
        model.move(device)
        assert texts(model, SCORED) == said
    before = torch.cuda.memory_allocated()
    model.move("cuda:0")
    assert torch.cuda.memory_allocated() > before
    model.move("cpu")
    assert torch.cuda.memory_allocated() <= before, "the GPU's memory is given back"


def test_real_lack_of_memory_halves_the_batch(
    tiny_model: str, little_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt("", f"{prompt.own} {'lens tape ' * 300}", prompt.start) for prompt in PROMPTS]
    model = engine(tiny_model, "cuda:0")
    expected = texts(model, Decoding(8), prompts)
    sizes = []
    forward = model._model.forward

    def counted(**inputs: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return forward(**inputs)

    monkeypatch.setattr(model._model, "forward", counted)
    torch.cuda.reset_peak_memory_stats()
    texts(model, Decoding(8), prompts)
    n_largest = max(sizes)
    little_memory((torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()) // 3)
    sizes.clear()
    assert texts(model, Decoding(8), prompts) == expected
    assert min(sizes) < n_largest, "it was halved"


def test_a_prompt_that_no_memory_holds_fails_alone(tiny_model: str, little_memory: Any) -> None:
    model = engine(tiny_model, "cuda:0")
    expected = texts(model, Decoding(4), PROMPTS[:6])
    long = Prompt("", "Title: " + "lens tape " * 1_400 + "\n", "Keywords:")
    little_memory(4 * 2**20)
    answers = model.generate([*PROMPTS[:3], long, *PROMPTS[3:6]], Decoding(4))
    assert answers[3].error == "out of memory"
    assert [answer.text for answer in answers[:3] + answers[4:]] == expected


def test_the_encoder_on_a_gpu_gives_the_vectors_of_a_cpu(little_memory: Any) -> None:
    lines = [f"{word} of steel, number {n}" * (1 + n % 9) for n in range(300) for word in WORDS]
    section = EmbedConfig(model=encoder_folder())
    loaded.forget()
    on_cpu = encoder.load(section, section.model, "cpu").value.encode(lines)
    model = encoder.load(section, section.model).value
    assert model.device == "cuda:0"
    np.testing.assert_allclose(model.encode(lines), on_cpu, atol=1e-5)
    little_memory(24 * 2**20)
    vectors, failed = model.try_encode(lines)
    np.testing.assert_allclose(vectors, on_cpu, atol=1e-5)
    assert not failed.any()
    loaded.forget()


def test_the_shipped_model_says_on_a_gpu_what_it_says_on_a_cpu() -> None:
    folder = language_model_folder()
    prompts = [
        Prompt("", f"Title: {word} number {n}\nKeywords: {word}, shop\n\nTitle: {word} {n + 1}\n", "Keywords:")
        for n in range(4)
        for word in WORDS
    ]
    decoding = Decoding(12, max_lines=1)
    exact = texts(engine(folder, "cuda:0"), decoding, prompts)
    assert exact == texts(engine(folder, "cpu"), decoding, prompts)
    rounded = texts(engine(folder, "cuda:0", dtype=placement.dtype("auto", "cuda:0")), decoding, prompts)
    assert sum(one == other for one, other in zip(exact, rounded, strict=True)) >= len(prompts) // 2
