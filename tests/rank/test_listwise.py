"""The listwise fit against a grid, and what it must not do."""

from typing import Any

import numpy as np
import pytest

from lt_spark.rank.listwise import fit_weights


def lists(n_pairs: int = 60, seed: int = 1) -> tuple[Any, Any, Any]:
    """Lists of 8 candidates; the first feature tells the target, the second nothing, the third the contrary."""
    draw = np.random.default_rng(seed)
    features, pairs, is_target = [], [], []
    for pair in range(n_pairs):
        target = draw.integers(8)
        signal = draw.random(8) + (np.arange(8) == target) * 0.7
        features.append(np.column_stack([signal, draw.random(8), 1.0 - signal]))
        pairs += [pair] * 8
        is_target += list(np.arange(8) == target)
    return np.concatenate(features).astype(np.float32), np.array(pairs), np.array(is_target)


def loss(weights: Any, features: Any, pairs: Any, is_target: Any, pair_weights: Any, ridge: float) -> float:
    """The loss as its formula says, pair by pair."""
    total = 0.0
    for pair in np.unique(pairs):
        scores = features[pairs == pair].astype(float) @ weights
        total -= pair_weights[pair] * (scores[is_target[pairs == pair]][0] - np.log(np.exp(scores).sum()))
    return total / pair_weights.sum() + ridge / 2 * weights @ weights


def test_no_near_weights_are_better() -> None:
    features, pairs, is_target = lists()
    pair_weights = np.linspace(1.0, 2.0, 60)
    found = fit_weights(features, pairs, is_target, pair_weights, 0.01)
    reached = loss(found, features, pairs, is_target, pair_weights, 0.01)
    draw = np.random.default_rng(2)
    for _ in range(300):
        other = np.maximum(found + draw.normal(size=3) * draw.choice([0.02, 0.3, 2.0]), 0.0)
        assert loss(other, features, pairs, is_target, pair_weights, 0.01) >= reached - 1e-4


def test_what_misleads_has_no_weight() -> None:
    features, pairs, is_target = lists()
    found = fit_weights(features, pairs, is_target, np.ones(60), 0.01)
    assert found[0] > 1.0
    assert found[2] == 0.0


def test_like_samples_give_like_weights() -> None:
    features, pairs, is_target = lists(400)
    half = pairs < 200
    one = fit_weights(features[half], pairs[half], is_target[half], np.ones(200), 0.001)
    other = fit_weights(features[~half], pairs[~half] - 200, is_target[~half], np.ones(200), 0.001)
    assert one[0] == pytest.approx(other[0], rel=0.3)


def test_pairs_of_no_weight_and_without_a_target_say_nothing() -> None:
    features, pairs, is_target = lists()
    ignored = np.where(np.arange(60) < 30, 1.0, 0.0)
    found = fit_weights(features, pairs, is_target, ignored, 0.01)
    first = pairs < 30
    assert found == pytest.approx(fit_weights(features[first], pairs[first], is_target[first], np.ones(30), 0.01))
    gone = is_target & (pairs < 30)
    assert found == pytest.approx(fit_weights(features, pairs, gone, np.ones(60), 0.01))


def test_no_listed_target_is_no_weight() -> None:
    features, pairs, is_target = lists(2)
    assert fit_weights(features, pairs, is_target & False, np.ones(2), 0.01).tolist() == [0.0, 0.0, 0.0]
    assert fit_weights(features[:0], pairs[:0], is_target[:0], np.ones(2), 0.01).tolist() == [0.0, 0.0, 0.0]
