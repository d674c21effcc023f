"""The gate: whether a variant may be used. It looks at valid only."""

from collections.abc import Mapping
from dataclasses import dataclass

from lt_spark.core.config import GateConfig

TAIL, HEAD, ALL = "top20_tail", "top20_head", "all"


@dataclass(frozen=True)
class Difference:
    """NDCG of a model on one segment of valid, beside plain ALS."""

    value: float
    baseline: float
    low: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why."""

    is_accepted: bool
    reason: str


def decide(differences: Mapping[str, Difference], config: GateConfig) -> Verdict:
    """Decide on a variant: as measured, or as ``gate.override`` says, with what was measured in the reason.

    Args:
        differences: NDCG@10 on valid by segment: all, top20_tail, top20_head.
        config: section ``gate``.
    """
    verdict = _measured(differences, config)
    if config.override == "none":
        return verdict
    said = "accepted" if verdict.is_accepted else "refused"
    return Verdict(
        config.override == "accept", f"gate.override is {config.override}; measured: {said}: {verdict.reason}"
    )


def _measured(differences: Mapping[str, Difference], config: GateConfig) -> Verdict:
    """Decide on a variant.

    Accepted when tail NDCG is higher than plain ALS's, the lower 95 % bound of the overall difference is above
    -``max_overall_loss`` of the baseline, and that of the head above -``max_head_loss`` of its baseline. A segment
    without targets binds nobody.

    Args:
        differences: NDCG@10 on valid by segment: all, top20_tail, top20_head.
        config: section ``gate``.
    """
    if ALL not in differences:
        return Verdict(False, "valid has no targets, so nothing was measured")
    failed = []
    tail = differences.get(TAIL)
    if tail is not None and tail.value <= tail.baseline:
        failed.append(f"tail NDCG {tail.value:.4f} is not above plain ALS's {tail.baseline:.4f}")
    for segment, share in ((ALL, config.max_overall_loss), (HEAD, config.max_head_loss)):
        found = differences.get(segment)
        if found is not None and found.low < -share * found.baseline:
            name = "overall" if segment == ALL else "head"
            failed.append(
                f"the lower bound of the {name} difference {found.low:+.4f} is below {-share * found.baseline:+.4f}"
            )
    if failed:
        return Verdict(False, "; ".join(failed))
    overall = differences[ALL]
    gained = f"overall NDCG {overall.value:.4f} against {overall.baseline:.4f}"
    if tail is not None:
        gained += f", tail {tail.value:.4f} against {tail.baseline:.4f}"
    return Verdict(True, gained)
