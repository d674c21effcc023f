"""A domain's whole pipeline on its generated data, by the domain's own conf: only paths and sizes are set besides."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config, with_settings
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from tests.domains.generate import WRITERS, Generated

DOMAINS = Path(__file__).resolve().parents[2] / "conf" / "domains"
NAMES = sorted(WRITERS)
SMALL: dict[str, Any] = {
    "als_plain.ranks": [4],
    "als_plain.alphas": [1.0],
    "als_plain.max_iter": 3,
    "als.max_iter": 3,
    "candidates.n": 40,
    "blend.n": 20,
    "evaluate.ks": [10],
    "evaluate.n_replicates": 100,
    # of few users and few categories
    "evaluate.min_group_users": 5,
    "content.max_document_share": 0.5,
    # the sequence model takes as long as all others together, and no domain sets anything of it
    "blend.models": ["als", "neighbours", "lexical", "popularity"],
    # so few users decide nothing, and where the gate refuses, plain ALS is what fold live shows, without the cap
    "gate.override": "accept",
}
"""What makes a run short, and lets its blend be seen; nothing that a domain decides."""


@dataclass(frozen=True)
class Ran:
    """A run of a domain's conf: what it was given, what it left."""

    config: Config
    generated: Generated
    storage: Storage
    summary: Any


@cache
def domain_config(name: str) -> Config:
    """A domain's conf as it is."""
    return load_config(str(DOMAINS / f"{name}.yaml")).config


def run_domain(spark: Any, name: str, folder: Path, listener: Any = None) -> Ran:
    """Write the domain's data, and run the whole pipeline on it: valid, test and live."""
    generated = WRITERS[name](folder)
    paths = {f"source.{part}.{key}": value for part, keys in generated.sources.items() for key, value in keys.items()}
    places = {"tables.root": str(folder / "tables"), "files.root": str(folder / "files")}
    config = with_settings(domain_config(name), paths | places | SMALL, "the test")
    summary = run(spark, config, purpose="both", listener=listener)
    return Ran(config, generated, Storage(spark, config), summary)
