"""What else of a candidate the blend could look at: other functions of the models' scores, a power of each user's own.

    python -m tests.benchmarks.blend_features TABLES_ROOT [N_USERS]

As ``tests.benchmarks.blend_fit``: weights are fitted on one half of the pairs of fold valid and judged on the other, 8
draws. Prints NDCG@10 of all and of the tail, the goal's change against min-max scores with one power of popularity, and
the draws that were won. A user's own power is p0 + p1 x the (standardised) mean popularity of the user's history, both
chosen on the first half as the one power is. Fold test is not read.
"""

import sys
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from lt_spark.rank import tune
from lt_spark.rank.tune import Sample, Weights, search
from tests.benchmarks.blend_fit import CONFIG, load, read, some

DRAWS, REPLICATES = 8, 30
POWERS, SLOPES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0), (0.0, -0.1, -0.2, -0.4, -0.7, -1.0, -1.5)
Floats = npt.NDArray[np.float64]


def features(sample: Sample) -> dict[str, npt.NDArray[np.float32]]:
    """Return the ways to see a candidate, (n_rows, columns) each."""
    scores, n_models = sample.features, sample.features.shape[1]
    ranks = pd.DataFrame(scores).groupby(sample.pairs).rank(ascending=False, method="first").to_numpy()
    gains = np.where(scores > 0, 1.0 / np.log2(ranks + 1.0), 0.0)
    pairs = [scores[:, one] * scores[:, other] for one in range(n_models) for other in range(one)]
    found = {
        "min-max scores (taken)": scores,
        "and the number of models that list it": np.column_stack([scores, (scores > 0).mean(axis=1)]),
        "and whether each model lists it": np.column_stack([scores, scores > 0]),
        "and their products": np.column_stack([scores, *pairs]),
        "and their squares": np.column_stack([scores, scores**2]),
        "squares alone": scores**2,
        "square roots alone": np.sqrt(scores),
        "1 / log2(1 + rank) alone": gains,
        "and 1 / log2(1 + rank)": np.column_stack([scores, gains]),
    }
    return {name: np.ascontiguousarray(columns, np.float32) for name, columns in found.items()}


def own_powers(fitted: Sample, weights: Weights, tastes: Floats) -> Floats:
    """Return (p0, p1), the mean of the best ones of bootstrap replicates."""
    grid = [(power, slope) for power in POWERS for slope in SLOPES]
    found = np.stack([gains_with(fitted, weights, power + slope * tastes) for power, slope in grid])
    draws = np.random.default_rng(0).multinomial(len(tastes), np.full(len(tastes), 1 / len(tastes)), size=REPLICATES)
    goals = [tune._goals(each, fitted, CONFIG, draws.astype(float)) for each in found]
    return np.asarray(np.array(grid)[np.argmax(goals, axis=0)].mean(axis=0))


def gains_with(sample: Sample, weights: Weights, powers: Floats) -> Floats:
    """Return the gains with a power for each pair."""
    held = np.exp(-np.clip(powers, 0.0, 3.0)[sample.pairs] * sample.log_popularity)
    seen = replace(sample, features=(sample.features * held[:, None]).astype(np.float32))
    return tune._gains(seen, Weights(weights.models, 0.0), CONFIG.k)


def tastes_of(root: str, sample: Sample) -> Floats:
    """Return (n_pairs,) the standardised mean log popularity of the known items of each pair's user."""
    segments = read(root, "item_segments", ["item_idx", "n_interactions"])
    segments["popularity"] = np.log1p(segments["n_interactions"])
    split = read(root, "interactions_split", ["user_idx", "item_idx", "split"], None)
    known = split[split["split"] == "train"].merge(segments, on="item_idx").groupby("user_idx")["popularity"].mean()
    tastes = pd.Series(sample.users).map(known).fillna(known.mean()).to_numpy()
    return np.asarray((tastes - tastes.mean()) / tastes.std())


def main(root: str, n_users: int = 2000) -> None:
    """Print a line a way."""
    sample, models = load(root, n_users)
    n, tastes = len(sample.is_tail), tastes_of(root, sample)
    reached: dict[str, list[Floats]] = {}

    def keep(way: str, judged: Sample, gains: Floats) -> None:
        reached.setdefault(way, []).append(np.array([gains.mean(), gains[judged.is_tail].mean()]))

    seen = features(sample)
    for number in range(DRAWS):
        order = np.random.default_rng(number).permutation(n)
        first, second = np.sort(order[: n // 2]), np.sort(order[n // 2 :])
        for way, columns in seen.items():
            fitted, judged = (some(replace(sample, features=columns), part) for part in (first, second))
            weights = search(fitted, [str(place) for place in range(columns.shape[1])], CONFIG)
            keep(way, judged, tune._gains(judged, weights, CONFIG.k))
        fitted, judged = some(sample, first), some(sample, second)
        weights = search(fitted, models, CONFIG)
        power, slope = own_powers(fitted, weights, tastes[first])
        keep("a power of each user's own", judged, gains_with(judged, weights, power + slope * tastes[second]))
    plain = np.array(reached["min-max scores (taken)"]).sum(axis=1)
    print(f"{n} pairs, {int(sample.is_tail.sum())} of the tail; models {', '.join(models)}")
    for way, figures in reached.items():
        goals, (overall, tail) = np.array(figures).sum(axis=1), np.array(figures).mean(axis=0)
        change, won = 100 * (goals.mean() / plain.mean() - 1), int((goals > plain).sum())
        print(f"{way:40} {overall:.4f} / {tail:.4f}  {change:+.1f}% ({won}/{DRAWS})")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
