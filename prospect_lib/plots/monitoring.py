"""Pictures of a running service: served values, outcomes and drift."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.patches import Patch

from prospect_lib.evaluation.metrics import Interval
from prospect_lib.monitoring.audit import AuditReport
from prospect_lib.monitoring.causes import EXPECTED_CAUSES, UNEXPLAINED
from prospect_lib.monitoring.drift import WORTH_A_LOOK, DriftReport
from prospect_lib.monitoring.effect import Effect
from prospect_lib.monitoring.outcomes import OutcomeReport
from prospect_lib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Picture,
    percent,
    picture,
)

#: Of expected causes, of the others in the order of their places, and of no known cause.
_EXPECTED, _OTHERS, _NOT_KNOWN = (SKY, BLUE), (ORANGE, GREEN, PURPLE), RED
_LABEL = 90  # characters
_ALARM_COLOURS = [Patch(color=BLUE, label="no alarm"), Patch(color=ORANGE, label="alarm")]


def mismatches(report: AuditReport) -> Picture:
    """Show the share of served values that differ from the warehouse, by attribute and cause."""
    table = report.attributes[report.attributes["mismatches"] > 0][::-1]
    causes = [cause for cause, count in report.causes.items() if count]
    with picture(height=1.5 + 0.28 * max(len(table), 1) + 0.2 * len(causes)) as (figure, axes):
        start = table["mismatches"] * 0.0
        for cause, colour in _colours(causes).items():
            share = table[cause] / report.scores
            label = textwrap.shorten(report.label(cause), _LABEL, placeholder=" …")
            axes.barh(table.index, share, left=start, color=colour, height=0.6, label=label)
            start = start + share
        axes.set(title="Served values that differ from the warehouse", xlabel="share of scores")
        axes.grid(visible=False, axis="y")
        percent(axes.xaxis)
        if table.empty:
            axes.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
            axes.text(0.5, 0.5, "no differences", ha="center", va="center", color=GREY)
        else:
            figure.legend(loc="outside lower left")
        bars = "; ".join(f"{n} {m / report.scores:.1%}" for n, m in table["mismatches"].items())
        figure.alt = (
            "A bar for each attribute with wrong values, as a share of the scores, coloured by "
            f"cause. {bars or 'No attribute has any'}. "
            f"Causes: {'; '.join(report.label(cause) for cause in causes) or 'none'}."
        )
    return figure


def _colours(causes: Sequence[str]) -> dict[str, str]:
    others = [c for c in causes if c not in (*EXPECTED_CAUSES, UNEXPLAINED)]
    colours = dict(zip(others, itertools.cycle(_OTHERS), strict=False))
    colours |= {UNEXPLAINED: _NOT_KNOWN, **dict(zip(EXPECTED_CAUSES, _EXPECTED, strict=True))}
    return {cause: colours[cause] for cause in causes}


def live_calibration(outcomes: OutcomeReport, bins: int = 8) -> Picture:
    """Compare served scores with outcomes, in bins of equally many scores and by day."""
    rows = outcomes.rows.sort_values("score")
    place = np.minimum(np.arange(len(rows)) * bins // len(rows), bins - 1)
    dots = rows.groupby(place)[["score", "label"]].mean()
    days = outcomes.by("day")
    with picture(ncols=2, height=3.2) as (figure, (left, right)):
        top = max(dots["score"].max(), dots["label"].max()) * 1.1 or 1.0
        left.plot([0, top], [0, top], color=GREY, ls=":", label="perfect")
        each = f"1/{len(dots)} of the scores each"
        left.plot(dots["score"], dots["label"], "o", color=BLUE, label=each)
        left.set(
            title="Live calibration", xlabel="predicted (mean score)", ylabel="observed goal rate"
        )
        right.plot(days.index, days["predicted"], "o-", color=BLUE, label="predicted")
        right.plot(days.index, days["observed"], "o-", color=ORANGE, label="observed")
        right.set(title="By day", xlabel="day (UTC)", ylim=(0, None))
        right.set_xticks([days.index[0], days.index[-1]] if len(days) > 1 else [days.index[0]])
        left.legend(loc="lower right")
        right.legend()
        percent(left.xaxis, left.yaxis, right.yaxis)
        figure.alt = (
            "Predicted and observed share of goals, in bins of equally many scores and by day. "
            f"Over all {len(rows):,} scores {rows['score'].mean():.1%} were predicted, "
            f"{rows['label'].mean():.1%} observed."
        )
    return figure


def effect(measured: Effect) -> Picture:
    """Show the goal rates of sessions acted on and held out, and their difference."""
    arms = (measured.acted, measured.held_out)
    with picture(ncols=2, height=2.8) as (figure, (left, right)):
        for place, arm in enumerate(arms):
            rate = arm.interval(measured.design_effect)
            if arm.sessions:
                _interval(left, place, rate, colour=ORANGE if place == 0 else BLUE)
            left.annotate(
                f"{arm.sessions:,} sessions", (place, rate.high if arm.sessions else 0.0),
                (0, 6), textcoords="offset points", ha="center", color=GREY,
            )  # fmt: skip
        left.set(title="Sessions that the score chose", ylabel="reached the goal")
        left.set(xlim=(-0.6, 1.6), xticks=[0, 1], xticklabels=["acted on", "held out"])
        left.set_ylim(0, left.get_ylim()[1] * 1.12)
        left.grid(visible=False, axis="x")
        right.axhline(0, color=GREY, ls=":", label="acting changes nothing")
        if all(arm.sessions for arm in arms):
            _interval(right, 0, measured.difference, colour=GREEN)
        right.set(title="Does acting help?", ylabel="difference (percentage points)")
        right.set(xlim=(-1, 1), xticks=[0], xticklabels=["acted on minus held out"])
        right.yaxis.set_major_formatter(
            lambda share, _place: f"{100 * share:+.3g}" if share else "0"
        )
        right.grid(visible=False, axis="x")
        right.legend(loc="lower right")
        percent(left.yaxis)
        figure.alt = (
            "Left: share of sessions acted on and of sessions held out that reached the goal, with "
            "intervals. Right: their difference with its interval, and a line at no difference. "
            f"{' '.join(measured.summary().splitlines())}"
        )
    return figure


def _interval(axes: Any, place: int, interval: Interval, *, colour: str) -> None:
    axes.plot([place, place], [interval.low, interval.high], color=colour, lw=3)
    axes.plot([place], [interval.value], "o", color=colour, ms=9)


def drift(report: DriftReport, most: int = 10) -> Picture:
    """Show the features that moved most since training, and how far chance moves them."""
    table = report.table.sort_values("psi").tail(most)
    with picture(height=1.2 + 0.3 * len(table)) as (figure, axes):
        colours = [ORANGE if alarm else BLUE for alarm in table["alarm"]]
        axes.barh(table.index, table["psi"], color=colours, height=0.55)
        axes.plot(table["noise"], table.index, "|", color="black", ms=12, mew=2, label="chance")
        axes.axvline(WORTH_A_LOOK, color=GREY, ls=":", label="worth a look")
        axes.set(title="Distance from the training set", xlabel="population stability index (PSI)")
        handles = [*axes.get_legend_handles_labels()[0], *_ALARM_COLOURS]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        axes.grid(visible=False, axis="y")
        rows = table[::-1].itertuples()
        figure.alt = "A bar for each feature that moved most, and how far chance moves it. " + (
            "; ".join(f"{r.Index} {r.psi:.2f}, by chance up to {r.noise:.2f}" for r in rows) + "."
        )
    return figure
