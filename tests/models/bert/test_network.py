"""What a place may see, what padding does, and what an item's vector is made of."""

import pytest
import torch

from lt_spark.models.bert.manifest import PAD
from lt_spark.models.bert.network import SequenceNetwork, Shape

N_ITEMS, TEXT = 10, 3


def network(objective: str = "causal", length: int = 6, **options: float) -> SequenceNetwork:
    torch.manual_seed(1)
    shape = Shape(objective, N_ITEMS, length, 8, 2, 2, TEXT)
    text = torch.randn(N_ITEMS, TEXT, generator=torch.Generator().manual_seed(2))
    support = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    made = SequenceNetwork(shape, text, support, **options)
    # the random start is so small that differences would drown
    with torch.no_grad():
        made.items.ids.weight.mul_(50)
        made.bert.embeddings.position_embeddings.weight.mul_(50)
    return made.eval()


def test_a_causal_place_does_not_see_what_comes_after() -> None:
    net = network()
    one, other = net(torch.tensor([[1, 2, 3, 4]])), net(torch.tensor([[1, 2, 9, 8]]))
    assert torch.allclose(one[:, :2], other[:, :2], atol=1e-6)
    assert not torch.allclose(one[:, 2:], other[:, 2:], atol=1e-5, rtol=0)


def test_a_masked_place_sees_both_sides_and_not_what_is_hidden() -> None:
    net = network("masked")
    hidden = torch.tensor([[False, True, False]])
    one = net(torch.tensor([[1, 2, 3]]), hidden)
    assert torch.allclose(one, net(torch.tensor([[1, 7, 3]]), hidden), atol=1e-6)
    assert not torch.allclose(one[:, 1], net(torch.tensor([[1, 2, 4]]), hidden)[:, 1], atol=1e-5, rtol=0)
    assert not torch.allclose(one[:, 1], net(torch.tensor([[5, 2, 3]]), hidden)[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_padding_changes_nothing(objective: str) -> None:
    net = network(objective)
    short = torch.tensor([[1, 2, 3]])
    padded = torch.tensor([[PAD, PAD, PAD, 1, 2, 3]])
    assert torch.allclose(net.user_vectors(short), net.user_vectors(padded), atol=1e-5)
    assert torch.isfinite(net(padded)).all()


@pytest.mark.parametrize("objective", ["causal", "masked"])
def test_order_means_something(objective: str) -> None:
    net = network(objective)
    one, other = net.user_vectors(torch.tensor([[1, 2, 3]])), net.user_vectors(torch.tensor([[2, 1, 3]]))
    assert not torch.allclose(one, other, atol=1e-5, rtol=0)


def test_an_items_vector_is_gated_id_plus_projected_text() -> None:
    net = network(id_support=4.0)
    vectors, weight = net.items(), net.items.project.weight
    for item, gate in ((0, 0.0), (4, 4 / (4 + 4)), (9, 9 / (9 + 4))):
        expected = gate * net.items.ids.weight[item] + weight @ net.items.text[item]
        assert torch.allclose(vectors[item], expected, atol=1e-6)
    assert torch.allclose(net.items(torch.tensor([[4, 0]])), vectors[[4, 0]].unsqueeze(0))


def test_an_item_never_seen_has_no_noise_whatever_the_support() -> None:
    net = network(id_support=0.0)
    assert torch.allclose(net.items()[0], net.items.project.weight @ net.items.text[0], atol=1e-6)
    assert torch.allclose(net.items()[1], net.items.ids.weight[1] + net.items.project.weight @ net.items.text[1])


def test_a_masked_history_of_full_length_has_room_for_the_mask() -> None:
    net = network("masked", length=3)
    assert net.user_vectors(torch.tensor([[1, 2, 3]])).shape == (1, 8)
