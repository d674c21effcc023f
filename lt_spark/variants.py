"""The ledger's variants: which settings each has, in which place it is measured, and whether produce may use it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lt_spark.core.config import Config
from lt_spark.core.config_files import config_hash, with_settings
from lt_spark.core.config_ledger import DISTURBED, EMBEDDINGS, FACTORS, NOISE, WITHOUT
from lt_spark.core.errors import ConfigError, nearest
from lt_spark.stages import BASELINE, SETTING_SECTIONS

PLAIN, REBALANCED, ENRICHED, BOTH = FACTORS
DROPPED_SHARE = 0.1
"""Of each history, in the variant ``disturbed``."""
_NO_SETTINGS = ("tables", "files", "run", "ledger")
"""The sections of places, of the run itself, and of what is measured beside it."""
_OF_TEXT = ("semantic", "lexical", "text_bert")
"""Models that are nothing without text."""
_CHANGEABLE = tuple(name for name in SETTING_SECTIONS if name != "text_bert")


@dataclass(frozen=True)
class VariantConfig:
    """A variant of the settings.

    Attributes:
        name: what the ledger calls it.
        config: its settings, with a place of its own.
        is_choice: whether produce may use it; the others are there to be understood.
    """

    name: str
    config: Config
    is_choice: bool


def variant_configs(config: Config) -> dict[str, VariantConfig]:
    """Return the variants by name, in the order in which they are made.

    - ``plain``, ``rebalanced``, ``enriched``, ``both``: neither, the weights of ``rebalance`` (inverse_power where the
      conf has none), text, both; one of the last two is the conf as it stands. Without text there are two.
    - ``without_<model>``: the conf's blend without one of its models.
    - ``embeddings_<which>``: the conf with other vectors.
    - ``noise``: each item has another item's text.
    - ``disturbed``: a tenth of each history is left out, titles have typos.
    - those of ``ledger.variants``.

    Each has its own place: ``{tables.root}/ledger/{variant}``, or in a catalog the schemas ``silver_ledger_{variant}``
    and ``gold_ledger_{variant}``.

    Raises:
        ConfigError: a variant of the conf changes what produce does not take from accepted settings, or wrongly.
    """
    factors = list(_factors(config))
    # the conf as it stands first: the others copy what they share with it; then what costs least
    parts = (
        ("factors", factors[:1], True),
        ("leave_one_out", _leave_one_out(config), False),
        ("factors", factors[1:], True),
        ("embeddings", _embeddings(config), False),
        ("noise", _noise(config), False),
        ("robustness", _robustness(config), False),
    )
    made: dict[str, VariantConfig] = {}
    for part, variants, is_choice in parts:
        if part in config.ledger.parts:
            for name, changes in variants:
                made[name] = _placed(name, with_settings(config, changes, f"ledger, {name}"), is_choice=is_choice)
    for name, changes in config.ledger.variants.items():
        where = f"ledger.variants.{name}"
        _check_changes(where, changes)
        made[name] = _placed(name, with_settings(config, changes, where), is_choice=True)
    return made


def settings_hash(config: Config) -> str:
    """Return a hash of all settings but those of places, of the run itself and of other variants."""
    return config_hash(config, [name for name in Config.model_fields if name not in _NO_SETTINGS])


def reads_text(config: Config) -> bool:
    """Return whether any model reads the items' text."""
    has_vectors = bool(config.embed.model or config.embed.vectors_path)
    by_vectors = (config.als.use_text and "als" in config.blend.models) or (
        config.bert.use_text and "bert" in config.blend.models
    )
    return bool(set(_OF_TEXT) & set(config.blend.models)) or (has_vectors and by_vectors)


def _factors(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    method = "inverse_power" if config.rebalance.method == "none" else config.rebalance.method
    no_text = {
        "als.use_text": False,
        "als.use_pseudo_events": False,
        "bert.use_text": False,
        "bert.use_pseudo_events": False,
        "blend.models": _left(config, *_OF_TEXT),
    }
    if not reads_text(config) and not config.context.enabled:
        no_text = {}  # it changes nothing: so models are the same as those of all other variants, and copied
    with_text: dict[str, dict[str, Any]] = {ENRICHED: {"rebalance.method": "none"}, BOTH: {"rebalance.method": method}}
    own = ENRICHED if config.rebalance.method == "none" else BOTH
    if reads_text(config):
        yield own, with_text.pop(own)
        yield from with_text.items()
    without_text: dict[str, dict[str, Any]] = {
        PLAIN: {"rebalance.method": "none"},
        REBALANCED: {"rebalance.method": method},
    }
    if not reads_text(config):
        own = PLAIN if config.rebalance.method == "none" else REBALANCED
        yield own, {**without_text.pop(own), **no_text}
    for name, changes in without_text.items():
        yield name, {**changes, **no_text}


def _leave_one_out(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    for model in config.blend.models:
        if len(config.blend.models) > 1:
            yield f"{WITHOUT}{model}", {"blend.models": _left(config, model)}


def _embeddings(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    if not reads_text(config):
        return
    # where nothing was written of the items, plain and enriched are the same
    names = [*(("plain", "enriched") if config.describe.enabled else ("enriched",))]
    if "text_bert" in config.blend.models or config.models.embeddings == "tuned":
        names.append("tuned")
    own = (
        "enriched" if config.models.embeddings == "plain" and not config.describe.enabled else config.models.embeddings
    )
    for name in names:
        if name != own:
            yield f"{EMBEDDINGS}{name}", {"models.embeddings": name}


def _noise(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    if reads_text(config):
        changes: dict[str, Any] = {"disturb.text": "shuffled", "describe.enabled": False}
        yield NOISE, changes | _untaught(config)


def _robustness(config: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    yield DISTURBED, {"disturb.text": "typos", "disturb.drop_share": DROPPED_SHARE} | _untaught(config)


def _untaught(config: Config) -> dict[str, Any]:
    """Return the changes of a variant with another log or other texts: no reading and no encoder were made for it."""
    embeddings = "enriched" if config.models.embeddings == "tuned" else config.models.embeddings
    return {
        "context.enabled": False,
        "models.embeddings": embeddings,
        "blend.models": _left(config, "text_bert"),
    }


def _left(config: Config, *left_out: str) -> list[str]:
    """Return the blend's models but some; plain ALS where none is left."""
    return [model for model in config.blend.models if model not in left_out] or [BASELINE]


def _check_changes(where: str, changes: dict[str, Any]) -> None:
    for key in changes:
        if (section := key.partition(".")[0]) not in _CHANGEABLE:
            raise ConfigError(
                f"{where}: {key}: expected a setting of {', '.join(_CHANGEABLE)}, which produce "
                f"takes from accepted settings.{nearest(section, _CHANGEABLE)}"
            )


def _placed(name: str, config: Config, *, is_choice: bool) -> VariantConfig:
    """Return a variant with its own place."""
    tables = config.tables
    if tables.catalog:
        place = {
            "silver_schema": f"{tables.silver_schema}_ledger_{name}",
            "gold_schema": f"{tables.gold_schema}_ledger_{name}",
        }
    else:
        place = {"root": f"{tables.root.rstrip('/')}/ledger/{name}"}
    placed = config.model_copy(update={"tables": tables.model_copy(update=place)})
    return VariantConfig(name, placed, is_choice)
