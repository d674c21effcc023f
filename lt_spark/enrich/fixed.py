"""Fixed examples: the same for all items, chosen to stand for the pool, and the prompts that tell their bias."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lt_spark.core.config_text import DescribeConfig
from lt_spark.engines.base import Prompt
from lt_spark.enrich.prompts import ItemText, Pack, example_answer, item_prompt, own_keywords
from lt_spark.kernels.facility import facility_location
from lt_spark.kernels.written import Written

MOST_CONSIDERED = 4_096
"""Most known items of the pool that examples are chosen from: the choice takes their number squared."""
N_OTHERS = 64
"""Items whose prompts tell what the model says of any item."""
_COMMON_SHARE = 0.5


@dataclass(frozen=True)
class FixedExamples:
    """Examples for all items.

    Attributes:
        item_idx: which they are.
        items: what is shown of them, in this order.
        answers: their answers: the rarest keyword first, without those that at least half of the pool has.
        others: prompts of other items of the pool with these examples, for the calibration of a model's scores.
    """

    item_idx: tuple[int, ...]
    items: tuple[ItemText, ...]
    answers: tuple[Written, ...]
    others: tuple[Prompt, ...]


def fixed_examples(
    item_idx: npt.NDArray[np.int32],
    items: Sequence[ItemText],
    vectors: npt.NDArray[np.float32],
    pack: Pack,
    section: DescribeConfig,
) -> FixedExamples:
    """Choose examples that stand for the pool: each of its items is near to one of them.

    Args:
        item_idx: the pool's items, most known first.
        items: what the catalogue says of them.
        vectors: (items, d), normalised.
        pack: the words of a prompt.
        section: ``describe``.

    Returns:
        ``describe.n_examples`` examples, fewer where the pool is smaller, in the order of choice.
    """
    n = min(len(items), MOST_CONSIDERED)
    chosen = facility_location(vectors[:n], section.n_shown)
    counts = Counter(keyword for item in items[:n] for keyword in own_keywords(section, item))
    examples = tuple(items[place] for place in chosen)
    answers = tuple(
        replace(answer, keywords=_telling(answer.keywords, counts, n))
        for answer in (example_answer(pack, section, item) for item in examples)
    )
    rest = sorted(set(range(n)).difference(chosen))
    spread = [rest[at * len(rest) // N_OTHERS] for at in range(N_OTHERS)] if rest else []
    asked = [_as_asked(items[place], section) for place in dict.fromkeys(spread)]
    others = tuple(item_prompt(pack, section, item, examples, answers) for item in asked)
    return FixedExamples(tuple(int(item_idx[place]) for place in chosen), examples, answers, others)


def _telling(keywords: Sequence[str], counts: Counter[str], n: int) -> tuple[str, ...]:
    """Return keywords, the rarest in the pool first; what half of it is called only where there is nothing else.

    From the special to the general: a model goes on from the title's words, and says less that is true of any item.
    """
    telling = [word for word in keywords if counts[word] < _COMMON_SHARE * n] or keywords
    # of a path of categories (fasteners > screws > wood screws) the last is the most special
    return tuple(sorted(reversed(telling), key=lambda word: counts[word]))


def _as_asked(item: ItemText, section: DescribeConfig) -> ItemText:
    """Return an item of the pool as one that lacks what is asked for."""
    return ItemText(item.title, tuple((name, value) for name, value in item.fields if name in section.input_fields))
