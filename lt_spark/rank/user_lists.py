"""Each user's list re-ranked in the Python workers: Arrow rows in, Arrow rows out, and what it cost the user."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lt_spark.kernels import fair

QUOTA, CAP, RULES = "quota", "cap", "rules"
PROTECTED = ("tail", "cold")
"""Segments that the quota is about."""
REPORT_K = 10
"""Scores and tail share are told of the first so many places: what people see."""
SUMS = (
    "users",
    "users_touched",
    "items_moved",
    "score_before",
    "score_after",
    "tail_before",
    "tail_after",
    "places_before",
    "places_after",
    "users_short",
    "items_blocked",
    "pins_placed",
)
"""What is added up over users, a rule; the first three and the last three are measures as they are."""
_OUT = ("user_idx", "item_idx", "rank", "score", "segment", "models", "because", "sums")


@dataclass(frozen=True)
class Settings:
    """What lists are re-ranked by.

    Attributes:
        limits: quota and cap.
        rules: which of quota, cap, rules are on; each is reported.
    """

    limits: fair.Limits
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """A user's candidates, best first, what is blocked last; pinned items that no model listed follow.

    Attributes:
        items: (m,) item_idx.
        scores: (m,) what ranks them: score x factor.
        plain: (m,) the score alone; 0 for items that no model listed.
        is_protected: (m,).
        groups: (m,) number of the group of the cap, ``fair.NO_GROUP`` for none.
        n_usable: how many may be listed by themselves.
        n_blocked: how many follow that are blocked.
        pins: (place, position), what goes first first.
    """

    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    plain: npt.NDArray[np.float64]
    is_protected: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]
    n_usable: int
    n_blocked: int = 0
    pins: tuple[tuple[int, int], ...] = ()


def rerank_user(user: Candidates, settings: Settings) -> tuple[list[int], list[float]]:
    """Return a user's list, as positions, and the sums of each rule that is on (``SUMS`` x rules).

    The quota and the cap hold without the pins, which then take their places. The quota is compared with the list by
    score, the cap with that of the quota, and the shop's rules, by themselves, with the list without them.
    """
    limits, n = settings.limits, settings.limits.n
    usable = slice(0, user.n_usable)
    by_score = list(range(min(n, user.n_usable)))
    listed, sums = by_score, []
    for rule, of_rule in ((QUOTA, limits.without_cap), (CAP, limits)):
        if rule in settings.rules:
            ranking = fair.reranked(user.scores[usable], user.is_protected[usable], user.groups[usable], of_rule)
            short = ranking.is_quota_short if rule == QUOTA else ranking.is_cap_short
            sums += _sums(listed, ranking.order, user, user.scores, float(short))
            listed = ranking.order
    if RULES in settings.rules:
        listable = user.n_usable + user.n_blocked
        without = np.lexsort((user.items[:listable], -user.plain[:listable]))[:n].tolist()
        n_blocked = sum(position >= user.n_usable for position in without)
        alone = fair.with_pins(by_score, user.pins, n)
        n_pinned = len({position for _, position in user.pins} & set(alone))
        sums += _sums(without, alone, user, user.plain, 0.0, float(n_blocked), float(n_pinned))
        listed = fair.with_pins(listed, user.pins, n)
    return listed, sums


def _sums(
    before: Sequence[int], after: Sequence[int], user: Candidates, scores: npt.NDArray[np.float64], *more: float
) -> list[float]:
    """Return one rule's numbers in the order of ``SUMS``."""
    same = sum(one == other for one, other in zip(before, after, strict=False))
    moved = max(len(before), len(after)) - same
    first, then = list(before[:REPORT_K]), list(after[:REPORT_K])
    counts = [float(user.is_protected[part].sum()) for part in (first, then)]
    totals = [float(scores[part].sum()) for part in (first, then)]
    told = [1.0, float(moved > 0), float(moved), *totals, *counts, float(len(first)), float(len(then)), *more]
    return told + [0.0] * (len(SUMS) - len(told))


def whole_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Yield tables of whole users: a user's rows may lie in several batches, one after the other."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        users = batch.column(0).to_numpy()
        if held and held[-1].column(0)[-1].as_py() != users[0]:
            yield pa.Table.from_batches(held)
            held = []
        last = int(np.flatnonzero(users == users[-1])[0])
        if last:
            yield pa.Table.from_batches([*held, batch.slice(0, last)])
            held = []
        held.append(batch.slice(last))
    if held:
        yield pa.Table.from_batches(held)


def rerank_users(rows: pa.Table, settings: Settings) -> Iterator[pa.RecordBatch]:
    """Re-rank the lists of whole users.

    Args:
        rows: by user, then best first, what is blocked last: user_idx, item_idx, ranked_score, score, segment,
            is_protected, is_blocked, group (null: none), models, because, pins (null: none).
        settings: what the lists keep to.

    Yields:
        user_idx, item_idx, rank, score, segment, models, because, sums; see ``rerank.rerank``.
    """
    rows = rows.combine_chunks()
    users, items, scores, plain, is_protected, is_blocked = (
        np.asarray(rows[name].to_numpy())
        for name in ("user_idx", "item_idx", "ranked_score", "score", "is_protected", "is_blocked")
    )
    groups = rows["group"].combine_chunks().dictionary_encode().indices.fill_null(fair.NO_GROUP)
    groups = groups.to_numpy(zero_copy_only=False).astype(np.int64)
    pins, has_pins = rows["pins"], rows["pins"].null_count < len(rows)
    starts = np.flatnonzero(np.diff(users, prepend=users[0] - 1))
    out = _Rows()
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(users)], strict=True):
        here, n_rows, n_blocked = slice(start, stop), stop - start, int(is_blocked[start:stop].sum())
        own = (pins[start].as_py() or []) if has_pins else []
        position_of = dict(zip(items[here].tolist(), range(n_rows), strict=True)) if own else {}
        added = [pin for pin in own if pin["item_idx"] not in position_of]
        position_of |= {pin["item_idx"]: n_rows + place for place, pin in enumerate(added)}
        user = Candidates(
            np.append(items[here], [pin["item_idx"] for pin in added]).astype(np.int64),
            np.append(scores[here], np.zeros(len(added))),
            np.append(plain[here], np.zeros(len(added))),
            np.append(is_protected[here], [pin["segment"] in PROTECTED for pin in added]).astype(bool),
            np.append(groups[here], np.full(len(added), fair.NO_GROUP)),
            n_rows - n_blocked,
            n_blocked,
            tuple((pin["place"], position_of[pin["item_idx"]]) for pin in own),
        )
        listed, sums = rerank_user(user, settings)
        places = place_scores(user.scores[: user.n_usable], len(listed))
        out.add(int(users[start]), start, n_rows, listed, places, added, sums)
    yield from out.batches(rows)


def place_scores(scores: npt.NDArray[np.float64], n: int) -> list[float]:
    """Return n falling scores: those of the candidates, and the last one halved again and again where they end."""
    told: list[float] = scores[:n].tolist()
    while len(told) < n:
        told.append(told[-1] / 2 if told else 1.0)
    return told


class _Rows:
    """The rows to give back: some are rows that came, some are pinned items that no model listed."""

    def __init__(self) -> None:
        self._taken: list[int] = []
        self._taken_more: list[tuple[int, float, list[float] | None]] = []
        self._made: list[tuple[int, int | None, int | None, float | None, str | None, list[float] | None]] = []

    def add(
        self,
        user: int,
        start: int,
        n_rows: int,
        listed: Sequence[int],
        scores: Sequence[float],
        added: Sequence[dict[str, Any]],
        sums: list[float],
    ) -> None:
        """Add a user's list; the sums go with its first row."""
        told: list[float] | None = sums
        for rank, (position, score) in enumerate(zip(listed, scores, strict=True), start=1):
            if position < n_rows:
                self._taken.append(start + position)
                self._taken_more.append((rank, score, told))
            else:
                pin = added[position - n_rows]
                self._made.append((user, pin["item_idx"], rank, score, pin["segment"], told))
            told = None
        if told is not None:
            self._made.append((user, None, None, None, None, told))

    def batches(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow batches."""
        sums = pa.list_(pa.float64())
        taken = rows.take(pa.array(self._taken, pa.int64()))
        ranks, scores, told = zip(*self._taken_more, strict=True) if self._taken_more else ((), (), ())
        columns = {name: taken[name] for name in ("user_idx", "item_idx", "segment", "models", "because")}
        columns |= {
            "rank": pa.array(ranks, pa.int32()),
            "score": pa.array(scores, pa.float64()),
            "sums": pa.array(told, sums),
        }
        parts = [pa.table({name: columns[name] for name in _OUT})]
        if self._made:
            made: list[Any] = [list(column) for column in zip(*self._made, strict=True)]
            of_names = dict(zip(("user_idx", "item_idx", "rank", "score", "segment", "sums"), made, strict=True))
            of_names |= {name: [[]] * len(self._made) for name in ("models", "because")}
            schema = parts[0].schema
            parts.append(pa.table({name: pa.array(of_names[name], schema.field(name).type) for name in _OUT}))
        yield from pa.concat_tables(parts).combine_chunks().to_batches()
