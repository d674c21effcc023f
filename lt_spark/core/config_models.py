"""Sections of the models that learn with torch. conf/base.yaml explains each key for people."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from lt_spark.core.config_text import Device
from lt_spark.core.section import Section

Objective = Literal["causal", "masked"]
LoaderKind = Literal["auto", "petastorm", "pyarrow"]
TrainDtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelsConfig(Section):
    """What the models that read text share."""

    embeddings: Literal["plain", "enriched", "tuned"] = "enriched"
    """Vectors of the items' own text, with the language model's accepted text (the same where it was refused), or by
    the encoder that text_bert taught."""


class ContentConfig(Section):
    """Items alike by meaning (model semantic) and by words (model lexical)."""

    n_neighbours: int = Field(100, ge=1, le=1_000)
    """Nearest items kept an item, of each kind."""
    max_words: int = Field(200, ge=1, le=10_000)
    """First words of an item's title, attributes and accepted keywords that count."""
    max_document_share: float = Field(0.2, gt=0, le=1)
    """Words of more than this share of the items say nothing and are left out."""
    max_document_items: int = Field(20_000, ge=2)
    """So are words of more items than this, however large the catalogue: it keeps the cost linear."""
    semantic_power: float = Field(4.0, gt=0, le=20)
    """A semantic neighbour counts its cosine to this power: of near vectors the nearest say most."""
    max_history: int = Field(50, ge=1)
    """Newest events of a user that speak for candidates."""
    decay: float = Field(0.7, gt=0, le=1)
    """An event counts decay^age, age in positions."""


class BertConfig(Section):
    """The sequence model: BERT over the items of a history, each an id and a text."""

    objectives: tuple[Objective, ...] = ("causal",)
    """Ways to train, each tried on valid; the best by overall + tail NDCG trains test and live."""
    use_text: bool = True
    """Whether an item's vector has a part that is made of its text; without vectors of text there is none."""
    id_support: float = Field(0.0, ge=0)
    """An item's own vector counts n / (n + this), n its known events: rare items lean on their text."""
    embedding_size: int = Field(128, ge=4, le=2_048)
    n_layers: int = Field(2, ge=1, le=48)
    n_heads: int = Field(2, ge=1, le=64)
    dropout: float = Field(0.4, ge=0, lt=1)
    max_length: int = Field(50, ge=1, le=2_000)
    """Newest events of a history that the model reads."""
    max_windows: int = Field(20, ge=1, le=1_000)
    """A longer history is cut into at most so many windows of max_length, from the newest on."""
    mask_share: float = Field(0.5, gt=0, lt=1)
    """``masked``: share of the events that are hidden and guessed."""
    last_mask_share: float = Field(0.8, ge=0, le=1)
    """``masked``: share of the windows whose last event alone is hidden, as in use."""
    causal_share: float = Field(0.0, ge=0, le=10)
    """``masked``: above 0, this x the loss of guessing each event from those before it is added (the same weights)."""
    epochs: int = Field(30, ge=1)
    """Most epochs; the learning rate falls to nothing over them."""
    patience: int = Field(5, ge=1)
    """Epochs without a better overall + tail NDCG on valid that end the training."""
    batch_size: int | None = Field(None, ge=1)
    """Windows of a step, over all processes together; null: as many as hold about 1,500 events, 16 to 128."""
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients are cut to this length."""
    max_full_softmax_items: int = Field(50_000, ge=1)
    """Up to so many items every event is scored against all; above, against ``n_negatives`` drawn ones."""
    n_negatives: int = Field(2_048, ge=1)
    use_weights: bool = True
    """Whether an event counts its weight of rebalance in the loss."""
    use_pseudo_events: bool = True
    """Whether it learns from the pseudo-events that ``context`` adds."""
    logit_adjustment: float = Field(0.0, ge=0, le=2)
    """Above 0: this x log popularity is added to the scores while the model learns, and not in use."""
    contrastive: float = Field(0.0, ge=0, le=10)
    """Above 0: this x the loss of telling a window's other masked view (CL4SRec) is added."""
    adversarial: float = Field(0.0, ge=0, le=10)
    """Above 0: each step also learns at item vectors moved by this length along the gradient (FGM); twice the time."""
    max_valid_users: int = Field(10_000, ge=10)
    """Users of valid that an epoch is judged by."""
    loader: LoaderKind = "auto"
    """``auto``: Petastorm where it imports, else plain pyarrow."""
    workers_count: int = Field(1, ge=1, le=64)
    """Reader threads of Petastorm; more than one gives up the order of rows, not the rows."""
    shuffle_rows: int = Field(50_000, ge=1)
    """Windows that are shuffled at a time."""
    num_processes: int = Field(1, ge=1)
    """Processes that train together; above 1 through Spark's TorchDistributor."""
    max_restarts: int = Field(2, ge=0)
    """How often the training goes on from its last checkpoint after it failed."""
    timeout_s: float = Field(600.0, gt=0)
    """How long a process waits for the others before it gives up; seconds."""
    device: Device = "auto"
    dtype: TrainDtype = "auto"
    """``auto``: on a GPU bfloat16 where it computes it, else float32."""
    int8: bool = False
    """Whether users' vectors are made with the linear layers in 8 bits, on the CPU."""
    warm_start: bool = False
    """Whether fold live goes on from its last model, with what is new and a sample of the old, instead of anew."""
    warm_epochs: int = Field(3, ge=1)
    """Epochs of such a training."""
    warm_rate: float = Field(0.3, gt=0, le=1)
    """Its learning rate as a share of ``learning_rate``."""
    replay_share: float = Field(0.2, ge=0, le=1)
    """Share of the users without new events whose windows are learnt again, so that they are not forgotten."""
    export_max_age_days: float = Field(2.0, gt=0)
    """Exports that a killed run left are removed after so many days."""

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: tuple[str, ...]) -> tuple[str, ...]:
        if not objectives or len(set(objectives)) < len(objectives):
            raise ValueError("expected at least one objective, and none twice")
        return objectives

    @model_validator(mode="after")
    def _heads_divide(self) -> "BertConfig":
        if self.embedding_size % self.n_heads:
            raise ValueError("bert.embedding_size must be a multiple of bert.n_heads")
        return self
