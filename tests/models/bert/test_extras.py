"""What may be added to the loss: it does what its formula says, and nothing where it is off."""

import math
from pathlib import Path

import pytest
import torch

from lt_spark.models.bert.extras import adversarial_step, contrastive_loss, perturbed, popularity_adjustment
from lt_spark.models.bert.loss import full_softmax
from lt_spark.models.bert.train import train
from tests.models.bert.small_export import SmallExport, losses
from tests.models.bert.test_network import network


def test_the_adjustment_is_the_log_of_the_share_and_items_without_events_count_half() -> None:
    found = popularity_adjustment(torch.tensor([6.0, 1.5, 0.0]), 2.0)
    assert found.tolist() == pytest.approx([2 * math.log(6 / 8), 2 * math.log(1.5 / 8), 2 * math.log(0.5 / 8)])


def test_adjusted_scores_leave_what_popularity_says_out_of_what_is_learnt() -> None:
    # one place, two items seen 9 to 1: the plain optimum scores them log 9 apart, the adjusted one alike
    counts, targets = torch.tensor([9.0, 1.0]), torch.tensor([0] * 9 + [1])
    for strength, expected in ((0.0, math.log(9)), (1.0, 0.0), (0.5, math.log(9) / 2)):
        scores = torch.zeros(1, 2, requires_grad=True)
        optimiser = torch.optim.LBFGS([scores], max_iter=100)

        def closure(scores=scores, optimiser=optimiser, strength=strength) -> torch.Tensor:
            optimiser.zero_grad()
            adjustment = popularity_adjustment(counts, strength)
            loss = full_softmax(scores.expand(10, 2), torch.eye(2), targets, torch.ones(10), adjustment)
            loss.backward()
            return loss

        optimiser.step(closure)
        assert float((scores[0, 0] - scores[0, 1]).detach()) == pytest.approx(expected, abs=1e-3)


def test_views_of_one_window_are_told_from_others() -> None:
    net = network("causal", hides=True)
    same = torch.tensor([[1, 2, 3, 4, 5, 6, 7]] * 4)
    apart = torch.tensor([[1] * 7, [3] * 7, [5] * 7, [9] * 7])
    ones = torch.ones(4, 7)
    alike = contrastive_loss(net, same, ones, torch.Generator().manual_seed(0))
    # views of equal windows cannot be told: no better than chance among 7 others
    assert float(alike.detach()) / 4 > 0.8 * math.log(7)
    assert float(contrastive_loss(net, apart, ones, torch.Generator().manual_seed(0)).detach()) < float(alike.detach())
    assert float(contrastive_loss(net, same[:1], ones[:1], torch.Generator())) == 0.0
    halved = contrastive_loss(net, same, ones / 2, torch.Generator().manual_seed(0))
    assert float(halved.detach()) == pytest.approx(float(alike.detach()) / 2, rel=1e-5)


def test_a_perturbation_has_the_length_asked_and_goes_again() -> None:
    rows = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    rows.grad = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    before = rows.detach().clone()
    with perturbed(rows, 0.5):
        assert torch.allclose(rows, before + 0.5 * rows.grad / 5.0)
    assert torch.allclose(rows, before)
    rows.grad = torch.zeros(2, 2)
    with perturbed(rows, 0.5):
        assert torch.equal(rows, before)


def test_the_adversarial_gradient_is_that_of_the_moved_rows() -> None:
    rows = torch.nn.Parameter(torch.tensor([2.0]))

    def backward() -> None:
        (rows**2).sum().backward()

    backward()
    adversarial_step(rows, 0.0, backward)
    assert rows.grad.tolist() == [4.0]
    adversarial_step(rows, 0.5, backward)
    assert rows.grad.tolist() == [4.0 + 2 * 2.5]


@pytest.mark.parametrize("changes", [{"logit_adjustment": 0.5}, {"contrastive": 0.1}, {"adversarial": 0.1}])
@pytest.mark.parametrize("n_items", [50_000, pytest.param(5, marks=pytest.mark.slow)])
def test_each_learns_repeats_itself_and_differs_from_the_plain_one(
    tmp_path: Path, changes: dict[str, float], n_items: int
) -> None:
    export = SmallExport(tmp_path).write()
    options = {"n_epochs": 2, "max_full_softmax_items": n_items, "n_negatives": 8}
    plain, one, other = (
        losses(train(export.task(name, **options, **more)))
        for name, more in (("p", {}), ("a", changes), ("b", changes))
    )
    assert one == other
    assert one != plain
    assert all(math.isfinite(loss) for loss in one)
