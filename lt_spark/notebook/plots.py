"""Plots of the notebooks. Each takes what a view gave, and returns a figure that the notebook shows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    import pandas as pd

MODEL_COLOURS = {
    "neighbours": "#4477aa",
    "als": "#ee6677",
    "bert": "#228833",
    "semantic": "#ccbb44",
    "lexical": "#66ccee",
    "popularity": "#bbbbbb",
    "text_bert": "#aa3377",
    "als_plain": "#332288",
}
_SEGMENT_COLOURS = {"head": "#332288", "mid": "#4477aa", "tail": "#ee6677", "cold": "#bbbbbb"}
_GREY = "#555555"
_ROW_HEIGHT = 0.36
"""Inches of a line of a plot."""
_TITLE_CHARS = 34


def lorenz_curves(curves: Mapping[str, "pd.DataFrame"]) -> Figure:
    """Draw Lorenz curves over the catalogue; the further below the diagonal, the fewer items have it all.

    Args:
        curves: by label, (item_share, event_share) as :func:`lt_spark.measure.long_tail.lorenz` gives them.
    """
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="all items alike")
    for (label, curve), style in zip(curves.items(), ("-", "--", "-."), strict=False):
        axes.plot(curve["item_share"], curve["event_share"], style, linewidth=2, label=label)
    axes.set(xlabel="share of the items, least used first", ylabel="share they have", xlim=(0, 1), ylim=(0, 1))
    _in_percent(axes.xaxis, axes.yaxis)
    axes.legend(loc="upper left", frameon=False)
    return figure


def segment_bars(shares: "pd.DataFrame") -> Figure:
    """Draw each segment's share of the items beside its share of the events.

    Args:
        shares: as :func:`lt_spark.measure.long_tail.segment_shares` gives it.
    """
    figure = Figure(figsize=(7.2, 2.0), layout="constrained")
    axes = figure.subplots()
    for line, column in (("items", "item_share"), ("events", "event_share")):
        left = 0.0
        for segment, share in zip(shares["segment"], shares[column].fillna(0.0), strict=True):
            bar = axes.barh(line, share, left=left, color=_SEGMENT_COLOURS[segment], height=0.62)
            if share >= 0.08:
                axes.bar_label(bar, [f"{segment} {share:.0%}"], label_type="center", color="white")
            left += share
    axes.set(xlim=(0, 1))
    axes.invert_yaxis()
    _in_percent(axes.xaxis)
    _plain(axes)
    return figure


def share_lines(rows: "pd.DataFrame", by: str, columns: Mapping[str, str], xlabel: str) -> Figure:
    """Draw some shares a line, one bar each.

    Args:
        rows: a row a line.
        by: the column that names the lines.
        columns: the columns of shares, each with its label.
        xlabel: what the shares are of.
    """
    figure = Figure(figsize=(7.2, 0.9 + _ROW_HEIGHT * len(rows) * len(columns)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(columns)
    for place, (column, label) in enumerate(columns.items()):
        at = [line + place * height for line in range(len(rows))]
        bars = axes.barh(at, rows[column], height=height * 0.9, label=label, color=("#bbbbbb", "#4477aa")[place % 2])
        axes.bar_label(bars, [f"{share:.0%}" for share in rows[column]], padding=3)
    axes.set_yticks([line + (len(columns) - 1) * height / 2 for line in range(len(rows))], list(rows[by]))
    axes.set(xlabel=xlabel, xlim=(0, 1.08))
    axes.invert_yaxis()
    _in_percent(axes.xaxis)
    _plain(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / figure.get_figheight()), ncols=2, frameon=False)
    return figure


def intervals(panels: Mapping[str, "pd.DataFrame"], by: str, xlabel: str) -> Figure:
    """Draw differences from plain ALS with their 95 % intervals, a panel a table; what is certain is in colour.

    Args:
        panels: by title, rows with ``difference``, ``difference_low`` and ``difference_high``, the first on top.
        by: the column that names the lines.
        xlabel: what the difference is of.
    """
    lines = max(len(rows) for rows in panels.values())
    figure = Figure(figsize=(4.0 * max(len(panels), 1) + 1.2, 1.2 + _ROW_HEIGHT * lines), layout="constrained")
    for axes, (title, rows) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for line, row in enumerate(rows.to_dict("records")):
            low, high = row["difference_low"], row["difference_high"]
            colour = "#228833" if low > 0 else "#cc3311" if high < 0 else _GREY
            axes.plot([low, high], [line, line], color=colour, linewidth=2)
            axes.plot(row["difference"], line, "o", color=colour)
        axes.axvline(0, color=_GREY, linewidth=1, linestyle=":")
        axes.set_yticks(range(len(rows)), [_short(name) for name in rows[by]])
        axes.set(title=title, xlabel=xlabel)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        _plain(axes)
    return figure


def gains_and_losses(groups: "pd.DataFrame", title: str) -> Figure:
    """Draw which share of a group's users gains and which loses, a line a group.

    Args:
        groups: rows of ``silver.group_metrics`` of one grouping.
        title: of the plot.
    """
    figure = Figure(figsize=(7.2, 1.2 + _ROW_HEIGHT * len(groups)), layout="constrained")
    axes = figure.subplots()
    names = [f"{name} ({n:,})" for name, n in zip(groups["group"], groups["n_users"], strict=True)]
    gain = axes.barh(names, groups["share_gaining"], color="#228833", height=0.7, label="gain")
    lose = axes.barh(names, -groups["share_losing"], color="#cc3311", height=0.7, label="lose")
    axes.bar_label(gain, [f"{share:.0%}" for share in groups["share_gaining"]], padding=3)
    axes.bar_label(lose, [f"{share:.0%}" for share in groups["share_losing"]], padding=3)
    widest = max(*groups["share_gaining"], *groups["share_losing"], 0.01) * 1.25
    axes.axvline(0, color=_GREY, linewidth=1)
    axes.set(xlim=(-widest, widest), xlabel="share of the group's users", title=title)
    axes.xaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    axes.invert_yaxis()
    _plain(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def model_shares(rows: "pd.DataFrame", title: str) -> Figure:
    """Draw which model gave how much of each recommendation's score.

    Args:
        rows: one user's rows, as :func:`lt_spark.notebook.views.explained` gives them.
        title: of the plot.
    """
    figure = Figure(figsize=(8.0, 1.4 + _ROW_HEIGHT * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [f"{rank}. {_short(name)}" for rank, name in zip(rows["rank"], rows["title"].fillna("-"), strict=True)]
    left = [0.0] * len(rows)
    for model, colour in MODEL_COLOURS.items():
        shares = [float(share) for share in rows[f"share_{model}"].fillna(0.0)]
        if any(shares):
            axes.barh(names, shares, left=left, color=colour, height=0.75, label=model)
            left = [before + share for before, share in zip(left, shares, strict=True)]
    axes.set(xlim=(0, 1), xlabel="share of the score", title=title)
    axes.invert_yaxis()
    _in_percent(axes.xaxis)
    _plain(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def counts(names: Sequence[str], values: Sequence[int], xlabel: str) -> Figure:
    """Draw counts, a line each."""
    figure = Figure(figsize=(7.2, 0.9 + _ROW_HEIGHT * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(range(len(names)), values, color="#4477aa", height=0.7)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=3)
    axes.set(xlabel=xlabel, xlim=(0, max(*values, 1) * 1.15))
    axes.invert_yaxis()
    _plain(axes)
    return figure


def _short(text: Any) -> str:
    # a dollar sign would begin a formula
    cleaned = " ".join(str(text).split()).replace("$", r"\$")
    return cleaned if len(cleaned) <= _TITLE_CHARS else f"{cleaned[: _TITLE_CHARS - 1]}…"


def _in_percent(*each: Any) -> None:
    for axis in each:
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
