"""What a batch of windows asks the network: which places are guessed, and what stood there."""

import torch
from torch import Tensor

from lt_spark.models.bert.manifest import PAD
from lt_spark.models.bert.network import SequenceNetwork


def guessed(
    network: SequenceNetwork,
    items: Tensor,
    weights: Tensor,
    *,
    mask_share: float,
    last_mask_share: float,
    causal_share: float = 0.0,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the network over windows and gather the places that it guesses.

    Args:
        network: what is trained; its shape says how.
        items: (batch, length + 1) item_idx, padded on the left with PAD.
        weights: (batch, length + 1) weight of each event in the loss.
        mask_share: share of hidden places (masked only).
        last_mask_share: share of windows whose last place alone is hidden (masked only).
        causal_share: weight of the next item at every place, guessed from those before it by the same weights
            (masked only); 0: nothing of it.
        generator: draws what is hidden; on the CPU.

    Returns:
        Outputs (n, embedding_size), the items that stood there (n,), their weights (n,). Places without weight are left
        out; n may be 0.
    """
    hidden = None if network.is_causal else hidden_places(items, mask_share, last_mask_share, generator)
    found = []
    for rows, first in parts(items, by_length=items.device.type == "cpu"):
        own, own_weights = items[rows, first:], weights[rows, first:]
        if hidden is None:
            outputs, targets, own_weights = network(own[:, :-1]), own[:, 1:], own_weights[:, 1:]
            is_asked = (own[:, :-1] != PAD) & (targets != PAD)
        else:
            is_asked = hidden[rows, first:]
            outputs, targets = network(own, is_asked), own
            if causal_share:
                # an item keeps the place that it has beside a mask
                before = network(own, causal=True)[:, :-1]
                follows = (own[:, :-1] != PAD) & (own[:, 1:] != PAD) & (own_weights[:, 1:] > 0)
                found.append((before[follows], own[:, 1:][follows], causal_share * own_weights[:, 1:][follows]))
        is_asked = is_asked & (own_weights > 0)
        found.append((outputs[is_asked], targets[is_asked], own_weights[is_asked]))
    outputs, targets, weights = (torch.cat(each) for each in zip(*found, strict=True))
    return outputs, targets, weights


def hidden_places(items: Tensor, share: float, last_share: float, generator: torch.Generator) -> Tensor:
    """Draw the places to hide: in ``last_share`` of the windows the last one alone, else a share of the real ones.

    At least one is hidden, and one stays to be read where a window has two.

    Args:
        items: (batch, places), padded on the left with PAD.
        share: chance of a place.
        last_share: chance of a window to hide its last place alone.
        generator: on the CPU.

    Returns:
        (batch, places) bool, only at real places.
    """
    is_real = items != PAD
    n_rows, n_places = items.shape
    drawn = torch.rand(n_rows, n_places, generator=generator).to(items.device).masked_fill(~is_real, 2.0)
    n_real = is_real.sum(1, keepdim=True)
    # the places with the smallest numbers; as many as drew one below the share, within the bounds
    n_hidden = (drawn < share).sum(1, keepdim=True).clamp(min=1)
    n_hidden = torch.minimum(n_hidden, (n_real - 1).clamp(min=1))
    hidden = drawn.argsort(1).argsort(1) < n_hidden
    last_only = (torch.rand(n_rows, 1, generator=generator) < last_share).to(items.device)
    is_last = torch.arange(n_places, device=items.device) == n_places - 1
    return torch.where(last_only, is_last.unsqueeze(0), hidden) & is_real


def parts(items: Tensor, *, by_length: bool) -> list[tuple[Tensor, int]]:
    """Part windows of about one length: a short history would else pay for the longest of its batch.

    On a GPU one part is quicker: there many small launches cost more than the places that they spare.

    Args:
        items: (batch, places), padded on the left with PAD.
        by_length: whether to part them; else all are in one part.

    Returns:
        (rows, first place that is looked at) of each part: windows of up to 4, 8, 16, ... events;
        two places at least. Every row is in one part.
    """
    n_places = items.shape[1]
    n_real = (items != PAD).sum(1)
    size = torch.full_like(n_real, min(4, n_places) if by_length else n_places)
    while bool((size < n_real).any()):
        size = torch.where(size < n_real, (size * 2).clamp(max=n_places), size)
    found = []
    for each in sorted(set(size.tolist())):
        rows = (size == each).nonzero().squeeze(1)
        longest = max(int(n_real[rows].max()), min(2, n_places))
        found.append((rows, n_places - longest))
    return found
