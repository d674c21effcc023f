"""What the text model learns from and is judged by, as rows: pairs, users of valid, the catalogue. Pure Spark."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.frames.known import hash_uniform, histories

_NEAR = 20
"""A target's neighbours that are looked at for hard negatives; the user may know some."""


def with_keywords(texts: DataFrame, enrichments: DataFrame) -> DataFrame:
    """Return the texts with the keywords (K_L) of the language model that passed, where an item has some.

    Args:
        texts: (item_idx, text).
        enrichments: ``silver.item_enrichments``; of rows that are not current, refused or fallbacks nothing is taken.

    Returns:
        (item_idx, text): a row for each row of ``texts``.
    """
    passed = F.col("is_current") & ((F.col("status") == "accepted") | F.col("has_own_keywords"))
    keywords = (
        enrichments.where(passed & (F.size("keywords") > 0))
        .groupBy("item_idx")
        .agg(F.min_by(F.concat_ws(", ", "keywords"), "key").alias("keywords"))
    )
    own = F.when(F.trim("text") != "", F.col("text"))
    # first, for what reads a text cuts off the end of a long one
    text = F.concat_ws(". ", "keywords", own)
    return texts.join(keywords, "item_idx", "left").select("item_idx", text.alias("text"))


def with_text(rows: DataFrame, texts: DataFrame) -> DataFrame:
    """Return the rows whose item has a text: an item without one says nothing here, as history or as target."""
    return rows.join(texts.where(F.trim("text") != "").select("item_idx"), "item_idx", "left_semi")


def training_pairs(
    known_interactions: DataFrame,
    texts: DataFrame,
    section: TextBertConfig,
    seed: int,
    *,
    weights: DataFrame | None = None,
    head: DataFrame | None = None,
    repeats: bool = False,
) -> DataFrame:
    """Return (history, next item) pairs: one for each known event after a user's first, of items with a text.

    Args:
        known_interactions: events of the fold, as ``frames.known.known`` gives them.
        texts: (item_idx, text).
        section: section ``text_bert``.
        seed: seed of the sample.
        weights: ``silver.interactions_rebalanced`` of the fold: what it lacks is no target; None: all weigh 1.
        head: (item_idx) of the items that may be targets; None: all.
        repeats: whether an item that the user had before may be a target.

    Returns:
        (user_idx, event_order, history array<int>, item_idx, weight double, is_held_out): ``history`` holds at most
        ``section.history_items`` items before the target, oldest first, at least one. ``is_held_out``: kept from the
        encoder, for the classifier. A hash sample of at most ``section.max_pairs`` rows.
    """
    ordered = Window.partitionBy("user_idx").orderBy("event_order")
    before = ordered.rowsBetween(-section.history_items, -1)
    first = Window.partitionBy("user_idx", "item_idx").orderBy("event_order")
    pairs = (
        with_text(known_interactions, texts)
        .select("user_idx", "item_idx", "event_order")
        # collect_list after a window may lose the order
        .withColumn("events", F.array_sort(F.collect_list(F.struct("event_order", "item_idx")).over(before)))
        .withColumn("nth", F.row_number().over(first))
        .where(F.size("events") > 0)
        .withColumn("history", F.col("events.item_idx"))
    )
    if not repeats:
        pairs = pairs.where(F.col("nth") == 1)
    if head is not None:
        pairs = pairs.join(head, "item_idx", "left_semi")
    weight: Column = F.lit(1.0)
    if weights is not None:
        counted = (F.col("weight") * F.col("n_copies")).alias("weight")
        pairs = pairs.join(weights.select("user_idx", "event_order", counted), ["user_idx", "event_order"])
        weight = F.col("weight")
    held_out = hash_uniform("text_bert_classify", seed, "user_idx", "event_order") < section.classify_share
    sample = F.xxhash64(F.lit("text_bert_pairs"), F.lit(seed), "user_idx", "event_order")
    return (
        pairs.select(
            "user_idx",
            "event_order",
            "history",
            "item_idx",
            weight.cast("double").alias("weight"),
            (held_out & F.lit(section.classify)).alias("is_held_out"),
        )
        .orderBy(sample, "user_idx", "event_order")
        .limit(section.max_pairs)
    )


def with_hard_negatives(
    pairs: DataFrame, neighbours: DataFrame, known_interactions: DataFrame, texts: DataFrame, n: int
) -> DataFrame:
    """Return the pairs with ``hard`` array<int>: the target's nearest items that the user does not know.

    Args:
        pairs: (user_idx, event_order, item_idx, ...).
        neighbours: ``silver.item_neighbours`` of the fold.
        known_interactions: events of the fold.
        texts: (item_idx, text); of other items none is taken.
        n: most a pair; where fewer are near the array is shorter, or empty.
    """
    if n == 0:
        return pairs.withColumn("hard", F.array().cast("array<int>"))
    key = ["user_idx", "event_order"]
    near = with_text(
        neighbours.where(F.col("rank") <= _NEAR).select(
            F.col("item_idx").alias("target"), F.col("neighbour_idx").alias("item_idx"), "rank"
        ),
        texts,
    )
    users_known = known_interactions.select("user_idx", "item_idx").distinct()
    nearest = Window.partitionBy(*key).orderBy("rank", "item_idx")
    hard = (
        pairs.select(*key, F.col("item_idx").alias("target"))
        .join(near, "target")
        .where(F.col("item_idx") != F.col("target"))
        .join(users_known, ["user_idx", "item_idx"], "left_anti")
        .withColumn("place", F.row_number().over(nearest))
        .where(F.col("place") <= n)
        .groupBy(*key)
        .agg(F.array_sort(F.collect_list(F.struct("place", "item_idx"))).alias("near"))
        .select(*key, F.col("near.item_idx").alias("hard"))
    )
    none = F.array().cast("array<int>")
    return pairs.join(hard, key, "left").withColumn("hard", F.coalesce("hard", none))


def valid_users(
    known_interactions: DataFrame,
    targets: DataFrame,
    users_seen: DataFrame,
    texts: DataFrame,
    section: TextBertConfig,
    seed: int,
) -> DataFrame:
    """Return the users that a model is judged by: a hash sample of those with targets.

    Args:
        known_interactions: events of the fold.
        targets: (user_idx, item_idx, segment, segment_top20), as ``frames.known.targets`` gives them.
        users_seen: (user_idx, seen array<int>) items that are not recommended again.
        texts: (item_idx, text).
        section: section ``text_bert``.
        seed: seed of the sample.

    Returns:
        (user_idx, history array<int>, seen array<int>, targets array<int>, segments, top20: array<string> in step with
        ``targets``): at most ``section.max_valid_users`` rows; ``history`` is empty where no known item has a text.
    """
    wanted = (
        targets.groupBy("user_idx")
        .agg(F.array_sort(F.collect_set(F.struct("item_idx", "segment", "segment_top20"))).alias("wanted"))
        .orderBy(F.xxhash64(F.lit("text_bert_valid"), F.lit(seed), "user_idx"), "user_idx")
        .limit(section.max_valid_users)
    )
    own = known_interactions.join(wanted.select("user_idx"), "user_idx", "left_semi")
    newest = histories(with_text(own, texts), section.history_items).select("user_idx", F.col("items").alias("history"))
    none = F.array().cast("array<int>")
    return (
        wanted.join(newest, "user_idx", "left")
        .join(users_seen, "user_idx", "left")
        .select(
            "user_idx",
            F.coalesce("history", none).alias("history"),
            F.coalesce("seen", none).alias("seen"),
            F.col("wanted.item_idx").alias("targets"),
            F.col("wanted.segment").alias("segments"),
            F.col("wanted.segment_top20").alias("top20"),
        )
    )


def valid_items(recommendable: DataFrame, texts: DataFrame, users: DataFrame, max_items: int, seed: int) -> DataFrame:
    """Return (item_idx): the items that a list is made of, those with a text.

    Args:
        recommendable: (item_idx) items that may be recommended.
        texts: (item_idx, text).
        users: as :func:`valid_users` gives them.
        max_items: where more may be recommended, a hash sample of so many and the users' targets.
        seed: seed of the sample.
    """
    may = with_text(recommendable.select("item_idx"), texts)
    sample = may.orderBy(F.xxhash64(F.lit("text_bert_items"), F.lit(seed), "item_idx"), "item_idx").limit(max_items)
    wanted = may.join(users.select(F.explode("targets").alias("item_idx")), "item_idx", "left_semi")
    return sample.union(wanted).distinct()


def known_items(known_interactions: DataFrame, users: DataFrame) -> DataFrame:
    """Return (user_idx, known array<int>): what each of the users knows, distinct and ascending."""
    own = known_interactions.join(users.select("user_idx").distinct(), "user_idx", "left_semi")
    return own.groupBy("user_idx").agg(F.array_sort(F.collect_set("item_idx")).alias("known"))


def history_texts(known_interactions: DataFrame, users: DataFrame, texts: DataFrame, n: int) -> DataFrame:
    """Return (user_idx, texts array<string>): each user's newest n texts, the newest first.

    Args:
        known_interactions: events of the fold.
        users: (user_idx) who are asked for; one without a text in the history has no row.
        texts: (item_idx, text).
        n: most texts a user.
    """
    own = with_text(known_interactions.join(users, "user_idx", "left_semi"), texts)
    newest = histories(own, n).select("user_idx", F.posexplode("items").alias("place", "item_idx"))
    last_first = F.sort_array(F.collect_list(F.struct("place", "text")), asc=False)
    return (
        newest.join(texts, "item_idx")
        .groupBy("user_idx")
        .agg(last_first.alias("events"))
        .select("user_idx", F.col("events.text").alias("texts"))
    )
