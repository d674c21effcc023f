"""What a wave of answers came to, and what the whole stage reports."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from lt_spark.core.errors import EngineError
from lt_spark.enrich.gate import CHECK_NAMES

_STATUSES = ("accepted", "fallback", "refused", "failed")
MAX_WAVES = 200
"""A wave's MERGE reads the keys that are there: so many waves at most keep a stage's cost linear."""
MIN_FAILED = 8
"""So many failures and nothing else are the engine's fault, not the items'."""


def wave_totals() -> list[Column]:
    """Return the aggregates over ``silver.enrichment_staging`` that one job answers.

    Rows that share an input bear the tokens that were spent once: only those whose ``place`` among them is 1 count.
    """
    once = F.when(F.col("place") == 1, 1).otherwise(0)
    counts = {f"status_{name}": F.sum(F.when(F.col("status") == name, 1).otherwise(0)) for name in _STATUSES}
    failed = {
        f"check_{name}": F.sum(F.when(F.array_contains("checks", name), once).otherwise(0)) for name in CHECK_NAMES
    }
    totals: dict[str, Column] = {
        "items": F.count(F.lit(1)),
        "inputs": F.sum(once),
        "asked": F.sum(F.when(F.col("is_asked"), once).otherwise(0)),
        "tries": F.sum(F.col("n_tries") * once),
        "prompt_tokens": F.sum(F.col("n_prompt_tokens") * once),
        "output_tokens": F.sum(F.col("n_output_tokens") * once),
        "engine_seconds": F.sum(F.col("seconds") * once),
        "workers": F.count_distinct(F.when(F.col("is_asked"), F.col("worker"))),
        "loads_in_a_worker": F.max("n_loads"),
        "load_seconds": F.max("load_s"),
        **counts,
        **failed,
    }
    return [F.coalesce(column, F.lit(0)).cast("double").alias(name) for name, column in totals.items()]


@dataclass
class Tally:
    """The sum over a stage's waves."""

    totals: Counter[str] = field(default_factory=Counter)
    workers: float = 0.0
    loads_in_a_worker: float = 0.0
    load_seconds: float = 0.0
    seconds: float = 0.0

    def add(self, wave: dict[str, Any], seconds: float) -> None:
        """Add a wave's totals.

        Raises:
            EngineError: where nothing but failures came back.
        """
        wave = dict(wave)
        self.workers = max(self.workers, wave.pop("workers"))
        self.loads_in_a_worker = max(self.loads_in_a_worker, wave.pop("loads_in_a_worker"))
        self.load_seconds = max(self.load_seconds, wave.pop("load_seconds"))
        self.totals.update(wave)
        self.seconds += seconds
        if wave["items"] == wave["status_failed"] >= MIN_FAILED:
            raise EngineError(
                f"all {wave['items']:.0f} answers of a wave failed: the engine does not answer. The reasons stand in "
                "silver.enrichment_staging (column reason). Mend it, and run the same command again: what is done is "
                "kept, and these rows are asked again."
            )

    @property
    def tokens_per_s(self) -> float:
        """Tokens read and written a second of the waves, loading aside."""
        tokens = self.totals["prompt_tokens"] + self.totals["output_tokens"]
        return float(tokens / max(self.seconds - self.load_seconds, 1e-9))

    @property
    def accepted_share(self) -> float:
        """Share of the items whose text was accepted."""
        return float(self.totals["status_accepted"] / max(self.totals["items"], 1))

    def measures(self) -> dict[str, float]:
        """Return the rows of ``silver.enrichment_report``: what each check let pass, counts, tokens, seconds, loads."""
        judged = self.totals["inputs"]
        found = {name: float(value) for name, value in self.totals.items() if not name.startswith("check_")}
        found |= {f"passed_{name}": float(judged - self.totals[f"check_{name}"]) for name in CHECK_NAMES}
        return found | {
            "seconds": self.seconds,
            "tokens_per_s": self.tokens_per_s,
            "accepted_share": self.accepted_share,
            "workers": self.workers,
            "loads_in_a_worker": self.loads_in_a_worker,
            "load_seconds": self.load_seconds,
        }


def time_left(done: int, total: int, started: float) -> float:
    """Return the seconds left at the rate since ``started`` (monotonic); 0 where nothing is done yet."""
    return (time.monotonic() - started) / done * (total - done) if done else 0.0
