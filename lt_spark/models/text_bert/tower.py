"""The tower: one encoder for histories and items, with adapters beside its frozen weights, or learning whole."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines import placement
from lt_spark.engines.encoder import Encoder, pool, token_batches
from lt_spark.engines.int8 import with_int8
from lt_spark.engines.loaded import prepare_process
from lt_spark.engines.model_files import ModelInfo, local_copy

Floats = npt.NDArray[np.float32]
_QUERY_VALUE = (("query", "value"), ("q_lin", "v_lin"), ("q_proj", "v_proj"), ("query_proj", "value_proj"), ("q", "v"))
"""What the layers of queries and values are called: BERT and its kin, DistilBERT, Llama and its kin, DeBERTa, MPNet."""
_BATCH_TOKENS = 2_048
"""Padded tokens that go through the model at once on a CPU: as many as the encoder takes."""
_ORTHOGONAL = 0.5
"""AdaLoRA: weight of the penalty that keeps P and Q orthogonal (Zhang et al. 2023, equation 4)."""
_ADAPTER = ".default"
"""What peft adds to the names of an adapter's parameters while it is loaded."""


@dataclass(frozen=True)
class Base:
    """The pretrained encoder: small, and sent with the task.

    Attributes:
        folder: as executors read it.
        info: what lies there.
        embed: section ``embed``: pooling and batches.
    """

    folder: str
    info: ModelInfo
    embed: EmbedConfig


class Tower:
    """A loaded encoder that can learn; ``build`` makes it."""

    def __init__(
        self, model: Any, tokenizer: Any, base: Base, section: TextBertConfig, n_steps: int, device: str
    ) -> None:
        """Bind a model whose parameters that learn require gradients, and its tokenizer."""
        self.model = model
        self.base = base
        self.section = section
        self.n_steps = n_steps
        self.device = device
        self._tokenizer = tokenizer
        self._items = self._encoder(section.item_max_tokens)
        self._histories = self._encoder(section.max_tokens)

    def _encoder(self, max_tokens: int) -> Encoder:
        section = self.base.embed.model_copy(update={"max_tokens": max_tokens})
        return Encoder(self.model, self._tokenizer, section, self.device)

    @property
    def size(self) -> int:
        """Length of a vector."""
        return self._items.size

    def move(self, device: str) -> None:
        """Go on at another device of the same kind."""
        self._items.move(device)
        self._histories.move(device)
        self.device = device

    def encode_items(self, texts: Sequence[str]) -> Floats:
        """Return (n, size) unit vectors of items' texts, without gradients; zeros where a text is empty."""
        return self._encode(self._items, texts)

    def encode_histories(self, texts: Sequence[str]) -> Floats:
        """Return (n, size) unit vectors of histories' texts, without gradients; zeros where a text is empty."""
        return self._encode(self._histories, texts)

    def _encode(self, encoder: Encoder, texts: Sequence[str], chunk: int = 1_024) -> Floats:
        was_training = self.model.training
        self.model.eval()
        parts = [encoder.encode(texts[start : start + chunk]) for start in range(0, len(texts), chunk)]
        self.model.train(was_training)
        return np.concatenate(parts) if parts else np.zeros((0, self.size), np.float32)

    def vectors(self, texts: Sequence[str], max_tokens: int) -> Any:
        """Return (n, size) unit vectors as a tensor with gradients, of texts that are not empty."""
        import torch

        limit = getattr(self.model.config, "max_position_embeddings", 0) or max_tokens
        tokens = self._tokenizer(list(texts), truncation=True, max_length=min(max_tokens, limit))
        lengths = np.array([len(ids) for ids in tokens["input_ids"]])
        # texts of like length together, few enough for a CPU's caches
        parts = list(token_batches(lengths, _BATCH_TOKENS if self.device == "cpu" else lengths.max() * len(lengths)))
        pooled = torch.cat([self._pooled([tokens["input_ids"][at] for at in part]) for part in parts])
        back = torch.from_numpy(np.argsort(np.concatenate(parts))).to(self.device)
        return torch.nn.functional.normalize(pooled, dim=1)[back]

    def _pooled(self, ids: list[list[int]]) -> Any:
        padded = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.device)
        mask = padded["attention_mask"]
        hidden = self.model(input_ids=padded["input_ids"], attention_mask=mask).last_hidden_state  # (n, time, size)
        return pool(hidden, mask, self.base.embed.pooling)

    def learning(self) -> list[Any]:
        """Return the parameters that learn."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def penalty(self) -> Any:
        """Return what AdaLoRA adds to the loss, 0 for the other methods."""
        import torch

        if self.section.method != "adalora":
            return 0.0
        parts = []
        for name, p in self.model.named_parameters():
            if p.requires_grad and ("lora_A" in name or "lora_B" in name):
                product = p @ p.T if "lora_A" in name else p.T @ p  # (rank, rank)
                parts.append(torch.linalg.norm(product - torch.eye(len(product), device=p.device)))
        return _ORTHOGONAL * torch.stack(parts).mean()

    def allocate(self, step: int) -> None:
        """Let AdaLoRA move its budget of ranks; after the optimizer's step and before the gradients are cleared."""
        if self.section.method == "adalora":
            self.model.base_model.update_and_allocate(step)

    def to_int8(self) -> None:
        """Compute in 8 bits from now on: adapters become part of the weights, and nothing can be learnt any more."""
        model = self.model.merge_and_unload() if self._has_adapters else self.model
        self.model = with_int8(model.eval())
        self._items = self._encoder(self.section.item_max_tokens)
        self._histories = self._encoder(self.section.max_tokens)

    def state(self) -> dict[str, Any]:
        """Return copies, on the CPU, of what training changes, by name: the adapters alone, or all weights."""
        return {
            name.replace(_ADAPTER, "") if self._has_adapters else name: value.detach().cpu().clone().contiguous()
            for name, value in self.model.state_dict().items()
            if not self._has_adapters or _is_adapter(name)
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what ``state`` returned.

        Raises:
            ConfigError: names or shapes are not those of this tower.
        """
        own = {
            name.replace(_ADAPTER, "") if self._has_adapters else name: (name, value.shape)
            for name, value in self.model.state_dict().items()
            if not self._has_adapters or _is_adapter(name)
        }
        differing = sorted(own.keys() ^ state.keys()) or [
            name for name, value in state.items() if value.shape != own[name][1]
        ]
        if differing:
            raise ConfigError(
                f"text_bert: these weights are of another tower: expected {len(own)} tensors of {self.base.info.name} "
                f"by {self.section.method}, and {len(differing)} differ, such as {differing[0]}. Train again."
            )
        self.model.load_state_dict({own[name][0]: value for name, value in state.items()}, strict=False)

    @property
    def _has_adapters(self) -> bool:
        return self.section.method != "full"


def build(base: Base, section: TextBertConfig, *, n_steps: int, seed: int) -> Tower:
    """Load the encoder and put fresh adapters beside it: until they learn, its vectors are the encoder's own.

    Args:
        base: the pretrained encoder; its folder was checked.
        section: section ``text_bert``.
        n_steps: steps of the whole training, which AdaLoRA plans its budget by.
        seed: of the adapters' random start.

    Raises:
        ConfigError: a library is missing, or the model has no layers that an adapter is known to fit.
    """
    prepare_process()
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    folder, place = local_copy(base.folder), placement.device(section.device)
    if section.n_layers is not None:
        options["config"] = _shortened(AutoConfig.from_pretrained(folder, **options), section.n_layers)
    model: Any = AutoModel.from_pretrained(folder, use_safetensors=True, dtype="float32", **options)
    options.pop("config", None)
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    with seeded(seed):
        if section.method != "full":
            model = _with_adapters(model, section, n_steps, base.info.name)
    return Tower(
        model.eval().to(place), AutoTokenizer.from_pretrained(folder, **options), base, section, n_steps, place
    )


def adapter_targets(model: Any) -> list[str]:
    """Return the names of the layers that adapters go beside: queries and values (Hu et al. 2021, section 7.1).

    Raises:
        ConfigError: the model calls them by no known name.
    """
    import torch

    linear = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    for names in _QUERY_VALUE:
        if set(names) <= linear:
            return list(names)
    expected = " or ".join("/".join(names) for names in _QUERY_VALUE)
    kind = getattr(model.config, "model_type", "?")
    raise ConfigError(
        f"text_bert.method: no adapter is known to fit a model of type {kind}: expected linear "
        f"layers called {expected}, found {', '.join(sorted(linear)) or 'none'}. Set text_bert.method=full, or choose "
        "another embed.model."
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside, and give back its random state after."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def weights_hash(weights: bytes) -> str:
    """Return the hex SHA-256 of a file of weights."""
    return hashlib.sha256(weights).hexdigest()


def _shortened(config: Any, n_layers: int) -> Any:
    """Return a model's configuration with its lowest layers alone: the others' weights are not read."""
    found = getattr(config, "num_hidden_layers", None)
    if found is None or n_layers > found:
        raise ConfigError(
            f"text_bert.n_layers is {n_layers}, and embed.model has {found or 'no known number of'} layers: set it to "
            "at most so many, or to null for all."
        )
    config.num_hidden_layers = n_layers
    return config


def _with_adapters(model: Any, section: TextBertConfig, n_steps: int, name: str) -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            f"text_bert.method {section.method} needs peft on every executor; run: pip install 'lt-spark[llm]', or set "
            "text_bert.method=full"
        ) from error
    model.name_or_path = name  # no path of this machine goes into the adapter's configuration
    shared: dict[str, Any] = {
        "target_modules": adapter_targets(model),
        "lora_alpha": section.lora_alpha,
        "lora_dropout": section.lora_dropout,
    }
    if section.method == "lora":
        return peft.get_peft_model(model, peft.LoraConfig(r=section.lora_rank, **shared))
    n_steps = max(n_steps, 1)
    ranks: dict[str, Any] = {"init_r": -(-section.lora_rank * 3 // 2), "target_r": section.lora_rank}
    # a tenth of the steps at the full budget, the last third at the final one
    plan: dict[str, Any] = {"tinit": n_steps // 10, "tfinal": n_steps // 3, "total_step": n_steps}
    return peft.get_peft_model(model, peft.AdaLoraConfig(**ranks, **plan, **shared))


def _is_adapter(name: str) -> bool:
    return ".lora_" in name or ".ranknum" in name
