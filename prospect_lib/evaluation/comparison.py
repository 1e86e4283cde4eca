"""Comparison of two models on rows that neither has seen.

The champion is the promoted model, the challenger a newly trained one.

Example: ``compare(champion, challenger, table).differences["log_loss"]`` is an interval. If
all of it is below zero, the challenger is better beyond noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError
from prospect_lib.evaluation.metrics import Interval, ScoredRows, score_rows, visitor_draws
from prospect_lib.model.dataset import labels
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import (
    HELD_OUT,
    HORIZON,
    Split,
    TimeRule,
    honest_split,
    row_weights,
    visitors_of,
)

CHAMPION, CHALLENGER = "champion", "challenger"
COMPARED = ("log_loss", "pr_auc", "roc_auc", "brier", "calibration_error", "lift_top_10")


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows.

    Attributes:
        rows: outcome, score and weight of each row, by role.
        differences: challenger minus champion, by metric.
        about: the period, rows and visitors, plain JSON values.
    """

    rows: Mapping[str, ScoredRows]
    differences: Mapping[str, Interval]
    about: Mapping[str, Any]

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return all metrics of both models, by role, then metric name."""
        return {role: rows.metrics() for role, rows in self.rows.items()}


def compare(
    champion: ProspectModel,
    challenger: ProspectModel,
    table: pa.Table,
    horizon: timedelta = HORIZON,
) -> Comparison:
    """Score the rows that are later than both models' training, of visitors new to both.

    Args:
        champion: the promoted model.
        challenger: the new model.
        table: a training set that reaches beyond both models' training rows.
        horizon: how far a label looks ahead.
    Raises:
        DataError: no such rows are left, or they have one outcome only.

    Example: ``compare(model, model, table).differences["brier"].value`` is 0.
    """
    models = {CHAMPION: champion, CHALLENGER: challenger}
    split = unseen_rows(list(models.values()), table, horizon)
    label = labels(split.test)
    rows = {
        role: score_rows(label, model.predict(split.test), split.test_weight)
        for role, model in models.items()
    }
    draws = visitor_draws(visitors_of(split.test))
    differences = {
        metric: draws.difference(metric, rows[CHALLENGER], rows[CHAMPION]) for metric in COMPARED
    }
    return Comparison(rows, differences, _about(split))


def unseen_rows(models: list[ProspectModel], table: pa.Table, horizon: timedelta) -> Split:
    """Return a split whose test rows no model has seen; ``train`` has the other rows.

    A visitor who first appears in the table after the cut is new, unless a model was trained
    on rows older than the table. In that case, only visitors held out by hash are new.

    Raises:
        DataError: no such rows are left.
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


def _about(split: Split) -> dict[str, Any]:
    ends = pc.min_max(split.test["anchor_ts"]).as_py()
    return {
        "since": ends["min"].isoformat(),
        "until": ends["max"].isoformat(),
        "rows": split.test.num_rows,
        "visitors": len(pc.unique(visitors_of(split.test))),
        "positives": int(labels(split.test).sum()),
    }
