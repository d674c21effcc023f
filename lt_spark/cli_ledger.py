"""The ledger as people read it: tables of NDCG by variant, model and fold, and the reason of each verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lt_spark.cli_output import MODEL_ORDER, cell, grid, interval, stdout
from lt_spark.core.config_ledger import DISTURBED, EMBEDDINGS, FACTORS, NOISE, WITHOUT
from lt_spark.measure.evaluate import BASELINE

Rows = Sequence[Mapping[str, Any]]
"""Rows of ``silver.ledger``."""
Line = tuple[str, ...]
_FURTHER = {
    "head": ("top20_head", "ndcg"),
    "cold": ("cold", "ndcg"),
    "light users": ("light_users", "ndcg"),
    "heavy users": ("heavy_users", "ndcg"),
    "coverage": ("all", "coverage"),
    "tail coverage": ("top20_tail", "coverage"),
    "Gini": ("all", "gini"),
    "tail share": ("all", "tail_share"),
}
_SHOWN = ("als", "blend")


def ledger_lines(rows: Rows, *, all_models: bool) -> tuple[Line, list[Line]]:
    """Return the heads and lines of the ledger: variants x models x folds.

    Args:
        rows: ``silver.ledger``.
        all_models: whether every model is shown, or als and the blend only, with plain ALS where it is another than the
            first variant's; of a blend without one of its models the blend alone.
    """
    by_key: dict[tuple[str, str, str], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for row in rows:
        figures = by_key.setdefault((row["variant"], row["model_name"], row["fold"]), {})
        figures[row["segment"], row["metric"]] = row
    variants = sorted({str(row["variant"]) for row in rows}, key=_order)
    order = {name: place for place, name in enumerate(MODEL_ORDER)}
    keys = sorted(
        (key for key in by_key if all_models or _is_shown(key, by_key, variants)),
        key=lambda key: (variants.index(key[0]), order.get(key[1], len(order)), key[2] != "valid"),
    )
    lines = []
    for variant, model, fold in keys:
        figures = by_key[variant, model, fold]
        cells = []
        for segment in ("all", "top20_tail"):
            found = figures.get((segment, "ndcg"))
            cells.append(interval(found, "value"))
            cells.append("" if model == BASELINE else interval(found, "difference", "+"))
        further = [cell(figures[key]["value"]) if key in figures else "-" for key in _FURTHER.values()]
        verdict = next(iter(figures.values()))["verdict"]
        lines.append((variant, model, fold, *cells, *further, verdict))
    k = next((row["k"] for row in rows), 10)
    ndcg = f"NDCG@{k}"
    against = "against plain ALS [95 %]"
    return ("variant", "model", "fold", ndcg, against, f"tail {ndcg}", f"tail {against}", *_FURTHER, "verdict"), lines


def _order(variant: str) -> tuple[int, int, str]:
    """Return where a variant stands: factors, blends without a model, other vectors, noise, disturbed, the conf's."""
    if variant in FACTORS:
        return 0, FACTORS.index(variant), variant
    kinds = (variant.startswith(WITHOUT), variant.startswith(EMBEDDINGS), variant == NOISE, variant == DISTURBED, True)
    return 1 + kinds.index(True), 0, variant


def _is_shown(key: tuple[str, str, str], by_key: Mapping[tuple[str, str, str], Any], variants: Sequence[str]) -> bool:
    variant, model, fold = key
    if model != BASELINE:
        return model == "blend" if variant.startswith(WITHOUT) else model in _SHOWN
    first, mine = by_key.get((variants[0], model, fold)), by_key[key]
    goal = ("all", "ndcg")
    is_same = first is not None and goal in first and goal in mine and first[goal]["value"] == mine[goal]["value"]
    return variant == variants[0] or not is_same


def ledger_table(rows: Rows, *, all_models: bool = True) -> Table:
    """Return NDCG over all users and over the tail, with the difference from plain ALS, by variant, model and fold."""
    heads, lines = ledger_lines(rows, all_models=all_models)
    return grid((*heads[:7], heads[-1]), [(*line[:7], line[-1]) for line in lines], right=heads[3:7])


def further_table(rows: Rows, *, all_models: bool = True) -> Table:
    """Return NDCG of head, cold, light and heavy users, coverage, Gini and tail share, by variant, model and fold."""
    heads, lines = ledger_lines(rows, all_models=all_models)
    return grid((*heads[:3], *heads[7:-1]), [(*line[:3], *line[7:-1]) for line in lines], right=heads[7:-1])


def markdown(rows: Rows, *, all_models: bool = True) -> str:
    """Return the whole ledger as a markdown table."""
    heads, lines = ledger_lines(rows, all_models=all_models)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines))


def print_ledger(rows: Rows, *, all_models: bool = False) -> None:
    """Write the ledger for a person: the figures, then the reason of each verdict."""
    out = stdout()
    out.print(ledger_table(rows, all_models=all_models))
    out.print("(valid decides; test is there to be believed; tail: users whose event is outside the top 20 % of items)")
    out.print()
    out.print(further_table(rows, all_models=all_models))
    out.print("(NDCG by segment of the event and by activity of the user; coverage: items in any list, of all")
    out.print("and of those outside the top 20 %; Gini and tail share of the lists)")
    out.print()
    reasons = {(row["variant"], row["model_name"]): (row["verdict"], row["reason"]) for row in rows}
    for (variant, model), (verdict, reason) in sorted(reasons.items(), key=lambda each: _order(each[0][0])):
        if model != BASELINE and (all_models or model in _SHOWN):
            out.print(f"{variant} {model}: {verdict}: {reason}", soft_wrap=True)
