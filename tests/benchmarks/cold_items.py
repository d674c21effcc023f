"""Items that nobody used yet: what each model finds of them.

    python -m tests.benchmarks.cold_items DATA_FOLDER [--out FILE] [--set section.key=value]

DATA_FOLDER has a folder a data set, as for floors.py. Whole items are held out (``split.method: cold_items``), each
user's events on them are the targets, and all items are ranked. The configuration is the one that `lt-spark init`
writes, without the sequence model and without neighbours, which know no cold item. Everything is chosen on valid, whose
items are others than test's. Prints a markdown table, each data set's lines as it ends.

As all targets are items that nobody used, who lists such items first gains by that alone, and what is chosen on valid
learns it. So each model is measured a second time on its list without the others: who ranks the unused items best.
Lists are longer than the usual 100 for that: an order by content has one unused item in ten, and of a list too short
fewer than ten would be left. And as the targets lie anywhere in a history, not at its end, all its events speak alike
for content, the newest no louder.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.frames.bootstrap import bootstrap_differences
from lt_spark.frames.known import targets
from lt_spark.frames.user_metrics import user_metrics
from tests.benchmarks.floors import K, init_conf, markdown, markdown_rows, measure, with_interval

OVERRIDES = (
    "split.method=cold_items",
    "blend.models=[als, semantic, lexical, popularity]",
    "candidates.n=500",
    "blend.n=500",
    "content.decay=1.0",
)
MODELS = ("popularity", "als_plain", "als", "semantic", "lexical", "blend")
CONTENT = "semantic"
"""Content alone: what the others are compared with among the unused items."""
HEADS = (
    "data",
    "fold",
    "users",
    "model",
    f"NDCG@{K} [95 %]",
    f"recall@{K} [95 %]",
    f"coverage@{K}",
    f"users with {K} unused items",
    f"NDCG@{K} among them [95 %]",
    f"against {CONTENT} [95 %]",
)


def rows(name: str, data: Path, overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Run one data set; return a line a fold and model."""
    lines = []
    with tempfile.TemporaryDirectory(prefix="lt-spark-cold-") as work:
        config = init_conf(data, Path(work), [*OVERRIDES, *overrides]).config
        spark = start_session(config, "lt-spark cold items")
        for fold, metrics in measure(spark, config).items():
            alone = among_unused(spark, config, fold)
            for model in MODELS:
                ndcg, recall, coverage = (metrics[model, "all", metric] for metric in ("ndcg", "recall", "coverage"))
                figures = [with_interval(ndcg, "value"), with_interval(recall, "value"), f"{coverage['value']:.3f}"]
                found = alone[model]
                figures += [f"{found['full_share']:.1%}", with_interval(found, "value")]
                figures.append("" if model == CONTENT else with_interval(found, "difference", "+"))
                lines.append((name, fold, f"{ndcg['n_users']:,}", model, *figures))
    return lines


def among_unused(spark: SparkSession, config: Config, fold: str) -> dict[str, Mapping[str, Any]]:
    """Return each model's NDCG@10 in its list of unused items alone, against content, and how many users have 10."""
    storage = Storage(spark, config)
    segments, section = storage.read(t.ITEM_SEGMENTS), config.evaluate
    lists = of_unused(_lists(storage), segments, fold).cache()
    wanted = targets(
        storage.read(t.INTERACTIONS_SPLIT), fold, segments, section.recommend_seen, section.max_users, config.core.seed
    )
    users = wanted.select("user_idx").distinct().cache()
    n_users = users.count()
    counts = lists.join(users, "user_idx", "left_semi").groupBy("model_name", "user_idx").count()
    full = counts.where(F.col("count") >= K).groupBy("model_name").agg(F.count("*").alias("n_full")).collect()
    full_share = {row["model_name"]: row["n_full"] / n_users for row in full}
    of_users = user_metrics(lists, wanted, MODELS, [K]).where("segment = 'all'")
    found = bootstrap_differences(of_users, CONTENT, ["ndcg"], n_replicates=section.n_replicates, seed=config.core.seed)
    by_model = {row["model_name"]: row.asDict() for row in found.collect()}
    for frame in (lists, users):
        frame.unpersist()
    return {model: {**row, "full_share": full_share.get(model, 0.0)} for model, row in by_model.items()}


def of_unused(lists: DataFrame, item_segments: DataFrame, fold: str) -> DataFrame:
    """Return a fold's lists without the items that it knows events of, ranked from 1 again."""
    of_fold = F.col("fold") == fold
    unused = item_segments.where(of_fold & (F.col("n_interactions") == 0)).select("item_idx")
    of_list = Window.partitionBy("model_name", "user_idx").orderBy("rank")
    kept = lists.where(of_fold).join(unused, "item_idx", "left_semi")
    return kept.withColumn("rank", F.row_number().over(of_list))


def _lists(storage: Storage) -> DataFrame:
    """Return (fold, model_name, user_idx, item_idx, score, rank) of all models."""
    columns = ["fold", "user_idx", "item_idx", "score", "rank"]
    tables = {model: t.RECOMMENDATIONS if model == "blend" else t.CANDIDATES[model] for model in MODELS}
    parts = [storage.read(table).select(F.lit(model).alias("model_name"), *columns) for model, table in tables.items()]
    return reduce(DataFrame.unionByName, parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, run, print; return the exit code."""
    parser = argparse.ArgumentParser(description="What each model finds of items that nobody used yet.")
    parser.add_argument("folder", type=Path, help="has a folder a data set, each with interactions.csv and items.csv")
    parser.add_argument("--out", type=Path, help="write the table there too")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    arguments = parser.parse_args(argv)
    folders = sorted(path.parent for path in arguments.folder.glob("*/interactions.csv"))
    if not folders:
        sys.exit(f"{arguments.folder}: expected folders with interactions.csv and items.csv, found none")
    lines: list[tuple[str, ...]] = []
    for folder in folders:
        found = rows(folder.name, folder, arguments.overrides)
        # as each data set ends, for the next may take long or break
        print(markdown(HEADS, found) if not lines else markdown_rows(found), flush=True)
        lines += found
        if arguments.out:
            arguments.out.write_text(markdown(HEADS, lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
