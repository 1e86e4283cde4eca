"""Metrics of scored rows, with intervals that account for few visitors.

Rows of one visitor resemble each other, so intervals come from a bootstrap that draws whole
visitors. All metrics take weights. They agree with scikit-learn's (tests compare them), and
sort only once, which makes hundreds of resamples cheap.

Differences in log loss and Brier score, which decide on promotions, are means over rows. Their
intervals are Student's t over visitors: few visitors reach the goal, and then the percentiles of
a bootstrap exclude zero too often. Of 1,000 equal pairs on 60 visitors, 25 are expected beyond
each end: the percentiles had 37 and 44, Student's t has 17 and 30
(``tests/evaluation/test_metrics.py``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import t as student

from prospect_lib.errors import TooFewError
from prospect_lib.model.calibration import row_loss
from prospect_lib.model.rows import MORE_DATA, Floats

Ints = npt.NDArray[np.int64]
RESAMPLES = 300
BINS = 10
#: Metrics for which lower is better.
LOSSES = frozenset({"log_loss", "brier", "calibration_error"})
#: Metrics that are a mean over rows, by the loss of each row.
MEANS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "log_loss": row_loss,
    "brier": lambda label, score: (score - label) ** 2,
}
#: Names of the metrics for people.
TITLES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "log loss",
    "brier": "Brier score",
    "brier_skill": "Brier skill",
    "calibration_error": "calibration error",
    "lift_top_10": "lift of the top 10%",
}


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval over visitors.

    Example: ``f"{Interval(0.81, 0.79, 0.83):.2f}"`` returns ``"0.81 [0.79, 0.83]"``.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self:.3f}"

    def __format__(self, spec: str) -> str:
        if not spec.endswith("f"):
            return format(str(self), spec)  # a width, as for any text
        low, high = (format(end, spec) for end in (self.low, self.high))
        return f"{format(self.value, spec)} [{low}, {high}]"

    @classmethod
    def of(cls, value: float, draws: Any) -> "Interval":
        """Build the interval that holds the middle 95% of the draws.

        Raises:
            TooFewError: there are no draws.
        """
        if not len(draws):
            raise TooFewError(f"no draw of the test visitors has both outcomes. {MORE_DATA}")
        low, high = np.quantile(draws, [0.025, 0.975])
        return cls(float(value), float(low), float(high))


@dataclass(frozen=True)
class ScoredRows:
    """Outcomes of some rows and one model's probabilities for them.

    Attributes:
        label: 1.0 for a conversion, else 0.0, shape (rows,).
        score: probability of a conversion, shape (rows,).
        weight: of each row, shape (rows,).
    """

    label: Floats
    score: Floats
    weight: Floats

    @cached_property
    def _order(self) -> Ints:
        return np.argsort(-self.score, kind="stable")

    @cached_property
    def _ends(self) -> Ints:
        """Last position of each run of equal scores, in falling order of score."""
        ordered = self.score[self._order]
        return np.flatnonzero(np.append(np.diff(ordered) != 0, True))

    def thresholds(self) -> Floats:
        """Return the distinct scores, falling, shape (scores,)."""
        return self.score[self._order][self._ends]

    def hits_and_misses(self, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """Return the weight of positives and of negatives at or above each threshold.

        Both have the shape of :meth:`thresholds`.
        """
        weight = (self.weight if weight is None else weight)[self._order]
        label = self.label[self._order]
        return np.cumsum(weight * label)[self._ends], np.cumsum(weight * (1 - label))[self._ends]

    def roc_auc(self) -> float:
        """Return the area under the ROC curve: 0.5 is no better than chance."""
        return _roc_auc(*self.hits_and_misses())

    def metrics(self, weight: Floats | None = None) -> dict[str, float]:
        """Return all metrics by name, under these weights or the rows' own.

        ``roc_auc`` and ``pr_auc`` (areas under the ROC and the precision-recall curve)
        measure the ranking. ``log_loss`` and ``brier`` (the mean squared error of the
        probabilities) measure the probabilities, and so does ``calibration_error`` (the
        mean distance between predicted and observed rate, over bins). ``brier_skill`` is
        the share of the Brier score of the base rate that is avoided: 1 is perfect, 0 is no
        better than predicting the base rate. ``lift_top_10`` is the conversion rate of the
        top tenth, divided by the base rate.
        """
        w = self.weight if weight is None else weight
        hits, misses = self.hits_and_misses(w)
        share = w / w.sum()
        brier = float(share @ (self.score - self.label) ** 2)
        rate = float(share @ self.label)
        return {
            "roc_auc": _roc_auc(hits, misses),
            "pr_auc": _pr_auc(hits, misses),
            "log_loss": float(share @ row_loss(self.label, self.score)),
            "brier": brier,
            "brier_skill": 1 - brier / (rate * (1 - rate)),
            "calibration_error": self._calibration_error(w),
            "lift_top_10": _lift(hits, misses, 0.1),
        }

    def reliability(self, weight: Floats | None = None, bins: int = BINS) -> list[dict[str, float]]:
        """Return mean score, observed rate and weight of equally filled bins of the scores."""
        w = self.weight if weight is None else weight
        total = np.cumsum(w[self._order[::-1]])
        place = np.minimum((total - w[self._order[::-1]]) / total[-1] * bins, bins - 1e-9)
        bin_of = np.empty(len(w), dtype=np.int64)
        bin_of[self._order[::-1]] = place.astype(np.int64)
        sums = [np.bincount(bin_of, v, bins) for v in (w, w * self.score, w * self.label)]
        return [
            {"weight": float(n), "score": float(s / n), "rate": float(y / n)}
            for n, s, y in zip(*sums, strict=True)
            if n > 0
        ]

    def _calibration_error(self, weight: Floats) -> float:
        bins = self.reliability(weight)
        total = sum(b["weight"] for b in bins)
        return sum(b["weight"] * abs(b["score"] - b["rate"]) for b in bins) / total


def score_rows(label: Floats, score: Floats, weight: Floats | None = None) -> ScoredRows:
    """Check the rows and bundle them for evaluation.

    Args:
        label: 1.0 for a conversion, else 0.0, shape (rows,).
        score: probability of a conversion, shape (rows,).
        weight: of each row, shape (rows,); by default ones.
    Raises:
        TooFewError: the rows do not have both outcomes, so no metric is defined.
    """
    weight = np.ones(len(label)) if weight is None else weight
    outcomes = np.unique(label[weight > 0])
    if len(outcomes) != 2:
        raise TooFewError(
            f"the {len(label)} test rows have {len(outcomes)} kinds of outcome, expected two. "
            f"{MORE_DATA}"
        )
    return ScoredRows(label, np.asarray(score, dtype=np.float64), weight)


def visitor_draws(
    visitors: pa.ChunkedArray, *, resamples: int = RESAMPLES, seed: int = 0
) -> "Draws":
    """Return bootstrap weights that draw whole visitors, the same ones for every model.

    Args:
        visitors: the visitor of each row.
        resamples: number of draws.
        seed: of the draws.
    """
    codes = visitors.combine_chunks().dictionary_encode().indices.to_numpy()
    return Draws(codes, resamples, seed)


@dataclass(frozen=True)
class Draws:
    """Draws of visitors with replacement; iterating yields how often each row is drawn.

    Attributes:
        codes: the visitor of each row as a number from 0, shape (rows,).
        resamples: number of draws.
        seed: of the draws.
    """

    codes: Ints
    resamples: int
    seed: int

    def __iter__(self) -> Any:
        count = int(self.codes.max()) + 1
        generator = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            times = np.bincount(generator.integers(0, count, count), minlength=count)
            yield times[self.codes].astype(np.float64)

    def intervals(self, rows: ScoredRows) -> dict[str, Interval]:
        """Return every metric of these rows with its interval."""
        draws = [
            rows.metrics(rows.weight * times) for times in self if _has_both_outcomes(rows, times)
        ]
        return {
            name: Interval.of(value, [draw[name] for draw in draws])
            for name, value in rows.metrics().items()
        }

    def difference(self, metric: str, one: ScoredRows, other: ScoredRows) -> Interval:
        """Return ``one`` minus ``other`` in a metric, on the same rows.

        The interval of a mean over rows is Student's t, that of another metric the middle 95%
        of the draws, both models under the same ones.
        """
        if metric in MEANS:
            loss = MEANS[metric]
            return self._mean(loss(one.label, one.score) - loss(other.label, other.score), one)
        draws = [
            one.metrics(one.weight * times)[metric] - other.metrics(other.weight * times)[metric]
            for times in self
            if _has_both_outcomes(one, times)
        ]
        return Interval.of(one.metrics()[metric] - other.metrics()[metric], draws)

    def _mean(self, values: Floats, rows: ScoredRows) -> Interval:
        """Return the weighted mean of a value per row, with Student's t-interval over visitors."""
        counted = rows.weight > 0
        weight, values, codes = rows.weight[counted], values[counted], self.codes[counted]
        mean, count = float(np.average(values, weights=weight)), len(np.unique(codes))
        residuals = np.bincount(codes, weight * (values - mean))
        error = np.sqrt(residuals @ residuals * count / max(count - 1, 1)) / weight.sum()
        reach = float(student.ppf(0.975, max(count - 1, 1)) * error)
        return Interval(mean, mean - reach, mean + reach)


def gain_share(
    prior: Mapping[str, float], model: Mapping[str, float], best: Mapping[str, float]
) -> float:
    """Return the share of the log-loss gain from ``prior`` to ``best`` that a model reaches."""
    return (prior["log_loss"] - model["log_loss"]) / (prior["log_loss"] - best["log_loss"])


def _has_both_outcomes(rows: ScoredRows, times: Floats) -> bool:
    """Return whether a draw has both outcomes; with very few visitors it may not."""
    return len(np.unique(rows.label[times * rows.weight > 0])) == 2


def _roc_auc(hits: Floats, misses: Floats) -> float:
    return float(np.trapezoid(np.append(0, hits) / hits[-1], np.append(0, misses) / misses[-1]))


def _pr_auc(hits: Floats, misses: Floats) -> float:
    with np.errstate(invalid="ignore"):  # leading rows of weight 0: 0 of 0
        precision = np.nan_to_num(hits / (hits + misses))
    return float(np.diff(hits / hits[-1], prepend=0) @ precision)


def _lift(hits: Floats, misses: Floats, share: float) -> float:
    """Divide the top share's conversion rate by the base rate; ties count in part."""
    total = hits + misses
    top_hits = np.interp(share * total[-1], np.append(0, total), np.append(0, hits))
    return float(top_hits / hits[-1] / share)
