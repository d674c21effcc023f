"""Blend weights by listwise likelihood: a convex problem, so that like samples give like weights."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_MAX_STEPS = 50
_TOLERANCE = 1e-5
_HALVINGS = 20


def fit_weights(
    features: npt.NDArray[np.float32],
    pairs: npt.NDArray[np.int64],
    is_target: npt.NDArray[np.bool_],
    pair_weights: Floats,
    ridge: float,
) -> Floats:
    """Return the weights w >= 0 with the least -sum_p a_p log softmax(f w)[target of p] + ridge / 2 |w|^2.

    The listwise loss with one relevant item a list (Cao et al., ICML 2007): smooth and convex, where NDCG has steps.
    Found by Newton's method on the weights that are free, the others held at 0 (Bertsekas 1982).

    Args:
        features: (n_rows, d) a row a candidate.
        pairs: (n_rows,) number of the pair that the candidate is of, ascending.
        is_target: (n_rows,) whether it is the pair's target.
        pair_weights: (n_pairs,) a_p, at least 0.
        ridge: above 0.

    Returns:
        (d,) weights; zeros where no pair lists its target.
    """
    size = features.shape[1]
    listed = np.zeros(len(pair_weights), bool)
    listed[pairs[is_target]] = True
    kept = listed[pairs] & (pair_weights[pairs] > 0)
    if not kept.any():
        return np.zeros(size)
    rows, owner = features[kept].astype(np.float64), pairs[kept]
    begins = np.flatnonzero(np.diff(owner, prepend=-1))
    counts = np.diff(np.append(begins, len(owner)))
    target = rows[is_target[kept]]
    weight = pair_weights[owner[begins]]
    weight = weight / weight.sum()
    pull = weight @ target

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = rows @ weights
        highest = np.maximum.reduceat(scores, begins)
        chances = np.exp(scores - np.repeat(highest, counts))
        totals = np.add.reduceat(chances, begins)
        value = weight @ (highest + np.log(totals)) - pull @ weights + ridge / 2 * weights @ weights
        return float(value), chances / np.repeat(totals, counts)

    weights = np.ones(size)
    value, chances = loss(weights)
    for _ in range(_MAX_STEPS):
        means = np.add.reduceat(rows * chances[:, None], begins, axis=0)  # (n_pairs, d)
        slope = weight @ means - pull + ridge * weights
        heavy = chances * np.repeat(weight, counts)
        curve = (rows * heavy[:, None]).T @ rows - (means * weight[:, None]).T @ means + ridge * np.eye(size)
        free = (weights > 0) | (slope < 0)
        step = np.zeros(size)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        length = 1.0
        for _ in range(_HALVINGS):
            moved = np.maximum(weights - length * step, 0.0)
            new_value, new_chances = loss(moved)
            if new_value < value:
                break
            length /= 2
        else:
            break
        gained, weights, value, chances = value - new_value, moved, new_value, new_chances
        if gained < _TOLERANCE:
            break
    return weights
