"""What a run may spend on the language model, and what it has spent."""

import time
from dataclasses import dataclass, field

from lt_spark.core.config_text import DescribeConfig

_MILLION = 1_000_000


@dataclass
class Budget:
    """A run's budget: items, tokens, money, seconds; None: without limit.

    Attributes:
        price: of a million tokens, read and written.
        expected_tokens: of one item, until the run knows better.
    """

    max_items: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_seconds: float | None = None
    price: float = 0.0
    expected_tokens: float = 1.0
    items: int = 0
    tokens: int = 0
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, section: DescribeConfig, price: float, expected_tokens: float) -> "Budget":
        """Return the budget of the section ``describe``."""
        return cls(section.max_items, section.max_tokens, section.max_cost, section.max_seconds, price, expected_tokens)

    def spend(self, items: int, tokens: int) -> None:
        """Note what a wave took."""
        self.items += items
        self.tokens += tokens

    @property
    def cost(self) -> float:
        """What the tokens so far cost."""
        return self.tokens * self.price / _MILLION

    def items_left(self) -> int | None:
        """Return how many items may be asked yet, by the tokens that an item took so far; None: without limit."""
        # items whose answer was known took none: they say nothing of those to come
        per_item = self.tokens / self.items if self.tokens else self.expected_tokens
        limits = [] if self.max_items is None else [self.max_items - self.items]
        token_limits = [] if self.max_tokens is None else [float(self.max_tokens)]
        if self.max_cost is not None and self.price > 0:
            token_limits.append(self.max_cost / self.price * _MILLION)
        limits += [int((limit - self.tokens) // max(per_item, 1.0)) for limit in token_limits]
        if self.max_seconds is not None and time.monotonic() - self.started >= self.max_seconds:
            limits.append(0)
        return max(0, min(limits)) if limits else None
