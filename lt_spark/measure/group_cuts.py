"""How the users of a grouping are cut into groups, and what the groups are called. Plain pandas, no Spark."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lt_spark.core.config_groups import ACTIVITY, CHANGE, HISTORY_LENGTH, TAIL_TASTE
from lt_spark.kernels.quantile_groups import Ints, joined_groups, quantile_groups

UNKNOWN, OTHER = "unknown", "other"
MAX_NAMES = 50
"""A user column has at most so many groups of its own; the smallest of more are ``other``."""
_MANY_NUMBERS = 10
_NUMBER_SHARE = 0.95
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """How a grouping is cut.

    Attributes:
        tenths: the cuts, in tenths of the users.
        number: format of the numbers in a range's name.
        names: names of the groups between the cuts; none: the range of their values.
    """

    tenths: tuple[int, ...]
    number: str
    names: tuple[str, ...] = ()


_DECILES, _QUINTILES = tuple(range(1, 10)), (2, 4, 6, 8)
CUTS = {
    ACTIVITY: Cut((5, 9), ".0f", ("light", "medium", "heavy")),
    HISTORY_LENGTH: Cut(_DECILES, ".0f"),
    TAIL_TASTE: Cut(_DECILES, ".3f"),
    CHANGE: Cut(_DECILES, ".4f"),
}
OF_NUMBERS = Cut(_QUINTILES, ".10g")
"""The cut of a user column with many numbers."""


def cut_cells(cells: pd.DataFrame, least: int) -> pd.DataFrame:
    """Cut one grouping's users into groups.

    lt_spark's own groupings are cut by ``value``, as ``CUTS`` says. A user column is cut into quintiles where at least
    95 % of its texts are numbers, of more than ten kinds; else each text is a group.

    Args:
        cells: ``group_by`` (the same in all rows), ``value`` (a number or null), ``text`` (a text or null), ``n``
            (users with both).
        least: users that a group must have; where all users together are fewer, there is one group.

    Returns:
        The cells with ``group`` and ``group_order`` (from 1).
    """
    out, group_by = cells.reset_index(drop=True), str(cells["group_by"].iloc[0])
    counts = out["n"].to_numpy(dtype=np.int64)
    if group_by in CUTS:
        groups, orders = _ranges(out["value"].to_numpy(dtype=float), counts, least, CUTS[group_by], group_by == CHANGE)
    else:
        texts = [None if pd.isna(text) else str(text) for text in out["text"]]
        numbers = np.array([_number(text) for text in texts], dtype=float)
        n_numbers = counts[~np.isnan(numbers)].sum()
        n_known = counts[[text is not None for text in texts]].sum()
        if len(np.unique(numbers[~np.isnan(numbers)])) > _MANY_NUMBERS and n_numbers >= _NUMBER_SHARE * n_known:
            groups, orders = _ranges(numbers, counts, least, OF_NUMBERS)
        else:
            groups, orders = _names(texts, counts, least)
    out["group"], out["group_order"] = groups, orders.astype(np.int32)
    return out


def _number(text: str | None) -> float:
    """Return the number that a text is, to four significant digits; NaN where it is none."""
    if text is None or not _NUMBER.fullmatch(text):
        return float("nan")
    number = float(f"{float(text):.3e}")
    return number if np.isfinite(number) else float("nan")


def _ranges(
    values: Floats, counts: npt.NDArray[np.int64], least: int, cut: Cut, is_change: bool = False
) -> tuple[list[str], Ints]:
    """Return the quantile group of each cell, and its place.

    Users whose value is not known are a group of their own after the others. A group of fewer than ``least`` users is
    joined with its neighbour, and named after all that it holds: "medium and heavy", "18-25 and unknown".
    """
    distinct, cell = np.unique(values, return_inverse=True)  # NaN, where there is one, is the last
    sizes = np.bincount(cell, weights=counts).astype(np.int64)
    is_known = ~np.isnan(distinct)
    raw = np.full(len(distinct), len(cut.tenths) + 1, dtype=np.int64)
    raw[is_known] = quantile_groups(sizes[is_known], cut.tenths)
    if is_change:  # who loses, for whom nothing changes, and who gains are kept apart
        raw += (len(cut.tenths) + 1) * np.sign(distinct).astype(np.int64)
    joined = joined_groups(raw, sizes, least)
    names = [
        _range_name(distinct[joined == group], np.unique(raw[(joined == group) & is_known]), cut)
        for group in range(int(joined.max()) + 1)
    ]
    return [names[group] for group in joined[cell]], joined[cell] + 1


def _range_name(values: Floats, raw: Ints, cut: Cut) -> str:
    known = values[~np.isnan(values)]
    parts = [cut.names[group] for group in raw] if cut.names else [_range(known, cut.number)] if len(known) else []
    return " and ".join(parts + [UNKNOWN] * bool(np.isnan(values).any()))


def _range(values: Floats, number: str) -> str:
    """Return ``3-5``, ``7``, or ``-0.1 to 0.2`` where a hyphen would be taken for a minus."""
    low, high = (format(value + 0.0, number) for value in (values.min(), values.max()))
    if low == high:
        return low
    return f"{low} to {high}" if "-" in low + high or "e" in low + high else f"{low}-{high}"


def _names(texts: list[str | None], counts: npt.NDArray[np.int64], least: int) -> tuple[list[str], Ints]:
    """Return the name of each cell and its place by the number of users; ``other`` for small ones, in the last place.

    ``other`` takes in the smallest name that is left where it is too small itself.
    """
    named = [UNKNOWN if text is None else text for text in texts]
    sizes: dict[str, int] = {}
    for name, n in zip(named, counts, strict=True):
        sizes[name] = sizes.get(name, 0) + int(n)
    kept = sorted((name for name, n in sizes.items() if n >= least), key=lambda name: (-sizes[name], name))[:MAX_NAMES]
    rest = sum(sizes.values()) - sum(sizes[name] for name in kept)
    if 0 < rest < least and kept:
        kept.pop()
    places = {name: place for place, name in enumerate(kept, start=1)}
    places[OTHER] = MAX_NAMES + 1
    groups = [name if name in places else OTHER for name in named]
    return groups, np.array([places[group] for group in groups], dtype=np.int64)
