"""What the stages rules and blend do with tables; rank/ says how lists are blended and re-ranked."""

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.config_rerank import RerankConfig
from lt_spark.core.errors import ConfigError, DataError, SourceError, nearest
from lt_spark.core.versions import observes_delta
from lt_spark.frames.rules import arranged_items
from lt_spark.prepare import business_rules as cleaning
from lt_spark.prepare.sources import read_source
from lt_spark.prepare.strict_csv import UNREADABLE
from lt_spark.rank import reach as reaching
from lt_spark.rank import rerank as reranking
from lt_spark.rank import rerank_report as telling
from lt_spark.rank.blend import blend as blend_candidates
from lt_spark.rank.blend import scored
from lt_spark.rank.features import ALL_USERS
from lt_spark.rank.user_lists import Settings
from lt_spark.rank.user_rules import user_rules
from lt_spark.stages import BASELINE, Context, accepted_model, rules_in_force


def rules_are_on(config: Config) -> bool:
    """Return whether the shop has rules."""
    return bool(config.source.rules.path)


def check_config(config: Config) -> None:
    """Check what the re-ranking asks of other sections.

    Raises:
        ConfigError: the cap is about an attribute that items do not have.
    """
    section, triples = config.rerank, config.source.triples
    named = (*config.source.items.columns.text, *(triples.relations if triples.path else ()))
    is_any = bool(triples.path) and not triples.relations
    if section.cap is not None and section.cap_field not in named and not is_any:
        raise ConfigError(
            f"rerank.cap_field is {section.cap_field!r}: expected one of source.items.columns.text and "
            f"source.triples.relations ({', '.join(named) or 'none'}).{nearest(section.cap_field, named)} Add it there "
            "or name another."
        )


def rules(c: Context) -> None:
    """Read the shop's rules, and refuse what cannot be used."""
    source = c.config.source.rules
    checked = cleaning.checked_rules(
        read_source(c.spark, source, "rules"),
        c.read(t.ITEMS),
        c.read(t.USERS),
        source,
        c.config.blend.n,
        c.config.clean.max_title_chars,
    ).persist()
    try:
        c.write(t.REJECTED_RULES, cleaning.rejected_rules(checked))
        rejected = c.read(t.REJECTED_RULES)
        broken = rejected.where(F.startswith("reason", F.lit(UNREADABLE))).first()
        if broken is not None:
            raise SourceError(f"source.rules: {broken['reason']}")
        most_first = rejected.groupBy("reason").count().orderBy(F.desc("count"), "reason")
        refused = {row["reason"]: row["count"] for row in most_first.limit(20).collect()}
        c.write(t.BUSINESS_RULES, cleaning.business_rules(checked))
    finally:
        checked.unpersist()
    n_kept, n_refused = c.rows[t.BUSINESS_RULES.full_name], c.rows[t.REJECTED_RULES.full_name]
    if n_refused:
        told = "; ".join(f"{n:,} {reason}" for reason, n in refused.items())
        c.notes.append(
            f"warning: {n_refused:,} of {n_kept + n_refused:,} business rules were refused and are not in force: "
            f"{told}. silver.rejected_rules says which."
        )


def blend(c: Context) -> None:
    """Blend all models' candidates into recommendations; re-rank them where the configuration or rules ask for it."""
    models, weights, section = c.config.blend.models, c.read(t.BLEND_WEIGHTS), c.config.rerank
    if c.fold == "live" and accepted_model(c) == BASELINE:
        models, section = (BASELINE,), RerankConfig(reach_share=0)
        weights = c.spark.createDataFrame([(ALL_USERS, BASELINE, 1.0, 0.0)], t.BLEND_WEIGHTS.schema)
    _check_models(weights, models)
    candidates = [c.read(t.CANDIDATES[name]) for name in models]
    segments, seed, in_force = c.read(t.ITEM_SEGMENTS), c.config.core.seed, rules_in_force(c)
    settings = reranking.settings(section, c.config.blend.n, has_rules=in_force is not None)
    groups = None
    if settings.rules:
        cap_field = section.cap_field if section.cap is not None else ""
        facts = reranking.item_facts(segments, c.read(t.ITEMS), cap_field, in_force)
        groups = facts.select("item_idx", "group") if cap_field else None
        rows = scored(candidates, weights, facts, seed, c.fold)
        of_users = None if in_force is None else _user_rules(c, in_force)
        lists = reranking.rerank(rows, of_users, settings, c.fold)
    else:
        lists = blend_candidates(candidates, weights, segments, c.config.blend.n, seed, c.fold)
    _write_and_tell(c, lists, settings, section, groups, None if in_force is None else arranged_items(in_force))


def _check_models(weights: DataFrame, models: tuple[str, ...]) -> None:
    """Check that the weights are those of the models."""
    found = {row["model_name"] for row in weights.select("model_name").distinct().collect()}  # a row a model
    if found != set(models):
        raise DataError(
            f"silver.blend_weights are of other models: expected {', '.join(sorted(models))}, found "
            f"{', '.join(sorted(found)) or 'none'}. A run ended between tune and gate, or blend.models changed: run "
            "with --purpose evaluate."
        )


def _user_rules(c: Context, in_force: DataFrame) -> DataFrame:
    known = c.known.select("user_idx", "item_idx")
    seen = known.limit(0) if c.config.evaluate.recommend_seen else known
    return user_rules(in_force, c.users, seen, c.recommendable, c.read(t.ITEM_SEGMENTS))


def _write_exchanged(
    c: Context, written: DataFrame, section: RerankConfig, groups: DataFrame | None, arranged: DataFrame | None
) -> telling.Report:
    """Write lists with a place exchanged where that lets an item reach its first user; return the report."""
    before = reaching.sums(written, section.reach_k)
    chosen = reaching.exchanges(written, section, int(before["users"]), groups, arranged).persist()
    try:
        of_reach = reaching.report(before, chosen, c.fold)
        c.write(t.RECOMMENDATIONS, reaching.exchanged(written, chosen, section))
    finally:
        chosen.unpersist()
    return of_reach


def _write_and_tell(
    c: Context,
    lists: DataFrame,
    settings: Settings,
    section: RerankConfig,
    groups: DataFrame | None,
    arranged: DataFrame | None,
) -> None:
    """Write the lists, what they cost added up on the way, and the report."""
    summed = Observation()
    if settings.rules:
        lists = lists.observe(summed, *telling.summed(settings)).where(F.col("rank").isNotNull())
    of_reach: telling.Report = []
    # what is observed on the way into a file is told of, where what is observed on the way into a table is not
    if section.reach_share > 0 or (settings.rules and not observes_delta(c.spark.version)):
        with c.scratch("lists") as folder:
            lists.select(*t.RECOMMENDATIONS.column_names).write.parquet(folder)
            written = c.spark.read.parquet(folder)
            if section.reach_share > 0:
                of_reach = _write_exchanged(c, written, section, groups, arranged)
            else:
                c.write(t.RECOMMENDATIONS, written)
    else:
        c.write(t.RECOMMENDATIONS, lists)
    rows: telling.Report = []
    if settings.rules:
        totals = summed.get
        rows = telling.report([float(totals[f"s{place}"] or 0.0) for place in range(len(totals))], settings, c.fold)
    sentences = telling.in_words(rows)
    if of_reach:
        sentences.append(reaching.in_words(of_reach))
    if rows or of_reach or c.storage.exists(t.RERANK_REPORT):
        c.write_rows(t.RERANK_REPORT, [*rows, *of_reach])
    c.notes += [f"blend ({c.fold}): {sentence}" for sentence in sentences]
