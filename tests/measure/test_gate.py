"""The gate, by hand."""

import pytest

from lt_spark.core.config import GateConfig
from lt_spark.measure.gate import Difference, decide

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
