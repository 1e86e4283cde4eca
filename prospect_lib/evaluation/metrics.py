"""How good a list of scores is, with the uncertainty that comes from few visitors.

Rows of one visitor move together, so intervals come from drawing whole visitors.
Everything takes weights. The ranking metrics agree with scikit-learn's (tests hold
them to it); sorting once makes a thousand resamples cheap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from prospect_lib.errors import DataError
from prospect_lib.model.calibration import row_loss
from prospect_lib.model.splits import Floats

Ints = npt.NDArray[np.int64]
RESAMPLES = 300
BINS = 10
#: Where lower is better.
LOSSES = frozenset({"log_loss", "brier", "calibration_error"})


@dataclass(frozen=True)
class Interval:
    """A value and its 95% interval over visitors."""

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
        """The middle 95% of the draws around the value itself."""
        low, high = np.percentile(draws, [2.5, 97.5])
        return cls(float(value), float(low), float(high))


@dataclass(frozen=True)
class Scored:
    """Outcomes of some rows and one model's probabilities for them, all of shape (rows,)."""

    label: Floats
    score: Floats
    weight: Floats

    @cached_property
    def _order(self) -> Ints:
        return np.argsort(-self.score, kind="stable")

    @cached_property
    def _ends(self) -> Ints:
        """Where each run of equal scores ends, in falling order of score."""
        ordered = self.score[self._order]
        return np.flatnonzero(np.append(np.diff(ordered) != 0, True))

    def thresholds(self) -> Floats:
        """The distinct scores, falling."""
        return self.score[self._order][self._ends]

    def caught(self, weight: Floats | None = None) -> tuple[Floats, Floats]:
        """Weight of positives and of negatives at or above each of ``thresholds()``."""
        weight = (self.weight if weight is None else weight)[self._order]
        label = self.label[self._order]
        return np.cumsum(weight * label)[self._ends], np.cumsum(weight * (1 - label))[self._ends]

    def metrics(self, weight: Floats | None = None) -> dict[str, float]:
        """All metrics by name, under these weights or the rows' own.

        ``brier_skill`` is the share of the Brier score of the rows' own base rate that
        is avoided: 1 is perfect, 0 no better than always saying the base rate.
        """
        w = self.weight if weight is None else weight
        hits, misses = self.caught(w)
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
        """Mean score, observed rate and weight of equally filled bins of the scores."""
        w = self.weight if weight is None else weight
        total = np.cumsum(w[self._order[::-1]])
        place = np.minimum((total - w[self._order[::-1]]) / total[-1] * bins, bins - 1e-9)
        chosen = np.empty(len(w), dtype=np.int64)
        chosen[self._order[::-1]] = place.astype(np.int64)
        sums = [np.bincount(chosen, v, bins) for v in (w, w * self.score, w * self.label)]
        return [
            {"weight": float(n), "score": float(s / n), "rate": float(y / n)}
            for n, s, y in zip(*sums, strict=True)
            if n > 0
        ]

    def _calibration_error(self, weight: Floats) -> float:
        found = self.reliability(weight)
        total = sum(b["weight"] for b in found)
        return sum(b["weight"] * abs(b["score"] - b["rate"]) for b in found) / total


def score_rows(label: Floats, score: Floats, weight: Floats | None = None) -> Scored:
    """Check and bundle the rows to judge.

    Raises:
        DataError: only one outcome is there, so nothing can be judged.
    """
    weight = np.ones(len(label)) if weight is None else weight
    outcomes = np.unique(label[weight > 0])
    if len(outcomes) != 2:
        raise DataError(
            f"the {len(label)} test rows have {len(outcomes)} kinds of outcome, two are needed. "
            "Move the cut earlier or widen --since .. --until."
        )
    return Scored(label, np.asarray(score, dtype=np.float64), weight)


def visitor_draws(
    visitors: pa.ChunkedArray, *, resamples: int = RESAMPLES, seed: int = 0
) -> "Draws":
    """Bootstrap weights that draw whole visitors, the same ones for every model."""
    codes = visitors.combine_chunks().dictionary_encode().indices.to_numpy()
    return Draws(codes, resamples, seed)


@dataclass(frozen=True)
class Draws:
    """``resamples`` draws of visitors with replacement; ``codes`` has each row's visitor."""

    codes: Ints
    resamples: int
    seed: int

    def __iter__(self) -> Any:
        count = int(self.codes.max()) + 1
        generator = np.random.default_rng(self.seed)
        for _ in range(self.resamples):
            times = np.bincount(generator.integers(0, count, count), minlength=count)
            yield times[self.codes].astype(np.float64)

    def intervals(self, rows: Scored) -> dict[str, Interval]:
        """Every metric of these rows with its interval."""
        draws = [rows.metrics(rows.weight * times) for times in self if _both(rows, times)]
        return {
            name: Interval.of(value, [draw[name] for draw in draws])
            for name, value in rows.metrics().items()
        }

    def difference(self, metric: str, one: Scored, other: Scored) -> Interval:
        """``one`` minus ``other`` in a metric, both under the same draws."""
        draws = [
            one.metrics(one.weight * times)[metric] - other.metrics(other.weight * times)[metric]
            for times in self
            if _both(one, times)
        ]
        return Interval.of(one.metrics()[metric] - other.metrics()[metric], draws)


def gain_share(
    prior: Mapping[str, float], model: Mapping[str, float], best: Mapping[str, float]
) -> float:
    """Share of the log-loss gain from ``prior`` to ``best`` that the model reaches."""
    return (prior["log_loss"] - model["log_loss"]) / (prior["log_loss"] - best["log_loss"])


def _both(rows: Scored, times: Floats) -> bool:
    """Whether a draw holds both outcomes; with very few visitors one may be absent."""
    return len(np.unique(rows.label[times * rows.weight > 0])) == 2


def _roc_auc(hits: Floats, misses: Floats) -> float:
    return float(np.trapezoid(np.append(0, hits) / hits[-1], np.append(0, misses) / misses[-1]))


def _pr_auc(hits: Floats, misses: Floats) -> float:
    with np.errstate(invalid="ignore"):  # leading rows of weight 0 catch nothing of nothing
        precision = np.nan_to_num(hits / (hits + misses))
    return float(np.diff(hits / hits[-1], prepend=0) @ precision)


def _lift(hits: Floats, misses: Floats, share: float) -> float:
    """How many times the base rate the top share of rows has; ties are taken in part."""
    total = hits + misses
    caught = np.interp(share * total[-1], np.append(0, total), np.append(0, hits))
    return float(caught / hits[-1] / share)
