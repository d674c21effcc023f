"""The loss: softmax over all items, or over drawn ones with the log-Q correction."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

_CHUNK_SCORES = 2**26
"""Scores held at once: 256 MB in float32."""
_CPU_SCORES, _CPU_ROWS = 2**22, 64
"""On a CPU: 16 MB, which stay in reach of its caches, and no fewer rows than a product needs to be quick."""


def full_softmax(
    outputs: Tensor, item_vectors: Tensor, targets: Tensor, weights: Tensor, adjustment: Tensor | None = None
) -> Tensor:
    """Return the weighted sum of -log softmax over all items.

    The places go in chunks. On a CPU the gradient is made with the loss, chunk by chunk in one place of memory (as in
    Hsu et al. 2024, Liger Kernel): memory of the size of all scores, asked for and given back at each step, takes a
    third of the time there. On a GPU chunks are needed above a number of scores only, and computed again for the
    gradient instead of kept.

    Args:
        outputs: (n, d) of the guessed places.
        item_vectors: (n_items, d).
        targets: (n,) item_idx that stood there.
        weights: (n,).
        adjustment: (n_items,) added to every place's scores; None: nothing.
    """
    if outputs.device.type == "cpu":
        summed: Tensor = _WithGradient.apply(outputs, item_vectors, targets, weights, adjustment)
        return summed
    return _in_chunks(outputs, item_vectors, targets, weights, adjustment)


def _in_chunks(
    outputs: Tensor, item_vectors: Tensor, targets: Tensor, weights: Tensor, adjustment: Tensor | None
) -> Tensor:
    n_rows = max(1, _CHUNK_SCORES // item_vectors.shape[0])
    if len(outputs) <= n_rows:
        return _summed(outputs, item_vectors, targets, weights, adjustment)
    parts = []
    for start in range(0, len(outputs), n_rows):
        part = slice(start, start + n_rows)
        rows = outputs[part], item_vectors, targets[part], weights[part], adjustment
        parts.append(checkpoint(_summed, *rows, use_reentrant=False))
    return torch.stack(parts).sum()


def _summed(
    outputs: Tensor, item_vectors: Tensor, targets: Tensor, weights: Tensor, adjustment: Tensor | None
) -> Tensor:
    scores = (outputs @ item_vectors.T).float()
    if adjustment is not None:
        scores = scores + adjustment
    losses = cross_entropy(scores, targets, reduction="none")
    return (losses * weights).sum()


class _WithGradient(torch.autograd.Function):
    """The sum of :func:`full_softmax` with its gradient by outputs and item vectors, in float32."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, item_vectors: Tensor, targets: Tensor, weights: Tensor, adjustment: Tensor | None
    ) -> Tensor:
        kind = outputs.device.type
        with torch.autocast(kind, enabled=False):
            rows, vectors = outputs.float(), item_vectors.float()
            by_rows, by_vectors = torch.empty_like(rows), torch.zeros_like(vectors)
            n_rows = max(_CPU_ROWS, _CPU_SCORES // len(vectors))
            place = rows.new_empty(min(n_rows, len(rows)), len(vectors))
            total = rows.new_zeros(())
            for start in range(0, len(rows), n_rows):
                part = slice(start, start + n_rows)
                own, weight = targets[part].unsqueeze(1), weights[part].float().unsqueeze(1)
                scores = torch.mm(rows[part], vectors.T, out=place[: len(own)])
                if adjustment is not None:
                    scores += adjustment
                highest = scores.amax(1, keepdim=True)
                of_target = scores.gather(1, own)
                sums = scores.sub_(highest).exp_().sum(1, keepdim=True)
                total += ((sums.log() + highest - of_target) * weight).sum()
                # weight x (softmax - 1 at the target)
                scores *= weight / sums
                scores.scatter_add_(1, own, -weight)
                torch.mm(scores, vectors, out=by_rows[part])
                by_vectors.addmm_(scores.T, rows[part])
        ctx.save_for_backward(by_rows.to(outputs.dtype), by_vectors.to(item_vectors.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        by_rows, by_vectors = ctx.saved_tensors
        return above[0] * by_rows, above[0] * by_vectors, None, None, None


def sampled_softmax(
    outputs: Tensor,
    target_vectors: Tensor,
    negative_vectors: Tensor,
    targets: Tensor,
    negatives: Tensor,
    weights: Tensor,
    log_q: Tensor,
    adjustment: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of -log softmax over the target and drawn items, corrected for how they were drawn.

    Bengio and Senécal 2008: a drawn item's score is lowered by the log of how often it is expected among the
    negatives, log(m q_i), or popular items, drawn more often, would be held down more than their share. The target was
    not drawn: its score stays. A drawn item that is the target itself is left out of its row.

    Args:
        outputs: (n, d) of the guessed places.
        target_vectors: (n, d).
        negative_vectors: (m, d), drawn with repetition from q.
        targets: (n,) item_idx.
        negatives: (m,) item_idx.
        weights: (n,).
        log_q: (m,) log of the chance to draw each negative.
        adjustment: (n_items,) added to the items' scores; None: nothing.
    """
    m = len(negatives)
    positive = (outputs * target_vectors).sum(1, keepdim=True).float()  # (n, 1)
    drawn = (outputs @ negative_vectors.T).float() - (log_q + torch.log(torch.tensor(float(m))))  # (n, m)
    if adjustment is not None:
        positive, drawn = positive + adjustment[targets].unsqueeze(1), drawn + adjustment[negatives]
    drawn = drawn.masked_fill(targets.unsqueeze(1) == negatives.unsqueeze(0), -torch.inf)
    scores = torch.cat([positive, drawn], dim=1)
    losses = torch.logsumexp(scores, 1) - positive.squeeze(1)
    return (losses * weights).sum()


def drawing_chances(support: Tensor) -> Tensor:
    """Return q (n_items,): the chance to draw an item, half by its known events, half evenly.

    The even half draws items without events too, whose score would else be lowered by log 0.
    """
    known = support.double().clamp(min=0)
    total = known.sum()
    even = torch.full_like(known, 1 / len(known))
    return even if total == 0 else 0.5 * known / total + 0.5 * even
