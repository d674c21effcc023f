"""Texts to vectors: any encoder, or a causal language model's hidden states, from a folder of safetensors."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_spark.core.config_text import Device, EmbedConfig
from lt_spark.engines import placement
from lt_spark.engines.loaded import Loaded, once, prepare_process
from lt_spark.engines.model_files import local_copy

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

_CPU_BATCH_TOKENS = 2_048
"""More tokens at once leave a CPU's caches: MiniLM is twice as slow with 8,192."""
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad alloc")


class Encoder:
    """A loaded encoder.

    A text's vector depends a little on the texts it shares a batch with (padding changes the order of sums): in float32
    by at most some 1e-6 in any place, in bfloat16 some 1e-2.
    """

    def __init__(self, model: Any, tokenizer: Any, section: EmbedConfig, device: str) -> None:
        """Bind a model in evaluation mode and its fast tokenizer; :func:`load` makes them."""
        self.size = int(model.config.get_text_config().hidden_size)
        self.device = device
        self._model = model
        self._tokenizer = tokenizer
        self._pooling = section.pooling
        self._batch_tokens = min(section.batch_tokens, _CPU_BATCH_TOKENS) if device == "cpu" else section.batch_tokens
        self._pad = tokenizer.pad_token_id or 0
        limits = (section.max_tokens, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 0))
        self._max_tokens = min(int(limit) for limit in limits if limit)

    def move(self, device: str) -> None:
        """Go on at another device of the same kind; what the old one held is given back."""
        import torch

        self._model.to(device)
        self.device = device
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return (n, size) unit vectors, in the texts' order; zeros where a text is empty or could not be encoded."""
        return self.try_encode(texts)[0]

    def try_encode(self, texts: Sequence[str]) -> tuple[Floats, Bools]:
        """Encode texts, sorted by length inside the call so that a batch pads little.

        Args:
            texts: any number; a call holds all their tokens, so give chunks of about a thousand.

        Returns:
            (n, size) vectors, and (n,) whether a text failed: one that alone exceeds the memory. Its vector is zeros.
        """
        vectors = np.zeros((len(texts), self.size), np.float32)
        failed = np.zeros(len(texts), np.bool_)
        filled = [at for at, text in enumerate(texts) if text.strip()]
        if not filled:
            return vectors, failed
        tokens = self._tokenizer([texts[at] for at in filled], truncation=True, max_length=self._max_tokens)[
            "input_ids"
        ]
        lengths = np.array([len(ids) for ids in tokens])
        # longest first: what does not fit the memory shows at once
        for places in token_batches(lengths, self._batch_tokens):
            for part, rows in self._halving([tokens[place] for place in places], places):
                own = [filled[place] for place in part]
                if rows is None:
                    failed[own] = True
                else:
                    vectors[own] = rows
        return vectors, failed

    def _halving(
        self, tokens: list[list[int]], places: npt.NDArray[np.int64]
    ) -> Iterator[tuple[npt.NDArray[np.int64], Floats | None]]:
        """Encode a batch; where the memory is too small its halves, and at last give up on one row alone."""
        try:
            rows: Floats | None = self._encode_batch(tokens) if any(tokens) else None
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = None
        if rows is not None or len(tokens) == 1:
            yield places, rows
            return
        half = len(tokens) // 2
        yield from self._halving(tokens[:half], places[:half])
        yield from self._halving(tokens[half:], places[half:])

    def _encode_batch(self, tokens: list[list[int]]) -> Floats:
        """Run the model on one batch, padded on the right, and pool; (rows, size) unit vectors."""
        import torch

        lengths = np.array([len(ids) for ids in tokens])
        is_real = np.arange(lengths.max())[None, :] < lengths[:, None]  # (batch, time)
        ids = np.full(is_real.shape, self._pad, np.int64)
        ids[is_real] = np.concatenate(tokens)
        mask = torch.from_numpy(is_real.astype(np.int64)).to(self.device)
        with torch.inference_mode():
            hidden = self._model(
                input_ids=torch.from_numpy(ids).to(self.device), attention_mask=mask
            ).last_hidden_state  # (batch, time, size)
            pooled = pool(hidden, mask, self._pooling)
            unit = torch.nn.functional.normalize(pooled, dim=1)
        return np.asarray(unit.cpu().numpy(), np.float32)


def pool(hidden: Any, mask: Any, pooling: str) -> Any:
    """Make one float32 vector of a text's token vectors, those of padding left out.

    Args:
        hidden: (batch, time, size) of the last layer.
        mask: (batch, time), 1 at real tokens, which come first.
        pooling: mean (Reimers and Gurevych 2019), cls: the first, last_token: the last.
    """
    import torch

    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last_token":
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), mask.sum(1) - 1].float()
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    # the sum runs in float32, whatever the model's own format
    return (hidden * weights).sum(1, dtype=torch.float32) / mask.sum(1, keepdim=True)


def token_batches(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the places of texts, longest first, in batches of at most ``batch_tokens`` padded tokens, a row at least.

    Args:
        lengths: (n,) tokens of each text.
        batch_tokens: rows x longest row of a batch.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + rows]
        start += rows


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory was too small; torch has no one type for it on every device."""
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in _OUT_OF_MEMORY)


def load(section: EmbedConfig, folder: str, device: Device = "auto") -> Loaded[Encoder]:
    """Return this process's encoder, loaded at the first call only.

    Its dtype ``auto`` is float32 on every device: bfloat16 is three times as fast on a CPU that has it, and changes the
    ten nearest items of 4 titles in 10 (docs/embeddings.md); vectors should not depend on which machine made them.

    Args:
        section: section ``embed``.
        folder: the model's folder, as ``model_files.resolve`` gives it.
        device: where it runs.
    """
    place = placement.device(device)
    key = (
        "encoder",
        folder,
        section.revision,
        section.pooling,
        section.max_tokens,
        section.batch_tokens,
        section.dtype,
    )
    loaded = once((*key, place.partition(":")[0]), lambda: _load(section, local_copy(folder), place))
    if loaded.value.device != place:
        # Spark may give the next task of this process another of the executor's GPUs
        loaded.value.move(place)
    return loaded


def _load(section: EmbedConfig, folder: str, device: str) -> Encoder:
    prepare_process()
    import torch
    from transformers import AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    dtype = "float32" if section.dtype == "auto" else section.dtype
    model = AutoModel.from_pretrained(folder, use_safetensors=True, dtype=getattr(torch, dtype), **options)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    return Encoder(model.eval().to(device), tokenizer, section, device)
