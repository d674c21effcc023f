"""Which token comes next: the likeliest, or one that is drawn, for each row by itself."""

import hashlib
from collections.abc import Sequence

import torch

from lt_spark.engines.base import Decoding


def own_seed(decoding: Decoding, tokens: list[int]) -> int:
    """Return a row's own seed, so that what is drawn does not depend on its neighbours; 0 where nothing is drawn."""
    text = f"{decoding.seed} {tokens}" if decoding.temperature > 0 else ""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def draw(seeds: Sequence[int], n_new: int) -> torch.Tensor:
    """Return a number in [0, 1) for each row and step, (rows, steps)."""
    return torch.stack([torch.rand(n_new, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def choose(logits: torch.Tensor, temperature: float = 0.0, draws: torch.Tensor | None = None) -> torch.Tensor:
    """Return the likeliest tokens, or those at which the cumulated probability passes the draw.

    Args:
        logits: (..., vocabulary); (rows, vocabulary) where tokens are drawn.
        temperature: by which they are divided, where tokens are drawn.
        draws: (rows,) numbers in [0, 1); None: the likeliest.
    """
    if draws is None:
        return logits.max(-1).indices  # argmax of bfloat16 takes five times as long on a CPU
    cumulated = torch.softmax(logits.float() / temperature, -1).cumsum(-1)
    chosen = torch.searchsorted(cumulated, (draws * cumulated[:, -1]).unsqueeze(1), right=True).squeeze(1)
    return chosen.clamp(max=logits.shape[-1] - 1)
