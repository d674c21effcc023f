"""Additions to the loss, each off by default: adjusted scores, contrastive views, adversarial item vectors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from lt_spark.models.bert.manifest import PAD
from lt_spark.models.bert.network import SequenceNetwork

_VIEW_SHARE = 0.3
"""Share of the events that each view hides."""
_TEMPERATURE = 0.2


def popularity_adjustment(n_known: Tensor, strength: float) -> Tensor:
    """Return what is added to the items' scores while the network learns, and to nothing when it is asked (n_items,).

    strength x log of the item's share of the events (Menon et al., ICLR 2021): what popularity explains need not be
    learnt, so that the scores in use favour the head less. An item without events counts as one with half an event.

    Args:
        n_known: (n_items,) known events.
        strength: 0: nothing; 1: scores in use estimate how much likelier an item is than its popularity says.
    """
    counts = n_known.float().clamp(min=0.5)
    return strength * torch.log(counts / counts.sum())


def contrastive_loss(network: SequenceNetwork, items: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
    """Return the summed loss of telling a window's other view among the batch's (CL4SRec, Xie et al., ICDE 2022).

    Two views of each window hide 30 % of its events each; the views of one window are near (InfoNCE over unit vectors,
    temperature .2), those of others are not.

    Args:
        network: one that has a vector for what is hidden.
        items: (batch, places), padded on the left with PAD.
        weights: (batch, places); a window's loss counts the mean weight of its events.
        generator: draws what is hidden; on the CPU.

    Returns:
        A number; 0 where the batch has fewer than two windows.
    """
    kept = items[:, -network.n_places :]
    if len(kept) < 2:
        return kept.new_zeros((), dtype=torch.float32)
    views = []
    for _ in range(2):
        drawn = torch.rand(kept.shape, generator=generator).to(kept.device)
        hidden = (drawn < _VIEW_SHARE) & (kept != PAD)
        views.append(normalize(network(kept, hidden)[:, -1].float(), dim=1))
    vectors = torch.cat(views)
    scores = vectors @ vectors.T / _TEMPERATURE
    scores = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -torch.inf)
    n = len(kept)
    partner = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(scores.device)
    losses = cross_entropy(scores, partner, reduction="none").view(2, n).mean(0)
    is_real = (kept != PAD).float()
    own = (weights[:, -kept.shape[1] :] * is_real).sum(1) / is_real.sum(1).clamp(min=1)
    return (losses * own).sum()


@contextmanager
def perturbed(rows: Tensor, epsilon: float) -> Iterator[None]:
    """Move item vectors along their gradient, where the loss grows most, as long as it lasts.

    FGM: Miyato, Dai and Goodfellow, ICLR 2017.

    Args:
        rows: with its gradient g.
        epsilon: length of the move, epsilon g / |g|; of a gradient that is no number or zero, none.
    """
    gradient = rows.grad
    length = gradient.norm() if gradient is not None else torch.zeros(())
    if gradient is None or not bool(torch.isfinite(length)) or float(length) == 0.0:
        yield
        return
    before = rows.detach().clone()  # what is added and taken away again is not what it was, to the bit
    with torch.no_grad():
        rows.add_(epsilon * gradient / length)
    try:
        yield
    finally:
        with torch.no_grad():
            rows.copy_(before)


def adversarial_step(rows: Tensor, epsilon: float, backward: Callable[[], None]) -> None:
    """Add the gradient at the perturbed item vectors to the one that is there.

    Args:
        rows: the learnt item vectors, with a gradient.
        epsilon: length of the move; 0: nothing is done.
        backward: computes the loss of the same batch again and adds its gradient.
    """
    if epsilon > 0:
        with perturbed(rows, epsilon):
            backward()
