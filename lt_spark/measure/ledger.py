"""The ledger: what each variant of the settings reached, whether the gate lets it through, and which one is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import GateConfig
from lt_spark.core.config_groups import ACTIVITY
from lt_spark.core.tables import LEDGER
from lt_spark.measure.evaluate import BASELINE
from lt_spark.measure.gate import ALL, HEAD, TAIL, Difference, Verdict, decide, group_differences

MODELS = (BASELINE, "als", "neighbours", "semantic", "lexical", "bert", "text_bert", "blend")
SEGMENTS = (ALL, TAIL, HEAD, "cold")
METRIC_NAMES = ("ndcg", "recall", "tail_share", "coverage", "gini")
OF_BASELINE = Verdict(False, "what the others are measured against")
ACTIVE = ("light", "heavy")
"""Groups of users by activity that stand in the ledger beside the segments, as light_users and heavy_users."""
_GOAL = "ndcg"


@dataclass(frozen=True)
class Judged:
    """A model of a variant, with what the gate says of it.

    Attributes:
        variant: name of the setting.
        model_name: the model.
        verdict: what the gate says.
        goal: overall + tail NDCG on valid, in [0, 2]; a segment without targets adds 0.
    """

    variant: str
    model_name: str
    verdict: Verdict
    goal: float

    @property
    def word(self) -> str:
        """``accepted``, ``refused``, or ``baseline`` for plain ALS itself."""
        if self.model_name == BASELINE:
            return "baseline"
        return "accepted" if self.verdict.is_accepted else "refused"


def judge(
    variant: str,
    valid_ndcg: Sequence[Mapping[str, Any]],
    config: GateConfig,
    valid_groups: Sequence[Mapping[str, Any]] = (),
    binding: Sequence[str] = (),
) -> list[Judged]:
    """Let the gate decide on each model of a variant.

    Args:
        variant: name of the setting.
        valid_ndcg: rows of ``silver.metrics``: NDCG on fold valid at one k, a row a model and segment.
        config: section ``gate``.
        valid_groups: rows of ``silver.group_metrics`` on valid at that k, a row a model and group.
        binding: the groupings that ``gate.max_group_loss`` protects.

    Returns:
        A verdict a model of ``MODELS`` that was measured, in their order.
    """
    judged = []
    for model in MODELS:
        found = {
            str(row["segment"]): Difference(row["value"], row["baseline_value"], row["difference_low"])
            for row in valid_ndcg
            if row["model_name"] == model
        }
        if found:
            groups = group_differences((row for row in valid_groups if row["model_name"] == model), binding)
            verdict = OF_BASELINE if model == BASELINE else decide(found, config, groups)
            goal = sum(found[segment].value for segment in (ALL, TAIL) if segment in found)
            judged.append(Judged(variant, model, verdict, goal))
    return judged


def choose(judged: Sequence[Judged]) -> Judged | None:
    """Return the accepted one with the best overall + tail NDCG on valid, the first of equals; None: none is."""
    accepted = [one for one in judged if one.word == "accepted"]
    return max(accepted, key=lambda one: one.goal, default=None)


def goals(metrics: DataFrame, k: int) -> DataFrame:
    """Return what :func:`judge` looks at: NDCG at ``k`` on valid, a row a model and segment."""
    return metrics.where((F.col("fold") == "valid") & (F.col("metric") == _GOAL) & (F.col("k") == k)).select(
        "model_name", "segment", "value", "baseline_value", "difference_low"
    )


def ledger_rows(
    metrics: DataFrame, groups: DataFrame, judged: Sequence[Judged], k: int, config_hash: str, run_date: date
) -> DataFrame:
    """Return the rows of one variant (``silver.ledger``).

    Args:
        metrics: ``silver.metrics`` of the variant, folds valid and test.
        groups: its ``silver.group_metrics``: NDCG of light and of heavy users.
        judged: what the gate says of the variant's models, at least one.
        k: list length.
        config_hash: hash of the variant's settings.
        run_date: date of the decision (UTC).
    """
    verdicts = metrics.sparkSession.createDataFrame(
        [(one.variant, one.model_name, one.word, one.verdict.reason) for one in judged],
        "variant string, model_name string, verdict string, reason string",
    )
    is_active = (F.col("group_by") == ACTIVITY) & F.col("group").isin(*ACTIVE)
    of_groups = groups.where(is_active).select(
        "*",
        F.concat("group", F.lit("_users")).alias("segment"),
        F.lit(_GOAL).alias("metric"),
    )
    columns = [name for name in LEDGER.column_names if name in metrics.columns]
    wanted = (
        F.col("fold").isin("valid", "test")
        & (F.col("k") == k)
        & F.col("segment").isin(*SEGMENTS)
        & F.col("metric").isin(*METRIC_NAMES)
    )
    return (
        metrics.where(wanted)
        .select(columns)
        .unionByName(of_groups.where(F.col("k") == k).select(columns))
        .join(F.broadcast(verdicts), "model_name")
        .withColumn("config_hash", F.lit(config_hash))
        .withColumn("run_date", F.lit(run_date))
        .select(*LEDGER.column_names)
    )
