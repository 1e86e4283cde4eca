"""From which score to act: what the business can gain, or what it has people for.

Example: ``choose(found, value=50, cost=2)`` -> act from a score of 0.038 on, because
there 50 x 0.038 = 2 x (1 - 0.038); with the precision, recall and volume to expect.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from prospect_lib.errors import DataError
from prospect_lib.evaluation.evaluate import MODEL, Evaluation
from prospect_lib.evaluation.metrics import Scored
from prospect_lib.model.splits import Floats

VALUE, COST = 20.0, 1.0


@dataclass(frozen=True)
class Threshold:
    """A score to act from, and what to expect of it.

    Attributes:
        score: act where a prospect's score is at least this.
        because: the reason in words.
        precision: share of the acted-on moments that are followed by the goal.
        recall: share of the moments before a goal that are acted on.
        share: share of all moments that are acted on.
        per_day: visitors a day who reach the score at least once.
        value: gain of acting on a prospect who converts.
        cost: loss of acting on one who does not.
    """

    score: float
    because: str
    precision: float
    recall: float
    share: float
    per_day: float
    value: float = VALUE
    cost: float = COST

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the manifest."""
        return asdict(self)


def choose(
    found: Evaluation,
    *,
    value: float | None = None,
    cost: float | None = None,
    capacity: float | None = None,
) -> Threshold:
    """The threshold for costs or for a capacity, with what the test rows say of it.

    Args:
        value: gain of acting on a prospect who converts (default 20).
        cost: loss of acting on one who does not (default 1), in the same unit.
        capacity: instead of costs: how many visitors a day can be acted on.
    Raises:
        DataError: a figure is not above 0, or both ways are asked for.
    """
    if capacity is not None and (value is not None or cost is not None):
        raise DataError("give either value and cost, or capacity, not both.")
    if capacity is not None:
        _positive(capacity=capacity)
        score, because = _for_capacity(found, capacity), f"capacity of {capacity:g} visitors a day"
        return expect(found, score, because)
    value, cost = VALUE if value is None else value, COST if cost is None else cost
    _positive(value=value, cost=cost)
    # a calibrated score p gains p * value and loses (1 - p) * cost: it pays from here on
    because = f"a prospect is worth {value:g}, a wasted action costs {cost:g}"
    return replace(expect(found, cost / (value + cost), because), value=value, cost=cost)


def expect(found: Evaluation, score: float, because: str) -> Threshold:
    """What acting from ``score`` on does to the test rows, weighted to represent everyone."""
    rows = found.rows[MODEL]
    best, stands_for = _visitor_days(found, rows)
    acted = rows.score >= score
    hits = float(rows.weight[acted] @ rows.label[acted])
    weight = float(rows.weight[acted].sum())
    return Threshold(
        score=float(score),
        because=because,
        precision=hits / weight if weight else 0.0,
        recall=hits / float(rows.weight @ rows.label),
        share=weight / float(rows.weight.sum()),
        per_day=float(stands_for[best >= score].sum()) / found.days,
    )


def gains(rows: Scored, value: float = VALUE, cost: float = COST) -> tuple[Floats, Floats]:
    """Each possible threshold, falling, and the gain per 1,000 moments of acting from it on."""
    hits, misses = rows.caught()
    return rows.thresholds(), (value * hits - cost * misses) / rows.weight.sum() * 1000


def _for_capacity(found: Evaluation, capacity: float) -> float:
    score, weight = _visitor_days(found, found.rows[MODEL])
    order = np.argsort(-score, kind="stable")
    fits = np.cumsum(weight[order]) <= capacity * found.days
    return float(score[order][fits][-1]) if fits.any() else float(np.nextafter(score.max(), 2))


def _visitor_days(found: Evaluation, rows: Scored) -> tuple[Floats, Floats]:
    """The best score of each visitor on each day, and the weight it stands for."""
    _, place = np.unique(found.visitor_days, return_inverse=True)
    best = np.full(place.max() + 1, -np.inf)
    weight = np.zeros(place.max() + 1)
    np.maximum.at(best, place, rows.score)
    np.maximum.at(weight, place, rows.weight)
    return best, weight


def _positive(**figures: float) -> None:
    for name, figure in figures.items():
        if not (np.isfinite(figure) and figure > 0):
            raise DataError(f"{name}={figure!r}: expected a number above 0.")
