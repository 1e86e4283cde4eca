"""Evaluation of a model on later rows of visitors that it has not seen.

The model is compared with the prior (the training rate for everyone), one rule (a curve
over the visitor's pricing views), a logistic regression and, on simulated data, the true
probability, which no model can beat.

Example: ``evaluate(honest_split(table))`` returns a model and an :class:`Evaluation`, whose
``summary()`` is the text that the command line prints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prospect_lib.evaluation.metrics import (
    TITLES,
    Interval,
    ScoredRows,
    gain_share,
    score_rows,
    visitor_draws,
)
from prospect_lib.model.calibration import Calibration
from prospect_lib.model.dataset import labels
from prospect_lib.model.encoding import ABSENT, Encoder, Matrix
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.splits import Floats, Split, forward_splits, row_weights, visitors_of

Texts = npt.NDArray[np.str_]
TRUTH = "p_true"
MODEL, PRIOR, RULE, LOGISTIC, CEILING = (
    "model",
    "prior",
    "one rule",
    "logistic regression",
    "true probability",
)
_SUMMARY_METRICS = ("roc_auc", "pr_auc", "log_loss", "brier")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the model and its baselines on one split's test rows.

    Attributes:
        rows: outcome, score and weight of each test row, by model name.
        metrics: by model name, then metric name.
        about: sizes and dates of the split, plain JSON values.
        visitor_days: the visitor and the UTC day of each test row, as one text.
    """

    rows: Mapping[str, ScoredRows]
    metrics: Mapping[str, Mapping[str, Interval]]
    about: Mapping[str, Any]
    visitor_days: Texts

    @property
    def days(self) -> float:
        """Length of the test period in days."""
        return float(self.about["test_days"])

    @property
    def auc(self) -> float:
        """The model's ROC-AUC."""
        return self.metrics[MODEL]["roc_auc"].value

    @property
    def share_of_ceiling(self) -> float | None:
        """Share of the achievable log-loss gain; ``None`` if the true probability is unknown."""
        if CEILING not in self.rows:
            return None
        prior, model, best = (self.rows[name].metrics() for name in (PRIOR, MODEL, CEILING))
        return gain_share(prior, model, best)

    def summary(self) -> str:
        """Return some lines for people: the test rows, and each model's figures."""
        a = self.about
        lines = [
            f"Trained on {a['train_rows']:,} rows of {a['train_visitors']:,} visitors; tested on "
            f"{a['test_rows']:,} rows of {a['test_visitors']:,} visitors"
            + (
                f", {a['shared_visitors']:,} of them also in training"
                if a["shared_visitors"]
                else " that the model has not seen"
            )
            + f" ({a['test_positive_rate']:.1%} positive; 95% intervals over visitors).",
            f"{'':20}" + "".join(f"{TITLES[key]:>22}" for key in _SUMMARY_METRICS),
        ]
        for name, metrics in self.metrics.items():
            columns = (f"{metrics[key]!s:>22}" for key in _SUMMARY_METRICS)
            lines.append(f"{name:20}" + "".join(columns))
        if self.share_of_ceiling is not None:
            lines.append(f"Share of the achievable log-loss gain: {self.share_of_ceiling:.0%}.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain JSON values, for the manifest."""
        return {
            "split": dict(self.about),
            "share_of_ceiling": self.share_of_ceiling,
            **{
                name: {key: asdict(interval) for key, interval in metrics.items()}
                for name, metrics in self.metrics.items()
            },
        }


def evaluate(
    split: Split, *, resamples: int = 300, **fit_options: Any
) -> tuple[ProspectModel, Evaluation]:
    """Fit on the split's training rows, evaluate on its test rows, and save the figures.

    Args:
        split: the rows.
        resamples: number of draws behind each interval.
        fit_options: for ``ProspectModel.fit``: group, features, recipe, seed and others.
    Returns:
        The model, with the figures in its manifest, and the evaluation.
    """
    model = ProspectModel.fit(split.train, **fit_options)
    evaluation = evaluate_model(model, split, resamples=resamples)
    model.manifest["metrics"] = evaluation.to_json()
    return model, evaluation


def evaluate_model(model: ProspectModel, split: Split, *, resamples: int = 300) -> Evaluation:
    """Evaluate a trained model and the baselines on a split's test rows."""
    label = labels(split.test)
    scores = {MODEL: model.predict(split.test), **baselines(split, model.encoder)}
    rows = {name: score_rows(label, score, split.test_weight) for name, score in scores.items()}
    draws = visitor_draws(visitors_of(split.test), resamples=resamples)
    metrics = {name: draws.intervals(scored) for name, scored in rows.items()}
    return Evaluation(rows, metrics, _about(split), _visitor_days(split.test))


def evaluate_forward(
    table: pa.Table, *, splits: int = 4, resamples: int = 100, **fit_options: Any
) -> list[Evaluation]:
    """Evaluate on several forward splits, to see how much the figures vary by themselves.

    Args:
        table: a training set.
        splits: number of splits; a model is trained for each.
        resamples: number of draws behind each interval.
        fit_options: for ``ProspectModel.fit``.

    Example: ``[step.auc for step in evaluate_forward(table, splits=3)]``
    """
    steps = forward_splits(table, splits=splits)
    return [evaluate(step, resamples=resamples, **fit_options)[1] for step in steps]


def baselines(split: Split, encoder: Encoder) -> dict[str, Floats]:
    """Return the baselines' probabilities for the test rows, by name."""
    label, weight = labels(split.train), row_weights(split.train)
    scores = {PRIOR: np.full(split.test.num_rows, np.average(label, weights=weight))}
    rule = next((name for name in encoder.names if "pricing" in name), None)
    if rule is not None:
        train, test = (_count(side, rule) for side in (split.train, split.test))
        scores[RULE] = Calibration.fit("isotonic", train, label, weight).apply(test)
    scores[LOGISTIC] = _logistic(split, encoder, label, weight)
    if TRUTH in split.test.schema.names:
        scores[CEILING] = split.test[TRUTH].to_numpy().astype(np.float64)
    return scores


def _logistic(split: Split, encoder: Encoder, label: Floats, weight: Floats) -> Floats:
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
    model.fit(train, label, logisticregression__sample_weight=weight)
    probability: Floats = model.predict_proba(test)[:, 1]
    return probability


def _dense(matrix: Matrix, numbers: Sequence[int]) -> Matrix:
    """Replace missing numbers by 0 and numbers by their logarithm."""
    filled = np.where(matrix == ABSENT, np.float32(0), matrix)
    filled[:, numbers] = np.sign(filled[:, numbers]) * np.log1p(np.abs(filled[:, numbers]))
    return filled


def _count(table: pa.Table, name: str) -> Floats:
    counts: Floats = pc.fill_null(table[name].cast(pa.float64()), 0.0).to_numpy()
    return counts


def _visitor_days(table: pa.Table) -> Texts:
    days = table["anchor_ts"].cast(pa.date32()).cast(pa.string())
    names: Texts = pc.binary_join_element_wise(visitors_of(table), days, " ").to_numpy()
    return names


def _about(split: Split) -> dict[str, Any]:
    sides = {"train": split.train, "test": split.test}
    first, last = pc.min_max(split.test["anchor_ts"]).as_py().values()
    visitors = {f"{n}_visitors": len(pc.unique(visitors_of(t))) for n, t in sides.items()}
    return {
        "name": split.name,
        "cut": split.cut.isoformat() if split.cut else None,
        "horizon_seconds": int(split.horizon.total_seconds()),
        **{f"{name}_rows": table.num_rows for name, table in sides.items()},
        **visitors,
        "test_days": max((last - first).total_seconds() / 86400, 1.0),
        "shared_visitors": split.shared_visitors(),
        "test_positive_rate": float(np.average(labels(split.test), weights=split.test_weight)),
    }
