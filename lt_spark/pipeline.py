"""The story on one page: every stage, what it reads, what it writes; the EVALUATE and PRODUCE passes.

    sources -> clean -> embed, rules
                     -> split -> segment -> describe -> embed_enriched -> context
                                         -> rebalance -> popularity, als_plain, als, neighbours -> text_bert -> content
                                                      -> bert -> tune -> blend -> evaluate -> groups -> gate
                                                      -> publish -> gold

EVALUATE runs every stage on fold valid (where everything is chosen), then on fold test (which decides nothing). PRODUCE
runs fold live with the newest accepted settings: the daily command.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from lt_spark import als_stage as als_s
from lt_spark import bert_stage as bs
from lt_spark import blend_stage as ls
from lt_spark import content_stage as ct
from lt_spark import context_stage as cs
from lt_spark import describe_stage as ds
from lt_spark import enrich_stages as es
from lt_spark import group_stage as gs
from lt_spark import publish_stage as ps
from lt_spark import stages as s
from lt_spark import text_bert_stage as ts
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, nearest
from lt_spark.core.section import Section

Purpose = Literal["evaluate", "produce", "both"]
EVALUATE, PRODUCE = ("valid", "test"), ("live",)


@dataclass(frozen=True)
class Stage:
    """A stage: one word, what it reads and writes, in which folds it runs, which settings it obeys."""

    name: str
    title: str
    reads: tuple[t.Table, ...]
    writes: tuple[t.Table, ...]
    run: Callable[[s.Context], None]
    sections: tuple[str, ...] = ()
    """Sections of the configuration, or keys of them (``blend.n``)."""
    folds: tuple[str, ...] = t.FOLDS
    """Empty: once, for all folds."""
    reads_live: tuple[t.Table, ...] = ()
    """What fold live reads besides: tables that the EVALUATE pass wrote."""
    reads_valid: tuple[t.Table, ...] = ()
    """What it reads of fold valid in every fold: tables that know the train fold only."""
    is_on: Callable[[Config], bool] = lambda config: True
    """Whether the configuration wants it; a stage that is off is left out, and what it wrote before stays."""
    once_a_run: bool = False
    """Whether a run does it in the first of its folds only: what it writes has no fold."""
    runs_network: bool = False
    """Whether it runs or trains a network, by all cores or the GPU."""
    after_all: bool = False
    """Whether it waits for every stage before it, whatever it reads."""


CANDIDATES, EMBEDDINGS = t.CANDIDATES, tuple(t.EMBEDDINGS.values())
STAGES: tuple[Stage, ...] = (
    Stage(
        "clean",
        "Read the sources, refuse what cannot be used, number users and items",
        (),
        (t.REJECTED_ROWS, t.CLEAN_REPORT, t.USERS, t.USER_ATTRIBUTES, t.ITEMS, t.INTERACTIONS),
        s.clean,
        ("source.interactions", "source.items", "source.users", "source.triples", "source.links", "clean"),
        (),
    ),
    Stage(
        "rules",
        "Read what the shop pins, blocks and boosts",
        (t.ITEMS, t.USERS),
        (t.BUSINESS_RULES, t.REJECTED_RULES),
        ls.rules,
        ("source.rules", "blend.n", "clean.max_title_chars"),
        (),
        is_on=ls.rules_are_on,
    ),
    Stage(
        "embed",
        "Vectors of the items' own text",
        (t.ITEMS,),
        (t.ITEM_EMBEDDINGS,),
        es.embed,
        ("embed", "disturb.text", "disturb.typo_share"),
        (),
        is_on=es.embed_is_on,
        runs_network=True,
    ),
    Stage(
        "split",
        "Train, valid, test",
        (t.INTERACTIONS,),
        (t.INTERACTIONS_SPLIT,),
        s.split,
        ("split", "disturb.drop_share"),
        (),
    ),
    Stage(
        "segment",
        "Head, mid, tail, cold in each fold",
        (t.INTERACTIONS_SPLIT, t.ITEMS),
        (t.ITEM_SEGMENTS,),
        s.segment,
        ("segment",),
    ),
    Stage(
        "describe",
        "Let the language model describe tail and cold items",
        (t.ITEMS, t.ITEM_EMBEDDINGS, t.INTERACTIONS_SPLIT),
        (t.PROMPT_EXAMPLES, t.ITEM_ENRICHMENTS, t.ENRICHMENT_STAGING, t.ENRICHMENT_REPORT),
        ds.describe,
        ("describe", "language_model", "text_gate", "embed"),
        ("valid", "live"),
        reads_valid=(t.ITEM_SEGMENTS,),
        is_on=es.describe_is_on,
        once_a_run=True,
        runs_network=True,
    ),
    Stage(
        "embed_enriched",
        "Vectors of the items' own and written text, where the text was shown to help",
        (t.ITEMS, t.ITEM_EMBEDDINGS, t.ITEM_ENRICHMENTS, t.INTERACTIONS_SPLIT),
        (t.TEXT_VERDICT, t.ITEM_EMBEDDINGS_ENRICHED),
        es.embed_enriched,
        ("embed", "embed_enriched", "disturb.text", "disturb.typo_share"),
        ("valid", "live"),
        is_on=es.embed_is_on,
        once_a_run=True,
        runs_network=True,
    ),
    Stage(
        "context",
        "Let the language model read histories, and add tail items that they speak for",
        (t.INTERACTIONS_SPLIT, t.ITEMS, t.ITEM_SEGMENTS, t.ITEM_EMBEDDINGS, t.ITEM_EMBEDDINGS_ENRICHED),
        (t.USER_CONTEXTS, t.CONTEXT_STAGING, t.INTERACTIONS_AUGMENTED, t.ENRICHMENT_REPORT),
        cs.context,
        ("context", "language_model", "text_gate", "embed", "describe", "privacy"),
        runs_network=True,
    ),
    Stage(
        "rebalance",
        "Weigh the log so that rare items are learnt too",
        (t.INTERACTIONS_SPLIT, t.ITEM_SEGMENTS),
        (t.INTERACTIONS_REBALANCED, t.REBALANCE_REPORT),
        s.rebalance,
        ("rebalance",),
    ),
    Stage(
        "popularity",
        "Candidates: what is most used",
        (t.INTERACTIONS_SPLIT, t.ITEMS),
        (CANDIDATES["popularity"],),
        s.popularity,
        ("popularity", "candidates", "evaluate", "produce"),
    ),
    Stage(
        "tune_als",
        "Choose plain ALS's settings on valid",
        (t.INTERACTIONS_SPLIT, t.ITEMS, t.ITEM_SEGMENTS),
        (t.ALS_SETTINGS,),
        s.tune_als,
        ("als_plain", "evaluate", "tune"),
        ("valid",),
    ),
    Stage(
        "als_plain",
        "Candidates: plain MLlib ALS, the baseline",
        (t.INTERACTIONS_SPLIT, t.ITEMS, t.ALS_SETTINGS),
        (CANDIDATES["als_plain"],),
        s.als_plain,
        ("als_plain", "candidates", "evaluate", "produce"),
    ),
    Stage(
        "neighbours",
        "Similar items, and candidates by them",
        (t.INTERACTIONS_SPLIT, t.ITEMS),
        (t.ITEM_NEIGHBOURS, CANDIDATES["neighbours"]),
        s.neighbours,
        ("neighbours", "candidates", "evaluate", "produce"),
    ),
    Stage(
        "text_bert",
        "Teach the sentence encoder to recommend; vectors and candidates",
        # test and live read their number of epochs of TEXT_BERT_EPOCHS of fold valid, which is its own table: it is not
        # named here, for what changes valid's epochs (settings, code, the log's tables) changes these folds' keys too
        (
            t.INTERACTIONS_SPLIT,
            t.ITEMS,
            t.ITEM_SEGMENTS,
            t.INTERACTIONS_REBALANCED,
            t.ITEM_NEIGHBOURS,
            t.TEXT_VERDICT,
            t.ITEM_ENRICHMENTS,
        ),
        (t.ITEM_EMBEDDINGS_TUNED, t.TEXT_BERT_EPOCHS, t.TEXT_BERT_REPORT, CANDIDATES["text_bert"]),
        ts.text_bert,
        ("text_bert", "embed", "disturb.text", "disturb.typo_share", "tune", "candidates", "evaluate", "produce"),
        is_on=ts.text_bert_is_on,
        runs_network=True,
    ),
    Stage(
        "als",
        "Candidates: ALS on the rebalanced log, with text",
        # test and live read what valid chose of ALS_TEXT, its own table: what changes it changes their keys too
        (
            t.INTERACTIONS_REBALANCED,
            t.INTERACTIONS_AUGMENTED,
            t.INTERACTIONS_SPLIT,
            t.ITEMS,
            t.ITEM_SEGMENTS,
            t.ALS_SETTINGS,
            *EMBEDDINGS,
        ),
        (t.ALS_TEXT, CANDIDATES["als"]),
        als_s.als,
        ("als", "als_plain", "context", "models", "tune", "candidates", "evaluate", "produce"),
    ),
    Stage(
        "content",
        "Items alike by meaning and by words, and candidates by them",
        (t.INTERACTIONS_SPLIT, t.ITEMS, t.ITEM_ENRICHMENTS, t.TEXT_VERDICT, *EMBEDDINGS),
        (t.CONTENT_NEIGHBOURS, CANDIDATES["semantic"], CANDIDATES["lexical"]),
        ct.content,
        ("content", "disturb.text", "disturb.typo_share", "models", "candidates", "evaluate", "produce"),
        is_on=ct.content_is_on,
    ),
    Stage(
        "tune_bert",
        "Train the sequence model on valid, and choose its objective and epochs",
        (
            t.INTERACTIONS_AUGMENTED,
            t.INTERACTIONS_REBALANCED,
            t.INTERACTIONS_SPLIT,
            t.ITEMS,
            t.ITEM_SEGMENTS,
            *EMBEDDINGS,
        ),
        (t.BERT_EPOCHS,),
        bs.tune_bert,
        ("bert", "models", "evaluate"),
        ("valid",),
        is_on=bs.bert_is_on,
        runs_network=True,
    ),
    Stage(
        "bert",
        "Candidates: the sequence model",
        (
            t.INTERACTIONS_AUGMENTED,
            t.INTERACTIONS_REBALANCED,
            t.INTERACTIONS_SPLIT,
            t.ITEMS,
            t.ITEM_SEGMENTS,
            *EMBEDDINGS,
            t.BERT_EPOCHS,
        ),
        (CANDIDATES["bert"],),
        bs.bert,
        ("bert", "models", "candidates", "evaluate", "produce"),
        is_on=bs.bert_is_on,
        runs_network=True,
    ),
    Stage(
        "tune",
        "Choose the blend weights on valid",
        (*CANDIDATES.values(), t.INTERACTIONS_SPLIT, t.ITEM_SEGMENTS),
        (t.BLEND_WEIGHTS,),
        s.tune,
        ("tune", "blend"),
        ("valid",),
    ),
    Stage(
        "blend",
        "Blend the candidates into recommendations, with reasons",
        (*CANDIDATES.values(), t.BLEND_WEIGHTS, t.ITEM_SEGMENTS, t.ITEMS),
        (t.RECOMMENDATIONS, t.RERANK_REPORT),
        ls.blend,
        ("blend", "rerank"),
        reads_live=(t.ACCEPTED_SETTINGS, t.BUSINESS_RULES, t.INTERACTIONS_SPLIT),
    ),
    Stage(
        "evaluate",
        "Measure everything against plain ALS, by segment, with intervals",
        (t.RECOMMENDATIONS, *CANDIDATES.values(), t.INTERACTIONS_SPLIT, t.ITEM_SEGMENTS),
        (t.USER_METRICS, t.METRICS),
        s.evaluate,
        ("evaluate",),
        EVALUATE,
    ),
    Stage(
        "groups",
        "Who gains and who loses: measure everything by group of users",
        (t.USER_METRICS, t.INTERACTIONS_SPLIT, t.ITEM_SEGMENTS, t.USER_ATTRIBUTES),
        (t.USER_GROUPS, t.GROUP_METRICS),
        gs.groups,
        ("evaluate",),
        EVALUATE,
    ),
    Stage(
        "gate",
        "Decide on valid whether produce may use the blend",
        (t.METRICS, t.GROUP_METRICS),
        (t.ACCEPTED_SETTINGS,),
        s.gate,
        ("gate",),
        ("valid",),
    ),
    Stage(
        "publish",
        "Write the gold tables that people and BI read",
        (
            t.RECOMMENDATIONS,
            CANDIDATES["als_plain"],
            t.ITEM_NEIGHBOURS,
            t.ITEM_ENRICHMENTS,
            t.INTERACTIONS_SPLIT,
            t.ITEM_SEGMENTS,
            t.ITEMS,
            t.USERS,
            t.BUSINESS_RULES,
        ),
        (
            t.GOLD_RECOMMENDATIONS,
            t.GOLD_RECOMMENDATIONS_DEFAULT,
            t.GOLD_TAIL_ITEMS,
            t.GOLD_SIMILAR_ITEMS,
            t.GOLD_METRICS,
            t.GOLD_GROUP_METRICS,
            t.GOLD_TAIL_HEALTH,
        ),
        ps.publish,
        ("publish", "popularity", "describe"),
        PRODUCE,
        after_all=True,
    ),
)
_MODELS_OF_VECTORS = ("als", "content", "tune_bert", "bert")
_ONLY_OF_GROUPS = {"evaluate": {"user_columns", "min_group_users"}}
"""Keys of sections that many stages obey, and these alone the stage groups."""
STAGE_NAMES = tuple(stage.name for stage in STAGES)


def chosen_stages(stages: Sequence[str] | None, first: str | None, last: str | None) -> list[Stage]:
    """Return the stages to run, in order.

    Raises:
        ConfigError: for a name that is not a stage, or a first stage after the last.
    """
    for name in (*(stages or ()), *((first,) if first else ()), *((last,) if last else ())):
        if name not in STAGE_NAMES:
            raise ConfigError(
                f"unknown stage {name!r}: expected one of {', '.join(STAGE_NAMES)}.{nearest(name, STAGE_NAMES)}"
            )
    low = STAGE_NAMES.index(first) if first else 0
    high = STAGE_NAMES.index(last) if last else len(STAGES) - 1
    if low > high:
        raise ConfigError(f"stage {first!r} comes after {last!r}: expected --from at or before --to")
    return [stage for stage in STAGES[low : high + 1] if not stages or stage.name in stages]


def settings_of(stage: Stage, config: Config) -> list[Any]:
    """Return the settings that a stage obeys, as what JSON can hold: a mapping a section, or a key's value."""
    if stage.name == "context" and not config.context.enabled:
        return [config.context.enabled]
    left_out: dict[str, set[str]] = {} if stage.name == "groups" else _ONLY_OF_GROUPS
    values = [(name, reduce(getattr, name.split("."), config)) for name in stage.sections]
    # content writes a table for each of its models in the blend
    return [
        value.model_dump(exclude=left_out.get(name)) if isinstance(value, Section) else value for name, value in values
    ] + (ct.kinds(config) if stage.name == "content" else [])


def tables_read(stage: Stage, fold: str, config: Config) -> list[tuple[t.Table, str]]:
    """Return the tables that a stage reads in a fold, each with the fold of it that is read.

    Of the candidate tables only those of configured models, of the vectors that models read only the chosen ones, and
    for context, where it is off, the log only.
    """
    models = {*config.blend.models, s.BASELINE}
    unused = {table for name, table in CANDIDATES.items() if name not in models}
    if stage.name in _MODELS_OF_VECTORS:
        unused |= {table for name, table in t.EMBEDDINGS.items() if name != config.models.embeddings}
    if stage.name == "context" and not config.context.enabled:  # it hands the log on
        unused |= {*stage.reads} - {t.INTERACTIONS_SPLIT}
    reads = [table for table in stage.reads if table not in unused]
    reads += stage.reads_live if fold == "live" else ()
    return [*((table, fold) for table in reads), *((table, "valid") for table in stage.reads_valid)]
