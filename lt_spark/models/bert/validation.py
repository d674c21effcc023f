"""How good an epoch is: NDCG@10 over the whole catalogue, of all users and of those whose target is tail."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lt_spark.kernels import metrics
from lt_spark.kernels.topk import top_k
from lt_spark.models.bert.inputs import Items, Questions
from lt_spark.models.bert.network import SequenceNetwork

Array = npt.NDArray[Any]
Csr = tuple[Array, Array]
K = 10
_BATCH = 512


def user_vectors(network: SequenceNetwork, histories: Array, device: str) -> Array:
    """Return (n, embedding_size) float32 of (n, length) histories, padded on the left."""
    if not len(histories):
        return np.zeros((0, network.shape.embedding_size), np.float32)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(histories), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(histories[start : start + _BATCH]))
            first = int((batch >= 0).any(0).int().argmax())
            parts.append(network.user_vectors(batch[:, first:].to(device)).float().cpu())
    vectors: Array = torch.cat(parts).numpy()
    return vectors


def item_vectors(network: SequenceNetwork) -> Array:
    """Return (n_items, embedding_size) float32."""
    with torch.inference_mode():
        vectors: Array = network.items().float().cpu().numpy()
        return vectors


def ndcg_sums(
    network: SequenceNetwork, items: Items, questions: Questions, device: str, rank: int = 0, world: int = 1
) -> Array:
    """Return (4,): summed NDCG@10 of all users and their number, then of users with a tail target.

    Of several processes each takes every ``world``-th user; their sums add up. Arguments as of ``ndcg_by_user``.
    """
    values = ndcg_by_user(network, items, questions, device, rank, world)
    sums: Array = np.stack([np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1)], axis=1).ravel()
    return sums


def ndcg_by_user(
    network: SequenceNetwork, items: Items, questions: Questions, device: str, rank: int = 0, world: int = 1
) -> Array:
    """Return (2, n): each user's NDCG@10, and that of the tail targets alone; NaN of a user without any.

    The tail's counts a user's tail targets at their places in the full list.

    Args:
        network: in training mode or not; left as it was.
        items: the catalogue.
        questions: users and what they did next.
        device: where the network is.
        rank: of this process, which takes every ``world``-th user.
        world: number of processes.
    """
    was_training = network.training
    network.eval()
    mine = np.arange(rank, len(questions), world)
    queries = user_vectors(network, questions.histories[mine], device)
    vectors = item_vectors(network)
    positions, _ = top_k(
        queries,
        vectors,
        K,
        masked=_rows(questions.seen, mine),
        allowed=items.is_recommendable & (vectors != 0).any(axis=1),
    )
    network.train(was_training)
    offsets, targets = questions.targets
    values = np.full((2, len(mine)), np.nan)
    for at, user in enumerate(mine):
        own = slice(offsets[user], offsets[user + 1])
        is_tail = questions.is_tail[own]
        for row, wanted in enumerate((targets[own], targets[own][is_tail])):
            if len(wanted):
                ranks = np.flatnonzero(np.isin(positions[at], wanted)) + 1
                values[row, at] = float(metrics.ndcg(ranks, len(wanted), K))
    return values


def _rows(csr: Csr, rows: Array) -> Csr:
    offsets, values = csr
    lengths = np.diff(offsets)[rows]
    taken = [values[offsets[row] : offsets[row + 1]] for row in rows]
    return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(taken) if taken else values[:0]
