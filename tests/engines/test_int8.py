"""Linear layers in 8 bits: a copy that answers nearly the same."""

import warnings

import torch
from torch import nn

from lt_spark.engines.int8 import with_int8


def test_a_copy_answers_nearly_the_same_and_the_model_stays_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16)).eval()
    inputs = torch.randn(50, 32)
    before = model(inputs).detach()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = with_int8(model)
    answer = small(inputs)
    assert not torch.equal(answer, before)
    assert float((answer - before).abs().max()) < 0.05 * float(before.abs().max())
    assert torch.equal(model(inputs), before)
    assert [type(each) is nn.Linear for each in (model[0], small[0])] == [True, False]
    assert small[0].weight().dtype == torch.qint8


def test_what_is_not_linear_stays() -> None:
    model = nn.Sequential(nn.Embedding(4, 8), nn.LayerNorm(8)).eval()
    rows = torch.tensor([0, 3])
    assert torch.equal(with_int8(model)(rows), model(rows))
