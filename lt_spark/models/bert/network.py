"""The network: transformers' BertModel over item vectors, each made of an id and a text.

Causal: Kang and McAuley, ICDM 2018 (SASRec), with next-item loss at every position. Masked: Sun et al., CIKM 2019
(BERT4Rec). One code for both: what differs is which places a place may look at, and which of them are guessed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from lt_spark.core.config_models import Objective
from lt_spark.models.bert.manifest import PAD


@dataclass(frozen=True)
class Shape:
    """What the weights of a network look like; a checkpoint of another shape does not fit.

    Attributes:
        objective: causal or masked.
        length: newest events that are read; a masked network has one place more, for the mask.
        text_size: numbers of an item's text vector; 0: items have no text.
    """

    objective: Objective
    n_items: int
    length: int
    embedding_size: int
    n_layers: int
    n_heads: int
    text_size: int


class ItemVectors(nn.Module):
    """An item's vector = gate x learnt id vector + projected text vector.

    The gate is n / (n + s), n the item's known events: an item that was never seen has no id vector but noise, so its
    gate is 0 whatever s.
    """

    text: Tensor
    gate: Tensor

    def __init__(self, shape: Shape, text: Tensor, support: Tensor, id_support: float) -> None:
        """Bind what is known of the items.

        Args:
            shape: of the network.
            text: (n_items, text_size) float vectors of the items' text; text_size may be 0.
            support: (n_items,) known events.
            id_support: s.
        """
        super().__init__()
        self.ids = nn.Embedding(shape.n_items, shape.embedding_size)
        self.project = nn.Linear(shape.text_size, shape.embedding_size, bias=False) if shape.text_size else None
        # not part of a checkpoint: known from the tables
        self.register_buffer("text", text.float(), persistent=False)
        gate = torch.where(support > 0, support / (support + id_support).clamp(min=1e-9), 0.0)
        self.register_buffer("gate", gate.float().unsqueeze(1), persistent=False)
        nn.init.normal_(self.ids.weight, std=0.02)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return the vectors of the items (any shape), or of all: (..., embedding_size)."""
        ids, gate, text = self.ids.weight, self.gate, self.text
        if items is not None:
            ids, gate, text = self.ids(items), gate[items], text[items]
        vectors = ids * gate
        return vectors if self.project is None else vectors + self.project(text)


class SequenceNetwork(nn.Module):
    """Reads histories; a place's output, times the item vectors, are the scores of what comes there."""

    def __init__(
        self,
        shape: Shape,
        text: Tensor,
        support: Tensor,
        *,
        dropout: float = 0.0,
        id_support: float = 0.0,
        hides: bool = False,
    ) -> None:
        """Make a network with random weights; see :class:`ItemVectors` for the arguments.

        ``hides``: a causal network gets a vector for what is hidden too, as contrastive views need it.
        """
        super().__init__()
        self.shape = shape
        self.is_causal = shape.objective == "causal"
        self.n_places = shape.length if self.is_causal else shape.length + 1
        self.items = ItemVectors(shape, text, support, id_support)
        # a causal network has none unless it hides: a weight without gradient would stop processes that learn together
        has_mask = hides or not self.is_causal
        self.mask = nn.Parameter(0.02 * torch.randn(shape.embedding_size)) if has_mask else None
        options: dict[str, Any] = {"attn_implementation": "sdpa"}
        config = BertConfig(
            vocab_size=1,
            hidden_size=shape.embedding_size,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            intermediate_size=4 * shape.embedding_size,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            max_position_embeddings=self.n_places,
            type_vocab_size=1,
            is_decoder=self.is_causal,
            use_cache=False,
            **options,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        # items come as vectors: the table of words is not ours
        self.bert.embeddings.word_embeddings = nn.Identity()  # type: ignore[assignment]

    def forward(self, items: Tensor, hidden: Tensor | None = None, *, causal: bool | None = None) -> Tensor:
        """Return each place's output.

        Args:
            items: (batch, places) item_idx, at most ``n_places``, padded on the left with PAD. Places are counted
                from the end: the newest has the same one whatever the padding.
            hidden: (batch, places) bool, places whose item is hidden.
            causal: whether a place sees those before it alone; None: as the objective says.

        Returns:
            (batch, places, embedding_size); of padding, meaningless.
        """
        n_places = items.shape[1]
        is_real = items != PAD
        vectors = self.items(items.clamp(min=0))
        if hidden is not None and self.mask is not None:
            vectors = torch.where(hidden.unsqueeze(2), self.mask, vectors)
            is_real = is_real | hidden
        seen = is_real[:, None, None, :].expand(-1, 1, n_places, -1)  # (batch, 1, from, to)
        if self.is_causal if causal is None else causal:
            seen = seen & torch.ones(n_places, n_places, dtype=torch.bool, device=items.device).tril()
        # a place of padding looks at itself, or its weights would be no numbers
        seen = seen | torch.eye(n_places, dtype=torch.bool, device=items.device)
        places = torch.arange(self.n_places - n_places, self.n_places, device=items.device).unsqueeze(0)
        out: Tensor = self.bert(inputs_embeds=vectors, attention_mask=seen, position_ids=places).last_hidden_state
        return out

    def user_vectors(self, histories: Tensor) -> Tensor:
        """Return the vector whose product with the item vectors scores what comes next.

        Args:
            histories: (batch, places) item_idx of the newest ``length`` events at most, padded on the left with PAD.

        Returns:
            (batch, embedding_size).
        """
        if self.is_causal:
            return self.forward(histories)[:, -1]
        with_mask = torch.cat([histories, torch.full_like(histories[:, :1], PAD)], dim=1)
        hidden = torch.zeros_like(with_mask, dtype=torch.bool)
        hidden[:, -1] = True
        return self.forward(with_mask, hidden)[:, -1]
