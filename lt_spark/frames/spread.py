"""Rows spread over the tasks before heavy Python work."""

from pyspark.sql import DataFrame


def spread(rows: DataFrame, *keys: str) -> DataFrame:
    """Return the rows spread over ``spark.sql.shuffle.partitions`` tasks by keys.

    Adaptive execution would else gather what is small in bytes, and so slow in Python, into one task.
    """
    return rows.repartition(int(rows.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1), *keys)
