"""Evaluation of a model on later rows of visitors that it has not seen.

Example: ``evaluate(honest_split(table))`` returns a model and an :class:`Evaluation`, whose
``summary()`` is the text that the command line prints.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError, wrong_type
from prospect_lib.evaluation.baselines import CEILING, PRIOR, Baselines, fit_baselines
from prospect_lib.evaluation.metrics import (
    TITLES,
    Interval,
    ScoredRows,
    gain_share,
    score_rows,
    visitor_draws,
)
from prospect_lib.model.dataset import MIN_TEST_VISITORS, MIN_VISITORS, refuse_too_few
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.rows import labels, microseconds_of, row_weights, times_of, visitors_of
from prospect_lib.model.splits import Split, forward_splits
from prospect_lib.problem import problem_of, prospect_problem

Texts = npt.NDArray[np.str_]
MODEL = "model"
#: Days in a row without a test row count as this many, because a row may have a wrong clock.
LONGEST_GAP = 7
_SUMMARY_METRICS = ("roc_auc", "pr_auc", "log_loss")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of the model and its baselines on one split's test rows.

    Attributes:
        rows: outcome, score and weight of each test row, by model name.
        metrics: by model name, then metric name.
        about: sizes and dates of the split, plain JSON values.
        visitors: the visitor of each test row.
        visitor_days: the visitor and the UTC day of each test row, as one text.
        notes: sentences about what the model and its baselines were made without.
    """

    rows: Mapping[str, ScoredRows]
    metrics: Mapping[str, Mapping[str, Interval]]
    about: Mapping[str, Any]
    visitors: pa.ChunkedArray
    visitor_days: Texts
    notes: tuple[str, ...] = ()

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
        """Share of the best observable log-loss gain; ``None`` if that score is unknown."""
        if CEILING not in self.rows:
            return None
        prior, model, best = (self.rows[name].metrics() for name in (PRIOR, MODEL, CEILING))
        return gain_share(prior, model, best)

    def summary(self) -> str:
        """Return some lines for people: the test rows, and each model's figures.

        Figures are weighted, so that they hold for all visitors of the test period.
        """
        a = self.about
        lines = [
            f"Trained on {a['train_rows']:,} rows of {a['train_visitors']:,} visitors; tested on "
            f"{a['test_rows']:,} rows of {a['test_visitors']:,} visitors"
            + (
                f", {a['shared_visitors']:,} of them also in training"
                if a["shared_visitors"]
                else " that the model has not seen"
            )
            + f" ({a['test_positives'] / a['test_rows']:.1%} positive; 95% intervals over "
            "visitors).",
            f"{'':20}" + "".join(f"{TITLES[key]:>22}" for key in _SUMMARY_METRICS),
        ]
        if a["unused_rows"]:
            lines.insert(
                1,
                f"{a['unused_rows']:,} rows are on neither side: earlier ones of visitors tested "
                "on, later ones of visitors trained on, and those in the gap between.",
            )
        if a["weighted"]:
            lines.insert(
                1,
                "Only a part of the period's rows is tested, so each is weighted to stand for all. "
                f"Weighted, {a['test_positive_rate']:.1%} are positive.",
            )
        for name, metrics in self.metrics.items():
            columns = (f"{metrics[key]!s:>22}" for key in _SUMMARY_METRICS)
            lines.append(f"{name:20}" + "".join(columns))
        if a["rule"] is not None:
            lines.append(f"The one rule: the share of goals in training, by {a['rule']}.")
        if self.share_of_ceiling is not None:
            lines.append(
                f"Share of the best observable log-loss gain: {self.share_of_ceiling:.0%}."
            )
        return "\n".join([*lines, *self.notes])

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
        fit_options: for ``ProspectModel.fit``: problem, features, recipe, seed and others.
    Returns:
        The model, with the figures in its manifest, and the evaluation.
    Raises:
        DataError: the split's gap is shorter than the problem's labels need.
        TooFewError: there is too little to learn from, or to test on.
    """
    _check_split(split)
    left = "training, with the visitors and the later rows of the test set aside"
    refuse_too_few(split.train, row_weights(split.train), MIN_VISITORS, left)
    refuse_too_few(split.test, split.test_weight, MIN_TEST_VISITORS, "a test on the later rows")
    delay = _label_delay(fit_options)
    if split.cut is not None and split.horizon < delay:
        raise DataError(
            f"the gap before the split's cut is {split.horizon}, but the problem's labels are "
            f"known after {delay}: give honest_split horizon=problem.anchors.label_delay."
        )
    model = ProspectModel.fit(split.train, **fit_options)
    evaluation = evaluate_model(model, split, resamples=resamples)
    model.manifest |= {"metrics": evaluation.to_json(), "notes": list(evaluation.notes)}
    return model, evaluation


def evaluate_model(model: ProspectModel, split: Split, *, resamples: int = 300) -> Evaluation:
    """Evaluate a trained model and the baselines on a split's test rows.

    Raises:
        TooFewError: too few visitors of either outcome are in the test rows.
    """
    if not isinstance(model, ProspectModel):
        raise wrong_type("model", model, "a ProspectModel")
    _check_split(split)
    refuse_too_few(split.test, split.test_weight, MIN_TEST_VISITORS, "a test")
    label = labels(split.test)
    baselines = fit_baselines(split, model.encoder)
    scores = {MODEL: model.predict(split.test), **baselines.scores}
    rows = {name: score_rows(label, score, split.test_weight) for name, score in scores.items()}
    draws = visitor_draws(visitors_of(split.test), resamples=resamples)
    metrics = {name: draws.intervals(scored) for name, scored in rows.items()}
    notes = (*model.manifest.get("notes", ()), *baselines.notes)
    about, visitors = _about(split, baselines), visitors_of(split.test)
    return Evaluation(rows, metrics, about, visitors, _visitor_days(split.test), notes)


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
    steps = forward_splits(table, splits=splits, horizon=_label_delay(fit_options))
    return [evaluate(step, resamples=resamples, **fit_options)[1] for step in steps]


def _check_split(split: object) -> None:
    if not isinstance(split, Split):
        raise wrong_type("split", split, "a Split, such as honest_split(table)")


def _label_delay(fit_options: Mapping[str, Any]) -> timedelta:
    return problem_of(fit_options.get("problem", prospect_problem)).anchors.label_delay


def _visitor_days(table: pa.Table) -> Texts:
    days = times_of(table).cast(pa.date32()).cast(pa.string())
    names: Texts = pc.binary_join_element_wise(visitors_of(table), days, " ").to_numpy()
    return names


def _days(table: pa.Table) -> float:
    """Return the length of the rows' period in days, without what single rows would add."""
    gaps = np.diff(np.sort(microseconds_of(table))) / 86_400_000_000
    return max(float(np.minimum(gaps, LONGEST_GAP).sum()), 1.0)


def _about(split: Split, baselines: Baselines) -> dict[str, Any]:
    sides = {"train": split.train, "test": split.test}
    visitors = {f"{n}_visitors": len(pc.unique(visitors_of(t))) for n, t in sides.items()}
    label = labels(split.test)
    return {
        "name": split.name,
        "cut": split.cut.isoformat() if split.cut else None,
        "horizon_seconds": int(split.horizon.total_seconds()),
        **{f"{name}_rows": table.num_rows for name, table in sides.items()},
        **visitors,
        "unused_rows": split.unused,
        "test_days": _days(split.test),
        "shared_visitors": split.shared_visitors(),
        "rule": baselines.rule,
        "weighted": bool(np.ptp(split.test_weight) > 0),
        "test_positives": int(label.sum()),
        "test_positive_rate": float(np.average(label, weights=split.test_weight)),
    }
