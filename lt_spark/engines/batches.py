"""Which prompts are generated together, and what they begin with in common."""

from collections.abc import Callable, Sequence
from typing import TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")

MIN_COMMON = 16
"""A common beginning of fewer tokens is not worth keeping."""


def batches(
    lengths: Sequence[int], *, n_fixed: int, max_rows: int, max_tokens: int, sort: bool = True
) -> list[list[int]]:
    """Part rows into batches whose padded tokens fit a budget.

    Args:
        lengths: tokens of each row, those of the common beginning left out.
        n_fixed: tokens that every row has besides: the common beginning and the room for the answer.
        max_rows: most rows of a batch.
        max_tokens: most padded tokens of a batch; a row that is longer alone is a batch of its own.
        sort: whether rows of like length go together, the longest first, so that memory runs out at once or never.

    Returns:
        Positions of the rows, each once.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row]) if sort else range(len(lengths))
    parts: list[list[int]] = []
    longest = 0
    for row in order:
        longest = max(longest, lengths[row])
        fits = parts and len(parts[-1]) < max_rows and (len(parts[-1]) + 1) * (longest + n_fixed) <= max_tokens
        if fits:
            parts[-1].append(row)
        else:
            parts.append([row])
            longest = lengths[row]
    return parts


def n_common(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with in common; 0 where there is no row."""
    if not rows:
        return 0
    # what the first and the last in order share, all share
    first, last = min(rows), max(rows)
    length = min(len(first), len(last))
    return next((at for at in range(length) if first[at] != last[at]), length)


def n_reused(rows: Sequence[list[int]], shared: list[int] | None) -> int:
    """Return how many first tokens' keys and values are to be kept.

    Those of the shared text; the rows' longer common beginning where it is longer by more than chance (fixed
    examples): a beginning that changed from call to call would never be found again.

    Args:
        rows: tokens of each prompt.
        shared: tokens of the text that all prompts begin with; None where they have none in common.

    Returns:
        Tokens, fewer than the shortest row has; 0 where it is not worth it.
    """
    if not rows:
        return 0
    most = min(len(row) for row in rows) - 1
    common = n_common(rows)
    declared = n_common([shared, *rows]) if shared else 0
    reused = common if len(rows) > 1 and common - declared >= MIN_COMMON else declared
    reused = min(reused, most)
    return reused if reused >= MIN_COMMON else 0


def halving(
    rows: list[Row],
    run: Callable[[list[Row]], list[Result]],
    failed: Callable[[Row, str], Result],
    name_of: Callable[[Exception], str],
) -> list[Result]:
    """Run a batch; where it fails, run its halves, until a bad row stands alone.

    Args:
        rows: the batch.
        run: gives as many results as rows, or raises.
        failed: result of a row that failed alone, with the error's name.
        name_of: the error's name; may raise the error again where no row can be blamed.

    Returns:
        A result for each row, in their order.
    """
    try:
        return run(rows)
    except Exception as error:
        name = name_of(error)
    # outside of the handler: the error holds the frames, and they the batch's memory
    if len(rows) == 1:
        return [failed(rows[0], name)]
    half = len(rows) // 2
    return halving(rows[:half], run, failed, name_of) + halving(rows[half:], run, failed, name_of)
