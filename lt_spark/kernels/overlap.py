"""How many of the hidden words came back: recall and precision of an item's new words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from lt_spark.kernels.bootstrap import interval, partial_sums

_N_REPLICATES = 1_000


@dataclass(frozen=True)
class Share:
    """A mean over items with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def recall(answered: Collection[str], hidden: Collection[str], visible: Collection[str]) -> float:
    """Return |new answered and hidden| / |new hidden|, new: not among the visible words; 0 where nothing new is hidden.

    >>> recall({"pipe", "valve", "brass"}, {"pipe", "fitting", "brass"}, {"brass"})
    0.5
    """
    wanted = set(hidden) - set(visible)
    return len(wanted & set(answered)) / len(wanted) if wanted else 0.0


def precision(answered: Collection[str], hidden: Collection[str], visible: Collection[str]) -> float:
    """Return |new answered and hidden| / |new answered|, new: not among the visible words; 0 where nothing new is said.

    >>> precision({"pipe", "valve", "brass"}, {"pipe", "fitting", "brass"}, {"brass"})
    0.5
    """
    said = set(answered) - set(visible)
    return len(said & set(hidden)) / len(said) if said else 0.0


def mean_share(item_idx: Sequence[int], values: Sequence[float], seed: int) -> Share:
    """Return the mean over items with the 95 % interval of the Poisson bootstrap (1,000 replicates)."""
    if not values:
        return Share(float("nan"), float("nan"), float("nan"), 0)
    column = np.asarray(values, dtype=np.float64)
    bounds = interval(partial_sums(np.asarray(item_idx), column[:, None], _N_REPLICATES, seed))
    return Share(float(column.mean()), float(bounds.low[0]), float(bounds.high[0]), len(values))
