"""The gate, by hand."""

import pytest

from lt_spark.core.config import GateConfig
from lt_spark.measure.gate import (
    Difference,
    GroupDifference,
    Verdict,
    decide,
    group_differences,
    loses_most,
    robbed,
)

GATE = GateConfig(max_overall_loss=0.02, max_head_loss=0.1)


def differences(overall=(0.06, 0.05, -0.001), tail=(0.03, 0.02, 0.0), head=(0.1, 0.1, -0.01)):
    """Differences of a model that passes: every bound is kept with room."""
    named = {"all": overall, "top20_tail": tail, "top20_head": head}
    return {segment: Difference(*found) for segment, found in named.items() if found is not None}


def test_a_gain_is_accepted_and_told():
    verdict = decide(differences(), GATE)
    assert verdict.is_accepted
    assert verdict.reason == "overall NDCG 0.0600 against 0.0500, tail 0.0300 against 0.0200"


@pytest.mark.parametrize(
    ("low", "is_accepted"),
    [
        (-0.02 * 0.05 + 1e-9, True),
        (-0.02 * 0.05 - 1e-9, False),  # 2 % of the baseline's .05
    ],
)
def test_the_overall_bound_is_a_share_of_the_baseline(low, is_accepted):
    verdict = decide(differences(overall=(0.05, 0.05, low)), GATE)
    assert verdict.is_accepted is is_accepted
    if not is_accepted:
        assert verdict.reason == "the lower bound of the overall difference -0.0010 is below -0.0010"


@pytest.mark.parametrize(("low", "is_accepted"), [(-0.1 * 0.1 + 1e-9, True), (-0.1 * 0.1 - 1e-4, False)])
def test_the_head_has_a_bound_of_its_own(low, is_accepted):
    verdict = decide(differences(head=(0.1, 0.1, low)), GATE)
    assert verdict.is_accepted is is_accepted
    if not is_accepted:
        assert verdict.reason == "the lower bound of the head difference -0.0101 is below -0.0100"


@pytest.mark.parametrize(("value", "is_accepted"), [(0.02 + 1e-9, True), (0.02, False), (0.01, False)])
def test_the_tail_must_gain(value, is_accepted):
    verdict = decide(differences(tail=(value, 0.02, -1.0)), GATE)  # its interval binds nobody
    assert verdict.is_accepted is is_accepted
    if not is_accepted:
        assert verdict.reason == f"tail NDCG {value:.4f} is not above plain ALS's 0.0200"


def test_every_failed_bound_is_named():
    verdict = decide(differences((0.01, 0.05, -0.05), (0.0, 0.02, -0.03), (0.01, 0.1, -0.1)), GATE)
    assert not verdict.is_accepted
    assert verdict.reason.split("; ") == [
        "tail NDCG 0.0000 is not above plain ALS's 0.0200",
        "the lower bound of the overall difference -0.0500 is below -0.0010",
        "the lower bound of the head difference -0.1000 is below -0.0100",
    ]


def test_a_segment_without_targets_binds_nobody():
    assert decide(differences(head=None), GATE).is_accepted
    verdict = decide(differences(tail=None, head=None), GATE)
    assert (verdict.is_accepted, verdict.reason) == (True, "overall NDCG 0.0600 against 0.0500")


def test_nothing_measured_is_refused():
    verdict = decide({}, GATE)
    assert (verdict.is_accepted, verdict.reason) == (False, "valid has no targets, so nothing was measured")
    assert not decide(differences(overall=None), GATE).is_accepted


def test_the_shares_come_from_the_conf():
    loss = differences(overall=(0.05, 0.05, -0.004))  # 8 % of .05
    assert not decide(loss, GateConfig(max_overall_loss=0.07)).is_accepted
    assert decide(loss, GateConfig(max_overall_loss=0.09)).is_accepted


def test_an_override_is_said_beside_what_was_measured() -> None:
    measured = decide({}, GateConfig())
    assert not measured.is_accepted
    verdict = decide({}, GateConfig(override="accept"))
    assert verdict.is_accepted
    assert verdict.reason == f"gate.override is accept; measured: refused: {measured.reason}"


# ---- groups of users


def group(name, difference, low, high, baseline=0.05, group_by="activity", is_binding=True):
    return GroupDifference(group_by, name, baseline, difference, low, high, is_binding)


ROBBED = group("light", -0.0031, -0.0052, -0.0010)
GAINING = group("heavy", 0.04, 0.02, 0.06)
NOISY = group("18-25", -0.02, -0.06, 0.02, group_by="age")


def test_a_method_that_robs_a_group_is_shown_as_such_where_the_gate_may_not_refuse():
    verdict = decide(differences(), GATE, [GAINING, ROBBED])
    assert verdict.is_accepted
    assert verdict.reason == (
        "overall NDCG 0.0600 against 0.0500, tail 0.0300 against 0.0200; "
        "loses most: light users -0.0031 [-0.0052, -0.0010]"
    )
    note = robbed(verdict, "the blend", [GAINING, ROBBED])
    assert note.startswith(
        "the blend (accepted) takes from some users on valid: NDCG of light users -0.0031 [-0.0052, -0.0010] "
        "against plain ALS. gate.max_group_loss can refuse that"
    )


def test_a_method_that_robs_a_group_is_refused_where_the_gate_may():
    gate = GateConfig(max_group_loss=0.0)
    verdict = decide(differences(), gate, [GAINING, ROBBED])
    assert not verdict.is_accepted
    assert verdict.reason == (
        "the upper bound of the difference of light users -0.0010 is below +0.0000; "
        "loses most: light users -0.0031 [-0.0052, -0.0010]"
    )


@pytest.mark.parametrize(
    ("high", "is_accepted"), [(-0.1 * 0.05 + 1e-9, True), (-0.1 * 0.05, True), (-0.1 * 0.05 - 1e-9, False)]
)
def test_the_bound_is_a_share_of_the_groups_own_baseline(high, is_accepted):
    gate = GateConfig(max_group_loss=0.1)
    assert decide(differences(), gate, [group("light", -0.02, -0.05, high)]).is_accepted is is_accepted


def test_a_loss_that_may_be_chance_refuses_nobody():
    gate = GateConfig(max_group_loss=0.0)
    verdict = decide(differences(), gate, [GAINING, NOISY])
    assert verdict.is_accepted
    assert verdict.reason.endswith("; loses most: users of age 18-25 -0.0200 [-0.0600, +0.0200], which may be chance")
    assert robbed(verdict, "the blend", [GAINING, NOISY]) == ""


def test_a_certain_loss_is_named_before_a_larger_one_that_may_be_chance():
    assert loses_most([NOISY, ROBBED, GAINING]) is ROBBED
    assert loses_most([NOISY, GAINING]) is NOISY
    assert loses_most([GAINING]) is None
    assert loses_most([]) is None
    worse = group("medium", -0.004, -0.006, -0.002)
    assert "light" not in robbed(Verdict(True, ""), "als", [ROBBED, worse])
    assert "medium users -0.0040 [-0.0060, -0.0020] against plain ALS, the most of 2 groups" in robbed(
        Verdict(False, ""), "als", [ROBBED, worse]
    )


def test_a_group_that_does_not_bind_is_named_all_the_same():
    free = group("5-9", -0.03, -0.05, -0.01, group_by="history_length", is_binding=False)
    verdict = decide(differences(), GateConfig(max_group_loss=0.0), [free, GAINING])
    assert verdict.is_accepted
    assert verdict.reason.endswith("; loses most: users of history_length 5-9 -0.0300 [-0.0500, -0.0100]")


def test_of_many_groups_the_worst_three_are_named():
    lost = [group(f"g{n}", -0.001 * n, -0.1, -0.0001, group_by="country") for n in range(1, 6)]
    reasons = decide(differences(), GateConfig(max_group_loss=0.0), lost).reason.split("; ")
    assert [reason.split(" ")[10] for reason in reasons[:3]] == ["g5", "g4", "g3"]
    assert reasons[3] == "and that of 2 more groups"


def test_a_group_whose_interval_is_not_known_binds_nobody():
    nobody = group("light", -0.01, float("nan"), float("nan"))
    assert decide(differences(), GateConfig(max_group_loss=0.0), [nobody]).is_accepted


def test_an_override_keeps_who_loses_in_the_reason():
    gate = GateConfig(max_group_loss=0.0, override="accept")
    verdict = decide(differences(), gate, [ROBBED])
    assert verdict.is_accepted
    assert verdict.reason.startswith("gate.override is accept; measured: refused: the upper bound of the difference of")
    assert verdict.reason.endswith("loses most: light users -0.0031 [-0.0052, -0.0010]")


def test_rows_of_the_table_become_what_the_gate_looks_at():
    row = {"group_by": "age", "group": "60+", "baseline_value": 0.1, "difference": -0.02}
    row |= {"difference_low": -0.03, "difference_high": -0.01}
    (free,), (bound,) = group_differences([row], ["activity"]), group_differences([row], ["activity", "age"])
    assert (free.is_binding, bound.is_binding) == (False, True)
    assert bound == GroupDifference("age", "60+", 0.1, -0.02, -0.03, -0.01)
