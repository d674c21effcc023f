"""The losses: torch's own for the whole softmax, and the sampled one against it."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from lt_spark.models.bert import loss as losses
from lt_spark.models.bert.loss import drawing_chances, full_softmax, sampled_softmax

N, D, ITEMS = 40, 6, 30


def made(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(N, D, generator=draw, requires_grad=True)
    items = torch.randn(ITEMS, D, generator=draw, requires_grad=True)
    targets = torch.randint(0, ITEMS, (N,), generator=draw)
    return outputs, items, targets, torch.rand(N, generator=draw) + 0.1


def test_full_softmax_is_the_weighted_sum_of_torchs() -> None:
    outputs, items, targets, weights = made()
    expected = sum(
        weights[row] * cross_entropy((outputs[row] @ items.T).unsqueeze(0), targets[row : row + 1]) for row in range(N)
    )
    found = full_softmax(outputs, items, targets, weights)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


@pytest.mark.parametrize("n_rows", [7, N, 2 * N])
@pytest.mark.parametrize("is_adjusted", [False, True])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_loss_and_gradient_are_torchs_whatever_the_chunks(
    monkeypatch: pytest.MonkeyPatch, n_rows: int, is_adjusted: bool, on_gpu: bool
) -> None:
    outputs, items, targets, weights = made()
    adjustment = torch.linspace(-2, 1, ITEMS) if is_adjusted else None
    scores = outputs @ items.T + (adjustment if adjustment is not None else 0)
    whole = (cross_entropy(scores, targets, reduction="none") * weights).sum()
    # what comes after it has a share in the gradient too
    expected = torch.autograd.grad(3 * whole, (outputs, items))
    monkeypatch.setattr(losses, "_CHUNK_SCORES", n_rows * ITEMS)
    monkeypatch.setattr(losses, "_CPU_SCORES", n_rows * ITEMS)
    monkeypatch.setattr(losses, "_CPU_ROWS", 1)
    way = losses._in_chunks if on_gpu else full_softmax
    found = way(outputs, items, targets, weights, adjustment)
    assert float(found.detach()) == pytest.approx(float(whole.detach()), rel=1e-6)
    for one, other in zip(torch.autograd.grad(3 * found, (outputs, items)), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_scores_far_apart_are_no_overflow() -> None:
    outputs, items = torch.tensor([[300.0], [-300.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    found = full_softmax(outputs, items, torch.tensor([0, 0]), torch.ones(2))
    assert float(found.detach()) == pytest.approx(600)
    assert torch.autograd.grad(found, outputs)[0].flatten().tolist() == pytest.approx([0, -2])


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_numbers_of_half_size_give_gradients_of_their_own_kind(number_format: torch.dtype) -> None:
    outputs, items, targets, weights = made()
    with torch.autocast("cpu", torch.bfloat16, enabled=number_format == torch.bfloat16):
        found = full_softmax(outputs, items.to(number_format), targets, weights)
    assert found.dtype == torch.float32
    by_outputs, by_items = torch.autograd.grad(found, (outputs, items))
    assert by_outputs.dtype == by_items.dtype == torch.float32
    expected = torch.autograd.grad(full_softmax(outputs, items, targets, weights), (outputs, items))
    assert torch.allclose(by_outputs, expected[0], atol=0.05) and torch.allclose(by_items, expected[1], atol=0.05)


def test_no_places_are_no_loss_and_a_gradient_of_zeros() -> None:
    outputs, items, targets, weights = made()
    total = full_softmax(outputs[:0], items, targets[:0], weights[:0])
    assert float(total.detach()) == 0
    assert torch.equal(torch.autograd.grad(total, items)[0], torch.zeros_like(items))


def mean_drawn_gradient(chances: torch.Tensor, sign: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean gradient by the outputs over many draws, and the whole softmax's."""
    outputs, items, targets, weights = made(3)
    (expected,) = torch.autograd.grad(full_softmax(outputs, items, targets, weights), outputs)
    draw, total, n_draws, m = torch.Generator().manual_seed(5), torch.zeros_like(outputs), 100, 2_000
    for _ in range(n_draws):
        negatives = torch.multinomial(chances, m, replacement=True, generator=draw)
        # the correction is subtracted; sign -1 adds it
        log_q = torch.log(chances[negatives]) * sign + (1 - sign) / 2 * -2 * torch.log(torch.tensor(float(m)))
        drawn = sampled_softmax(outputs, items[targets], items[negatives], targets, negatives, weights, log_q.float())
        total += torch.autograd.grad(drawn, outputs)[0]
    return total / n_draws, expected


def test_the_drawn_softmax_has_the_whole_ones_gradient_and_the_wrong_sign_has_not() -> None:
    chances = torch.linspace(1, 6, ITEMS).double()
    chances = chances / chances.sum()
    mean, expected = mean_drawn_gradient(chances, 1.0)
    assert (mean - expected).norm() / expected.norm() < 0.05
    wrong, _ = mean_drawn_gradient(chances, -1.0)
    assert (wrong - expected).norm() / expected.norm() > 0.15


def test_a_drawn_target_is_no_negative_of_its_own_row() -> None:
    outputs, items, targets, weights = made()
    negatives = torch.full((4,), int(targets[0]))
    log_q = torch.zeros(4)
    own = outputs[:1], items[targets[:1]], items[negatives], targets[:1], negatives, weights[:1], log_q
    assert float(sampled_softmax(*own).detach()) == pytest.approx(0.0, abs=1e-6)


def test_chances_are_half_by_events_half_even() -> None:
    found = drawing_chances(torch.tensor([6.0, 2.0, 0.0, 0.0]))
    assert found.tolist() == pytest.approx([0.5 * 6 / 8 + 0.125, 0.5 * 2 / 8 + 0.125, 0.125, 0.125])
    assert drawing_chances(torch.zeros(4)).tolist() == [0.25] * 4
