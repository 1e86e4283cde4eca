"""Pictures of splits, metrics, thresholds and comparisons.

Each function returns a ``Picture``: as the last line of a notebook cell it is displayed,
``savefig`` writes it, and ``png()`` is the content of the file.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from prospect_lib.evaluation.baselines import CEILING, LOGISTIC, PRIOR, RULE
from prospect_lib.evaluation.comparison import CHALLENGER, CHAMPION, Comparison
from prospect_lib.evaluation.evaluate import MODEL, Evaluation
from prospect_lib.evaluation.metrics import LOSSES, TITLES, Interval
from prospect_lib.evaluation.threshold import Threshold, gains
from prospect_lib.model.rows import Floats, Mask, microseconds_of, moment
from prospect_lib.model.splits import Split
from prospect_lib.plots.explanations import length
from prospect_lib.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    RED,
    Picture,
    dates,
    percent,
    picture,
)

_LOOK: dict[str, Any] = {
    MODEL: {"color": BLUE, "lw": 2.4},
    RULE: {"color": ORANGE, "lw": 1.6},
    LOGISTIC: {"color": GREEN, "lw": 1.6},
    CEILING: {"color": INK, "lw": 1.4, "ls": "--"},
    PRIOR: {"color": GREY, "lw": 1.4, "ls": ":"},
}
_ROLES = {CHAMPION: ORANGE, CHALLENGER: BLUE}


def split_bands(splits: Sequence[Split]) -> Picture:
    """Show when which visitors are trained on and tested on, two bars per split."""
    with picture(height=1.2 + 0.8 * len(splits)) as (figure, axes):
        for row, split in enumerate(splits):
            _draw_bands(axes, split, y=-2.4 * row)
        axes.set_yticks(
            [y for row in range(len(splits)) for y in (-2.4 * row, -2.4 * row - 1)],
            ["trained on", "held out or new"] * len(splits),
        )
        axes.set(
            title="Test later, on visitors the model has not seen", xlabel="time of the row (UTC)"
        )
        axes.grid(visible=False)
        dates(axes)
        figure.alt = (
            "Two bars over time per split: visitors trained on, and visitors held out. "
            + (" ".join(map(_split_in_words, splits)))
        )
    return figure


def _split_in_words(split: Split) -> str:
    return (
        f"Before {split.cut:%d %B} lie {split.train.num_rows:,} rows of training, after it "
        f"{split.test.num_rows:,} rows of the test, {length(split.horizon)} apart."
    )


def _draw_bands(axes: Any, split: Split, y: float) -> None:
    assert split.cut is not None, "a random split has no periods"
    (first, known), (_, last) = _period(split.train), _period(split.test)
    gap = split.cut - split.horizon
    for height, start, end, colour in (
        (y, first, known, BLUE),
        (y, split.cut, last, PALE),
        (y - 1, first, gap, PALE),
        (y - 1, split.cut, last, ORANGE),
    ):
        axes.barh(height, end - start, left=start, height=0.8, color=colour)
    train, test = (f"{part.num_rows:,} rows" for part in (split.train, split.test))
    for height, start, end, text, colour in (
        (y, first, known, f"train: {train}", "white"),
        (y, split.cut, last, "not used", INK),
        (y - 1, first, gap, "not used", INK),
        (y - 1, split.cut, last, f"test: {test}", INK),
    ):
        middle = (start + (end - start) / 2, height)
        axes.annotate(text, middle, ha="center", va="center", color=colour, fontsize=8.5)
    axes.plot([split.cut, split.cut], [y - 1.5, y + 0.5], color=RED, lw=2)
    hours = split.horizon.total_seconds() / 3600
    axes.annotate(
        f"gap {hours:g} h",
        (split.cut, y + 0.45),
        (3, 2),
        textcoords="offset points",
        color=RED,
        fontsize=8,
    )


def reliability(evaluation: Evaluation) -> Picture:
    """Compare observed and predicted rate in bins of equal weight: does 10% mean 10%?"""
    bins = evaluation.rows[MODEL].reliability()
    error = evaluation.metrics[MODEL]["calibration_error"]
    with picture(4.6, 4.4) as (figure, axes):
        top = 1.1 * max(max(b["score"], b["rate"]) for b in bins)
        axes.plot([0, top], [0, top], color=GREY, ls=":", label="perfect")
        x, y = ([b[key] for b in bins] for key in ("score", "rate"))
        axes.plot(x, y, "o-", color=BLUE, label="a tenth of the rows each")
        axes.set(
            title=f"{100 * error.value:.1f} points off on average",
            xlabel="mean predicted probability",
            ylabel="share that converted",
            xlim=(0, top),
            ylim=(0, top),
        )
        axes.legend(loc="upper left")
        axes.locator_params(nbins=5)
        percent(axes.xaxis, axes.yaxis)
        figure.alt = "Ten dots, each a tenth of the rows: predicted and then observed share. " + (
            ", ".join(f"{b['score']:.1%} and {b['rate']:.1%}" for b in bins) + "."
        )
    return figure


def curves(evaluation: Evaluation) -> Picture:
    """Show the precision-recall curve and the ROC curve of the model and its baselines."""
    readable = {"fontsize": 8, "labelspacing": 0.3}
    with picture(ncols=2) as (figure, (left, right)):
        for name, rows in evaluation.rows.items():
            hits, misses = rows.hits_and_misses()
            metrics, look = rows.metrics(), _LOOK[name]
            recall, shown = hits / hits[-1], _enough(hits + misses)
            precision = (hits / (hits + misses))[shown]
            one_score = len(precision) == 1  # a point: the same precision for any number of rows
            left.plot(
                [0, 1] if one_score else recall[shown],
                [precision[0]] * 2 if one_score else precision,
                label=f"{name} {metrics['pr_auc']:.2f}",
                **look,
            )
            right.plot(
                np.append(0, misses / misses[-1]),
                np.append(0, recall),
                label=f"{name} {metrics['roc_auc']:.2f}",
                **look,
            )
        left.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, 1.55))
        left.set_yticks(np.linspace(0, 1, 6))  # the legend is above
        right.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
        left.legend(title="area under the curve", title_fontsize=8, loc="upper right", **readable)
        right.legend(loc="lower right", **readable)
        percent(left.xaxis, left.yaxis, right.xaxis, right.yaxis)
        areas = {name: rows.metrics() for name, rows in evaluation.rows.items()}
        figure.alt = "Precision against recall, and the ROC curve. Areas under the two: " + (
            "; ".join(f"{n} {m['pr_auc']:.2f} and {m['roc_auc']:.2f}" for n, m in areas.items())
            + "."
        )
    return figure


def lift(evaluation: Evaluation) -> Picture:
    """Show the conversions reached, and the precision, of acting on the top rows only."""
    rows = evaluation.rows[MODEL]
    hits, misses = rows.hits_and_misses()
    share = (hits + misses) / (hits + misses)[-1]
    base = hits[-1] / (hits[-1] + misses[-1])
    with picture(ncols=2) as (figure, (left, right)):
        left.plot(np.append(0, share), np.append(0, hits / hits[-1]), label=MODEL, **_LOOK[MODEL])
        left.plot([0, 1], [0, 1], label="in random order", **_LOOK[PRIOR])
        left.set(title="Conversions reached", ylabel="share of all conversions")
        shown = _enough(hits + misses)
        right.plot(share[shown], (hits / (hits + misses))[shown], **_LOOK[MODEL])
        right.axhline(base, **_LOOK[PRIOR])
        right.annotate(
            f"all rows: {base:.1%}",
            (0, base),
            (0, -11),
            textcoords="offset points",
            color=GREY,
        )
        right.set(title="Precision", ylabel="share that converts", ylim=(0, None))
        left.legend(loc="lower right")
        for axes in (left, right):
            axes.set_xlabel("share of rows acted on, best first")
            percent(axes.xaxis, axes.yaxis)
        tenth = np.searchsorted(share, 0.1)
        figure.alt = (
            "Two curves over the share of rows acted on, best first. The best tenth holds "
            f"{hits[tenth] / hits[-1]:.0%} of the conversions, and "
            f"{(hits / (hits + misses))[tenth]:.1%} of it converts; of all rows {base:.1%} do."
        )
    return figure


def threshold(evaluation: Evaluation, chosen: Threshold) -> Picture:
    """Show gain, precision and recall of acting from each score on, and the chosen score."""
    scores, gain = gains(evaluation.rows[MODEL], chosen.value, chosen.cost)
    hits, misses = evaluation.rows[MODEL].hits_and_misses()
    with picture(ncols=2) as (figure, (left, right)):
        left.plot(scores, gain, **_LOOK[MODEL])
        left.axhline(0, color=GREY, lw=0.8)
        left.set(
            title="Gain per 1,000 rows",
            ylabel=f"{chosen.value:g} if the goal follows, −{chosen.cost:g} if not",
        )
        shown = _enough(hits + misses)
        right.plot(
            scores[shown], (hits / (hits + misses))[shown], color=BLUE, lw=2, label="precision"
        )
        right.plot(scores, hits / hits[-1], color=ORANGE, lw=2, label="recall")
        right.set(title="Precision and recall", ylabel="share", ylim=(0, 1))
        right.legend()
        for axes in (left, right):
            axes.axvline(chosen.score, color=RED, lw=1.6)
            axes.set_xlabel("act from this score on")
        for axes, text in (
            (left, f"{chosen.score:.3f}"),
            (right, f"{chosen.per_day:.1f} visitors\nper day"),
        ):
            axes.annotate(
                text,
                (chosen.score, 0),
                (4, 4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=RED,
            )
        percent(right.yaxis)
        figure.alt = (
            "The gain, and precision and recall, over the score from which to act; a red line at "
            f"the chosen {chosen.score:.3f}, where {chosen.share:.1%} of the rows are acted on, "
            f"precision is {chosen.precision:.0%} and recall {chosen.recall:.0%}."
        )
    return figure


def side_by_side(evaluations: Mapping[str, Evaluation]) -> Picture:
    """Show the same model evaluated in several ways, such as on two kinds of split.

    Example: ``side_by_side({"random rows": a, "later, new visitors": b})``
    """
    metrics = ("roc_auc", "pr_auc", "log_loss")
    rows = len(evaluations)
    with picture(height=1.5 + 0.45 * rows, ncols=len(metrics), sharey=True) as (figure, panels):
        for axes, metric in zip(panels, metrics, strict=True):
            for row, evaluation in enumerate(evaluations.values()):
                colour = BLUE if evaluation.about["shared_visitors"] == 0 else RED
                _draw_interval(axes, row, evaluation.metrics[MODEL][metric], colour)
            better = "← better" if metric in LOSSES else "better →"
            axes.set(title=TITLES[metric], xlabel=better, ylim=(rows - 0.5, -0.5))
            axes.margins(x=0.25)
        names = []
        for name, evaluation in evaluations.items():
            share = evaluation.about["shared_visitors"] / evaluation.about["test_visitors"]
            names.append(f"{name}\n{share:.0%} seen in training")
        panels[0].set_yticks(range(rows), names)
        figure.alt = "Three metrics with their intervals, a row per evaluation. " + (
            " ".join(
                f"{n}: {_in_words(e.metrics[MODEL], metrics)}." for n, e in evaluations.items()
            )
        )
    return figure


def forward(evaluations: Sequence[Evaluation], metric: str = "roc_auc") -> Picture:
    """Show a metric of the model and its baselines on each of several forward splits."""
    names = [
        n for n in (CEILING, MODEL, LOGISTIC, RULE) if any(n in e.metrics for e in evaluations)
    ]
    with picture(height=3.4) as (figure, axes):
        for number, name in enumerate(names):
            rows = [
                (i + 0.1 * number, e.metrics[name][metric])
                for i, e in enumerate(evaluations)
                if name in e.metrics
            ]
            for place, interval in rows:
                axes.plot([place] * 2, [interval.low, interval.high], color=_LOOK[name]["color"])
            axes.plot(
                [p for p, _ in rows],
                [i.value for _, i in rows],
                "o",
                color=_LOOK[name]["color"],
                label=name,
            )
        cuts = [datetime.fromisoformat(e.about["cut"]).strftime("from %d %b") for e in evaluations]
        axes.set_xticks(range(len(evaluations)), cuts)
        axes.set(
            title="The same training on later and later data",
            xlabel="test period",
            ylabel=TITLES[metric],
        )
        figure.legend(ncols=4, loc="outside lower center")
        figure.alt = f"{TITLES[metric]} on later and later test periods, with intervals. " + (
            " ".join(
                f"{cut}: "
                + ", ".join(
                    f"{n} {e.metrics[n][metric].value:.2f}" for n in names if n in e.metrics
                )
                + "."
                for cut, e in zip(cuts, evaluations, strict=True)
            )
        )
    return figure


def differences(differences: Mapping[str, Interval]) -> Picture:
    """Show challenger minus champion in each metric, with the better side on the right."""
    with picture(height=1.2 + 0.42 * len(differences)) as (figure, axes):
        for row, (metric, interval) in enumerate(differences.items()):
            sign = -1 if metric in LOSSES else 1
            ends = sorted((sign * interval.low, sign * interval.high))
            colour = GREEN if ends[0] > 0 else RED if ends[1] < 0 else GREY
            _draw_interval(axes, row, Interval(sign * interval.value, *ends), colour)
        axes.axvline(0, color=INK, lw=1)
        axes.set_yticks(range(len(differences)), [TITLES[metric] for metric in differences])
        axes.set(
            title="Challenger compared with champion, on the same rows",
            xlabel="← worse    difference, 95% interval over visitors    better →",
            ylim=(len(differences) - 0.5, -0.5),
        )
        axes.margins(x=0.2)
        figure.alt = (
            "Challenger minus champion, with intervals over visitors; right of zero is better. "
            f"{_in_words(differences, differences)}."
        )
    return figure


def comparison(compared: Comparison) -> Picture:
    """Show precision and recall, and calibration, of both models on the same rows."""
    with picture(ncols=2) as (figure, (left, right)):
        top = 0.0
        for role, rows in compared.rows.items():
            hits, misses = rows.hits_and_misses()
            shown = _enough(hits + misses)
            precision = hits / (hits + misses)
            left.plot((hits / hits[-1])[shown], precision[shown], color=_ROLES[role], label=role)
            bins = rows.reliability()
            x, y = ([b[key] for b in bins] for key in ("score", "rate"))
            right.plot(x, y, "o-", ms=4, color=_ROLES[role], label=role)
            top = max(top, *x, *y)
        right.plot([0, 1.1 * top], [0, 1.1 * top], color=GREY, ls=":", label="perfect")
        left.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, None))
        right.set(
            title="Calibration", xlabel="mean predicted probability", ylabel="share that converted"
        )
        for axes in (left, right):
            axes.legend()
            percent(axes.xaxis, axes.yaxis)
        figure.alt = (
            "Precision against recall, and observed against predicted share, with a curve for "
            f"each model: {', '.join(compared.rows)}."
        )
    return figure


def _in_words(intervals: Mapping[str, Interval], metrics: Iterable[str]) -> str:
    return ", ".join(f"{TITLES[m]} {intervals[m].value:.3f}" for m in metrics)


def _enough(weight: Floats) -> Mask:
    """Select thresholds reached by at least 1% of the rows; fewer only show noise."""
    mask: Mask = weight >= 0.01 * weight[-1]
    return mask


def _draw_interval(axes: Any, row: int, interval: Interval, colour: str) -> None:
    axes.plot([interval.low, interval.high], [row, row], color=colour, lw=2.4, alpha=0.45)
    axes.plot(interval.value, row, "o", color=colour, ms=7)
    axes.annotate(
        f"{interval.value:.3f}",
        (interval.value, row),
        (0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=INK,
    )


def _period(table: pa.Table) -> tuple[datetime, datetime]:
    """Return when the rows begin and end, without the outermost ones: a clock may be wrong."""
    times = np.sort(microseconds_of(table))
    left_out = min(1 + len(times) // 1000, (len(times) - 1) // 2)
    return moment(times[left_out]), moment(times[-1 - left_out])
