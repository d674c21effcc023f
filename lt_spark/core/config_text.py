"""The configuration of what the language model does: where it is, what it is asked, what its answers must pass."""

from typing import Literal

from pydantic import Field, model_validator

from lt_spark.core.section import Section

Engine = Literal["transformers", "openai", "imported"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


class PrivacyConfig(Section):
    """What may leave the cluster."""

    allow_remote_histories: bool = False
    """Whether titles of users' histories may be sent to an engine that is not on this host."""


class LanguageModelConfig(Section):
    """The language model that writes, and how it is reached."""

    engine: Engine = "transformers"
    """``transformers``: on the executors; ``openai``: a server; ``imported``: texts that are there already."""
    model: str = ""
    """``transformers``: folder that executors read, or name under ``files.root``/models; ``openai``: its name there."""
    revision: str = ""
    """Version of the model; ``transformers``: checked against the folder's manifest where set. Part of the key."""
    sha256: str = ""
    """Expected hash of the model's folder, as ``lt-spark models fetch`` prints it; empty: not compared."""
    dtype: Dtype = "auto"
    """Number format; ``auto``: what the device computes fast, asked where the model runs."""
    device: Device = "auto"
    """``auto``: the task's GPU where it has one, else the CPU."""
    gpus_per_task: float = Field(1.0, gt=0, le=1)
    """Share of a GPU that a task takes; below 1 several tasks share one."""
    max_batch: int | None = Field(None, ge=1)
    """Prompts generated at once; null: 64 on a CPU, 512 on a GPU."""
    batch_tokens: int | None = Field(None, ge=256)
    """Prompt and new tokens of one batch, halved when memory runs out; null: 32,768 on a CPU, to 524,288 on a GPU."""
    reuse_prefix: bool = True
    """Whether the keys and values of what all prompts begin with are computed once."""
    max_new_tokens: int = Field(64, ge=1, le=4_096)
    """Most tokens of one answer."""
    max_prompt_tokens: int = Field(3_072, ge=64)
    """A longer prompt is not read: its item is failed, with this reason."""
    temperature: float = Field(0.0, ge=0, le=2)
    """0: the likeliest token always."""
    retry_temperature: float = Field(0.7, ge=0, le=2)
    """Temperature of the second try after a refused answer."""
    base_url: str = ""
    """``openai``: address of the server, such as http://127.0.0.1:8000/v1."""
    api_key_variable: str = "LT_SPARK_LLM_API_KEY"
    """``openai``: environment variable, on the driver and every executor, that holds the key, never in a conf."""
    concurrency: int = Field(8, ge=1, le=256)
    """``openai``: requests under way at once, a task."""
    timeout_s: float = Field(120.0, gt=0)
    """``openai``: longest wait for an answer; seconds."""
    max_retries: int = Field(4, ge=0, le=20)
    """``openai``: further tries after a refusal that may pass (429, 5xx, a broken connection)."""
    price_per_million_tokens: float = Field(0.0, ge=0)
    """Price of a million tokens, read and written, in the currency of ``describe.max_cost``."""

    @model_validator(mode="after")
    def _reachable(self) -> "LanguageModelConfig":
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("language_model.base_url must start with http:// or https://")
        if self.engine == "openai" and not (self.base_url and self.model):
            raise ValueError("language_model.engine openai needs language_model.base_url and language_model.model")
        return self


class EmbedConfig(Section):
    """Vectors of the items' own text."""

    model: str = ""
    """Folder of a sentence encoder, or a name under ``files.root``/models; empty: no vectors are made."""
    revision: str = ""
    """Version of the encoder; compared with the folder's manifest where set."""
    pooling: Literal["mean", "cls", "last_token"] = "mean"
    """How token vectors become one; ``last_token`` suits a language model's hidden states."""
    fields: tuple[str, ...] = ()
    """Attributes that join the title in the text."""
    max_tokens: int = Field(128, ge=8, le=8_192)
    """A longer text is cut; tokens."""
    batch_tokens: int = Field(8_192, ge=128)
    """Padded tokens of one batch."""
    dtype: Dtype = "auto"
    vectors_path: str = ""
    """File, folder or table of vectors that you bring (image, audio); empty: there are none."""
    vectors_format: Literal["auto", "parquet", "delta", "table"] = "auto"
    vectors_item: str = "item_id"
    """Column of the item in it."""
    vectors_column: str = "vector"
    """Column of the vector: an array of numbers, the same length in every row."""
    vectors_share: float = Field(0.5, ge=0, le=1)
    """Share of your vectors in the squared length of the joined ones."""


class DescribeConfig(Section):
    """What the language model writes of tail and cold items."""

    enabled: bool = False
    segments: tuple[Literal["head", "mid", "tail", "cold"], ...] = ("tail", "cold")
    """Segments (in the train fold) whose items are described."""
    pack: str = "ecommerce"
    """Prompt pack: ecommerce, video, music, social, content, or the path of a file of your own."""
    keyword_fields: tuple[str, ...] = ()
    """Attributes that say what an item is (category, genre): the examples' keywords."""
    description_field: str = ""
    """Attribute whose first sentence is the examples' description; empty: a sentence is made of the metadata."""
    input_fields: tuple[str, ...] = ()
    """Further attributes that a prompt shows, such as the brand."""
    separators: str = ",;|/>"
    """Characters that part the values of a keyword field; a blank: values that have none of the others."""
    examples: Literal["nearest", "fixed"] = "nearest"
    """Each item's nearest items of the pool, or for all the same ones, which stand for the whole pool."""
    n_examples: int | None = Field(None, ge=0, le=64)
    """Examples a prompt; none set: 4 nearest ones, or 16 fixed ones."""
    ask_for: Literal["both", "keywords"] = "both"
    """Keywords and a description, or keywords alone: the description is then a sentence of the pack made of them."""
    calibration: float = Field(0.5, ge=0, le=1)
    """Fixed examples, engine ``transformers``: share of what is likely for any item that is taken off a keyword."""
    presence_penalty: float = Field(2.0, ge=0, le=2)
    """Fixed examples: taken off the score of a word that the answer has already."""
    pool_size: int = Field(20_000, ge=1)
    """Most items of the examples' pool."""
    wave_items: int = Field(512, ge=1)
    """Items of one wave: what a killed run may have to ask again."""
    max_items: int | None = Field(None, ge=1)
    """Budget of one run: items."""
    max_tokens: int | None = Field(None, ge=1)
    """Budget of one run: tokens read and written."""
    max_cost: float | None = Field(None, gt=0)
    """Budget of one run: money, by ``language_model.price_per_million_tokens``."""
    max_seconds: float | None = Field(None, gt=0)
    """Budget of one run: seconds; runs then differ."""
    imported_path: str = ""
    """engine ``imported``: CSV, JSON lines, Parquet or Delta with the item's id and the text."""
    imported_format: Literal["auto", "csv", "jsonl", "parquet", "delta", "table"] = "auto"
    imported_item: str = "item_id"
    """Column of the item in it."""
    imported_text: str = "text"
    """Column of the text, in the answer format of the prompts or plain."""

    @property
    def n_shown(self) -> int:
        """Examples of a prompt."""
        if self.n_examples is not None:
            return self.n_examples
        return 4 if self.examples == "nearest" else 16


class TextGateConfig(Section):
    """What an answer must pass before it is used."""

    min_words: int = Field(3, ge=1)
    """Fewest words of a description."""
    max_chars: int = Field(600, ge=40)
    """Longest description; characters."""
    max_keywords: int = Field(12, ge=1)
    """Most keywords; what follows is cut."""
    max_keyword_chars: int = Field(40, ge=5)
    """Longest keyword; characters."""
    max_repeated_share: float = Field(0.5, gt=0, le=1)
    """Largest share of a text's words that may be repeats."""
    max_title_share: float = Field(0.9, gt=0, le=1)
    """Largest share of a description's words that may be the title's: above, it is an echo."""
    max_unknown_share: float = Field(0.5, ge=0, le=1)
    """Largest share of keywords that neither the item's text nor the catalogue's attributes know; they are dropped."""
    keywords_from: Literal["neighbours", "catalogue"] = "neighbours"
    """Whose keywords an answer may use beside the item's own words: its 20 nearest items', or all the catalogue's."""
    min_similarity: float = Field(0.25, ge=-1, le=1)
    """Least cosine between the answer's vector and the item's."""
    max_same_share: float = Field(0.9, gt=0, le=1)
    """Largest overlap of words (Jaccard) with the description of another item."""
    words_file: str = ""
    """YAML of words by language and kind (docs/text_gate.md), beside lt_spark's own lists; empty: only these."""


class EmbedEnrichedConfig(Section):
    """Vectors of the items' own and accepted text."""

    min_agreement_gain: float = Field(0.0, ge=-1, le=1)
    """The text is used only where the lower 95 % bound of the gain in neighbour agreement is above this."""
    max_items: int = Field(5_000, ge=10)
    """Described items that the agreement is measured on."""
    override: Literal["none", "accept", "refuse"] = "none"
    """A person's word against the measure's; what was measured is recorded all the same."""


class ContextConfig(Section):
    """Readings of users' histories, and pseudo-events from them."""

    enabled: bool = False
    max_users: int = Field(1_000, ge=1)
    """Budget of one run and fold: users, short histories first."""
    min_events: int = Field(2, ge=1)
    """Users with fewer known events are not read."""
    max_history: int = Field(10, ge=1, le=100)
    """Newest titles that a prompt shows."""
    n_items: int = Field(3, ge=0, le=50)
    """Tail and cold items added to a user's events."""
    weight: float = Field(0.1, gt=0, le=1)
    """Confidence of an added event beside a real one's 1."""
