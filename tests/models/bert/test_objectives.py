"""Which places are guessed, and that no history pays for the padding of another."""

import pytest
import torch

from lt_spark.models.bert import objectives
from lt_spark.models.bert.manifest import PAD
from lt_spark.models.bert.objectives import guessed, hidden_places, parts
from tests.models.bert.test_network import network

HALF = {"mask_share": 0.5, "last_mask_share": 0.0}


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(*rows: list[int], places: int = 7) -> torch.Tensor:
    return torch.tensor([[PAD] * (places - len(row)) + row for row in rows])


def test_causal_guesses_every_next_item_and_no_padding() -> None:
    items = windows([1, 2, 3], [4, 5, 6, 7, 8, 9, 1], [2, 2])
    outputs, targets, weights = guessed(network(), items, torch.ones(items.shape), **HALF, generator=draw())
    assert sorted(targets.tolist()) == sorted([2, 3, 5, 6, 7, 8, 9, 1, 2])
    assert outputs.shape == (9, 8)
    assert weights.tolist() == [1.0] * 9


def test_a_place_without_weight_is_read_and_not_guessed() -> None:
    items, weights = windows([1, 2, 3]), torch.tensor([[0, 0, 0, 0, 1.0, 0.0, 2.0]])
    outputs, targets, kept = guessed(network(), items, weights, **HALF, generator=draw())
    assert (targets.tolist(), kept.tolist()) == ([3], [2.0])
    assert torch.allclose(outputs[0], network()(torch.tensor([[1, 2]]))[0, -1], atol=1e-5)


def test_short_windows_stand_apart_and_padding_before_the_longest_is_left_out() -> None:
    items = windows([1, 2, 3], [1, 2, 3, 4, 5], [1], [4, 3])
    assert [(rows.tolist(), first) for rows, first in parts(items, by_length=True)] == [([0, 2, 3], 4), ([1], 2)]
    assert [(rows.tolist(), first) for rows, first in parts(items, by_length=False)] == [([0, 1, 2, 3], 2)]
    assert [(rows.tolist(), first) for rows, first in parts(windows([1]), by_length=False)] == [([0], 5)]


def test_on_a_cpu_a_short_window_is_read_without_the_padding_of_a_long_one() -> None:
    items, own, read = windows([1, 2, 3], [4, 5, 6, 7, 8, 9, 1]), network(), []
    own.register_forward_pre_hook(lambda _, given: read.append(tuple(given[0].shape)))
    guessed(own, items, torch.ones(items.shape), **HALF, generator=draw())
    assert sorted(read) == [(1, 2), (1, 6)]


@pytest.mark.parametrize("by_length", [True, False])
def test_outputs_are_those_of_the_window_alone_whatever_its_batch(
    by_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objectives, "parts", lambda items, **_: parts(items, by_length=by_length))
    net = network()
    rows = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 1], [2, 2], [3, 1, 2, 5, 6]]
    items = windows(*rows)
    outputs, targets, _ = guessed(net, items, torch.ones(items.shape), **HALF, generator=draw())
    expected = {}
    for row in rows:
        for place, out in enumerate(net(torch.tensor([row[:-1]]))[0]):
            expected.setdefault(row[place + 1], []).append(out)
    for out, target in zip(outputs, targets.tolist(), strict=True):
        assert any(torch.allclose(out, each, atol=1e-5) for each in expected[target])


def test_masked_guesses_the_hidden_places_alone() -> None:
    net, items = network("masked"), windows([1, 2, 3, 4, 5, 6, 7])
    hidden = hidden_places(items, 0.5, 0.0, draw(3))
    outputs, targets, _ = guessed(net, items, torch.ones(items.shape), **HALF, generator=draw(3))
    assert targets.tolist() == items[hidden].tolist()
    assert torch.allclose(outputs, net(items, hidden)[hidden], atol=1e-5)


def test_the_last_place_is_hidden_as_often_as_asked_and_then_alone() -> None:
    items = windows(*[[1, 2, 3, 4, 5]] * 4_000)
    hidden = hidden_places(items, 0.3, 0.25, draw())
    last_alone = hidden[:, -1] & (hidden.sum(1) == 1)
    # a quarter by wish, and of the rest those whose draw hid that place alone: .3 x .7^4, and a fifth of the .7^5 of
    # the rows in which chance hid none
    by_chance = 0.3 * 0.7**4 + 0.7**5 / 5
    assert abs(last_alone.float().mean().item() - (0.25 + 0.75 * by_chance)) < 0.02
    assert hidden_places(items, 0.3, 1.0, draw()).sum(1).eq(1).all()


def test_every_window_has_something_to_guess_and_something_to_read() -> None:
    items = windows(*[[1, 2]] * 500, *[[1, 2, 3, 4, 5, 6, 7]] * 500)
    for share in (0.01, 0.99):
        hidden = hidden_places(items, share, 0.0, draw())
        n_real = (items != PAD).sum(1)
        assert (hidden.sum(1) >= 1).all()
        assert (hidden.sum(1) < n_real).all()
        assert not (hidden & (items == PAD)).any()


def test_a_batch_of_padding_alone_asks_nothing() -> None:
    items = torch.full((1, 7), PAD)
    for objective in ("causal", "masked"):
        outputs, targets, _ = guessed(network(objective), items, torch.zeros(1, 7), **HALF, generator=draw())
        assert outputs.shape == (0, 8)
        assert len(targets) == 0


def test_both_losses_read_the_same_weights_and_the_causal_one_counts_its_share() -> None:
    net, items = network("masked"), windows([1, 2, 3, 4], [5, 6, 7, 8, 9, 1, 2])
    weights = torch.ones(items.shape)
    weights[1, -1] = 3.0
    masked = guessed(net, items, weights, **HALF, generator=draw(3))
    outputs, targets, kept = guessed(net, items, weights, **HALF, causal_share=0.5, generator=draw(3))
    follows = sorted([2, 3, 4, 6, 7, 8, 9, 1, 2])
    assert sorted(targets.tolist()) == sorted(masked[1].tolist() + follows)
    assert float(kept.sum()) == float(masked[2].sum()) + 0.5 * (8 + 3)
    # the last event, guessed from all before it: nothing of it is read
    place = [at for at, weight in enumerate(kept.tolist()) if weight == 1.5]
    assert [targets[at].item() for at in place] == [2]
    before = net(torch.tensor([[5, 6, 7, 8, 9, 1, 0]]), causal=True)[0, -2]
    assert torch.allclose(outputs[place[0]], before, atol=1e-5)


def test_a_causal_network_is_not_changed_by_the_share() -> None:
    net, items = network(), windows([1, 2, 3])
    one, other = (guessed(net, items, torch.ones(items.shape), **HALF, causal_share=share, generator=draw())
                  for share in (0.0, 2.0))  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
