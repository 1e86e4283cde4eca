"""The score from which to act on a prospect, from costs or from a capacity.

Value and cost give the score by a formula. A capacity needs rows to choose it on, and its figures
come from others: each tenth of the test visitors is acted on from the score that the other nine
chose. So its ``per_day`` is an estimate, and may be a little above the capacity.

Example: ``choose_threshold(evaluation, value=50, cost=2)`` returns a threshold of 0.038,
because there 50 x 0.038 = 2 x (1 - 0.038), with the precision, recall and volume to expect.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from prospect_lib.errors import DataError, wrong_type
from prospect_lib.evaluation.evaluate import MODEL, Evaluation
from prospect_lib.evaluation.metrics import Ints, ScoredRows
from prospect_lib.model.rows import Floats, Mask
from prospect_lib.model.splits import visitor_folds

VALUE, COST, FOLDS = 20.0, 10.0, 10


@dataclass(frozen=True)
class Threshold:
    """A threshold, and its effect on the test rows, all of it weighted as in ``Split``.

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
            f"moments, {self.precision:.1%} of them right (weighted test rows)."
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

    Example: ``choose_threshold(evaluation, capacity=5).per_day`` is about 5.
    """
    if not isinstance(evaluation, Evaluation):
        raise wrong_type("evaluation", evaluation, "the Evaluation that evaluate() returns second")
    check_figures(value=value, cost=cost, capacity=capacity)
    if capacity is not None:
        return _for_capacity(evaluation, capacity)
    value, cost = VALUE if value is None else value, COST if cost is None else cost
    # a calibrated score p gains p * value and loses (1 - p) * cost: it pays from here on
    reason = f"value {value:g} of a right action, cost {cost:g} of a wrong one"
    threshold = evaluate_threshold(evaluation, cost / (value + cost), reason)
    return replace(threshold, value=value, cost=cost)


def evaluate_threshold(
    evaluation: Evaluation, score: float, reason: str, *, applied: Floats | None = None
) -> Threshold:
    """Return the effect of acting from ``score`` on, with the test rows' weights.

    Args:
        evaluation: the scored test rows.
        score: the threshold.
        reason: where it comes from, in words.
        applied: the threshold of each row, shape (rows,), if the rows chose ``score``
            themselves; by default ``score``.

    Example: ``evaluate_threshold(evaluation, 0.0, "everyone").recall`` is 1.
    """
    rows, days = evaluation.rows[MODEL], _VisitorDays.of(evaluation)
    acted = rows.score >= (score if applied is None else applied)
    hits = float(rows.weight[acted] @ rows.label[acted])
    weight = float(rows.weight[acted].sum())
    return Threshold(
        score=float(score),
        reason=reason,
        precision=hits / weight if weight else 0.0,
        recall=hits / float(rows.weight @ rows.label),
        share=weight / float(rows.weight.sum()),
        per_day=float(days.weight[np.unique(days.place[acted])].sum()) / evaluation.days,
    )


def gains(rows: ScoredRows, value: float = VALUE, cost: float = COST) -> tuple[Floats, Floats]:
    """Return each possible threshold, falling, and the gain per 1,000 rows of acting from it."""
    hits, misses = rows.hits_and_misses()
    return rows.thresholds(), (value * hits - cost * misses) / rows.weight.sum() * 1000


def _for_capacity(evaluation: Evaluation, capacity: float) -> Threshold:
    """Choose a threshold on all rows; its figures apply to each fold what the others choose."""
    days, room = _VisitorDays.of(evaluation), capacity * evaluation.days
    folds = visitor_folds(evaluation.visitors, FOLDS)
    applied = np.empty(len(folds))
    for fold in np.unique(folds):
        choosing = np.ones(len(days.best), dtype=bool)
        choosing[days.place[folds == fold]] = False
        share = days.weight[choosing].sum() / days.weight.sum()
        applied[folds == fold] = days.score_within(room * share, choosing)
    score = days.score_within(room, np.ones(len(days.best), dtype=bool))
    reason = f"capacity of {capacity:g} visitors per day"
    return evaluate_threshold(evaluation, score, reason, applied=applied)


@dataclass(frozen=True)
class _VisitorDays:
    """The test rows by visitor and UTC day.

    ``place`` is the visitor-day of each row; ``best`` is the best score of each visitor-day, and
    ``weight`` the number of visitors that it stands for.
    """

    place: Ints
    best: Floats
    weight: Floats

    @classmethod
    def of(cls, evaluation: Evaluation) -> "_VisitorDays":
        rows = evaluation.rows[MODEL]
        _, place = np.unique(evaluation.visitor_days, return_inverse=True)
        best, weight = np.full(place.max() + 1, -np.inf), np.zeros(place.max() + 1)
        np.maximum.at(best, place, rows.score)
        np.maximum.at(weight, place, rows.weight)
        return cls(place, best, weight)

    def score_within(self, room: float, chosen: Mask) -> float:
        """Return the lowest score that at most ``room`` of the chosen visitor-days reach."""
        best, weight = self.best[chosen], self.weight[chosen]
        order = np.argsort(-best, kind="stable")
        fits = np.cumsum(weight[order]) <= room
        nobody = float(np.nextafter(self.best.max(), 2))
        return float(best[order][fits][-1]) if fits.any() else nobody


def check_figures(*, value: float | None, cost: float | None, capacity: float | None) -> None:
    """Refuse figures that :func:`choose_threshold` could not use, before there is a model.

    Raises:
        DataError: a figure is not above 0, or a capacity is combined with value or cost.
    """
    figures = {"value": value, "cost": cost, "capacity": capacity}
    figures = {name: figure for name, figure in figures.items() if figure is not None}
    if len(figures) > 1 and capacity is not None:
        raise DataError("give either value and cost, or capacity, not both.")
    for name, figure in figures.items():
        if not isinstance(figure, int | float | np.number):
            raise wrong_type(name, figure, "a number above 0")
        if not (np.isfinite(figure) and figure > 0):
            raise DataError(f"{name}={figure}: expected a number above 0.")
