"""What the stage als does with tables; models/als.py says how it is fitted, models/als_text.py how text reaches it."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.content_stage import item_vectors
from lt_spark.core import tables as t
from lt_spark.frames import leakage
from lt_spark.frames.as_candidates import as_candidates
from lt_spark.frames.known import hash_uniform
from lt_spark.frames.top_k import top_k
from lt_spark.models import als as als_model
from lt_spark.models import als_text as text
from lt_spark.stages import Context, plain_settings

MODEL = "als"
_K = 10
_MAX_TARGETS = 10
"""Of a user with more a hash sample is asked for."""


@dataclass(frozen=True)
class _Fitted:
    """Factors, as files.

    Attributes:
        users: (user_idx, vector).
        items: (item_idx, vector).
    """

    users: DataFrame
    items: DataFrame


def als(c: Context) -> None:
    """Recommend by ALS on the rebalanced and pseudo-events, with item factors that text brings where they are few."""
    settings = als_model.als_settings(plain_settings(c), c.config)
    with c.scratch("users") as users, c.scratch("items") as items, c.scratch("mapped") as mapped:
        ratings = _ratings(c)
        fitted = _fit(c, ratings, settings, users, items)
        vectors = _with_text(c, fitted, mapped)
        asked = _user_factors(c, fitted, ratings, vectors, settings).join(c.seen, "user_idx", "left")
        allowed = vectors.join(c.recommendable, "item_idx", "left_semi")
        with c.scratch("factors") as folder:
            n_items = c.read(t.ITEMS).count()
            ranked = top_k(
                asked.select("user_idx", "vector", "seen"),
                allowed,
                c.config.candidates.n,
                scratch=folder,
                n_items=n_items,
            )
            c.write(t.CANDIDATES[MODEL], as_candidates(ranked, MODEL, c.fold))


def _ratings(c: Context) -> DataFrame:
    """Return (user_idx, item_idx, rating): rebalanced events and, with their small confidence, pseudo-events."""
    ratings = als_model.rebalanced_ratings(c.read(t.INTERACTIONS_REBALANCED))
    leakage.check_pairs(ratings, c.read(t.INTERACTIONS_SPLIT), c.fold, is_plain=False)
    if not (c.config.context.enabled and c.config.als.use_pseudo_events):
        return ratings
    pseudo = c.read(t.INTERACTIONS_AUGMENTED).where("is_augmented")
    more = pseudo.select("user_idx", "item_idx", F.col("weight").alias("rating"))
    return ratings.unionByName(more).groupBy("user_idx", "item_idx").agg(F.sum("rating").alias("rating"))


def _fit(
    c: Context, ratings: DataFrame, settings: als_model.AlsSettings, users_folder: str, items_folder: str
) -> _Fitted:
    most = c.config.als.max_fit_events
    if most is not None:
        share = min(1.0, most / max(ratings.count(), 1))
        ratings = ratings.where(hash_uniform("fit_als", c.config.core.seed, "user_idx") < F.lit(share))
    users, items = als_model.fit_factors(ratings, settings)
    users.write.mode("overwrite").parquet(users_folder)
    items.write.mode("overwrite").parquet(items_folder)
    return _Fitted(c.spark.read.parquet(users_folder), c.spark.read.parquet(items_folder))


def _with_text(c: Context, fitted: _Fitted, folder: str) -> DataFrame:
    """Return (item_idx, vector): item factors, with those that text speaks for where valid says that they help."""
    section = c.config.als
    rows = _described(c, fitted) if section.use_text else None
    n_tasks = _sum_tasks(c, fitted) if section.use_text else 0
    # at most core.max_driver_bytes
    sums = text.normal_equations(rows, n_tasks).collect() if rows is not None and n_tasks else []
    factor_map = text.fit_map([tuple(row) for row in sums], section.text_ridge)
    if rows is None or factor_map is None:
        if c.fold == "valid":
            c.write_rows(t.ALS_TEXT, [(c.fold, text.NO_TEXT.support, text.NO_TEXT.scale, None, None, True)])
        return fitted.items
    text.mapped_factors(rows, factor_map).write.mode("overwrite").parquet(folder)
    factors = c.spark.read.parquet(folder)
    point = _choose(c, fitted, factors) if c.fold == "valid" else _chosen(c)
    return text.blended_factors(factors, point)


def _sum_tasks(c: Context, fitted: _Fitted) -> int:
    """Return how many partial sums the driver has room for; 0 where there are no vectors, or too long ones."""
    vector, factors = item_vectors(c).first(), fitted.items.first()
    if vector is None or factors is None:
        return 0
    size, limit = len(vector["vector"]), c.config.core.max_driver_bytes
    n_tasks = text.sum_tasks(size, len(factors["vector"]), limit)
    if not n_tasks:
        c.notes.append(
            f"als ({c.fold}): text is left out: the sums of vectors of {size:,} numbers are above "
            f"core.max_driver_bytes ({limit:,})"
        )
    return n_tasks


def _described(c: Context, fitted: _Fitted) -> DataFrame:
    """Return (item_idx, n_known, is_recommendable, text, learnt): a row an item of the catalogue."""
    known = c.read(t.ITEM_SEGMENTS).select("item_idx", F.col("n_interactions").alias("n_known"))
    allowed = c.recommendable.select("item_idx", F.lit(True).alias("is_recommendable"))
    return (
        known.join(item_vectors(c).withColumnRenamed("vector", "text"), "item_idx", "left")
        .join(fitted.items.withColumnRenamed("vector", "learnt"), "item_idx", "left")
        .join(allowed, "item_idx", "left")
        .fillna(False, ["is_recommendable"])
    )


def _choose(c: Context, fitted: _Fitted, factors: DataFrame) -> text.TextPoint:
    """Try the points on valid by overall + ``tune.tail_importance`` x tail NDCG, write them, and return the best."""
    section, seed = c.config.als, c.config.core.seed
    tried = text.points(section)
    asked = c.targets.select("user_idx").distinct().orderBy(hash_uniform("tune_als_users", seed, "user_idx"))
    some_first = Window.partitionBy("user_idx").orderBy(hash_uniform("tune_als_targets", seed, "item_idx"), "item_idx")
    targets = (
        c.targets.join(asked.limit(c.config.als_plain.max_tune_users), "user_idx", "left_semi")
        .withColumn("nth", F.row_number().over(some_first))
        .where(F.col("nth") <= _MAX_TARGETS)
        .select("user_idx", F.col("item_idx").alias("target_idx"), (F.col("segment_top20") == "tail").alias("is_tail"))
    )
    questions = targets.join(fitted.users, "user_idx").join(c.seen, "user_idx", "left")
    with c.scratch("gains") as folder:
        gains = text.point_gains(questions, factors, tried, _K, section.max_tune_items, seed, scratch=folder)
        # by user first: one with many targets is one user
        of_tail = F.when(F.col("is_tail"), F.col("gains"))
        by_user = gains.groupBy("user_idx").agg(
            *(F.avg(F.col("gains")[place]).alias(f"point_{place}") for place in range(len(tried))),
            *(F.avg(of_tail[place]).alias(f"tail_{place}") for place in range(len(tried))),
        )
        row = by_user.agg(*(F.avg(name).alias(name) for name in by_user.columns if name != "user_idx")).collect()[0]
    reached = [(row[f"point_{place}"] or 0.0, row[f"tail_{place}"] or 0.0) for place in range(len(tried))]
    goals = [overall + c.config.tune.tail_importance * of_tail for overall, of_tail in reached]
    best = max(range(len(tried)), key=lambda place: (goals[place], -place))
    rows: list[tuple[object, ...]] = [
        (c.fold, point.support, point.scale, *reached[place], place == best) for place, point in enumerate(tried)
    ]
    c.write_rows(t.ALS_TEXT, rows)
    return tried[best]


def _chosen(c: Context) -> text.TextPoint:
    row = c.storage.read_or_empty(t.ALS_TEXT, "valid").where("is_chosen").first()
    return text.TextPoint(row["support"], row["scale"]) if row is not None else text.NO_TEXT


def _user_factors(
    c: Context, fitted: _Fitted, ratings: DataFrame, vectors: DataFrame, settings: als_model.AlsSettings
) -> DataFrame:
    """Return (user_idx, vector) of the fold's users; those whom the fit did not see are folded in."""
    learnt = c.users.join(fitted.users, "user_idx")
    if c.config.als.max_fit_events is None:
        return learnt
    missing = c.users.join(fitted.users, "user_idx", "left_anti")
    gram = text.gram([row["sums"] for row in text.gram_sums(vectors).collect()])  # at most 16 rows of rank^2 numbers
    return learnt.unionByName(text.fold_in(ratings.join(missing, "user_idx", "left_semi"), vectors, gram, settings))
