"""The score from which to act on a prospect, from costs or from a capacity.

Example: ``choose_threshold(evaluation, value=50, cost=2)`` returns a threshold of 0.038,
because there 50 x 0.038 = 2 x (1 - 0.038), with the precision, recall and volume to expect.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from prospect_lib.errors import DataError, wrong_type
from prospect_lib.evaluation.evaluate import MODEL, Evaluation
from prospect_lib.evaluation.metrics import ScoredRows
from prospect_lib.model.rows import Floats

VALUE, COST = 20.0, 1.0


@dataclass(frozen=True)
class Threshold:
    """A threshold, and its effect on the test rows.

    Attributes:
        score: act on a prospect from this score on.
        reason: where the score comes from, in words.
        precision: share of the rows acted on that are followed by the goal.
        recall: share of the rows followed by the goal that are acted on.
        share: share of all rows that are acted on.
        per_day: visitors per day who reach the score at least once.
        value: gain of acting on a prospect who converts.
        cost: loss of acting on one who does not, in the same unit.
    """

    score: float
    reason: str
    precision: float
    recall: float
    share: float
    per_day: float
    value: float = VALUE
    cost: float = COST

    def summary(self) -> str:
        """Return one sentence for people."""
        return (
            f"Act from a score of {self.score:.3f} on ({self.reason}): {self.share:.1%} of the "
            f"test rows, {self.precision:.1%} of them right."
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, for the manifest."""
        return asdict(self)


def choose_threshold(
    evaluation: Evaluation,
    *,
    value: float | None = None,
    cost: float | None = None,
    capacity: float | None = None,
) -> Threshold:
    """Choose the threshold from value and cost, or from a capacity.

    Args:
        evaluation: the scored test rows.
        value: gain of acting on a prospect who converts (default 20).
        cost: loss of acting on one who does not (default 1), in the same unit.
        capacity: number of visitors per day that can be acted on, instead of value and cost.
    Raises:
        DataError: a figure is not above 0, or a capacity is combined with value or cost.

    Example: ``choose_threshold(evaluation, capacity=5).per_day`` is at most 5.
    """
    if not isinstance(evaluation, Evaluation):
        raise wrong_type("evaluation", evaluation, "the Evaluation that evaluate() returns second")
    if capacity is not None and (value is not None or cost is not None):
        raise DataError("give either value and cost, or capacity, not both.")
    if capacity is not None:
        _refuse_unless_positive(capacity=capacity)
        score = _score_for_capacity(evaluation, capacity)
        return evaluate_threshold(evaluation, score, f"capacity of {capacity:g} visitors per day")
    value, cost = VALUE if value is None else value, COST if cost is None else cost
    _refuse_unless_positive(value=value, cost=cost)
    # a calibrated score p gains p * value and loses (1 - p) * cost: it pays from here on
    reason = f"value {value:g} of a right action, cost {cost:g} of a wrong one"
    threshold = evaluate_threshold(evaluation, cost / (value + cost), reason)
    return replace(threshold, value=value, cost=cost)


def evaluate_threshold(evaluation: Evaluation, score: float, reason: str) -> Threshold:
    """Return the effect of acting from ``score`` on, with the test rows' weights."""
    rows = evaluation.rows[MODEL]
    best, stands_for = _visitor_days(evaluation, rows)
    acted = rows.score >= score
    hits = float(rows.weight[acted] @ rows.label[acted])
    weight = float(rows.weight[acted].sum())
    return Threshold(
        score=float(score),
        reason=reason,
        precision=hits / weight if weight else 0.0,
        recall=hits / float(rows.weight @ rows.label),
        share=weight / float(rows.weight.sum()),
        per_day=float(stands_for[best >= score].sum()) / evaluation.days,
    )


def gains(rows: ScoredRows, value: float = VALUE, cost: float = COST) -> tuple[Floats, Floats]:
    """Return each possible threshold, falling, and the gain per 1,000 rows of acting from it."""
    hits, misses = rows.hits_and_misses()
    return rows.thresholds(), (value * hits - cost * misses) / rows.weight.sum() * 1000


def _score_for_capacity(evaluation: Evaluation, capacity: float) -> float:
    score, weight = _visitor_days(evaluation, evaluation.rows[MODEL])
    order = np.argsort(-score, kind="stable")
    fits = np.cumsum(weight[order]) <= capacity * evaluation.days
    return float(score[order][fits][-1]) if fits.any() else float(np.nextafter(score.max(), 2))


def _visitor_days(evaluation: Evaluation, rows: ScoredRows) -> tuple[Floats, Floats]:
    """Return the best score per visitor and day, and the number of visitors it stands for."""
    _, place = np.unique(evaluation.visitor_days, return_inverse=True)
    best = np.full(place.max() + 1, -np.inf)
    weight = np.zeros(place.max() + 1)
    np.maximum.at(best, place, rows.score)
    np.maximum.at(weight, place, rows.weight)
    return best, weight


def _refuse_unless_positive(**figures: float) -> None:
    for name, figure in figures.items():
        if not isinstance(figure, int | float | np.number):
            raise wrong_type(name, figure, "a number above 0")
        if not (np.isfinite(figure) and figure > 0):
            raise DataError(f"{name}={figure}: expected a number above 0.")
