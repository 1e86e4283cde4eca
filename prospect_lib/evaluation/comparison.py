"""Champion against challenger, on rows that neither has seen.

Example: ``compare(champion, challenger, table).differences["log_loss"]`` -> an
``Interval``; below zero throughout, the challenger is better beyond noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, Scored, score_rows, visitor_draws
from prospect_lib.model.dataset import labels
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import HELD_OUT, HORIZON, Split, TimeRule, honest_split, row_weights
from prospect_lib.plots.style import BLUE, GREY, ORANGE, Picture, percent, picture

CHAMPION, CHALLENGER = "champion", "challenger"
COMPARED = ("log_loss", "pr_auc", "roc_auc", "brier", "calibration_error", "lift_top_10")
_COLOURS = {CHAMPION: ORANGE, CHALLENGER: BLUE}


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        rows: outcome, score and weight of every row, by role.
        differences: challenger minus champion, by metric.
        about: the period, rows and visitors, plain JSON values.
    """

    rows: Mapping[str, Scored]
    differences: Mapping[str, Interval]
    about: Mapping[str, Any]

    def metrics(self) -> dict[str, dict[str, float]]:
        """All figures of both, by role and metric."""
        return {role: rows.metrics() for role, rows in self.rows.items()}


def compare(
    champion: ProspectModel,
    challenger: ProspectModel,
    table: pa.Table,
    horizon: timedelta = HORIZON,
) -> Comparison:
    """Both on the rows later than anything either was trained on, of visitors new to both.

    Raises:
        DataError: no such rows with both outcomes are left.
    """
    models = {CHAMPION: champion, CHALLENGER: challenger}
    split = unseen(list(models.values()), table, horizon)
    label = labels(split.test)
    rows = {
        role: score_rows(label, model.predict(split.test), split.test_weight)
        for role, model in models.items()
    }
    draws = visitor_draws(split.test["domain_userid"])
    differences = {
        metric: draws.difference(metric, rows[CHALLENGER], rows[CHAMPION]) for metric in COMPARED
    }
    return Comparison(rows, differences, _about(split))


def unseen(models: list[ProspectModel], table: pa.Table, horizon: timedelta) -> Split:
    """The rows on which these models can be compared; ``train`` is what they may have seen.

    A visitor who first appears in the table after the cut is new, unless a model was
    trained on rows older than the table: then only visitors held out by hash are.
    """
    data = [model.manifest["data"] for model in models]
    cut = max(datetime.fromisoformat(d["until"]) for d in data) + horizon
    split = honest_split(table, cut=cut, horizon=horizon)
    first = pc.min(table["anchor_ts"]).as_py()
    if all(datetime.fromisoformat(d["since"]) >= first for d in data):
        return split
    held_out = TimeRule(cut, horizon).test_mask(split.test)
    if not held_out.any():
        raise DataError(
            "no row of a visitor that neither model has seen is left. Widen --since .. --until."
        )
    test = split.test.filter(held_out)
    weight = row_weights(test) / HELD_OUT
    return Split("held-out visitors", split.train, test, weight, cut, horizon)


def versus(found: Comparison) -> Picture:
    """Precision against recall, and calibration, of both models on the same rows."""
    with picture(ncols=2) as (figure, (left, right)):
        top = 0.0
        for role, rows in found.rows.items():
            hits, misses = rows.caught()
            shown = hits + misses >= 0.01 * (hits + misses)[-1]
            precision = hits / (hits + misses)
            left.plot((hits / hits[-1])[shown], precision[shown], color=_COLOURS[role], label=role)
            bins = rows.reliability()
            x, y = ([b[key] for b in bins] for key in ("score", "rate"))
            right.plot(x, y, "o-", ms=4, color=_COLOURS[role], label=role)
            top = max(top, *x, *y)
        right.plot([0, 1.1 * top], [0, 1.1 * top], color=GREY, ls=":", label="perfect")
        left.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(0, None))
        right.set(
            title="Calibration", xlabel="mean predicted probability", ylabel="share that converted"
        )
        for axes in (left, right):
            axes.legend()
            percent(axes.xaxis, axes.yaxis)
    return figure


def _about(split: Split) -> dict[str, Any]:
    ends = pc.min_max(split.test["anchor_ts"]).as_py()
    return {
        "since": ends["min"].isoformat(),
        "until": ends["max"].isoformat(),
        "rows": split.test.num_rows,
        "visitors": len(pc.unique(split.test["domain_userid"])),
        "positives": int(labels(split.test).sum()),
    }
