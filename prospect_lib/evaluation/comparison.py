"""Comparison of two models on rows that neither has seen.

The champion is the promoted model, the challenger a newly trained one.

Example: ``compare(champion, challenger, table).differences["log_loss"]`` is an interval. If
all of it is below zero, the challenger is better beyond noise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import TooFewError, wrong_type
from prospect_lib.evaluation.metrics import Interval, ScoredRows, score_rows, visitor_draws
from prospect_lib.model.dataset import MIN_TEST_VISITORS, refuse_too_few
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import (
    MORE_DATA,
    labels,
    microseconds_of,
    moment,
    row_weights,
    times_of,
    visitors_of,
)
from prospect_lib.model.splits import HELD_OUT, HORIZON, Split, TimeRule, honest_split

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
        TooFewError: too few such rows are left.

    Example: ``compare(model, model, table).differences["brier"].value`` is 0.
    """
    models = {CHAMPION: champion, CHALLENGER: challenger}
    for role, model in models.items():
        if not isinstance(model, ProspectModel):
            raise wrong_type(role, model, "a ProspectModel")
    split = unseen_rows(list(models.values()), table, horizon)
    refuse_too_few(split.test, split.test_weight, MIN_TEST_VISITORS, "a comparison")
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
        TooFewError: no such rows are left.
    """
    data = [model.manifest["data"] for model in models]
    cut = max(datetime.fromisoformat(d["until"]) for d in data) + horizon
    split = honest_split(table, cut=cut, horizon=horizon)
    if all(_reaches_back(table, d) for d in data):
        return split
    held_out = TimeRule(cut, horizon).test_mask(split.test)
    if not held_out.any():
        raise TooFewError(
            "no row of a visitor that neither model has seen is left. Compare again when there "
            f"are later events. {MORE_DATA}"
        )
    test = split.test.filter(held_out)
    weight = row_weights(test) / HELD_OUT
    return Split("held-out visitors", split.train, test, weight, cut, horizon)


def _reaches_back(table: pa.Table, data: Mapping[str, Any]) -> bool:
    """Return whether the table begins where a model's training rows begin.

    Single rows of wrong clocks do not count: of the table's rows, 1% may be earlier, of the
    model's 2%.
    """
    until = datetime.fromisoformat(data["until"])
    times = microseconds_of(table)
    times = times[times <= until.timestamp() * 1e6]
    early = datetime.fromisoformat(data.get("early", data["since"]))
    return len(times) > 0 and moment(np.quantile(times, 0.01, method="higher")) <= early


def _about(split: Split) -> dict[str, Any]:
    ends = pc.min_max(times_of(split.test)).as_py()
    return {
        "since": ends["min"].isoformat(),
        "until": ends["max"].isoformat(),
        "rows": split.test.num_rows,
        "visitors": len(pc.unique(visitors_of(split.test))),
        "positives": int(labels(split.test).sum()),
    }
