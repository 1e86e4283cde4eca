"""Pictures of explanations: of a model, of one score, and of one visitor's events in time.

Explanations are XGBoost's TreeSHAP values in log-odds: a feature right of zero raised the
score. Those of several features can be added up, because log-odds add up. Those of one score
include its calibration; those of many rows are the booster's, before it.
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from prospect_lib.model.calibration import sigmoid
from prospect_lib.model.encoding import ABSENT, Column
from prospect_lib.model.prospect_model import CALIBRATION, OTHERS, ProspectModel, Score
from prospect_lib.model.rows import Floats
from prospect_lib.plots.style import BLUE, GREY, INK, ORANGE, RED, SKY, Picture, dates, picture

_PAUSE = timedelta(minutes=30)  # of a visitor without events, after which a new visit begins
_ROWS = 1500  # more dots than this cover each other
_LOW, _HIGH = "#9FD0EE", "#08306B"
_NO_FEATURES = {OTHERS: "all other features", CALIBRATION: "calibration"}


def by_attribute(model: ProspectModel, table: pa.Table) -> dict[str, Floats]:
    """Return log-odds per attribute, shape (rows,): the sum over the attribute's features."""
    shares = model.contributions(table)
    sums: dict[str, Floats] = {}
    for position, column in enumerate(model.encoder.columns):
        name = column.attribute or column.name
        sums[name] = sums.get(name, 0.0) + shares[:, position]
    return sums


def importance(model: ProspectModel, table: pa.Table, *, top: int = 10) -> Picture:
    """Show what moves scores: the mean contribution of each feature, and that of each row.

    A dot is a row: dark if the feature's value is high, pale if it is low, grey if it is
    missing or a category.
    """
    rows = table.take(np.linspace(0, table.num_rows - 1, min(_ROWS, table.num_rows)).astype(int))
    shares, values = model.contributions(rows)[:, :-1], model.encoder.matrix(rows)
    order = np.argsort(-np.abs(shares).mean(axis=0))[:top]
    with picture(8.2, 1.2 + 0.36 * len(order), ncols=2, sharey=True) as (figure, (left, right)):
        left.barh(range(len(order)), np.abs(shares).mean(axis=0)[order], color=BLUE)
        left.set_yticks(range(len(order)), [model.encoder.names[i] for i in order])
        left.set(title="Mean contribution", xlabel="mean |log-odds|", ylim=(len(order) - 0.5, -0.5))
        for row, i in enumerate(order):
            right.scatter(
                shares[:, i],
                row + _spread(shares[:, i]),
                c=_shades(values[:, i], model.encoder.columns[i]),
                s=5,
                linewidths=0,
                rasterized=True,
            )
        right.axvline(0, color=INK, lw=0.8)
        right.set(title="Contribution per row", xlabel="log-odds, lowers ← 0 → raises")
        dots = [("low value", _LOW), ("high value", _HIGH), ("missing or a category", GREY)]
        figure.legend(
            handles=[Line2D([], [], ls="", marker="o", color=c, label=text) for text, c in dots],
            loc="outside lower center",
            ncols=3,
        )
        strongest = (f"{model.encoder.names[i]} {np.abs(shares[:, i]).mean():.2f}" for i in order)
        figure.alt = (
            "A bar for the mean contribution of each feature to the score in log-odds, and a dot "
            f"for its contribution to each row. {', '.join(strongest)}."
        )
    return figure


def waterfall(score: Score) -> Picture:
    """Show one score's explanations, from the base value to the log-odds of this score."""
    steps, base = list(score.explanations.items()), score.base_value or 0.0
    starts = base + np.cumsum([0.0, *(share for _, share in steps)])
    with picture(height=1.3 + 0.42 * len(steps)) as (figure, axes):
        for row, ((_, share), start) in enumerate(zip(steps, starts, strict=False)):
            axes.barh(row, share, left=start, height=0.62, color=BLUE if share > 0 else ORANGE)
            axes.annotate(
                f"{share:+.2f}",
                (max(start, start + share), row),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
            )
            axes.plot([start + share] * 2, [row - 0.31, row + 1.31], color=GREY, lw=0.8)
        axes.set_yticks(range(len(steps)), [_label(name, score) for name, _ in steps])
        axes.axvline(base, color=GREY, ls=":")
        axes.set(
            title=f"Score {score.score:.1%}",
            xlabel=f"log-odds, from {base:.2f} (no feature known) to {score.log_odds:.2f}",
            ylim=(len(steps) - 0.3, -0.6),
        )
        axes.use_sticky_edges = False
        axes.margins(x=0.1)
        top = axes.secondary_xaxis("top", functions=(lambda x: x, lambda x: x))
        ticks = axes.get_xticks()
        top.set_xticks(ticks, [f"{p:.1%}" for p in sigmoid(ticks)])
        top.set_xlabel("as a probability", fontsize=8.5, color=GREY)
        top.tick_params(labelsize=8, colors=GREY)
        colours = [
            Patch(color=BLUE, label="raises the score"),
            Patch(color=ORANGE, label="lowers it"),
        ]
        axes.legend(handles=colours, loc="best", fontsize=8)
        reasons = (f"{_label(name, score)} {share:+.2f}" for name, share in steps)
        figure.alt = (
            f"A bar for each reason, from {base:.2f} log-odds to {score.log_odds:.2f}, a score of "
            f"{score.score:.1%}. {'; '.join(reasons)}."
        )
    return figure


def timeline(
    events: Iterable[Mapping[str, Any]],
    anchor: datetime,
    *,
    window: timedelta = timedelta(days=7),
    horizon: timedelta = timedelta(hours=1),
    goal: str = "submit_form",
) -> Picture:
    """Show one visitor's events around an anchor, and the visit of the anchor enlarged below.

    The window of a feature is blue, that of the label orange.

    Args:
        events: atomic events of one visitor, with ``derived_tstamp`` and ``event_name``.
        anchor: the time of scoring, aware.
        window: how far a feature looks back.
        horizon: how far the label looks ahead.
        goal: the name of the event that the label is about.

    Example: ``timeline(events, anchor, window=timedelta(days=30))``
    """
    rows = sorted(events, key=lambda event: event["derived_tstamp"])
    names = list(dict.fromkeys(row["event_name"] for row in rows))
    until = anchor + horizon
    goals = [r for r in rows if r["event_name"] == goal and anchor < r["derived_tstamp"] <= until]
    visit = _visit([row["derived_tstamp"] for row in rows], anchor)
    with picture(height=2.4 + 0.56 * len(names), nrows=2, sharey=True) as (figure, panels):
        for axes in panels:
            axes.axvspan(anchor - window, anchor, color=SKY, alpha=0.3, lw=0)
            axes.axvspan(anchor, until, color=ORANGE, alpha=0.35, lw=0)
            axes.axvline(anchor, color=RED, lw=1.2)
            for row in reversed(rows):  # the later ones do not cover that of the anchor
                at, hit = row["derived_tstamp"], row in goals
                colour = RED if hit else BLUE if anchor - window <= at <= anchor else GREY
                place = names.index(row["event_name"])
                axes.plot(at, place, "*" if hit else "o", ms=13 if hit else 6, color=colour)
            axes.set_yticks(range(len(names)), names)
            dates(axes)
        label = f"Label {'yes' if goals else 'no'}: {goal} within {length(horizon)}"
        panels[0].set(title=label, ylim=(len(names) - 0.5, -0.5))
        edge = (until - visit) / 40
        panels[1].set(
            title="The visit, enlarged", xlabel="time (UTC)", xlim=(visit - edge, until + edge)
        )
        figure.legend(
            handles=_timeline_legend(window, horizon, goal), loc="outside lower center", ncols=3
        )
        before = [row for row in rows if row["derived_tstamp"] <= anchor]
        figure.alt = (
            f"A row of dots for each kind of event: {', '.join(names)}. A line is the anchor, "
            f"{anchor:%d %B, %H:%M}, with {len(before)} events up to it, the window of "
            f"{length(window)} in blue, and the {length(horizon)} of the label in orange, in which "
            f"{f'a star marks a {goal}' if goals else f'there is no {goal}'}. Below, the visit "
            f"from {visit:%H:%M} on, enlarged."
        )
    return figure


def _visit(times: Sequence[datetime], anchor: datetime) -> datetime:
    """Return when the visit of an anchor began: after the last pause of half an hour."""
    start = anchor
    for at in reversed([at for at in times if at <= anchor]):
        if start - at > _PAUSE:
            break
        start = at
    return start


def _timeline_legend(window: timedelta, horizon: timedelta, goal: str) -> list[Any]:
    def dot(colour: str, label: str, marker: str = "o") -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=colour, label=label)

    return [
        Line2D([], [], color=RED, label="anchor: the time of scoring"),
        Patch(color=SKY, alpha=0.3, label=f"window, {length(window)}"),
        Patch(color=ORANGE, alpha=0.35, label=f"label, {length(horizon)}"),
        dot(BLUE, "event in the window"),
        dot(GREY, "any other event"),
        dot(RED, f"{goal} in the label", "*"),
    ]


def running_total(
    times: Sequence[datetime], anchor: datetime, *, window: timedelta = timedelta(days=7)
) -> Picture:
    """Show a count over a window as a difference: the total now minus the total before it.

    Args:
        times: of the counted events, aware.
        anchor: the end of the window, aware.
        window: the length of the window.
    """
    ordered = sorted(times)
    start = anchor - window
    before, now = (bisect(ordered, at) for at in (start - timedelta(microseconds=1), anchor))
    with picture(height=3.3) as (figure, axes):
        axes.step(
            [ordered[0] - window / 14, *ordered, anchor + window / 14],
            [0, *range(1, len(ordered) + 1), len(ordered)],
            where="post",
            color=BLUE,
            lw=1.8,
            label="running total",
        )
        axes.axvspan(start, anchor, color=SKY, alpha=0.3, lw=0, label=f"window, {length(window)}")
        for at, total, name in ((start, before, "before"), (anchor, now, "now")):
            axes.plot([at], [total], "o", color=RED, ms=7)
            axes.annotate(f"{name}: {total}", (at, total), (-8, 6), ha="right", color=RED,
                          textcoords="offset points", fontsize=10)  # fmt: skip
        axes.set(
            title=f"{now} now minus {before} before: {now - before} within {length(window)}",
            xlabel="time (UTC)",
            ylabel="events so far",
            ylim=(-0.4, len(ordered) + 1.2),
        )
        axes.legend(loc="lower right")
        dates(axes)
        figure.alt = (
            f"A staircase that climbs by one at each of {len(ordered)} events. It is at {before} "
            f"where the last {length(window)} begin, and at {now} where they end."
        )
    return figure


def _spread(shares: Floats) -> Floats:
    """Return heights that stack dots of similar value, within a third of a row."""
    cells = np.round((shares - shares.min()) / (np.ptp(shares) + 1e-9) * 60).astype(int)
    heights = np.zeros(len(shares))
    for cell in np.unique(cells):
        dots = np.flatnonzero(cells == cell)
        order = np.arange(len(dots))
        heights[dots] = (order - (len(dots) - 1) / 2) * (-1.0) ** order
    spread: Floats = heights / max(np.abs(heights).max(), 1.0) * 0.36
    return spread


def _shades(values: Any, column: Column) -> Any:
    if column.kind == "category":
        return GREY
    missing = values == ABSENT
    ranks = np.searchsorted(np.unique(values[~missing]), values) / max(len(np.unique(values)), 2)
    pale, dark = (np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for c in (_LOW, _HIGH))
    shades = pale + np.clip(ranks, 0, 1)[:, None] * (dark - pale)
    shades[missing] = [int(GREY[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return shades


def _label(name: str, score: Score) -> str:
    if name in _NO_FEATURES:
        return _NO_FEATURES[name]
    value = score.features[name]
    return f"{name} = {'none' if value is None else value}"


def length(span: timedelta) -> str:
    """Return a length of time in words, such as ``1 h`` or ``30 days``."""
    hours = span.total_seconds() / 3600
    if hours < 1:
        return f"{hours * 60:g} min"
    return f"{hours:g} h" if hours < 48 else f"{hours / 24:g} days"
