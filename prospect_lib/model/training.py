"""From rows to a booster, whether the rows are a table, a folder of Parquet or a stream.

Rows pass in batches into XGBoost's quantile matrix, which keeps bins in place of floats,
so the table itself never has to fit in memory as floats; with ``cache`` even the
quantile matrix lives on disk.

The same data, recipe and seed give the same bytes, whatever the number of threads.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost as xgb

from prospect_lib.errors import DataError
from prospect_lib.model.calibration import Calibration, row_loss
from prospect_lib.model.dataset import BATCH_ROWS, Source, Survey, batches, labels
from prospect_lib.model.encoding import NEVER_LOWER, Encoder
from prospect_lib.model.splits import (
    HORIZON,
    Floats,
    Mask,
    TimeRule,
    honest_split,
    row_weights,
    visitor_folds,
    visitor_fractions,
)

Keep = Callable[[pa.RecordBatch], Mask]

PAGE_ROWS = 8 * BATCH_ROWS
ONE_THREAD_BELOW = 200_000
MAX_ROUNDS, PATIENCE, FALLBACK_ROUNDS = 1500, 60, 250


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        params: XGBoost's parameters beyond the fixed ones.
        rounds: number of trees; ``None`` finds it by early stopping on a later slice.
        never_lower: numeric features that never lower the score as they grow.
        seed: for the rows and columns each tree samples.
    """

    params: Mapping[str, float] = field(
        default_factory=lambda: {
            "max_depth": 3,
            "eta": 0.02,
            "min_child_weight": 20,
            "lambda": 2.0,
            "subsample": 0.8,
            "colsample_bytree": 0.8,
        }
    )
    rounds: int | None = None
    never_lower: Collection[str] = NEVER_LOWER
    seed: int = 0

    def booster_params(self, encoder: Encoder, rows: int) -> dict[str, Any]:
        """What ``xgboost.train`` is given; threads do not change the result."""
        return {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "seed": self.seed,
            # threads wait for one another after every level: with few rows, or on a busy
            # machine, that costs many times what it saves
            "nthread": 1 if rows < ONE_THREAD_BELOW else 0,
            "monotone_constraints": encoder.constraints,
            **self.params,
        }

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        return {**asdict(self), "never_lower": sorted(self.never_lower)}


class _Rows(xgb.DataIter):
    """Feeds the batches of a source to XGBoost, as many times as it asks."""

    def __init__(self, source: Source, encoder: Encoder, keep: Keep | None, cache: Path | None):
        self._source, self._encoder, self._keep = source, encoder, keep
        # on disk each batch becomes a page that every level of every tree reads again
        self._size = PAGE_ROWS if cache else BATCH_ROWS
        self._left = batches(source, self._size)
        super().__init__(cache_prefix=str(cache) if cache else None)

    def next(self, input_data: Callable[..., None]) -> bool:
        for batch in self._left:
            kept = batch.filter(pa.array(self._keep(batch))) if self._keep else batch
            if kept.num_rows:
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
    keep: Keep | None = None,
    cache: Path | None = None,
    ref: xgb.DMatrix | None = None,
) -> xgb.DMatrix:
    """XGBoost's compressed matrix of the rows for which ``keep`` is true.

    Args:
        cache: a prefix for files; the matrix then stays on disk (external memory).
        ref: the training matrix, where this one is for validation.
    """
    rows = _Rows(source, encoder, keep, cache)
    kind = xgb.ExtMemQuantileDMatrix if cache else xgb.QuantileDMatrix
    return kind(rows, ref=ref)


def train_booster(
    matrix: xgb.DMatrix, encoder: Encoder, recipe: Recipe, rounds: int
) -> xgb.Booster:
    """A booster of exactly ``rounds`` trees."""
    params = recipe.booster_params(encoder, matrix.num_row())
    return xgb.train(params, matrix, rounds)


def best_rounds(source: Source, encoder: Encoder, recipe: Recipe, found: Survey) -> int:
    """How many trees to grow: early stopping on later rows of other visitors.

    The last fifth of the period judges; where it holds no positives yet,
    ``FALLBACK_ROUNDS`` is taken.
    """
    cut = found.since + 0.8 * (found.until - found.since)
    train, later = _inner_split(source, encoder, TimeRule(cut, HORIZON, salt="early stopping"))
    if train is None or later is None or not 0 < later.get_label().sum() < later.num_row():
        return FALLBACK_ROUNDS
    booster = xgb.train(
        recipe.booster_params(encoder, train.num_row()),
        train,
        MAX_ROUNDS,
        evals=[(later, "later")],
        early_stopping_rounds=PATIENCE,
        verbose_eval=False,
    )
    return int(booster.best_iteration) + 1


def _inner_split(
    source: Source, encoder: Encoder, rule: TimeRule
) -> tuple[xgb.DMatrix | None, xgb.DMatrix | None]:
    try:
        if isinstance(source, pa.Table):  # visitors first seen after the cut can judge, too
            split = honest_split(source, cut=rule.cut, horizon=rule.horizon, salt=rule.salt)
            train = quantile_matrix(split.train, encoder)
            return train, quantile_matrix(split.test, encoder, ref=train)
        train = quantile_matrix(source, encoder, keep=rule.train_mask)
        return train, quantile_matrix(source, encoder, keep=rule.test_mask, ref=train)
    except DataError:
        return None, None


def out_of_fold(
    table: pa.Table, encoder: Encoder, recipe: Recipe, rounds: int, folds: int = 5
) -> Floats:
    """Raw probability of every row by a booster that never saw the row's visitor."""
    fold = visitor_folds(table["domain_userid"], folds)
    found = np.empty(table.num_rows)
    for number in np.unique(fold):
        mine = fold == number
        booster = train_booster(
            quantile_matrix(table.filter(~mine), encoder), encoder, recipe, rounds
        )
        found[mine] = booster.inplace_predict(encoder.matrix(table.filter(mine)))
    return found


def choose_calibration(
    table: pa.Table, encoder: Encoder, recipe: Recipe, rounds: int
) -> Calibration:
    """The calibration that lowers log loss on visitors left out, or none.

    Scores are cross-fitted by visitor, and so is each curve. A curve is kept only where
    its gain is larger than its standard error over visitors.
    """
    raw = out_of_fold(table, encoder, recipe, rounds)
    label, weight = labels(table), row_weights(table)
    half = visitor_fractions(table["domain_userid"], "calibration") < 0.5
    _, visitor = np.unique(table["domain_userid"].to_numpy(), return_inverse=True)
    best, best_gain = "identity", 0.0
    for method in ("sigmoid", "isotonic"):
        tuned = np.empty_like(raw)
        for mine in (half, ~half):
            curve = Calibration.fit(method, raw[~mine], label[~mine], weight[~mine])
            tuned[mine] = curve.apply(raw[mine])
        gains = np.bincount(visitor, weight * (row_loss(label, raw) - row_loss(label, tuned)))
        gain, noise = gains.sum(), np.sqrt(len(gains)) * gains.std()
        if gain > max(noise, best_gain):
            best, best_gain = method, gain
    return Calibration.fit(best, raw, label, weight)
