"""The contrastive loss: a history's text against the next item's, among the batch's targets and hard negatives."""

import torch
from torch import Tensor


def info_nce(
    histories: Tensor,
    targets: Tensor,
    hard: Tensor,
    is_masked: Tensor,
    is_hard: Tensor,
    log_q: Tensor,
    weights: Tensor,
    temperature: float,
) -> Tensor:
    """Return the weighted mean of -log softmax of each row's target among the batch's targets and its hard negatives.

    van den Oord et al. 2018 (InfoNCE), with the correction of Yi et al., RecSys 2019: a target of the batch scores
    cos / temperature - log q, q the share of the targets that it is. A popular item is a negative more often than a
    rare one, and would be held down for its popularity; the correction takes that back. A hard negative was drawn
    because of its row's target, not by its own popularity: it bears its target's correction, so that the two are
    compared by their cosines alone.

    Args:
        histories: (b, d) unit vectors.
        targets: (b, d) unit vectors of the rows' targets.
        hard: (b, m, d) unit vectors; m may be 0.
        is_masked: (b, b) bool, whether the target of column j is no negative of row i; the diagonal is False.
        is_hard: (b, m) bool, False where a row has fewer than m hard negatives.
        log_q: (b,) log of the targets' shares; zeros: no correction.
        weights: (b,) positive.
        temperature: above 0.

    Returns:
        A number, at least 0.
    """
    scores = histories @ targets.T / temperature - log_q  # (b, b): column j bears log q of target j
    own = scores.diagonal()
    scores = scores.masked_fill(is_masked, -torch.inf)
    beside = torch.einsum("bd,bmd->bm", histories, hard) / temperature - log_q[:, None]
    beside = beside.masked_fill(~is_hard, -torch.inf)
    losses = torch.logsumexp(torch.cat([scores, beside], dim=1), dim=1) - own
    return (losses * weights).sum() / weights.sum()
