"""How good a tower is on valid: NDCG@10 of a ranking of all items, for all targets, head, tail and cold."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lt_spark.kernels import topk
from lt_spark.kernels.metrics import ndcg
from lt_spark.models.text_bert.data import Catalogue, ValidSet
from lt_spark.models.text_bert.tower import Tower

K = 10
SEGMENTS = ("all", "head", "tail", "cold")
"""Head and tail by segment_top20; cold: without a known event, which is tail too."""


@dataclass(frozen=True)
class Judgement:
    """NDCG@10 by segment.

    Attributes:
        users: (n,) user_idx with a target in the segment, by segment.
        values: (n,) their NDCG@10 over the targets of the segment, in [0, 1].
    """

    users: dict[str, npt.NDArray[np.int32]]
    values: dict[str, npt.NDArray[np.float64]]

    def mean(self, segment: str) -> float | None:
        """Return the mean over users; None where no user has a target in the segment."""
        values = self.values[segment]
        return float(values.mean()) if len(values) else None


def judge(tower: Tower, valid: ValidSet, catalogue: Catalogue) -> Judgement:
    """Encode items and histories, rank all items for each user, and measure.

    What a user has seen is not ranked; a user without a text in the history counts as zero.
    """
    items = tower.encode_items([catalogue.texts[int(item)] for item in valid.items])
    histories = tower.encode_histories([catalogue.history(history) for history in valid.histories])
    return judged(items, histories, valid)


def judged(item_vectors: npt.NDArray[np.float32], user_vectors: npt.NDArray[np.float32], valid: ValidSet) -> Judgement:
    """Rank and measure.

    Args:
        item_vectors: (m, d) of ``valid.items``; zeros are not ranked.
        user_vectors: (u, d); zeros have no list.
        valid: the users.
    """
    allowed = np.abs(item_vectors).sum(axis=1) > 0
    listed, _ = topk.top_k(user_vectors, item_vectors, K, masked=_masked(valid), allowed=allowed)
    listed[np.abs(user_vectors).sum(axis=1) == 0] = -1
    users: dict[str, npt.NDArray[np.int32]] = {}
    values: dict[str, npt.NDArray[np.float64]] = {}
    for segment in SEGMENTS:
        wanted = [_targets(valid, row, segment) for row in range(len(valid))]
        rows = [row for row, targets in enumerate(wanted) if len(targets)]
        measured = [_ndcg(valid.items, listed[row], wanted[row]) for row in rows]
        users[segment], values[segment] = valid.users[rows], np.array(measured, np.float64)
    return Judgement(users, values)


def _targets(valid: ValidSet, row: int, segment: str) -> npt.NDArray[np.int32]:
    targets = valid.targets[row]
    if segment == "all":
        return targets
    names = valid.segments[row] if segment == "cold" else valid.top20[row]
    return targets[np.array([name == segment for name in names], np.bool_)]


def _ndcg(items: npt.NDArray[np.int32], listed: npt.NDArray[np.int32], targets: npt.NDArray[np.int32]) -> np.float64:
    shown = items[listed[listed >= 0]]
    hits = np.flatnonzero(np.isin(shown, targets)) + 1
    ranks = np.zeros(K, np.int64)
    ranks[: len(hits)] = hits
    return np.float64(ndcg(ranks, len(targets), K))


def _masked(valid: ValidSet) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the seen items as CSR positions in ``valid.items``."""
    places = [np.flatnonzero(np.isin(valid.items, seen)) for seen in valid.seen]
    lengths = np.array([len(place) for place in places], np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]), np.concatenate([*places, np.empty(0, np.int64)])
