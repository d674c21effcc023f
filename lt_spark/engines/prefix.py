"""Keys and values of a batch in room made once, and those of a common beginning kept from call to call."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

KeysValues = list[tuple[torch.Tensor, torch.Tensor]]
"""Of each layer: keys and values, (rows, heads, tokens, head size)."""


def bytes_of_a_token(config: Any, n_bytes: int) -> int:
    """Return the memory that one token's keys and values take in all layers.

    Args:
        config: the text model's configuration, as transformers has it.
        n_bytes: bytes of a number.
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * n_bytes)


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values with room for all tokens to come.

    The library's own layer copies everything at each token, which at 64 rows and 350 tokens takes longer than the
    model's own arithmetic.
    """

    room_keys: torch.Tensor
    room_values: torch.Tensor

    def __init__(self, room: int) -> None:
        """Make a layer for so many tokens."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = room
        self.n_tokens = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add tokens; return all keys and values so far."""
        if not self.is_initialized:
            rows, heads, _, head_size = key_states.shape
            self.room_keys = key_states.new_empty(rows, heads, self.room, head_size)
            self.room_values = value_states.new_empty(rows, heads, self.room, value_states.shape[-1])
            self.is_initialized = True
        end = self.n_tokens + key_states.shape[-2]
        self.room_keys[:, :, self.n_tokens : end] = key_states
        self.room_values[:, :, self.n_tokens : end] = value_states
        self.n_tokens = end
        return self.held()

    def held(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all keys and values so far."""
        return self.room_keys[:, :, : self.n_tokens], self.room_values[:, :, : self.n_tokens]

    def get_seq_length(self, *args: object) -> int:
        """Return the tokens held."""
        return self.n_tokens

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, which are in rising order."""
        n = len(rows)
        for held in self.held():
            held[:n] = held[rows]
        self.room_keys, self.room_values = self.room_keys[:n], self.room_values[:n]


class BatchCache(Cache):
    """The keys and values of one batch, those of a common beginning already in it."""

    def __init__(self, n_layers: int, room: int, n_rows: int, beginning: KeysValues | None = None) -> None:
        """Make room for so many tokens of each row, and put the common beginning into it."""
        self.rooms = [RoomyLayer(room) for _ in range(n_layers)]
        super().__init__(layers=list(self.rooms))
        for layer, (keys, values) in zip(self.rooms, beginning or [], strict=False):
            layer.update(keys.expand(n_rows, -1, -1, -1), values.expand(n_rows, -1, -1, -1))

    @staticmethod
    def joined(parts: "list[BatchCache]") -> "BatchCache":
        """Return the rows of several caches, which hold as many tokens, in one; the parts are emptied."""
        first = parts[0]
        if len(parts) == 1:
            return first
        for at, layer in enumerate(first.rooms):
            layers = [part.rooms[at] for part in parts]
            layer.room_keys = torch.cat([each.room_keys for each in layers])
            layer.room_values = torch.cat([each.room_values for each in layers])
            for each in layers[1:]:  # memory is given back layer by layer, or the whole would be there twice
                del each.room_keys, each.room_values
        return first

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, which are in rising order."""
        for layer in self.rooms:
            layer.keep_rows(rows)

    def keys_values(self) -> KeysValues:
        """Return what is held."""
        return [layer.held() for layer in self.rooms]


class KeptBeginnings:
    """The last few beginnings' keys and values, the least recently used dropped first."""

    def __init__(self, compute: Callable[[Sequence[int]], KeysValues], capacity: int = 4) -> None:
        """Keep so many of what ``compute`` gives."""
        self._compute = compute
        self._capacity = capacity
        self._kept: OrderedDict[tuple[int, ...], KeysValues] = OrderedDict()
        self.n_computed = 0

    def of(self, tokens: Sequence[int]) -> KeysValues:
        """Return the keys and values of a beginning, computed where they are not kept."""
        key = tuple(tokens)
        if key not in self._kept:
            self._kept[key] = self._compute(tokens)
            self.n_computed += 1
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
