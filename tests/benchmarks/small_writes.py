"""What a small write costs in a local session, by settings of Spark and Delta.

    python -m tests.benchmarks.small_writes [KEY=VALUE ...]

Writes and reads tables of 1,000 rows as the stages do: six rounds of twelve writes, twelve reads and four rows in
``silver.stage_runs``, the first of them with a cold Java. Prints a line a round: seconds of the clock, and of all
processes' CPU. Then, with a warm Java, twelve new tables, in turn made with their rows and made empty before they are
written: seconds a table of either way. Each KEY=VALUE stands in for a setting of the local session; compare two runs on
a machine that does nothing else.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lt_spark.core import session
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.runs import record_stage
from lt_spark.core.storage import Storage

ROUNDS, TIMES, N_ROWS, NEW_TABLES = 6, 4, 1_000, 12


def _items(numbers: DataFrame) -> DataFrame:
    return numbers.select(
        F.col("id").cast("int").alias("item_idx"),
        F.col("id").alias("n_interactions"),
        F.col("id").cast("int").alias("popularity_rank"),
        F.lit("head").alias("segment"),
        F.lit("head").alias("segment_top20"),
    )


def one_round(storage: Storage) -> None:
    """Write two folds of a table, a table without folds, and a row that says that a stage is done; read them."""
    numbers = storage.spark.range(N_ROWS)
    items = _items(numbers)
    users = numbers.select(F.col("id").cast("int").alias("user_idx"), F.col("id").cast("string").alias("user_id"))
    for _ in range(TIMES):
        for fold in ("valid", "test"):
            storage.write(t.ITEM_SEGMENTS, items.withColumn("fold", F.lit(fold)), fold)
            storage.read(t.ITEM_SEGMENTS, fold).count()
        storage.write(t.USERS, users)
        storage.read(t.USERS).count()
        record_stage(storage, "segment", "valid", "key", 1.0, {})


def new_tables(spark: SparkSession, folder: str) -> tuple[float, float]:
    """Return the seconds that a new table takes: made with its rows, and made empty first."""
    seconds = [0.0, 0.0]
    for number in range(2 * NEW_TABLES):
        config = Config.model_validate({"tables": {"root": f"{folder}/{number}"}, "files": {"root": folder}})
        storage = Storage(spark, config, "r1")
        storage.write(t.USERS, spark.createDataFrame([], t.USERS.schema))  # of the first table more is looked at
        started = time.monotonic()
        if number % 2:
            storage.delta(t.ITEM_SEGMENTS)
        storage.write(t.ITEM_SEGMENTS, _items(spark.range(N_ROWS)).withColumn("fold", F.lit("valid")), "valid")
        seconds[number % 2] += time.monotonic() - started
    return seconds[0] / NEW_TABLES, seconds[1] / NEW_TABLES


def main(argv: Sequence[str]) -> int:
    """Read the settings, run, print; return the exit code."""
    for setting in argv:
        key, _, value = setting.partition("=")
        session.LOCAL_DEFAULTS[key] = value
    with tempfile.TemporaryDirectory(prefix="lt-spark-writes-") as folder:
        config = Config.model_validate({"tables": {"root": f"{folder}/t"}, "files": {"root": f"{folder}/f"}})
        spark = session.start_session(config, "lt-spark small writes")
        storage = Storage(spark, config, "r1")
        for number in range(ROUNDS):
            started, before = time.monotonic(), _cpu_seconds()
            one_round(storage)
            sys.stdout.write(
                f"round {number}: {time.monotonic() - started:.1f} s, {_cpu_seconds() - before:.1f} s of CPU\n"
            )
        with_rows, empty_first = new_tables(spark, f"{folder}/new")
        sys.stdout.write(
            f"a new table with its rows: {with_rows:.2f} s; made empty first: {empty_first:.2f} s, "
            f"{empty_first / with_rows:.2f} times\n"
        )
    return 0


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process's group: Spark's Java is one of it."""
    total, group, ticks = 0.0, os.getpgrp(), os.sysconf("SC_CLK_TCK")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[2]) == group:
                total += (int(fields[11]) + int(fields[12])) / ticks
    return total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
