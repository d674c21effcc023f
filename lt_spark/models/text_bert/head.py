"""The classifier of 'will this user like this item', on the tower's finished vectors, and its report by class.

Like: the user's next events have the item (a pair kept from the encoder; on valid a target). Dislike stands for an item
that was drawn by popularity from those that the user does not know: nobody said that it is disliked, and the user may
never have seen it. So the report tells how well next items are told from popular unknown ones, half of each.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lt_spark.models.text_bert.data import Catalogue, Ints, Pairs, TrainingSet, ValidSet
from lt_spark.models.text_bert.tower import Tower

Floats = npt.NDArray[np.float64]
CLASSES = ("dislike", "like")
_L2 = 1e-3
_MAX_ITER = 200
_DRAWS = 50
"""Draws after which a user who seems to know everything goes without a negative."""


@dataclass(frozen=True)
class Head:
    """Logistic regression: P(like) = sigmoid(weights . features + bias).

    Attributes:
        weights: (4 d,) of what ``features`` returns.
        bias: a number.
    """

    weights: Floats
    bias: float

    def probabilities(self, users: npt.NDArray[np.float32], items: npt.NDArray[np.float32]) -> Floats:
        """Return (n,) P(like) in [0, 1] of pairs of vectors (n, d)."""
        scores = features(users, items) @ self.weights + self.bias
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores, -500, 500))), np.float64)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps({"weights": self.weights.tolist(), "bias": self.bias})

    @classmethod
    def from_json(cls, text: str) -> "Head":
        """Read what ``to_json`` wrote."""
        said = json.loads(text)
        return cls(np.array(said["weights"], np.float64), float(said["bias"]))


@dataclass(frozen=True)
class ClassReport:
    """How a class is told, at threshold 0.5.

    Attributes:
        name: dislike or like.
        precision: of those called so, the share that are; 0 where none is called so.
        recall: of those that are, the share called so; 0 where none is.
        f1: their harmonic mean; 0 where both are 0.
        n: pairs of the class (support).
    """

    name: str
    precision: float
    recall: float
    f1: float
    n: int


@dataclass(frozen=True)
class Labelled:
    """n pairs of a user's and an item's vector (n, d), and whether the user liked it (n,)."""

    users: npt.NDArray[np.float32]
    items: npt.NDArray[np.float32]
    is_liked: npt.NDArray[np.bool_]


def features(users: npt.NDArray[np.float32], items: npt.NDArray[np.float32]) -> Floats:
    """Return (n, 4 d): u, v, |u - v|, u v (as in Reimers and Gurevych 2019, with the product of InferSent, 2017)."""
    u, v = users.astype(np.float64), items.astype(np.float64)
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)


def held_out_pairs(tower: Tower, training: TrainingSet, seed: int) -> Labelled:
    """Label the pairs that were kept from the encoder, and as many drawn ones."""
    pairs: Pairs = training.held_out
    return _labelled(tower, training.catalogue, pairs.users, pairs.histories, pairs.targets, training.known, {}, seed)


def valid_pairs(tower: Tower, valid: ValidSet, catalogue: Catalogue, seed: int) -> Labelled:
    """Label the targets of valid that have a text, and as many drawn items: neither seen nor targets."""
    rows = np.repeat(np.arange(len(valid)), [len(targets) for targets in valid.targets])
    targets = np.concatenate([*valid.targets, np.empty(0, np.int32)]).astype(np.int32)
    seen = {int(user): items for user, items in zip(valid.users, valid.seen, strict=True)}
    wanted = {int(user): items for user, items in zip(valid.users, valid.targets, strict=True)}
    histories = [valid.histories[row] for row in rows]
    return _labelled(tower, catalogue, valid.users[rows], histories, targets, seen, wanted, seed)


def fit_head(labelled: Labelled) -> Head:
    """Fit the logistic regression by L-BFGS with a small L2 penalty; the vectors stay as they are.

    Args:
        labelled: pairs of both classes; without any the head says 0.5 of everything.
    """
    import torch

    x = torch.from_numpy(features(labelled.users, labelled.items))
    y = torch.from_numpy(labelled.is_liked.astype(np.float64))
    linear = torch.nn.Linear(x.shape[1], 1, dtype=torch.float64)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    if len(y):
        optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=_MAX_ITER, line_search_fn="strong_wolfe")

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(linear(x)[:, 0], y)
            loss = loss + _L2 * linear.weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Head(linear.weight.detach()[0].numpy().copy(), float(linear.bias.detach()))


def report(head: Head, labelled: Labelled) -> list[ClassReport]:
    """Return a row a class; none where there are no pairs."""
    if not len(labelled.is_liked):
        return []
    called = head.probabilities(labelled.users, labelled.items) >= 0.5
    return class_reports(labelled.is_liked, called)


def class_reports(is_liked: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> list[ClassReport]:
    """Count precision, recall and F1 of dislike and of like.

    Args:
        is_liked: (n,) what is.
        called: (n,) what is said.
    """
    rows = []
    for name, value in zip(CLASSES, (False, True), strict=True):
        right = int(np.sum((is_liked == value) & (called == value)))
        n_called, n = int(np.sum(called == value)), int(np.sum(is_liked == value))
        precision, recall = right / max(n_called, 1), right / max(n, 1)
        rows.append(ClassReport(name, precision, recall, 2 * right / max(n_called + n, 1), n))
    return rows


def draw_unknown(
    users: Ints, known: Sequence[Mapping[int, Ints]], catalogue: Catalogue, seed: int
) -> npt.NDArray[np.int64]:
    """Draw an item for each row, by known events, that its user does not know.

    Args:
        users: (n,) user_idx.
        known: items that may not be drawn, by user_idx.
        catalogue: items with a text and their events.
        seed: decides the draw.

    Returns:
        (n,) item_idx; -1 where none was found.
    """
    items = np.array(list(catalogue.texts), np.int64)
    counts = np.array([catalogue.n_events[int(item)] for item in items], np.float64)
    drawn = np.full(len(users), -1, np.int64)
    if not counts.sum():
        return drawn
    bounds = np.cumsum(counts / counts.sum())
    random = np.random.default_rng([seed, len(users)])
    sets: dict[int, set[int]] = {}
    for row, user in enumerate(users.tolist()):
        if user not in sets:
            sets[user] = {int(item) for of_kind in known for item in of_kind.get(user, ())}
        for place in np.minimum(np.searchsorted(bounds, random.random(_DRAWS), side="right"), len(items) - 1):
            if int(items[place]) not in sets[user]:
                drawn[row] = items[place]
                break
    return drawn


def _labelled(
    tower: Tower,
    catalogue: Catalogue,
    users: Ints,
    histories: Sequence[Ints],
    targets: Ints,
    known: Mapping[int, Ints],
    wanted: Mapping[int, Ints],
    seed: int,
) -> Labelled:
    texts = [catalogue.history(history) for history in histories]
    drawn = draw_unknown(users, (known, wanted), catalogue, seed)
    # a row without its negative would tip the balance of the classes
    usable = np.array(
        [
            bool(text) and int(target) in catalogue.texts and negative >= 0
            for text, target, negative in zip(texts, targets, drawn, strict=True)
        ],
        np.bool_,
    )
    places = np.flatnonzero(usable)
    distinct, of_user = np.unique(np.array([texts[place] for place in places], object), return_inverse=True)
    user_vectors = tower.encode_histories(list(distinct))[of_user]
    asked = np.concatenate([targets[places].astype(np.int64), drawn[places]])
    items, of_item = np.unique(asked, return_inverse=True)
    item_vectors = tower.encode_items([catalogue.texts[int(item)] for item in items])[of_item]
    is_liked = np.repeat([True, False], len(places))
    return Labelled(np.concatenate([user_vectors, user_vectors]), item_vectors, is_liked)
