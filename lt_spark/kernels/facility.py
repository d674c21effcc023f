"""Which few items stand for many: greedy facility location."""

import numpy as np
import numpy.typing as npt


def facility_location(vectors: npt.NDArray[np.float32], n: int) -> list[int]:
    """Choose n items so that each item is as near as can be to one of them.

    Greedy: each choice adds most to the sum, over all items, of the similarity to the nearest chosen one; at least
    1 - 1/e of the best possible (Nemhauser, Wolsey and Fisher 1978). Time n m², memory m² for m items.

    Args:
        vectors: (m, d), normalised: similarity is the inner product; below 0 it counts as 0.
        n: how many are wanted; may exceed m.

    Returns:
        Positions in the order of choice, the best one first; of equals the first.

    Examples:
        >>> near = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=np.float32)
        >>> facility_location(near, 2)
        [0, 2]
    """
    similarity = np.maximum(vectors @ vectors.T, 0.0)
    best = np.zeros(len(vectors), dtype=np.float32)
    chosen: list[int] = []
    for _ in range(min(n, len(vectors))):
        total = np.maximum(similarity, best).sum(axis=1, dtype=np.float64)
        total[chosen] = -1.0
        chosen.append(int(total.argmax()))
        best = np.maximum(best, similarity[chosen[-1]])
    return chosen
