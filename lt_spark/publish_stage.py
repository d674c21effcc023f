"""What the stage publish reads, calls and writes."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core import tables as t
from lt_spark.core.runs import IN_PROGRESS
from lt_spark.frames.rules import without_blocked
from lt_spark.measure.lists import list_metrics
from lt_spark.models.popularity import item_popularity
from lt_spark.publish import gold
from lt_spark.publish.reasons import item_keywords
from lt_spark.stages import BASELINE, BLEND, Context, model_lists, rules_in_force

_RECENT = 0.1


def publish(c: Context) -> None:
    """Write the gold tables."""
    items, segments, popular = c.read(t.ITEMS), c.read(t.ITEM_SEGMENTS), c.config.popularity
    recommendations, run_date, rules = c.read(t.RECOMMENDATIONS), c.now.date(), rules_in_force(c)

    def put(table: t.Table, rows: DataFrame) -> None:
        c.write(table, gold.stamped(rows, c.storage.run_id, run_date))

    enrichments = c.storage.read_or_empty(t.ITEM_ENRICHMENTS) if c.config.describe.enabled else None
    keywords = item_keywords(items, enrichments, c.config.describe.separators)
    rows = gold.recommendations(recommendations, c.read(t.USERS), items, c.known, keywords, rules)
    put(t.GOLD_RECOMMENDATIONS, rows)
    recent = popular.model_copy(update={"half_life_share": popular.half_life_share or _RECENT})
    scores = item_popularity(c.known, recent).join(c.recommendable, "item_idx", "left_semi")
    pins = None
    if rules is not None:
        scores, pins = gold.with_rules(scores, rules), gold.pins(rules, c.recommendable)
    put(t.GOLD_RECOMMENDATIONS_DEFAULT, gold.recommendations_default(scores, items, segments, c.config.publish, pins))
    plain = c.read(t.CANDIDATES[BASELINE])
    put(t.GOLD_TAIL_ITEMS, gold.tail_items(recommendations, plain, items, without_blocked(segments, rules)))
    neighbours = gold.recommendable_neighbours(c.read(t.ITEM_NEIGHBOURS), c.recommendable)
    if rules is not None:
        neighbours = gold.without_blocked_neighbours(neighbours, rules)
    put(t.GOLD_SIMILAR_ITEMS, gold.similar_items(neighbours, items, c.config.publish.n_similar))
    # the tables that grow by run come last, without the rows of a run that was killed before it was recorded
    for table in (t.GOLD_METRICS, t.GOLD_GROUP_METRICS, t.GOLD_TAIL_HEALTH):
        if unfinished := _unfinished_runs(c, table):
            c.storage.delta(table).delete(F.col("run_id").isin(*unfinished))
    if c.storage.exists(t.METRICS):
        put(t.GOLD_METRICS, c.storage.read(t.METRICS))
    if c.storage.exists(t.GROUP_METRICS):
        put(t.GOLD_GROUP_METRICS, c.storage.read(t.GROUP_METRICS))
    lists = model_lists(c, (BASELINE, BLEND))
    put(t.GOLD_TAIL_HEALTH, list_metrics(lists, segments, c.config.evaluate.ks))


def _unfinished_runs(c: Context, table: t.Table) -> list[str]:
    """Return the ids of runs that wrote a table and did not end: those killed since the last, and this run's own."""
    if not c.storage.exists(table):
        return []
    is_done = (F.col("stage") == c.stage) & (F.col("stage_key") != IN_PROGRESS) & (F.col("run_id") != c.storage.run_id)
    done = c.storage.read_or_empty(t.STAGE_RUNS).where(is_done).select("run_id")
    runs = c.storage.read(table).select("run_id").distinct()
    return [row["run_id"] for row in runs.join(done, "run_id", "left_anti").collect()]
