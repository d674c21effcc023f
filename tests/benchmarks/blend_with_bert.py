"""The blend with the sequence model against the blend without, on one split, with its interval.

    python -m tests.benchmarks.blend_with_bert -c conf.yaml [--set SECTION.KEY=VALUE] [--without MODEL ...]

evaluates the conf as it is, then with the named models (default: bert) left out of ``blend.models``, in the same
tables: what both share is computed once, each blend is tuned on valid by itself, and test is asked once a blend.
Prints, for folds valid and test, NDCG@10 of both and of each model alone, and the paired difference of the blends by
user with 95 % of the Poisson bootstrap, for all targets and for those of the tail (segment_top20). The tables are left
as the second evaluation made them.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.kernels.bootstrap import interval, partial_sums
from lt_spark.passes import run

SEGMENTS = ("all", "top20_tail")
_K, _REPLICATES = 10, 2_000
Found = dict[tuple[str, str, str], Any]


def measured(spark: Any, config: Config) -> Found:
    """Evaluate; return NDCG@10 by (fold, model, segment) as arrays (users, values), ascending by user."""
    run(spark, config, purpose="evaluate", listener=lambda event: print(f"  {event.stage} {event.text}"[:150]))
    storage = Storage(spark, config)
    weights = storage.read(t.BLEND_WEIGHTS).orderBy("half", "model_name").toPandas()
    print(weights.to_string(index=False), flush=True)
    rows = storage.read(t.USER_METRICS).where((F.col("k") == _K) & F.col("segment").isin(*SEGMENTS))
    chosen = rows.select("fold", "model_name", "segment", "user_idx", "ndcg").toPandas().sort_values("user_idx")
    return {
        key: (own["user_idx"].to_numpy(np.int32), own["ndcg"].to_numpy(float))
        for key, own in chosen.groupby(["fold", "model_name", "segment"])
    }


def told(with_it: Found, without: Found) -> list[str]:
    """Return a row a fold and model."""
    lines = ["| fold | model | all | tail |", "|---|---|---|---|"]
    for fold in ("valid", "test"):
        models = sorted({model for own, model, _ in with_it if own == fold} - {"blend"})
        for name, found in (*((model, with_it) for model in models), ("blend", with_it), ("blend", without)):
            label = "blend without" if found is without else name
            means = (f"{found[fold, name, segment][1].mean():.4f}" for segment in SEGMENTS)
            lines.append(f"| {fold} | {label} | {' | '.join(means)} |")
        cells = [_difference(with_it[fold, "blend", each], without[fold, "blend", each]) for each in SEGMENTS]
        lines.append(f"| {fold} | **with - without** | {' | '.join(cells)} |")
    return lines


def _difference(one: Any, other: Any) -> str:
    users, values = one
    if not np.array_equal(users, other[0]):
        raise SystemExit("the two evaluations measured different users: run both on the same tables and split")
    change = values - other[1]
    bounds = interval(partial_sums(users, change[:, None], _REPLICATES, 42))
    return f"{change.mean():+.4f} [{bounds.low[0]:+.4f}, {bounds.high[0]:+.4f}]"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--without", nargs="+", default=["bert"], metavar="MODEL")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set).config
    spark = start_session(config, "blend with and without")
    with_it = measured(spark, config)
    models = tuple(name for name in config.blend.models if name not in arguments.without)
    blend = config.blend.model_copy(update={"models": models})
    without = measured(spark, config.model_copy(update={"blend": blend}))
    print(*told(with_it, without), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
