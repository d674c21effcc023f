"""The configuration: one frozen section a stage. conf/base.yaml explains each key for people."""

from typing import Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from lt_spark.core.config_groups import check_groups
from lt_spark.core.config_ledger import DisturbConfig, LedgerConfig
from lt_spark.core.config_models import BertConfig, ContentConfig, ModelsConfig
from lt_spark.core.config_rerank import RerankConfig
from lt_spark.core.config_sources import SourceConfig
from lt_spark.core.config_text import (
    ContextConfig,
    DescribeConfig,
    EmbedConfig,
    EmbedEnrichedConfig,
    LanguageModelConfig,
    PrivacyConfig,
    TextGateConfig,
)
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import nearest
from lt_spark.core.section import Section

MODELS = ("popularity", "als_plain", "als", "neighbours", "semantic", "lexical", "bert", "text_bert")
"""Names of the models; each has a table ``silver.candidates_<name>``, written by the stage of its name; those of
semantic and lexical by ``content``."""


class CoreConfig(Section):
    """What every stage shares."""

    seed: int = Field(42, ge=0)
    """Seed of every hash, sample and random start."""
    max_driver_bytes: int = Field(256_000_000, ge=1_000_000)
    """Above this estimate nothing is collected to the driver or broadcast; bytes."""


class TablesConfig(Section):
    """Where the Delta tables live."""

    root: str = "warehouse"
    """Folder or URI under which each table has its path; used when ``catalog`` is empty."""
    catalog: str = ""
    """Catalog of three-level names (``main`` for ``main.silver.items``); empty: paths under ``root``."""
    silver_schema: str = "silver"
    """Schema (or folder) of the working tables."""
    gold_schema: str = "gold"
    """Schema (or folder) of the published tables."""


class FilesConfig(Section):
    """Where what is not a table lives: exports, models, reports."""

    root: str = "warehouse/files"
    """Folder or URI that the driver and every executor can read and write."""


class RunConfig(Section):
    """How a run behaves."""

    lock_stale_after_s: float = Field(900.0, gt=0)
    """A lock whose owner gave no sign of life for so long is taken over; seconds."""
    side_by_side: int = Field(2, ge=1, le=16)
    """Most stages at a time, of those that do not wait for each other; 1: one after the other."""


class CleanConfig(Section):
    """Cleaning of the log and the catalogue."""

    max_rejected_share: float = Field(0.05, ge=0, le=1)
    """More refused rows of a source than this share stop the run."""
    max_events_per_user: int = Field(20_000, ge=1)
    """A user above this is a bot: only the newest so many events are kept."""
    max_future_days: float = Field(1.0, ge=0)
    """An event later than now by more than this is refused; days."""
    min_year: int = Field(1990, ge=1900)
    """An event before this year is refused."""
    max_title_chars: int = Field(2_000, ge=10)
    """A longer title or attribute is cut to this length, counted; characters."""


class SplitConfig(Section):
    """Train, valid and test."""

    method: Literal["leave_last_out", "time", "cold_items"] = "leave_last_out"
    """Last event of each user, one cut date for all, or whole items held out."""
    min_events: int = Field(3, ge=3)
    """Users with fewer events stay in train."""
    valid_share: float = Field(0.1, gt=0, lt=0.5)
    """Share of events (``time``) or items (``cold_items``) in valid."""
    test_share: float = Field(0.1, gt=0, lt=0.5)
    """Share of events (``time``) or items (``cold_items``) in test."""


class SegmentConfig(Section):
    """Head, mid, tail, cold."""

    by: Literal["interaction_share", "item_share", "count"] = "interaction_share"
    """What ``head`` and ``mid`` measure."""
    head: float = Field(0.5, gt=0)
    """Head: the fewest items with this share of interactions; or share of items; or at least so many events."""
    mid: float = Field(0.8, gt=0)
    """Mid: up to this share of interactions or items; or at least so many events."""

    @model_validator(mode="after")
    def _ordered(self) -> "SegmentConfig":
        if self.by == "count":
            if self.mid >= self.head:
                raise ValueError("segment.mid must be below segment.head when segment.by is count")
        elif not self.head < self.mid <= 1:
            raise ValueError("segment.head must be below segment.mid, and segment.mid at most 1")
        return self


class RebalanceConfig(Section):
    """Weights and copies that let rare items be learnt too."""

    method: Literal["none", "inverse_power", "effective_number", "inverse_propensity"] = "inverse_power"
    """How an event's weight depends on its item's count."""
    strength: float = Field(0.3, ge=0, le=1)
    """Exponent of ``inverse_power``: weight (n_mean / n_i)^strength."""
    beta: float = Field(0.99, ge=0, lt=1)
    """``effective_number``: weight (1 - beta) / (1 - beta^n_i)."""
    gamma: float = Field(0.5, ge=0, le=1)
    """``inverse_propensity``: propensity (n_i / n_max)^gamma."""
    min_propensity: float = Field(0.05, gt=0, le=1)
    """Propensities below are clipped to this."""
    max_weight: float = Field(10.0, ge=1)
    """Cap of a weight before it is scaled to mean 1."""
    head_cap: int | None = Field(None, ge=1)
    """Keep only the newest so many events of a head item; a user's last event always stays."""
    tail_copies: float = Field(1.0, ge=1, le=20)
    """Mean number of copies of a tail item's event (over-sampling)."""


class PopularityConfig(Section):
    """The popularity model."""

    half_life_share: float = Field(0.0, ge=0)
    """Recency half-life as a share of the log's positions; 0: all events count alike."""


class AlsPlainConfig(Section):
    """Plain MLlib ALS, the baseline of every claim, tuned on valid."""

    ranks: tuple[int, ...] = (64, 128)
    alphas: tuple[float, ...] = (1.0, 10.0, 40.0)
    reg_params: tuple[float, ...] = (0.1,)
    max_iter: int = Field(10, ge=1)
    n_blocks: int = Field(4, ge=1)
    checkpoint_interval: Literal[-1] | PositiveInt = 5
    max_tune_events: int = Field(200_000, ge=1)
    """The grid is fitted on at most so many events, of hashed users."""
    max_tune_users: int = Field(10_000, ge=1)
    """NDCG of a grid point is measured on at most so many users."""

    @model_validator(mode="after")
    def _small_grid(self) -> "AlsPlainConfig":
        if not 1 <= len(self.ranks) * len(self.alphas) * len(self.reg_params) <= 6:
            raise ValueError("als_plain.ranks x alphas x reg_params must make 1 to 6 points")
        return self


class AlsConfig(Section):
    """ALS with the weights of rebalance, and with text; what is null is taken from the tuned plain ALS."""

    rank: int | None = Field(None, ge=1)
    alpha: float | None = Field(None, gt=0)
    reg_param: float | None = Field(None, ge=0)
    max_iter: int = Field(10, ge=1)
    nonnegative: bool = False
    n_blocks: int = Field(4, ge=1)
    checkpoint_interval: Literal[-1] | PositiveInt = 5
    max_fit_events: int | None = Field(None, ge=1)
    """Above so many (user, item) pairs the fit sees a hash sample of users; the others are folded in. Null: all."""
    use_pseudo_events: bool = True
    """Whether the pseudo-events of context (S_U+) are learnt from, with their small confidence."""
    use_text: bool = True
    """Whether factors are mapped from the items' text where that is better on valid."""
    text_ridge: float = Field(1.0, gt=0)
    """Penalty of the regression from text vectors to factors."""
    text_supports: tuple[float, ...] = (0.0, 1.0, 3.0)
    """Values of s to try on valid: an item used n times keeps n / (n + s) of its learnt factors."""
    text_scales: tuple[float, ...] = (0.5, 1.0, 1.5)
    """Lengths of mapped factors to try, as multiples of the learnt ones' mean length."""
    max_tune_items: int = Field(50_000, ge=10)
    """They are chosen by a ranking of all items, or of a hash sample of so many and the targets."""

    @model_validator(mode="after")
    def _few_points(self) -> "AlsConfig":
        if not 1 <= len(self.text_supports) * len(self.text_scales) <= 24:
            raise ValueError("als.text_supports x text_scales must make 1 to 24 points")
        if min(self.text_supports) < 0 or min(self.text_scales) <= 0:
            raise ValueError("als.text_supports must be at least 0, and als.text_scales above 0")
        return self


class NeighboursConfig(Section):
    """Item neighbours by co-occurrence, near pairs and the order of events counting more."""

    n_neighbours: int = Field(100, ge=1)
    """Best neighbours kept an item."""
    pair_history: int = Field(200, ge=2, le=2_000)
    """Newest events of a user that make pairs."""
    max_lag: int = Field(50, ge=1, le=1_000)
    """Two events make a pair when at most so many positions apart."""
    lag_power: float = Field(0.5, ge=0, le=3)
    """A pair counts lag^-lag_power; 0: all pairs alike."""
    backward: float = Field(0.5, ge=0, le=1)
    """What a pair counts from the later item to the earlier one; 1: order means nothing."""
    shrinkage: float = Field(1.0, ge=0)
    """Similarity times c / (c + shrinkage), c the number of pairs: rare coincidences count less."""
    max_history: int = Field(50, ge=1)
    """Newest events of a user that speak for candidates."""
    decay: float = Field(0.8, gt=0, le=1)
    """An event counts decay^age, age in positions."""


class CandidatesConfig(Section):
    """Candidates of each model."""

    n: int = Field(100, ge=1, le=1_000)
    """Best items kept a user and model."""


class BlendConfig(Section):
    """The blend."""

    models: tuple[str, ...] = ("als", "neighbours", "semantic", "lexical", "bert", "popularity")
    """Models whose candidates are blended."""
    n: int = Field(50, ge=1, le=1_000)
    """Recommendations a user."""

    @field_validator("models")
    @classmethod
    def _known(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for name in models:
            if name not in MODELS:
                raise ValueError(
                    f"unknown model {name!r}: expected some of {', '.join(MODELS)}.{nearest(name, MODELS)}"
                )
        if not models or len(set(models)) < len(models):
            raise ValueError("expected at least one model, and none twice")
        return models


class TuneConfig(Section):
    """Choice of the blend weights on valid."""

    max_users: int = Field(10_000, ge=10)
    """Users of valid that the weights are fitted on."""
    k: int = Field(10, ge=1)
    """NDCG@k is maximised."""
    tail_importance: float = Field(1.0, ge=0)
    """The goal is NDCG of all + this x NDCG of the tail."""


class EvaluateConfig(Section):
    """Evaluation."""

    ks: tuple[int, ...] = (5, 10, 20)
    max_users: int = Field(200_000, ge=1)
    """Valid and test look at a hash sample of at most so many users."""
    recommend_seen: bool = False
    """Whether items that a user knows may be recommended, and count as targets."""
    n_replicates: int = Field(1_000, ge=100)
    """Replicates of the Poisson bootstrap."""
    user_columns: tuple[str, ...] | None = None
    """Columns of the users source by which users are grouped; null: all of ``source.users.columns.groups``."""
    min_group_users: int = Field(20, ge=1)
    """A group of fewer users is joined with others, so that no single person is shown."""


class GateConfig(Section):
    """When a variant is accepted (decided on valid only)."""

    max_overall_loss: float = Field(0.02, ge=0, le=1)
    """The lower 95 % bound of the overall difference must be above minus this share of the baseline."""
    max_head_loss: float = Field(0.10, ge=0, le=1)
    """The same for users whose target is head."""
    max_group_loss: float | None = Field(None, ge=0, le=1)
    """Refuse where a group's upper 95 % bound is below minus this share of its baseline; null: never for a group."""
    group_by: tuple[str, ...] | None = None
    """The groupings that bind; null: activity, tail_taste and the user columns."""
    override: Literal["none", "accept", "refuse"] = "none"
    """A person's word against the gate's: what was measured is recorded all the same."""


class ProduceConfig(Section):
    """The daily production run."""

    active_days: float | None = Field(None, gt=0)
    """Users active within so many days before the newest event get recommendations; null: all users."""
    max_age_days: float = Field(30.0, gt=0)
    """Accepted settings older than this bring a warning."""


class PublishConfig(Section):
    """The gold tables."""

    default_n: int = Field(50, ge=1)
    """Recommendations for users without history."""
    default_tail_share: float = Field(0.3, ge=0, le=1)
    """Share of mid and tail items among them."""
    n_similar: int = Field(20, ge=1)
    """Rows an item in gold.similar_items."""


class Config(Section):
    """The whole configuration."""

    core: CoreConfig = CoreConfig()
    tables: TablesConfig = TablesConfig()
    files: FilesConfig = FilesConfig()
    run: RunConfig = RunConfig()
    source: SourceConfig = SourceConfig()
    clean: CleanConfig = CleanConfig()
    split: SplitConfig = SplitConfig()
    segment: SegmentConfig = SegmentConfig()
    rebalance: RebalanceConfig = RebalanceConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    language_model: LanguageModelConfig = LanguageModelConfig()
    embed: EmbedConfig = EmbedConfig()
    describe: DescribeConfig = DescribeConfig()
    text_gate: TextGateConfig = TextGateConfig()
    embed_enriched: EmbedEnrichedConfig = EmbedEnrichedConfig()
    context: ContextConfig = ContextConfig()
    popularity: PopularityConfig = PopularityConfig()
    als_plain: AlsPlainConfig = AlsPlainConfig()
    als: AlsConfig = AlsConfig()
    neighbours: NeighboursConfig = NeighboursConfig()
    content: ContentConfig = ContentConfig()
    models: ModelsConfig = ModelsConfig()
    text_bert: TextBertConfig = TextBertConfig()
    bert: BertConfig = BertConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    tune: TuneConfig = TuneConfig()
    blend: BlendConfig = BlendConfig()
    rerank: RerankConfig = RerankConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    ledger: LedgerConfig = LedgerConfig()
    disturb: DisturbConfig = DisturbConfig()
    produce: ProduceConfig = ProduceConfig()
    publish: PublishConfig = PublishConfig()

    @model_validator(mode="after")
    def _groups_exist(self) -> "Config":
        check_groups(self)
        return self
