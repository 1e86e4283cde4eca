"""Training of a booster on a table, a folder of Parquet files or a stream.

Rows pass in batches into XGBoost's quantile matrix, which stores bins instead of floats, so
the rows never have to fit in memory as floats. With ``cache``, the quantile matrix itself
stays on disk.

The same data, recipe and seed give the same bytes, whatever the number of threads.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost as xgb

from prospect_lib.errors import TooFewError
from prospect_lib.model.calibration import Calibration, row_loss
from prospect_lib.model.dataset import (
    BATCH_ROWS,
    MIN_TEST_VISITORS,
    DatasetSummary,
    Source,
    batches,
    refuse_too_few,
)
from prospect_lib.model.encoding import Encoder
from prospect_lib.model.rows import (
    MORE_DATA,
    Floats,
    Mask,
    key_of,
    labels,
    row_weights,
    visitors_of,
)
from prospect_lib.model.splits import (
    HORIZON,
    TimeRule,
    honest_split,
    visitor_folds,
    visitor_fractions,
)
from prospect_lib.problem import ScoringProblem

RowFilter = Callable[[pa.RecordBatch], Mask]

PAGE_ROWS = 8 * BATCH_ROWS
ONE_THREAD_BELOW = 200_000
MAX_ROUNDS, EARLY_STOPPING_ROUNDS, FALLBACK_ROUNDS = 1500, 60, 100
MIN_STOPPING_ROWS, FEW_STOPPING_ROWS = 5, 300


@dataclass(frozen=True)
class Recipe:
    """The parameters of a training.

    Attributes:
        params: XGBoost's parameters beyond the fixed ones.
        rounds: number of trees; ``None`` chooses it by early stopping on later rows.
        never_lower: numeric features that never lower the score when they grow; ``None`` for
            those of the scoring problem.
        seed: of the rows and columns that each tree samples.

    Example: ``Recipe({**Recipe().params, "max_depth": 4}, rounds=200)``
    """

    params: Mapping[str, float] = field(
        default_factory=lambda: {
            "max_depth": 4,
            "eta": 0.03,
            "min_child_weight": 5,
            "lambda": 2.0,
            "subsample": 0.6,
            "colsample_bytree": 0.4,
        }
    )
    rounds: int | None = None
    never_lower: Collection[str] | None = None
    seed: int = 0

    def booster_params(self, encoder: Encoder, rows: int) -> dict[str, Any]:
        """Return the parameters for ``xgboost.train``; threads do not change the result."""
        return {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "seed": self.seed,
            # threads synchronize after every level: with few rows, or on a busy machine,
            # that costs many times what it saves
            "nthread": 1 if rows < ONE_THREAD_BELOW else 0,
            "monotone_constraints": encoder.constraints,
            **self.params,
        }

    def for_problem(self, problem: ScoringProblem) -> "Recipe":
        """Return the recipe with the problem's monotone features, unless it has its own."""
        return (
            self
            if self.never_lower is not None
            else replace(self, never_lower=tuple(problem.never_lower))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        return {**asdict(self), "never_lower": sorted(self.never_lower or ())}


class _Rows(xgb.DataIter):
    """Passes the batches of a source to XGBoost, as many times as it resets."""

    def __init__(
        self, source: Source, encoder: Encoder, keep: RowFilter | None, cache: Path | None
    ):
        self._source, self._encoder, self._keep = source, encoder, keep
        # on disk, each batch becomes a page that every level of every tree reads again
        self._size = PAGE_ROWS if cache else BATCH_ROWS
        self._left = batches(source, self._size)
        self.empty = True  # until a row has passed
        super().__init__(cache_prefix=str(cache) if cache else None)

    def next(self, input_data: Callable[..., None]) -> bool:
        for batch in self._left:
            kept = batch.filter(pa.array(self._keep(batch))) if self._keep else batch
            if kept.num_rows:
                self.empty = False
                input_data(
                    data=self._encoder.matrix(kept),
                    label=labels(kept),
                    weight=row_weights(kept) if "weight" in kept.schema.names else None,
                    feature_names=self._encoder.names,
                    feature_types=self._encoder.types,
                )
                return True
        return False

    def reset(self) -> None:
        self._left = batches(self._source, self._size)


def quantile_matrix(
    source: Source,
    encoder: Encoder,
    *,
    keep: RowFilter | None = None,
    cache: Path | None = None,
    ref: xgb.DMatrix | None = None,
) -> xgb.DMatrix:
    """Build XGBoost's compressed matrix.

    Args:
        source: the rows.
        encoder: the columns and their codes.
        keep: selects the rows of each batch; by default all.
        cache: a prefix for files; the matrix then stays on disk (external memory).
        ref: the training matrix, if this one is for validation.
    Raises:
        TooFewError: there are no rows.

    Example: ``quantile_matrix(table, encoder).num_row()`` returns ``table.num_rows``.
    """
    rows = _Rows(source, encoder, keep, cache)
    kind = xgb.ExtMemQuantileDMatrix if cache else xgb.QuantileDMatrix
    try:
        return kind(rows, ref=ref)
    except xgb.core.XGBoostError:
        if rows.empty:
            raise TooFewError(f"no row is left to train or test on. {MORE_DATA}") from None
        raise


def train_booster(
    matrix: xgb.DMatrix, encoder: Encoder, recipe: Recipe, rounds: int
) -> xgb.Booster:
    """Train a booster of exactly ``rounds`` trees."""
    params = recipe.booster_params(encoder, matrix.num_row())
    return xgb.train(params, matrix, rounds)


def best_rounds(
    source: Source,
    encoder: Encoder,
    recipe: Recipe,
    summary: DatasetSummary,
    horizon: timedelta = HORIZON,
) -> int:
    """Choose the number of trees by early stopping on later rows of other visitors.

    Those rows are among the last quarter. Where fewer than ``FEW_STOPPING_ROWS`` of them have the
    rarer label, the mean log loss over five folds of visitors decides instead, for a table. Where
    fewer than ``MIN_STOPPING_ROWS`` rows have it, the number is ``FALLBACK_ROUNDS``.

    Args:
        source: the rows.
        encoder: the columns and their codes.
        recipe: the parameters.
        summary: of the rows.
        horizon: how far a label looks ahead.
    """
    rule = TimeRule(summary.later, horizon, salt="early stopping")
    sides = _inner_split(source, encoder, rule)
    few = min(map(_rarer, sides)) if sides else 0.0
    if isinstance(source, pa.Table) and few < FEW_STOPPING_ROWS:
        rarer = min(summary.positives, summary.rows - summary.positives)
        if source.num_rows < ONE_THREAD_BELOW and rarer >= MIN_STOPPING_ROWS:
            return _rounds_over_folds(source, encoder, recipe)
    if sides is None or few < MIN_STOPPING_ROWS:
        return FALLBACK_ROUNDS
    train, later = sides
    booster = xgb.train(
        recipe.booster_params(encoder, train.num_row()),
        train,
        MAX_ROUNDS,
        evals=[(later, "later")],
        early_stopping_rounds=EARLY_STOPPING_ROUNDS,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1


def _rounds_over_folds(table: pa.Table, encoder: Encoder, recipe: Recipe, folds: int = 5) -> int:
    """Return the number of trees with the lowest mean log loss on visitors left out."""
    fold = visitor_folds(visitors_of(table), folds)
    rows = xgb.DMatrix(
        encoder.matrix(table),
        labels(table),
        weight=row_weights(table),
        feature_names=encoder.names,
        feature_types=encoder.types,
    )
    sides = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    losses = xgb.cv(
        recipe.booster_params(encoder, table.num_rows),
        rows,
        MAX_ROUNDS,
        folds=sides,
        early_stopping_rounds=EARLY_STOPPING_ROUNDS,
    )
    return len(losses)


def _rarer(matrix: xgb.DMatrix) -> float:
    """Count the rows of the rarer label."""
    positives = float(matrix.get_label().sum())
    return min(positives, matrix.num_row() - positives)


def _inner_split(
    source: Source, encoder: Encoder, rule: TimeRule
) -> tuple[xgb.DMatrix, xgb.DMatrix] | None:
    try:
        if isinstance(source, pa.Table):  # includes visitors first seen after the cut
            split = honest_split(source, cut=rule.cut, horizon=rule.horizon, salt=rule.salt)
            train = quantile_matrix(split.train, encoder)
            return train, quantile_matrix(split.test, encoder, ref=train)
        train = quantile_matrix(source, encoder, keep=rule.train_mask)
        return train, quantile_matrix(source, encoder, keep=rule.test_mask, ref=train)
    except TooFewError:
        return None


def out_of_fold(
    table: pa.Table, encoder: Encoder, recipe: Recipe, rounds: int, folds: int = 5
) -> Floats:
    """Return the raw probability of each row by a booster not trained on its visitor.

    Args:
        table: the rows.
        encoder: the columns and their codes.
        recipe: the parameters.
        rounds: number of trees per booster.
        folds: number of boosters.
    Raises:
        TooFewError: a booster's rows would have one label only.

    Example: ``out_of_fold(table, encoder, Recipe(), 100).shape`` is ``(table.num_rows,)``.
    """
    fold = visitor_folds(visitors_of(table), folds)
    label = labels(table)
    probability = np.empty(table.num_rows)
    for number in np.unique(fold):
        left_out = fold == number
        if len(np.unique(label[~left_out])) < 2:
            raise TooFewError(
                f"without the visitors of fold {number + 1} of {folds}, all rows have the same "
                f"label. {MORE_DATA}"
            )
        booster = train_booster(
            quantile_matrix(table.filter(~left_out), encoder), encoder, recipe, rounds
        )
        probability[left_out] = booster.inplace_predict(encoder.matrix(table.filter(left_out)))
    return probability


def choose_calibration(
    table: pa.Table, encoder: Encoder, recipe: Recipe, rounds: int
) -> Calibration:
    """Choose the calibration that lowers log loss most on visitors left out, or ``identity``.

    Probabilities are cross-fitted by visitor, and so is each curve. A curve is chosen only
    if its gain is larger than the gain's standard error over visitors.

    Args:
        table: the rows trained on.
        encoder: the columns and their codes.
        recipe: the parameters.
        rounds: number of trees per booster.
    Raises:
        TooFewError: too few visitors reach the goal, or do not, to fit a curve to half of them.

    Example: ``choose_calibration(table, encoder, Recipe(), 100).method``
    """
    label, weight, visitors = labels(table), row_weights(table), visitors_of(table)
    half = visitor_fractions(visitors, "calibration") < 0.5
    for side in (half, ~half):
        rows = table.select([key_of(table), "label"]).filter(side)
        refuse_too_few(rows, weight[side], MIN_TEST_VISITORS, "a calibration on half the visitors")
    raw = out_of_fold(table, encoder, recipe, rounds)
    _, visitor = np.unique(visitors.to_numpy(), return_inverse=True)
    best, best_gain = "identity", 0.0
    for method in ("sigmoid", "isotonic"):
        tuned = np.empty_like(raw)
        for judged in (half, ~half):
            curve = Calibration.fit(method, raw[~judged], label[~judged], weight[~judged])
            tuned[judged] = curve.apply(raw[judged])
        gains = np.bincount(visitor, weight * (row_loss(label, raw) - row_loss(label, tuned)))
        gain, noise = gains.sum(), np.sqrt(len(gains)) * gains.std()
        if gain > max(noise, best_gain):
            best, best_gain = method, gain
    return Calibration.fit(best, raw, label, weight)
