"""Section of the text model that is fine-tuned on the log. conf/base.yaml explains each key for people."""

from typing import Literal

from pydantic import Field, model_validator

from lt_spark.core.config_text import Device
from lt_spark.core.section import Section

Method = Literal["lora", "adalora", "full"]
TrainOn = Literal["all", "head"]
_LEARNING_RATES: dict[str, float] = {"lora": 2e-4, "adalora": 2e-4, "full": 2e-5}


class TextBertConfig(Section):
    """The encoder of section ``embed``, taught that a history's text lies near the next item's text."""

    method: Method = "lora"
    """``lora``, ``adalora``: adapters beside frozen weights; ``full``: all weights learn."""
    lora_rank: int = Field(8, ge=1, le=256)
    """Rank of an adapter; ``adalora``: the mean rank that it ends with."""
    lora_alpha: float = Field(16.0, gt=0)
    """An adapter's part is scaled by alpha / rank."""
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    history_items: int = Field(5, ge=1, le=50)
    """Newest events whose texts are the history's text, the newest first."""
    max_tokens: int = Field(128, ge=8, le=8_192)
    """A longer text of a history is cut, the oldest titles first; tokens."""
    item_max_tokens: int = Field(64, ge=8, le=8_192)
    """A longer text of an item is cut; tokens."""
    use_keywords: bool = True
    """Whether an item's text has the keywords that the language model wrote, where its texts were shown to help."""
    train_on: TrainOn = "all"
    """``head``: only pairs whose target is head (segment_top20) teach: is what they teach true of the tail too?"""
    max_pairs: int = Field(20_000, ge=1)
    """Budget: a hash sample of so many (history, next item) pairs teaches."""
    batch_size: int = Field(64, ge=2, le=8_192)
    """Pairs of a step; each pair's target is a negative of the others."""
    n_hard_negatives: int = Field(1, ge=0, le=20)
    """Neighbours of the target, unknown to the user, that a pair has as negatives besides."""
    epochs: int = Field(3, ge=1)
    """Most epochs; the learning rate falls to nothing over them."""
    patience: int = Field(1, ge=1)
    """Epochs without a better overall + tail NDCG on valid that end the training."""
    learning_rate: float | None = Field(None, gt=0)
    """Null: 2e-4 for adapters, 2e-5 for ``full``."""
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients are cut to this length."""
    temperature: float = Field(0.05, gt=0, le=1)
    """Cosines are divided by this before the softmax."""
    logq_correction: bool = True
    """Whether popular targets, which are negatives more often, are held down less for it."""
    use_weights: bool = True
    """Whether a pair counts its event's weight of rebalance in the loss."""
    max_valid_users: int = Field(2_000, ge=1)
    """Users of valid that an epoch is judged by."""
    max_valid_items: int = Field(50_000, ge=10)
    """An epoch is judged by a ranking of all items, or of a hash sample of so many and the targets."""
    classify: bool = True
    """Whether a classifier of 'will this user like this item' is trained on the finished vectors, and reported."""
    classify_share: float = Field(0.1, gt=0, lt=1)
    """Share of the pairs that teach the classifier instead of the encoder."""
    n_layers: int | None = Field(None, ge=1)
    """Lowest layers of the encoder that are kept before it is taught; null: all."""
    int8: bool = False
    """Whether vectors are made with the linear layers in 8 bits, on the CPU; it learns in full."""
    device: Device = "auto"

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        return self.learning_rate or _LEARNING_RATES[self.method]

    @model_validator(mode="after")
    def _item_within_history(self) -> "TextBertConfig":
        if self.item_max_tokens > self.max_tokens:
            raise ValueError("text_bert.item_max_tokens must be at most text_bert.max_tokens")
        return self
