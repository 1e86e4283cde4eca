"""From a booster's probability to one that can be taken at its word.

Chosen where it helps on visitors left out (cross-fitted), and kept in the bundle as
plain numbers. Explanations stay in the booster's log-odds: the sum of explanations
and bias is the margin, ``sigmoid(margin)`` the raw probability, and the score is this
curve at the raw probability. The curve never falls, so the order of prospects and the
sign of every reason stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from prospect_lib.errors import ModelError

Floats = npt.NDArray[np.float64]
TINY = 1e-7


def sigmoid(margin: Any) -> Floats:
    """Log-odds -> probability, in float64."""
    found: Floats = 1.0 / (1.0 + np.exp(-np.asarray(margin, dtype=np.float64)))
    return found


def logit(probability: Any) -> Floats:
    """Probability -> log-odds; 0 and 1 are moved inwards by 1e-7."""
    p = np.clip(np.asarray(probability, dtype=np.float64), TINY, 1 - TINY)
    found: Floats = np.log(p / (1 - p))
    return found


def row_loss(label: Floats, probability: Floats) -> Floats:
    """Log loss of each row, in nats."""
    p = np.clip(probability, TINY, 1 - TINY)
    found: Floats = -np.where(label > 0, np.log(p), np.log1p(-p))
    return found


@dataclass(frozen=True)
class Calibration:
    """A rising curve.

    ``identity`` has no numbers, ``sigmoid`` is ``sigmoid(x[0] * logit(p) + y[0])``, and
    ``isotonic`` joins the points (x, y) by straight lines.
    """

    method: str = "identity"
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()

    @classmethod
    def fit(cls, method: str, probability: Floats, label: Floats, weight: Floats) -> "Calibration":
        """Fit one method (``identity``, ``sigmoid`` or ``isotonic``) to out-of-fold scores."""
        if method == "sigmoid":
            model = LogisticRegression(C=1e6).fit(logit(probability)[:, None], label, weight)
            slope = float(model.coef_[0, 0])
            # a falling curve would turn the ranking round, so it is not a calibration
            return cls(method, (slope,), (float(model.intercept_[0]),)) if slope > 0 else cls()
        if method == "isotonic":
            edge = 0.5 / len(label)
            steps = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
            steps.fit(probability, label, sample_weight=weight)
            return cls(method, _floats(steps.X_thresholds_), _floats(steps.y_thresholds_))
        return cls()

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "Calibration":
        """Read back what ``to_json`` wrote.

        Raises:
            ModelError: the method is not known or its numbers do not fit it.
        """
        found = cls(saved["method"], tuple(saved["x"]), tuple(saved["y"]))
        sizes = {"identity": len(found.x) == 0, "sigmoid": len(found.x) == 1}
        sizes["isotonic"] = len(found.x) > 0 and bool(np.all(np.diff(found.y) >= 0))
        if not sizes.get(found.method, False) or len(found.x) != len(found.y):
            raise ModelError(f"manifest, calibration: {found.method!r} is damaged. Train again.")
        return found

    def to_json(self) -> dict[str, Any]:
        """The curve as plain JSON values."""
        return {"method": self.method, "x": list(self.x), "y": list(self.y)}

    def apply(self, probability: Floats) -> Floats:
        """Raw probabilities -> calibrated ones, same shape."""
        if self.method == "sigmoid":
            return sigmoid(self.x[0] * logit(probability) + self.y[0])
        if self.method == "isotonic":
            found: Floats = np.interp(probability, self.x, self.y)
            return found
        return probability


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
