"""What a fold may see of the log, and what it is asked: known rows, histories, seen items, targets."""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lt_spark.core.errors import ConfigError, LeakageError, nearest
from lt_spark.core.tables import FOLDS

KNOWN_SPLITS: dict[str, tuple[str, ...]] = {
    "valid": ("train",),
    "test": ("train", "valid"),
    "live": ("train", "valid", "test"),
}
"""The splits whose events a fold may see."""
_EVENT_KEY = ["user_idx", "event_order"]
_UNIFORM_STEPS = 2**53


def known(interactions_split: DataFrame, fold: str) -> DataFrame:
    """Return the events that a fold may see: train; train and valid; everything.

    Args:
        interactions_split: ``silver.interactions_split``.
        fold: ``valid``, ``test`` or ``live``.

    Raises:
        ConfigError: when the fold is unknown.
    """
    _check_fold(fold, FOLDS)
    if fold == "live":
        return interactions_split
    return interactions_split.where(F.col("split").isin(*KNOWN_SPLITS[fold]))


def histories(known_interactions: DataFrame, max_history: int) -> DataFrame:
    """Return each user's newest events, oldest first.

    The cost is linear in events: rows above ``max_history`` are dropped before a user's rows are gathered.

    Args:
        known_interactions: events of a fold, as ``known`` gives them.
        max_history: newest events kept a user, at least 1.

    Returns:
        (user_idx int, items array<int>, orders array<int>): a row a user; both arrays in step, by ``event_order``
        ascending, 1 to ``max_history`` long. Repeats stay.
    """
    newest_first = Window.partitionBy("user_idx").orderBy(F.col("event_order").desc())
    return (
        known_interactions.select("user_idx", "item_idx", "event_order", F.row_number().over(newest_first).alias("age"))
        .where(F.col("age") <= max_history)
        .groupBy("user_idx")
        .agg(F.array_sort(F.collect_list(F.struct("event_order", "item_idx"))).alias("events"))
        .select("user_idx", F.col("events.item_idx").alias("items"), F.col("events.event_order").alias("orders"))
    )


def seen(known_interactions: DataFrame) -> DataFrame:
    """Return each user's known items.

    Returns:
        (user_idx int, seen array<int>): a row a user; the items distinct and ascending.
    """
    return known_interactions.groupBy("user_idx").agg(F.array_sort(F.collect_set("item_idx")).alias("seen"))


def check_known(rows: DataFrame, interactions_split: DataFrame, fold: str) -> None:
    """Fail when a row comes from outside what the fold may see. Starts Spark jobs: for after a write, not in a stage.

    Args:
        rows: any table with ``user_idx`` and ``event_order``; where it has a ``fold``, only rows of ``fold`` are
            looked at.
        interactions_split: ``silver.interactions_split``.
        fold: ``valid``, ``test`` or ``live``.

    Raises:
        LeakageError: with the number of rows outside.
        ConfigError: when the fold is unknown.
    """
    _check_fold(fold, FOLDS)
    # not through known(): an error there is found as well
    allowed = interactions_split.where(F.col("split").isin(*KNOWN_SPLITS[fold])).select(*_EVENT_KEY)
    of_fold = rows.where(F.col("fold") == fold) if "fold" in rows.columns else rows
    outside = of_fold.select(*_EVENT_KEY).join(allowed, _EVENT_KEY, "left_anti")
    if outside.limit(1).count() == 0:
        return
    raise LeakageError(
        f"Rows from outside fold '{fold}' reached a table made for it: expected only events of split "
        f"{', '.join(KNOWN_SPLITS[fold])}; found {outside.count()} rows that are not. "
        "Give the stage known(interactions_split, fold), and make the table again."
    )


def held_out_users(interactions_split: DataFrame, fold: str, max_users: int, seed: int) -> DataFrame:
    """Return a hash sample of the users with an event in the fold's held-out split.

    Args:
        interactions_split: ``silver.interactions_split``.
        fold: ``valid`` or ``test``.
        max_users: size of the sample, at least 1.
        seed: seed of the sample.

    Returns:
        (user_idx int): a row a user, at most ``max_users``.

    Raises:
        ConfigError: when the fold is neither valid nor test.
    """
    _check_fold(fold, ("valid", "test"))
    users = interactions_split.where(F.col("split") == fold).select("user_idx").distinct()
    return users.orderBy(F.xxhash64(F.lit("targets"), F.lit(seed), F.col("user_idx")), "user_idx").limit(max_users)


def active_users(interactions_split: DataFrame, active_days: float | None) -> DataFrame:
    """Return the users of fold live: all with an event, or those active of late.

    Args:
        interactions_split: ``silver.interactions_split``.
        active_days: days before the newest event; None, or a log without real times: all users.

    Returns:
        (user_idx int): a row a user.
    """
    if active_days is None:
        return interactions_split.select("user_idx").distinct()
    newest = interactions_split.agg((F.max("order_value") - F.lit(int(active_days * 86_400_000_000))).alias("since"))
    return (
        interactions_split.crossJoin(F.broadcast(newest))
        .where(F.col("event_ts").isNull() | (F.col("order_value") >= F.col("since")))
        .select("user_idx")
        .distinct()
    )


def targets(
    interactions_split: DataFrame,
    fold: str,
    item_segments: DataFrame,
    recommend_seen: bool,
    max_users: int,
    seed: int,
) -> DataFrame:
    """Return what the fold's users did next: the items that a good list holds.

    Users are a hash sample of those with an event in the fold's held-out split, drawn before known items are left
    out, so that both settings of ``recommend_seen`` look at the same users.

    Args:
        interactions_split: ``silver.interactions_split``.
        fold: ``valid`` or ``test``; live has no targets.
        item_segments: ``silver.item_segments``; rows of other folds are ignored.
        recommend_seen: whether an item that the user already knows counts as a target.
        max_users: size of the sample, at least 1.
        seed: seed of the sample.

    Returns:
        (fold, user_idx, item_idx, segment, segment_top20): a row a user and target item.

    Raises:
        ConfigError: when the fold is neither valid nor test.
    """
    _check_fold(fold, ("valid", "test"))
    pairs = interactions_split.where(F.col("split") == fold).select("user_idx", "item_idx").distinct()
    users = held_out_users(interactions_split, fold, max_users, seed)
    sampled = pairs.join(users, "user_idx", "left_semi")
    if not recommend_seen:
        already = known(interactions_split, fold).select("user_idx", "item_idx")
        sampled = sampled.join(already, ["user_idx", "item_idx"], "left_anti")
    return with_segments(sampled, item_segments, fold, ["segment", "segment_top20"]).select(
        F.lit(fold).alias("fold"), "user_idx", "item_idx", "segment", "segment_top20"
    )


def with_segments(rows: DataFrame, item_segments: DataFrame, fold: str, columns: list[str]) -> DataFrame:
    """Return the rows with columns of their item's row in ``silver.item_segments`` of the fold.

    An item that the segments lack stops the Spark job instead of losing its rows in silence.

    Args:
        rows: any table with ``item_idx``.
        item_segments: ``silver.item_segments``; rows of other folds are ignored.
        fold: the fold.
        columns: columns of item_segments to add; none of them may be in ``rows``.
    """
    of_fold = item_segments.where(F.col("fold") == fold).select("item_idx", *columns)
    missing = F.raise_error(
        F.concat(
            F.lit(f"silver.item_segments of fold '{fold}' lacks an item of the log: expected every item_idx; lacking "),
            F.col("item_idx").cast("string"),
            F.lit(". Run stage segment again."),
        )
    )
    added = {name: F.coalesce(F.col(name), missing) for name in columns}
    return rows.join(of_fold, "item_idx", "left").withColumns(added)


def hash_uniform(purpose: str, seed: int, *columns: str) -> Column:
    """Return a number in [0, 1) that depends on the seed, the purpose and the row's values, and on nothing else.

    The same row gets the same number on every run, however the rows lie; two purposes draw independently.
    """
    hashed = F.xxhash64(F.lit(purpose), F.lit(seed), *(F.col(name) for name in columns))
    return F.pmod(hashed, F.lit(_UNIFORM_STEPS)) / F.lit(float(_UNIFORM_STEPS))


def _check_fold(fold: str, folds: tuple[str, ...]) -> None:
    if fold not in folds:
        raise ConfigError(f"Unknown fold: expected one of {', '.join(folds)}; found '{fold}'.{nearest(fold, folds)}")
