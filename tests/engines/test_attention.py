from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lt_spark.engines import attention  # noqa: E402


def by_hand(query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    """softmax(q k / sqrt(d)) v with the keys of each group copied, as the definition says."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    weights = torch.softmax(scores.masked_fill(~mask, float("-inf")), -1)
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("n_shared", [2, 6])
@pytest.mark.parametrize("n_queries", [1, 4, attention.FEW + 1, 2 * attention.BLOCK + 5])
def test_it_is_attention(n_queries: int, n_shared: int) -> None:
    n_keys = n_queries + 11
    torch.manual_seed(0)
    query = torch.randn(3, 6, n_queries, 8)
    key, value = torch.randn(3, n_shared, n_keys, 8), torch.randn(3, n_shared, n_keys, 8)
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(11).repeat(3, 1, 1, 1)
    mask[1, :, :, 3:6] = False  # padding
    module = SimpleNamespace(num_key_value_groups=6 // n_shared, is_causal=True)
    out, weights = attention.attend(module, query, key, value, mask, scaling=8**-0.5)
    assert weights is None
    assert out.shape == (3, n_queries, 6, 8)
    torch.testing.assert_close(out, by_hand(query, key, value, mask), rtol=1e-4, atol=1e-5)


def test_without_a_mask_the_library_attends() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, 4, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    module = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    out, _ = attention.attend(module, query, key, value, None, scaling=8**-0.5)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()[None, None]
    torch.testing.assert_close(out, by_hand(query, key, value, mask), rtol=1e-4, atol=1e-5)
