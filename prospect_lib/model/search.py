"""A small random search for better training parameters, limited in tries and seconds.

Candidates are drawn at random (seeded) and compared by log loss on visitors left out, the
measure that calibrated decisions need. The default parameters are the first candidate, and
are kept unless another one is better beyond noise.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import ParameterSampler
from tqdm.auto import tqdm

from prospect_lib.features import Feature
from prospect_lib.model.calibration import row_loss
from prospect_lib.model.dataset import summarize
from prospect_lib.model.encoding import Encoder
from prospect_lib.model.rows import labels, row_weights, visitors_of
from prospect_lib.model.splits import HORIZON
from prospect_lib.model.training import Recipe, best_rounds, out_of_fold

SPACE: Mapping[str, Sequence[float]] = {
    "max_depth": (2, 3, 4, 5, 6),
    "eta": (0.03, 0.05, 0.1),
    "min_child_weight": (1, 5, 20, 50),
    "lambda": (0.5, 2.0, 10.0),
    "subsample": (0.6, 0.8, 1.0),
    "colsample_bytree": (0.5, 0.8, 1.0),
    "scale_pos_weight": (1.0, 1.0, 3.0),
}


def search(
    table: pa.Table,
    features: Sequence[Feature],
    *,
    recipe: Recipe | None = None,
    tries: int = 20,
    seconds: float = 120.0,
    progress: bool = True,
    horizon: timedelta = HORIZON,
) -> tuple[Recipe, list[dict[str, Any]]]:
    """Return the best recipe, with its rounds, and the parameters and log loss of each try.

    The same table and recipe give the same result, as long as ``seconds`` are enough for
    all tries.

    Args:
        table: training rows only.
        features: the features to train on.
        recipe: the first candidate; its seed draws the others.
        tries: number of candidates.
        seconds: no candidate is started later than this.
        progress: show a progress bar.
        horizon: how far a label looks ahead.
    Raises:
        TooFewError: there is too little to learn from.

    Example: ``recipe, log = search(split.train, FEATURES, tries=5)``
    """
    start = recipe or Recipe()
    summary = summarize(table, features)
    encoder = Encoder.fit(summary.categories, summary.features, start.never_lower or ())
    _, visitor = np.unique(visitors_of(table).to_numpy(), return_inverse=True)
    label, weight = labels(table), row_weights(table)
    draws = ParameterSampler(dict(SPACE), tries - 1, random_state=start.seed) if tries > 1 else []
    log: list[dict[str, Any]] = []
    best, best_loss = start, np.empty(0)
    deadline = time.monotonic() + seconds
    bar = tqdm([start, *(replace(start, params=draw) for draw in draws)], disable=not progress)
    for candidate in bar:
        if log and time.monotonic() > deadline:
            break
        rounds = best_rounds(table, encoder, candidate, summary, horizon)
        raw = out_of_fold(table, encoder, candidate, rounds)
        loss = np.bincount(visitor, weight * row_loss(label, raw)).astype(np.float64)
        log.append({**candidate.params, "rounds": rounds, "log_loss": loss.sum() / weight.sum()})
        if len(best_loss) == 0 or _is_significant(best_loss - loss):
            best, best_loss = replace(candidate, rounds=rounds), loss
        bar.set_postfix(log_loss=f"{best_loss.sum() / weight.sum():.4f}")
    return best, log


def _is_significant(gain: Any) -> bool:
    """Return whether the summed gain over visitors exceeds its standard error."""
    return bool(gain.sum() > np.sqrt(len(gain)) * gain.std())
