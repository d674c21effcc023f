"""Scored rows brought into the columns of ``silver.candidates_<model>``."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.tables import BECAUSE, candidates


def as_candidates(rows: DataFrame, model_name: str, fold: str) -> DataFrame:
    """Return the rows with all columns of a candidate table.

    Args:
        rows: (user_idx, item_idx, score, rank) and, where the model explains itself, ``because``.
        model_name: name of the model.
        fold: the fold.
    """
    if "because" not in rows.columns:
        rows = rows.withColumn("because", F.array().cast(BECAUSE.type))
    return rows.select(
        F.lit(fold).alias("fold"),
        F.lit(model_name).alias("model_name"),
        *(name for name in candidates(model_name).column_names if name not in ("fold", "model_name")),
    )
