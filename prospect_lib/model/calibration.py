"""Calibration: a curve from the booster's probability to the observed share of conversions.

A curve is chosen if it improves log loss on visitors left out (cross-fitted), and is kept
in the bundle as plain numbers. The booster gives a margin, that is log-odds ln(p / (1 - p)),
and the curve turns it into the log-odds of the score. The curve never falls, so the order of
prospects stays as it is, and so does the sign of every explanation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from prospect_lib.errors import ModelError
from prospect_lib.model.rows import Floats

_TINY = 1e-7


def sigmoid(margin: Any) -> Floats:
    """Convert log-odds to a probability, in float64."""
    probability: Floats = 1.0 / (1.0 + np.exp(-np.asarray(margin, dtype=np.float64)))
    return probability


def logit(probability: Any) -> Floats:
    """Convert a probability to log-odds; 0 and 1 are moved inwards by 1e-7."""
    p = np.clip(np.asarray(probability, dtype=np.float64), _TINY, 1 - _TINY)
    margin: Floats = np.log(p / (1 - p))
    return margin


def row_loss(label: Floats, probability: Floats) -> Floats:
    """Return the log loss of each row, in nats."""
    p = np.clip(probability, _TINY, 1 - _TINY)
    loss: Floats = -np.where(label > 0, np.log(p), np.log1p(-p))
    return loss


@dataclass(frozen=True)
class Calibration:
    """A curve that never falls.

    ``identity`` has no numbers, ``sigmoid`` is ``sigmoid(x[0] * logit(p) + y[0])``, and
    ``isotonic`` joins the points (x, y) by straight lines.
    """

    method: str = "identity"
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    @classmethod
    def fit(cls, method: str, probability: Floats, label: Floats, weight: Floats) -> "Calibration":
        """Fit a curve to out-of-fold probabilities.

        Args:
            method: ``identity``, ``sigmoid`` or ``isotonic``.
            probability: of each row, shape (rows,), by a booster that was not trained on it.
            label: 1.0 for a conversion, else 0.0, shape (rows,).
            weight: of each row, shape (rows,).

        Example: ``Calibration.fit("identity", p, label, weight).apply(p)`` returns ``p``.
        """
        if method == "sigmoid":
            model = LogisticRegression(C=1e6).fit(logit(probability)[:, None], label, weight)
            slope = float(model.coef_[0, 0])
            # a falling curve would reverse the ranking, so it is no calibration
            return cls(method, (slope,), (float(model.intercept_[0]),)) if slope > 0 else cls()
        if method == "isotonic":
            edge = 0.5 / len(label)
            steps = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
            steps.fit(probability, label, sample_weight=weight)
            return cls(method, _floats(steps.X_thresholds_), _floats(steps.y_thresholds_))
        return cls()

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Calibration":
        """Read what :meth:`to_json` wrote.

        Raises:
            ModelError: the method is unknown or its numbers do not fit it.
        """
        curve = cls(saved["method"], tuple(saved["x"]), tuple(saved["y"]))
        valid = {
            "identity": len(curve.x) == 0,
            "sigmoid": len(curve.x) == 1,
            "isotonic": len(curve.x) > 0 and bool(np.all(np.diff(curve.y) >= 0)),
        }
        if not valid.get(curve.method, False) or len(curve.x) != len(curve.y):
            raise ModelError(
                f"manifest, calibration: {curve.method!r} with {len(curve.x)} and "
                f"{len(curve.y)} numbers is not a calibration curve. Train the model again."
            )
        return curve

    def to_json(self) -> dict[str, Any]:
        """Return the curve as plain JSON values."""
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    def apply(self, probability: Floats) -> Floats:
        """Calibrate raw probabilities; the shape stays the same."""
        if self.method == "sigmoid":
            return sigmoid(self.log_odds(logit(probability)))
        if self.method == "isotonic":
            calibrated: Floats = np.interp(probability, self.x, self.y)
            return calibrated
        return probability

    def log_odds(self, margin: Any) -> Floats:
        """Return the log-odds of the score at the booster's log-odds; the shape stays the same."""
        if self.method == "isotonic":
            return logit(self.apply(sigmoid(margin)))
        slope, shift = self.line
        straight: Floats = slope * np.asarray(margin, dtype=np.float64) + shift
        return straight

    @property
    def line(self) -> tuple[float, float]:
        """Slope and shift of the curve in log-odds; (1, 0) for ``isotonic``, which is no line."""
        return (self.x[0], self.y[0]) if self.method == "sigmoid" else (1.0, 0.0)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
