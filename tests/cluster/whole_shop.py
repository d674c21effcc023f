"""The small shop with every stage that can run without a GPU: encoder, language model, sequence model, text model."""

from pathlib import Path
from typing import Any

from tests.engines.tiny_model import write_tiny_model
from tests.enrich_shop import KINDS
from tests.models.text_bert.tiny_bert import write_tiny_bert
from tests.small_shop import SMALL_BERT, write_whole_shop

PARTITIONS = {"spark.sql.shuffle.partitions": "2", "spark.default.parallelism": "2"}
"""Of every run that is compared: a sum of floats depends on where it is cut."""


def write_models(folder: Path) -> tuple[str, str]:
    """Write a tiny language model and a tiny encoder of random numbers; return their folders."""
    return write_tiny_model(folder / "model"), write_tiny_bert(folder / "encoder")


def write_everything(folder: Path, language_model: str, encoder: str) -> dict[str, Any]:
    """Write the shop's files, and return settings under which all stages run."""
    settings = write_whole_shop(folder)
    items = folder / "items.csv"
    text = items.read_text(encoding="utf-8")
    for number, kind in enumerate(KINDS):
        text = text.replace(f",kind {number}\r\n", f',"{kind}"\r\n')
    items.write_text(text, encoding="utf-8", newline="")
    rules = folder / "rules.csv"
    rules.write_text("item_id,action,value,reason\n00,block,,recalled\n05,pin,2,our offer\n", encoding="utf-8")
    settings["source"]["rules"] = {"path": str(rules)}
    models = ["als", "neighbours", "semantic", "lexical", "bert", "text_bert", "popularity"]
    return settings | {
        "embed": {"model": encoder},
        "language_model": {"model": language_model, "max_new_tokens": 12, "device": "cpu"},
        "describe": {"enabled": True, "keyword_fields": ["kind"], "wave_items": 16, "max_items": 24},
        "text_gate": {"min_similarity": -1.0},
        "embed_enriched": {"override": "accept"},
        "context": {"enabled": True, "max_users": 8},
        "blend": {"n": 15, "models": models},
        "bert": {**SMALL_BERT["bert"], "objectives": ["causal"]},
        "text_bert": {"epochs": 1, "max_tokens": 32, "item_max_tokens": 16, "device": "cpu", "max_pairs": 200},
    }
