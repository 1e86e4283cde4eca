"""Simple models that a model is compared with: the prior, one rule, a logistic regression.

The prior is the training rate for everyone. The rule is a curve over one number, such as the
visitor's pricing views. On simulated data the best observable score is a ceiling that no model
can expect to pass. A baseline that these rows do not allow is left out, and a sentence says so.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prospect_lib.evaluation.metrics import ScoredRows
from prospect_lib.model.calibration import Calibration
from prospect_lib.model.dataset import refuse_too_few
from prospect_lib.model.encoding import ABSENT, Encoder, Matrix
from prospect_lib.model.rows import Floats, labels, row_weights
from prospect_lib.model.splits import Split

TRUTH = "best_observable"
PRIOR, RULE, LOGISTIC, CEILING = "prior", "one rule", "logistic regression", "best observable"


@dataclass(frozen=True)
class Baselines:
    """The baselines of one split.

    Attributes:
        scores: probability of each test row, by name of the baseline.
        rule: the feature that the one rule is about; ``None`` without a numeric feature.
        notes: sentences about baselines that are left out.
    """

    scores: Mapping[str, Floats]
    rule: str | None
    notes: tuple[str, ...]


def fit_baselines(split: Split, encoder: Encoder) -> Baselines:
    """Fit the baselines to the training rows, and score the test rows.

    Raises:
        TooFewError: all training rows have the same label.
    """
    label, weight = labels(split.train), row_weights(split.train)
    refuse_too_few(split.train, weight, 1, "baselines")
    scores = {PRIOR: np.full(split.test.num_rows, np.average(label, weights=weight))}
    notes = []
    rule, sign = _best_rule(split.train, encoder, label, weight)
    if rule is None:
        notes.append(f"Without the baseline of {RULE}: no feature is a number.")
    else:
        train, test = (sign * _count(side, rule) for side in (split.train, split.test))
        scores[RULE] = Calibration.fit("isotonic", train, label, weight).apply(test)
    logistic = _logistic(split, encoder, label, weight)
    if logistic is None:
        notes.append(f"Without the baseline of {LOGISTIC}: its fit does not converge.")
    else:
        scores[LOGISTIC] = logistic
    if TRUTH in split.test.schema.names:
        scores[CEILING] = split.test[TRUTH].to_numpy().astype(np.float64)
    return Baselines(scores, rule, tuple(notes))


def _best_rule(
    train: pa.Table, encoder: Encoder, label: Floats, weight: Floats
) -> tuple[str | None, float]:
    """Return the feature of the rule, and -1.0 if the rate falls when it grows, else 1.0.

    It is the first one that never lowers the score, else the number that ranks the training
    rows best by itself.
    """
    for column in encoder.columns:
        if column.monotone:
            return column.name, 1.0
    best, distance = None, 0.0
    for column in encoder.columns:
        if column.kind == "number":
            rows = ScoredRows(label, _count(train, column.name), weight)
            from_chance = rows.roc_auc() - 0.5
            if best is None or abs(from_chance) > abs(distance):
                best, distance = column.name, from_chance
    return best, -1.0 if distance < 0 else 1.0


def _count(table: pa.Table, name: str) -> Floats:
    numbers = pc.fill_null(pc.cast(table[name], pa.float64(), safe=False), 0.0).to_numpy()
    counts: Floats = np.nan_to_num(numbers)
    return counts


def _logistic(split: Split, encoder: Encoder, label: Floats, weight: Floats) -> Floats | None:
    categories = [i for i, kind in enumerate(encoder.types) if kind == "c"]
    numbers = [i for i, kind in enumerate(encoder.types) if kind == "q"]
    columns = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categories),
            ("numbers", StandardScaler(), numbers),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=1000))
    train, test = (_dense(encoder.matrix(side), numbers) for side in (split.train, split.test))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            model.fit(train, label, logisticregression__sample_weight=weight)
        except ConvergenceWarning:
            return None
    probability: Floats = model.predict_proba(test)[:, 1]
    return probability


def _dense(matrix: Matrix, numbers: Sequence[int]) -> Matrix:
    """Replace missing numbers by 0 and numbers by their logarithm."""
    filled = np.where(matrix == ABSENT, np.float32(0), matrix)
    filled[:, numbers] = np.sign(filled[:, numbers]) * np.log1p(np.abs(filled[:, numbers]))
    return filled
