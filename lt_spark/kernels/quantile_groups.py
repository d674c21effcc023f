"""Groups of users by quantiles of a number, ties together, none too small to be shown."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def quantile_groups(counts: npt.NDArray[Any], tenths: Sequence[int]) -> Ints:
    """Return the quantile group of each distinct value.

    A value's group is the number of cuts q with (users below the value) >= q / 10 x (all users), so a value lies above
    a cut where the least value with at least q / 10 of the users at or below it is smaller. Ties stay together, and a
    value that many users share leaves the groups that it spans empty. Whole numbers throughout: .3 x 10 is exact.

    Args:
        counts: (n,) users at each distinct value, the values ascending.
        tenths: the cuts in tenths, ascending: 1 to 9 for deciles.

    Returns:
        (n,) numbers from 0 to ``len(tenths)``, ascending.
    """
    sizes = np.asarray(counts, dtype=np.int64)
    below = np.cumsum(sizes) - sizes
    return np.searchsorted(np.asarray(tenths, dtype=np.int64) * sizes.sum(), 10 * below, side="right").astype(np.int64)


def joined_groups(groups: npt.NDArray[Any], counts: npt.NDArray[Any], least: int) -> Ints:
    """Join groups with those that follow until each has enough users; what is left at the end joins the last.

    Args:
        groups: (n,) group of each cell, ascending.
        counts: (n,) users of each cell.
        least: users that a group must have; with fewer in all there is one group.

    Returns:
        (n,) numbers from 0, without gaps, ascending.
    """
    joined = np.zeros(len(groups), dtype=np.int64)
    at, size, starts = 0, 0, [0]
    for place in range(len(groups)):
        if place and groups[place] != groups[place - 1] and size >= least:
            at, size = at + 1, 0
            starts.append(place)
        joined[place] = at
        size += int(counts[place])
    if size < least and at:
        joined[starts[-1] :] = at - 1
    return joined
