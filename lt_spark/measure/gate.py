"""The gate: whether a variant may be used. It looks at valid only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lt_spark.core.config import GateConfig
from lt_spark.core.config_groups import ACTIVITY

_NAMED = 3
"""So many groups a refusal names."""
TAIL, HEAD, ALL = "top20_tail", "top20_head", "all"


@dataclass(frozen=True)
class Difference:
    """NDCG of a model on one segment of valid, beside plain ALS."""

    value: float
    baseline: float
    low: float


@dataclass(frozen=True)
class GroupDifference:
    """NDCG of a model on a group of users, against plain ALS.

    Attributes:
        group_by: the grouping.
        group: the group.
        baseline: NDCG of plain ALS.
        difference: the model's minus that.
        low: lower 95 % bound of it.
        high: upper 95 % bound of it.
        is_binding: whether ``gate.max_group_loss`` protects the group.
    """

    group_by: str
    group: str
    baseline: float
    difference: float
    low: float
    high: float
    is_binding: bool = True

    @property
    def is_certain_loss(self) -> bool:
        """Whether even the upper bound is a loss."""
        return self.high < 0

    @property
    def users(self) -> str:
        """``light users``, or ``users of age 18-25``."""
        text = f"{self.group} users" if self.group_by == ACTIVITY else f"users of {self.group_by} {self.group}"
        return " ".join(text.split())  # a column's name may have line breaks

    def __str__(self) -> str:
        """Return ``light users -0.0031 [-0.0052, -0.0010]``."""
        return f"{self.users} {self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why."""

    is_accepted: bool
    reason: str


def group_differences(rows: Iterable[Mapping[str, Any]], binding: Sequence[str]) -> list[GroupDifference]:
    """Return what :func:`decide` looks at.

    Args:
        rows: rows of ``silver.group_metrics``: one model on fold valid at one k, without ``change``.
        binding: the groupings that ``gate.max_group_loss`` protects.
    """
    return [
        GroupDifference(
            row["group_by"],
            row["group"],
            row["baseline_value"],
            row["difference"],
            row["difference_low"],
            row["difference_high"],
            row["group_by"] in binding,
        )
        for row in rows
    ]


def loses_most(groups: Sequence[GroupDifference]) -> GroupDifference | None:
    """Return the group with the largest loss, of those whose loss is certain where there are any; None: none loses."""
    losers = [group for group in groups if group.difference < 0]
    return min(losers, key=lambda group: (not group.is_certain_loss, group.difference), default=None)


def decide(
    differences: Mapping[str, Difference], config: GateConfig, groups: Sequence[GroupDifference] = ()
) -> Verdict:
    """Decide on a variant: as measured, or as ``gate.override`` says, with what was measured in the reason.

    Whatever is decided, the reason names the group that loses most.

    Args:
        differences: NDCG@10 on valid by segment: all, top20_tail, top20_head.
        config: section ``gate``.
        groups: the same by group of users.
    """
    verdict = _measured(differences, config, groups)
    loser = loses_most(groups)
    if loser is not None:
        chance = "" if loser.is_certain_loss else ", which may be chance"
        verdict = Verdict(verdict.is_accepted, f"{verdict.reason}; loses most: {loser}{chance}")
    if config.override == "none":
        return verdict
    said = "accepted" if verdict.is_accepted else "refused"
    return Verdict(
        config.override == "accept", f"gate.override is {config.override}; measured: {said}: {verdict.reason}"
    )


def robbed(verdict: Verdict, model_name: str, groups: Sequence[GroupDifference]) -> str:
    """Return what the person who runs it should know of a model that takes from some users for certain, or nothing."""
    losers = [group for group in groups if group.is_certain_loss]
    loser = loses_most(losers)
    if loser is None:
        return ""
    more = f", the most of {len(losers)} groups" if len(losers) > 1 else ""
    said = "accepted" if verdict.is_accepted else "refused"
    return (
        f"{model_name} ({said}) takes from some users on valid: NDCG of {loser} against plain ALS{more}. "
        "gate.max_group_loss can refuse that; silver.group_metrics has every group"
    )


def _measured(differences: Mapping[str, Difference], config: GateConfig, groups: Sequence[GroupDifference]) -> Verdict:
    """Decide on a variant.

    Accepted when tail NDCG is higher than plain ALS's, the lower 95 % bound of the overall difference is above
    -``max_overall_loss`` of the baseline, and that of the head above -``max_head_loss`` of its baseline. A segment
    without targets binds nobody. Where ``max_group_loss`` is set, no binding group may lose more than that share of
    its baseline for certain: the UPPER bound of its difference must not be below. The upper one, as groups are small
    and there are many: the lower bound of some group is nearly always far below zero by chance, and would refuse
    every method; the upper one refuses where the loss is there even at its best.

    Args:
        differences: NDCG@10 on valid by segment: all, top20_tail, top20_head.
        config: section ``gate``.
        groups: the same by group of users.
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
    failed += _robbed_groups(config.max_group_loss, groups)
    if failed:
        return Verdict(False, "; ".join(failed))
    overall = differences[ALL]
    gained = f"overall NDCG {overall.value:.4f} against {overall.baseline:.4f}"
    if tail is not None:
        gained += f", tail {tail.value:.4f} against {tail.baseline:.4f}"
    return Verdict(True, gained)


def _robbed_groups(share: float | None, groups: Sequence[GroupDifference]) -> list[str]:
    """Return a reason for each of the first few binding groups that lose too much for certain, the worst first."""
    if share is None:
        return []
    lost = [group for group in groups if group.is_binding and group.high < -share * group.baseline]
    lost.sort(key=lambda group: group.difference)
    reasons = [
        f"the upper bound of the difference of {group.users} {group.high:+.4f} is below "
        f"{0.0 - share * group.baseline:+.4f}"
        for group in lost[:_NAMED]
    ]
    return reasons + ([f"and that of {len(lost) - _NAMED} more groups"] if len(lost) > _NAMED else [])
