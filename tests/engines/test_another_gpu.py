"""A worker process whose next task was given another GPU takes its models along; here two names of the CPU stand in."""

from itertools import cycle
from typing import Any

import pytest

from lt_spark.core.config_text import EmbedConfig, LanguageModelConfig
from lt_spark.engines import encoder, loaded, placement
from lt_spark.engines.base import Decoding, Prompt
from tests.enrich_shop import encoder_folder

torch = pytest.importorskip("torch")


@pytest.fixture
def alternating(monkeypatch: pytest.MonkeyPatch) -> None:
    places = cycle(["cpu:0", "cpu"])

    def device(_: Any) -> str:
        return next(places)

    monkeypatch.setattr(loaded, "device", device)
    monkeypatch.setattr(placement, "device", device)
    loaded.forget()


def test_the_language_model_goes_with_the_task(tiny_model: str, alternating: None) -> None:
    config = LanguageModelConfig(model=tiny_model, max_batch=2, dtype="float32", max_new_tokens=9)
    settings = loaded.settings_for(config, tiny_model)
    prompts = [Prompt("Title steel\n" * 40, f"Title: candle {n}\n", "Keywords:") for n in range(3)]
    first = loaded.load_engine(settings)
    assert first.value.device == "cpu:0"
    said = [answer.text for answer in first.value.generate(prompts, Decoding(9))]
    n_loads = first.n_loads
    second = loaded.load_engine(settings)
    assert (second.value, second.n_loads) == (first.value, n_loads)
    assert second.value.device == "cpu"
    assert second.value.beginnings.n_computed == 0, "keys and values of the old device are not used"
    assert [answer.text for answer in second.value.generate(prompts, Decoding(9))] == said


def test_the_encoder_goes_with_the_task(alternating: None) -> None:
    section = EmbedConfig(model=encoder_folder())
    first = encoder.load(section, section.model)
    assert first.value.device == "cpu:0"
    vector = first.value.encode(["steel nozzle"])
    second = encoder.load(section, section.model)
    assert (second.value, second.n_loads) == (first.value, first.n_loads)
    assert second.value.device == "cpu"
    assert (second.value.encode(["steel nozzle"]) == vector).all()
