"""Engines and encoders from the configuration, loaded once a worker process."""

import importlib.util
from typing import TYPE_CHECKING, cast

from lt_spark.core.config_text import EmbedConfig, LanguageModelConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines.base import Engine
from lt_spark.engines.loaded import Loaded, ModelSettings, once
from lt_spark.engines.loaded import load_engine as load_transformers
from lt_spark.engines.model_files import ModelInfo

if TYPE_CHECKING:
    from lt_spark.engines.encoder import Encoder

_NEEDED = {"transformers": ("torch", "transformers", "safetensors"), "openai": ("openai",)}


def load_engine(section: LanguageModelConfig, folder: str, info: ModelInfo | None) -> Loaded[Engine]:
    """Return the engine of the section ``language_model``, loaded where this process has not done so yet.

    Args:
        section: the section.
        folder: ``transformers``: the model's folder, as ``model_files.resolve`` gives it.
        info: ``transformers``: what the driver found there.
    """
    if section.engine == "openai" or info is None:
        from lt_spark.engines.openai_engine import OpenAIEngine

        return once(("openai", section), lambda: cast(Engine, OpenAIEngine(section)))
    return cast(Loaded[Engine], load_transformers(ModelSettings.of(section, folder, info)))


def load_encoder(section: EmbedConfig, folder: str) -> "Loaded[Encoder]":
    """Return the encoder of the section ``embed``, loaded where this process has not done so yet.

    Args:
        section: the section.
        folder: the encoder's folder, as ``model_files.resolve`` gives it.
    """
    from lt_spark.engines.encoder import load

    return load(section, folder)


def check_installed(engine: str) -> None:
    """Check that what an engine needs is installed; imports nothing.

    Raises:
        ConfigError: with the command that installs it.
    """
    missing = [name for name in _NEEDED.get(engine, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not installed, and engine {engine} needs it. Run: pip install 'lt-spark[llm]'"
        )
