from math import exp, log
from typing import Any

import pyarrow  # noqa: F401  (before torch)
import pytest
import torch

from lt_spark.models.text_bert.loss import info_nce

# histories along the axes; cosines with the targets are their coordinates
H = torch.eye(2)
T = torch.tensor([[0.8, 0.6], [0.6, 0.8]])


def loss(**changes: Any) -> float:
    given: dict[str, Any] = {
        "histories": H,
        "targets": T,
        "hard": torch.zeros(2, 0, 2),
        "is_masked": torch.zeros(2, 2, dtype=torch.bool),
        "is_hard": torch.zeros(2, 0, dtype=torch.bool),
        "log_q": torch.zeros(2),
        "weights": torch.ones(2),
        "temperature": 0.5,
    }
    return float(info_nce(**(given | changes)))


def ce(own: float, *others: float) -> float:
    """-log softmax of the first of these scores."""
    return -log(exp(own) / (exp(own) + sum(exp(other) for other in others)))


def test_without_correction_it_is_a_softmax_over_the_batch() -> None:
    assert loss() == pytest.approx(ce(1.6, 1.2))
    assert loss(temperature=0.1) == pytest.approx(ce(8.0, 6.0), rel=1e-5)


def test_the_correction_takes_log_q_off_a_score() -> None:
    q = (0.9, 0.1)
    expected = [ce(1.6 - log(0.9), 1.2 - log(0.1)), ce(1.6 - log(0.1), 1.2 - log(0.9))]
    # unequal weights: the two rows mirror each other
    found = loss(log_q=torch.log(torch.tensor(q)), weights=torch.tensor([3.0, 1.0]))
    assert found == pytest.approx((3 * expected[0] + expected[1]) / 4)


def test_a_popular_negative_is_held_down_less_with_the_correction() -> None:
    """Row 0 is of a rare target, column 1 of a popular one: its push on the popular one has to shrink."""

    def push(log_q: torch.Tensor) -> float:
        targets = T.clone().requires_grad_()
        info_nce(
            H,
            targets,
            torch.zeros(2, 0, 2),
            torch.zeros(2, 2, dtype=torch.bool),
            torch.zeros(2, 0, dtype=torch.bool),
            log_q,
            torch.tensor([1.0, 1e-9]),
            0.5,
        ).backward()
        assert targets.grad is not None
        return float(targets.grad[1, 0])

    popular = torch.log(torch.tensor([0.1, 0.9]))
    assert 0 < push(popular) < push(torch.zeros(2))


def test_what_is_masked_is_no_negative() -> None:
    masked = torch.tensor([[False, True], [False, False]])
    assert loss(is_masked=masked) == pytest.approx((0.0 + ce(1.6, 1.2)) / 2)


def test_a_hard_negative_counts_for_its_own_row_and_bears_its_targets_correction() -> None:
    hard = torch.tensor([[[0.9, 0.1]], [[0.0, 0.0]]])
    is_hard = torch.tensor([[True], [False]])
    q = torch.log(torch.tensor([0.25, 0.75]))
    expected = [
        ce(1.6 - log(0.25), 1.2 - log(0.75), 1.8 - log(0.25)),
        ce(1.6 - log(0.75), 1.2 - log(0.25)),
    ]
    assert loss(hard=hard, is_hard=is_hard, log_q=q) == pytest.approx(sum(expected) / 2)


def test_weights_weigh_the_rows() -> None:
    masked = torch.tensor([[False, True], [False, False]])
    assert loss(is_masked=masked, weights=torch.tensor([3.0, 1.0])) == pytest.approx((3 * 0 + 1 * ce(1.6, 1.2)) / 4)


def test_one_row_has_nothing_to_learn_from_and_no_nan() -> None:
    alone = loss(
        histories=H[:1],
        targets=T[:1],
        hard=torch.zeros(1, 0, 2),
        is_masked=torch.zeros(1, 1, dtype=torch.bool),
        is_hard=torch.zeros(1, 0, dtype=torch.bool),
        log_q=torch.zeros(1),
        weights=torch.ones(1),
    )
    assert alone == 0.0
