"""Attention on a CPU for models whose heads share keys and values: read once, and no farther than a token may see.

The library copies the keys and values once for each head that shares them; with a mask that copy takes as long as the
attention itself. Imported on executors only.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lt_spark_cpu"
BLOCK = 96
"""Queries of one go: later keys are not read for them. Fewer and longer goes read more keys than are seen."""
FEW = 16
"""So few queries of the heads that share keys are one matrix; more would only make the mask large."""


def use_for(model: Any) -> None:
    """Let a loaded model that computes its attention by the library's ``sdpa`` use this one."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Return softmax(scaling query key^T) value under a causal mask, as the library's function of this form does.

    Args:
        module: the layer, of a decoder.
        query: (rows, heads, queries, head size), the last of the keys' tokens.
        key: (rows, shared heads, keys, head size).
        value: the same of values.
        attention_mask: (rows, 1, queries, keys), true where a query sees a key; None: all that are not later.
        dropout: 0 when a model writes.
        scaling: of the products; None: 1 / sqrt(head size).
        options: what other kinds of model need: they are left to the library.

    Returns:
        (rows, queries, heads, head size), and no weights.
    """
    rows, heads, n_queries, size = query.shape
    n_shared, n_keys = key.shape[1], key.shape[2]
    special = [name for name in ("position_bias", "softcap", "s_aux") if options.get(name) is not None]
    plain = attention_mask is None or attention_mask.dtype != torch.bool or attention_mask.shape[1] != 1
    if plain or special or n_keys < n_queries or heads % n_shared or value.shape[-1] != size:
        passed: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return passed
    mask: torch.Tensor = attention_mask  # type: ignore[assignment] # not None here
    if 1 < n_queries <= FEW:
        group = heads // n_shared
        out = scaled_dot_product_attention(
            query.reshape(rows, n_shared, group * n_queries, size),
            key,
            value,
            attn_mask=mask.repeat(1, 1, group, 1),
            dropout_p=dropout,
            scale=scaling,
        ).reshape(rows, heads, n_queries, size)
        return out.transpose(1, 2).contiguous(), None
    out = query.new_empty(rows, n_queries, heads, size)
    for start in range(0, n_queries, BLOCK):
        end = min(start + BLOCK, n_queries)
        seen = n_keys - n_queries + end
        out[:, start:end] = scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, :seen],
            value[:, :, :seen],
            attn_mask=mask[:, :, start:end, :seen],
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=n_shared != heads,
        ).transpose(1, 2)
    return out, None
