"""Sections of the experiments. conf/base.yaml explains each key for people."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from lt_spark.core.section import Section

Part = Literal["factors", "leave_one_out", "embeddings", "noise", "robustness"]
FACTORS = ("plain", "rebalanced", "enriched", "both")
"""Neither, weights of rebalance, text, both."""
NOISE, DISTURBED = "noise", "disturbed"
WITHOUT, EMBEDDINGS = "without_", "embeddings_"
_TAKEN = (*FACTORS, NOISE, DISTURBED)


class LedgerConfig(Section):
    """The experiments of ``lt-spark ledger``."""

    parts: tuple[Part, ...] = ("factors", "leave_one_out", "embeddings", "noise", "robustness")
    """Which experiments are made, besides those of ``variants``."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further variants by name: each the conf with some settings (section.key: value) changed."""

    @field_validator("parts")
    @classmethod
    def _each_once(cls, parts: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(parts)) < len(parts):
            raise ValueError("expected no part twice")
        return parts

    @field_validator("variants")
    @classmethod
    def _named(cls, variants: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, changes in variants.items():
            # it becomes part of a folder's and of a schema's name
            is_name = re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) and not name.startswith((WITHOUT, EMBEDDINGS))
            if not is_name or name in _TAKEN:
                raise ValueError(
                    f"ledger.variants: expected names of small letters, digits and _ (at most 32), none of "
                    f"{', '.join(_TAKEN)}, none that begins with {WITHOUT} or {EMBEDDINGS}; found {name!r}"
                )
            if not changes:
                raise ValueError(f"ledger.variants.{name}: expected settings such as bert.int8: true, found none")
        return variants


class DisturbConfig(Section):
    """What is done to the data on purpose, to see what it does to the figures. Never on for recommendations."""

    text: Literal["own", "shuffled", "typos"] = "own"
    """``shuffled``: each item has another item's text and own vector; ``typos``: letters of titles change places."""
    typo_share: float = Field(0.1, ge=0, le=1)
    """Share of a title's words that get a typo."""
    drop_share: float = Field(0.0, ge=0, lt=1)
    """Share of each user's train events that is left out, never the newest."""

    @property
    def is_on(self) -> bool:
        """Whether anything is disturbed."""
        return self.text != "own" or self.drop_share > 0
