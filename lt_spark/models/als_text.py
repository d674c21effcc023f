"""Text in ALS: a map from the items' vectors to their factors, and users folded in from their history.

ALS knows nothing of an item that nobody used, and little of one that few did. A ridge regression from text vectors to
learnt factors says where such an item would lie; the less an item was used, the more its factors are the mapped ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lt_spark.core.config import AlsConfig
from lt_spark.frames.known import hash_uniform
from lt_spark.frames.shards import Keeper, read_shard, write_shards
from lt_spark.frames.spread import spread
from lt_spark.models.als import AlsSettings

Floats = npt.NDArray[np.float64]
_SUM_TASKS = 16
"""Tasks that sum matrices, so that so many partial sums at most reach the driver."""
_MAX_SCORES = 2**23
"""Scores of one kind held at once: 32 MiB of float32, however many users a batch has."""
_BIAS = 0.3
"""A constant beside the unit vector: the mean factor, held down like the rest."""
_SUMS = "xtx array<double>, xty array<double>, n double, learnt_length double"
_FACTORS = pa.schema(
    [
        ("item_idx", pa.int32()),
        ("n_known", pa.float64()),
        ("is_recommendable", pa.bool_()),
        ("learnt", pa.list_(pa.float32())),
        ("mapped", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class TextPoint:
    """How much text counts in an item's factors.

    Attributes:
        support: s; an item used n times keeps n / (n + s) of its learnt factors. 0: only items without events lean on
            text.
        scale: length of mapped factors as a multiple of the learnt ones' mean length. 0: no text.
    """

    support: float
    scale: float

    @property
    def is_text(self) -> bool:
        """Whether text counts at all."""
        return self.scale > 0


NO_TEXT = TextPoint(0.0, 0.0)


@dataclass(frozen=True)
class FactorMap:
    """The ridge regression.

    Attributes:
        coefficients: (d + 1, rank) from (vector, constant) to factors.
        stretch: mean length of learnt factors / mean length of mapped ones, over the items it was fitted on.
    """

    coefficients: Floats
    stretch: float


def sum_tasks(size: int, rank: int, max_bytes: int) -> int:
    """Return how many partial sums of X'WX and X'WY the driver has room for, at most 16; 0: not even one.

    Args:
        size: length of the text vectors.
        rank: number of factors.
        max_bytes: what may reach the driver.
    """
    return min(_SUM_TASKS, max_bytes // (8 * (size + 1) * (size + 1 + rank)))


def normal_equations(rows: DataFrame, n_tasks: int = _SUM_TASKS) -> DataFrame:
    """Sum X'WX, X'WY, W and W |y| over the items, W an item's known events, in partial sums.

    Args:
        rows: (n_known, text array<float> of length d, learnt array<float> of length rank); those without either are
            left out.
        n_tasks: partial sums, as :func:`sum_tasks` gives their number.

    Returns:
        (xtx of (d + 1)^2, xty of (d + 1) rank, n, learnt_length): at most ``n_tasks`` rows, whatever the catalogue.
    """

    def add(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums: list[Floats] = []
        for batch in batches:
            if not batch.num_rows:
                continue
            weight = batch.column(0).to_numpy()
            x, y = _with_constant(_matrix(batch.column(1))), _matrix(batch.column(2))
            weighted = x * weight[:, None]
            more = [weighted.T @ x, weighted.T @ y, weight.sum(), (weight * np.linalg.norm(y, axis=1)).sum()]
            sums = [old + new for old, new in zip(sums, more, strict=True)] if sums else more
        if sums:
            arrays = [
                pa.array([sums[0].ravel()]),
                pa.array([sums[1].ravel()]),
                pa.array([sums[2]]),
                pa.array([sums[3]]),
            ]
            yield pa.RecordBatch.from_arrays(arrays, ["xtx", "xty", "n", "learnt_length"])

    filled = rows.where(F.exists("text", lambda x: x != 0) & F.col("learnt").isNotNull() & (F.col("n_known") > 0))
    asked = filled.select(F.col("n_known").cast("double"), "text", "learnt").repartition(n_tasks)
    return asked.mapInArrow(add, _SUMS)


def fit_map(sums: Sequence[tuple[Sequence[float], Sequence[float], float, float]], ridge: float) -> FactorMap | None:
    """Solve (X'WX + lambda I) B = X'WY, lambda = ridge x sum W / (d + 1); None where there is nothing to learn from.

    Args:
        sums: the rows of :func:`normal_equations`.
        ridge: strength of the penalty, as a multiple of the mean diagonal of X'WX for unit vectors.
    """
    if not sums:
        return None
    xtx, xty, n, learnt_length = (np.sum([np.asarray(row[at], float) for row in sums], axis=0) for at in range(4))
    size = round(np.sqrt(len(xtx)))
    xtx, xty = xtx.reshape(size, size), xty.reshape(size, -1)
    coefficients = np.linalg.solve(xtx + ridge * n / size * np.eye(size), xty)
    # sum of w |B'x|^2 = trace of B' X'WX B: the root of its mean stands for the mean length
    mapped_length = np.sqrt(max(np.einsum("ij,ik,kj->", coefficients, xtx, coefficients) / n, 0.0))
    stretch = (learnt_length / n) / mapped_length if mapped_length > 0 else 0.0
    return FactorMap(coefficients, float(stretch))


def mapped_factors(rows: DataFrame, factor_map: FactorMap) -> DataFrame:
    """Return the rows with ``mapped``: the factors that the text speaks for, of the learnt ones' mean length.

    Args:
        rows: (item_idx, n_known, is_recommendable, text, learnt); text null or zeros where there is none.
        factor_map: the regression.

    Returns:
        (item_idx, n_known, is_recommendable, learnt, mapped): ``mapped`` null where the item has no text.
    """
    coefficients, stretch = factor_map.coefficients, factor_map.stretch
    size = coefficients.shape[0] - 1

    def put(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            lengths = np.nan_to_num(batch.column(3).value_lengths().to_numpy(zero_copy_only=False).astype(float))
            x = np.zeros((batch.num_rows, size))
            x[lengths == size] = batch.column(3).flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
            y = (_with_constant(x) @ coefficients * stretch).astype(np.float32)
            mapped = pa.array(list(y), pa.list_(pa.float32()), mask=~x.any(axis=1))
            yield pa.RecordBatch.from_arrays([*(batch.column(at) for at in (0, 1, 2, 4)), mapped], schema=_FACTORS)

    asked = rows.select(
        "item_idx",
        F.col("n_known").cast("double").alias("n_known"),
        "is_recommendable",
        F.when(F.size("text") == size, F.col("text")).alias("text"),
        F.col("learnt").cast("array<float>").alias("learnt"),
    )
    kinds = "item_idx int, n_known double, is_recommendable boolean, learnt array<float>, mapped array<float>"
    return asked.mapInArrow(put, kinds)


def blended_factors(factors: DataFrame, point: TextPoint) -> DataFrame:
    """Return (item_idx, vector): n / (n + s) learnt + s / (n + s) scale mapped.

    Without text an item keeps its learnt factors; without events it has the mapped ones; with neither it has no row.

    Args:
        factors: as :func:`mapped_factors` gives them.
        point: s and the scale.
    """
    total = F.col("n_known") + F.lit(point.support)
    share = F.when(total > 0, F.col("n_known") / total).otherwise(F.lit(0.0))
    scale = F.lit(point.scale)
    both = F.zip_with(
        "learnt", "mapped", lambda own, said: (share * own + (F.lit(1.0) - share) * scale * said).cast("float")
    )
    alone = F.transform("mapped", lambda said: (scale * said).cast("float"))
    vector = F.when(F.col("mapped").isNull() | F.lit(not point.is_text), F.col("learnt")).when(
        F.col("learnt").isNull(), alone
    )
    return factors.select("item_idx", vector.otherwise(both).alias("vector")).where(F.col("vector").isNotNull())


def points(config: AlsConfig) -> list[TextPoint]:
    """Return the settings that are tried on valid: each support with each scale, and no text.

    No text comes last: of equals the first is taken, and with text items that nobody used have factors.
    """
    tried = [TextPoint(support, scale) for support in config.text_supports for scale in config.text_scales]
    return [*tried, NO_TEXT]


def point_gains(
    users: DataFrame,
    factors: DataFrame,
    tried: Sequence[TextPoint],
    k: int,
    max_items: int,
    seed: int,
    *,
    scratch: str,
) -> DataFrame:
    """Return the gain of each target under each point, all points in one pass: two products, then sums of them.

    The gain is 1 / log2(1 + rank) up to rank k, else 0: NDCG@k of a user with this target alone.

    Args:
        users: (user_idx, vector, seen, target_idx, is_tail): a row a target.
        factors: as :func:`mapped_factors` gives them.
        tried: the points.
        k: length of the list.
        max_items: a target is ranked among a hash sample of so many items at most, and all users' targets.
        seed: seed of the sample.
        scratch: folder for the factors, read by every executor.

    Returns:
        (user_idx, is_tail, gains array<double>, a number a point): a row a target.
    """
    targets = users.select(F.col("target_idx").alias("item_idx")).distinct()
    n_items = factors.agg(F.count(F.lit(1)).alias("n_items"))
    drawn = factors.crossJoin(F.broadcast(n_items)).where(
        hash_uniform("als_text", seed, "item_idx") * F.col("n_items") < F.lit(float(max_items))
    )
    others = factors.join(targets, "item_idx", "left_semi")
    kept = drawn.drop("n_items").join(targets, "item_idx", "left_anti").unionByName(others)
    write_shards(kept, "item_idx", 1, scratch)

    def rank(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield _gains(batch, scratch, tried, k)

    asked = users.select("user_idx", "vector", "seen", "target_idx", "is_tail")
    return spread(asked, "user_idx").mapInArrow(rank, "user_idx int, is_tail boolean, gains array<double>")


def fold_in(ratings: DataFrame, item_factors: DataFrame, gram: Floats, settings: AlsSettings) -> DataFrame:
    """Return the factors of users from their ratings and fixed item factors: ALS's own half-step.

    x_u = (Y'Y + sum c y y' + reg n_u I)^-1 sum (1 + c) y over the user's items, c = alpha r (Hu, Koren and Volinsky
    2008; regularisation by counts as MLlib does it). Linear in the ratings.

    Args:
        ratings: (user_idx, item_idx, rating > 0) of the users to fold in.
        item_factors: (item_idx, vector).
        gram: (rank, rank) Y'Y over all item factors.
        settings: alpha and regularisation.

    Returns:
        (user_idx, vector array<float>): a row a user with an item that has factors.
    """
    alpha, reg = settings.alpha, settings.reg_param

    def solve(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            vectors = []
            for row in range(batch.num_rows):
                y = np.array(batch.column(1)[row].as_py(), np.float64)
                c = alpha * np.array(batch.column(2)[row].as_py(), np.float64)
                left = gram + (y.T * c) @ y + reg * len(c) * np.eye(len(gram))
                vectors.append(np.linalg.solve(left, ((1.0 + c)[:, None] * y).sum(axis=0)).astype(np.float32))
            yield pa.RecordBatch.from_arrays(
                [batch.column(0), pa.array(vectors, pa.list_(pa.float32()))], ["user_idx", "vector"]
            )

    rows = ratings.join(item_factors, "item_idx").groupBy("user_idx")
    events = rows.agg(F.array_sort(F.collect_list(F.struct("item_idx", "rating", "vector"))).alias("events"))
    asked = events.select("user_idx", F.col("events.vector").alias("vectors"), F.col("events.rating").alias("ratings"))
    return asked.mapInArrow(solve, "user_idx int, vector array<float>")


def gram_sums(vectors: DataFrame) -> DataFrame:
    """Return (sums array<double> of rank^2): partial sums of y y' over the items, at most 16 rows.

    Args:
        vectors: (item_idx, vector).
    """

    def add(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total: Floats | None = None
        for batch in batches:
            if batch.num_rows:
                y = _matrix(batch.column(0))
                total = y.T @ y if total is None else total + y.T @ y
        if total is not None:
            yield pa.RecordBatch.from_arrays([pa.array([total.ravel()])], ["sums"])

    return vectors.select("vector").repartition(_SUM_TASKS).mapInArrow(add, "sums array<double>")


def gram(sums: Sequence[Sequence[float]]) -> Floats:
    """Return (rank, rank) Y'Y from the rows of :func:`gram_sums`."""
    total = np.sum([np.asarray(row, np.float64) for row in sums], axis=0)
    size = round(np.sqrt(total.size))
    return np.asarray(total, np.float64).reshape(size, size)


def _gains(batch: pa.RecordBatch, folder: str, tried: Sequence[TextPoint], k: int) -> pa.RecordBatch:
    """Return (user_idx, is_tail, gains) of a batch (user_idx, vector, seen, target_idx, is_tail)."""
    items = _factors.get(folder, 0)
    gains = np.zeros((batch.num_rows, len(tried)))
    if batch.num_rows and len(items.numbers):
        queries = np.array(batch.column(1).to_pylist(), np.float32)
        targets = batch.column(3).to_numpy()
        rows_at_once = max(1, _MAX_SCORES // len(items.numbers))
        for row in range(batch.num_rows):
            if row % rows_at_once == 0:
                some = queries[row : row + rows_at_once]
                learnt, mapped = some @ items.learnt.T, some @ items.mapped.T
            allowed = items.is_recommendable & ~np.isin(items.numbers, batch.column(2)[row].as_py() or [])
            at = int(np.searchsorted(items.numbers, targets[row]))
            if at == len(items.numbers) or items.numbers[at] != targets[row] or not allowed[at]:
                continue
            for place, point in enumerate(tried):
                own, said, is_there = items.shares(point)
                scores = own * learnt[row % rows_at_once] + said * mapped[row % rows_at_once]
                if not is_there[at]:
                    continue
                rank = int(np.count_nonzero((scores >= scores[at]) & allowed & is_there))
                gains[row, place] = 1.0 / np.log2(rank + 1.0) if rank <= k else 0.0
    listed = pa.array(list(gains), pa.list_(pa.float64()))
    return pa.RecordBatch.from_arrays([batch.column(0), batch.column(4), listed], ["user_idx", "is_tail", "gains"])


@dataclass(frozen=True)
class _Factors:
    """Item factors in a Python worker: numbers (n,) ascending; learnt, mapped (n, rank), zeros where there is none."""

    numbers: npt.NDArray[np.int32]
    n_known: Floats
    is_recommendable: npt.NDArray[np.bool_]
    learnt: npt.NDArray[np.float32]
    mapped: npt.NDArray[np.float32]
    has_learnt: npt.NDArray[np.bool_]
    has_mapped: npt.NDArray[np.bool_]

    def shares(self, point: TextPoint) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """Return what learnt and mapped factors count of each item, and whether it has any; as blended_factors."""
        if not point.is_text:
            return np.ones(len(self.numbers)), np.zeros(len(self.numbers)), self.has_learnt
        total = self.n_known + point.support
        share = np.divide(self.n_known, total, out=np.zeros(len(total)), where=total > 0)
        own = np.where(self.has_mapped, np.where(self.has_learnt, share, 0.0), 1.0)
        said = np.where(self.has_mapped, np.where(self.has_learnt, 1.0 - share, 1.0), 0.0) * point.scale
        return own, said, self.has_learnt | self.has_mapped


def _read(folder: str, shard: int) -> _Factors:
    table = read_shard(folder, shard, _FACTORS)
    order = np.argsort(table["item_idx"].to_numpy())
    table = table.take(pa.array(order))
    learnt, has_learnt = _filled(table["learnt"])
    mapped, has_mapped = _filled(table["mapped"])
    size = max(learnt.shape[1], mapped.shape[1])
    learnt, mapped = (part if part.shape[1] else np.zeros((len(part), size), np.float32) for part in (learnt, mapped))
    return _Factors(
        table["item_idx"].to_numpy(),
        table["n_known"].to_numpy(),
        table["is_recommendable"].to_numpy(zero_copy_only=False),
        learnt,
        mapped,
        has_learnt,
        has_mapped,
    )


_factors = Keeper(_read)


def _filled(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return (n, size) of a list column, zeros where it is null, and (n,) where it is not."""
    lists = column.combine_chunks()
    has = lists.is_valid().to_numpy(zero_copy_only=False)
    flat = lists.drop_null().flatten().to_numpy(zero_copy_only=False)
    size = len(flat) // int(has.sum()) if has.any() else 0
    filled = np.zeros((len(lists), size), np.float32)
    filled[has] = flat.reshape(-1, size) if size else np.empty((int(has.sum()), 0), np.float32)
    return filled, has


def _matrix(lists: pa.ListArray) -> Floats:
    matrix: Floats = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1).astype(np.float64)
    return matrix


def _with_constant(x: Floats) -> Floats:
    """Return the vectors with the constant beside them; zeros stay zeros, for they are no text."""
    constant = np.where(x.any(axis=1), _BIAS, 0.0)
    return np.concatenate([x, constant[:, None]], axis=1)
