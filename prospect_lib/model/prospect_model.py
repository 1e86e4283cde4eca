"""The model: fit, score, explain, save, load. XGBoost with a manifest, never pickle.

A bundle is a folder with ``model.ubj`` (XGBoost's own format) and ``manifest.json``
(everything needed to use it and to refuse to use it wrongly).

Example::

    model = ProspectModel.fit(table)
    model.save("models/today")
    ProspectModel.load("models/today").score(attributes, at).score  # 0.0123
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost as xgb
from snowplow_signals import StreamAttributeGroup

from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import ModelError
from prospect_lib.features import Feature, features_of, from_attributes
from prospect_lib.model.calibration import Calibration, sigmoid
from prospect_lib.model.dataset import Source, Survey, refuse_constant, survey
from prospect_lib.model.encoding import Encoder, Matrix
from prospect_lib.model.splits import Floats
from prospect_lib.model.store import (
    FORMAT,
    canonical,
    check_columns,
    check_features,
    check_group,
    group_entry,
    package_versions,
    read_bundle,
    write_bundle,
)
from prospect_lib.model.training import (
    Recipe,
    best_rounds,
    choose_calibration,
    quantile_matrix,
    train_booster,
)

TOP = 5
OTHERS = "__sum_of_others"
GOAL = {"event": "submit_form", "horizon_seconds": 3600}
_KNOWN_GROUPS = {group.name: group for group in (prospect_group, sample_group)}


@dataclass(frozen=True)
class Score:
    """One prospect's score and its reasons.

    Attributes:
        score: probability (0..1) of the goal within the horizon, calibrated.
        features: the values that were scored, by name, in order.
        explanations: the 5 features that moved the score most, in log-odds, largest
            first, then ``__sum_of_others``; empty where none were asked for.
        bias: log-odds before any feature is known; ``bias`` and all explanations add
            up to ``margin``.
        margin: the booster's log-odds. The score is the manifest's calibration curve at
            ``sigmoid(margin)``; where that curve is ``identity``, exactly that.
    """

    score: float
    features: dict[str, Any]
    explanations: dict[str, float]
    bias: float
    margin: float


class ProspectModel:
    """A trained booster and the manifest that says what it is.

    Attributes:
        manifest: plain JSON values, as saved in ``manifest.json``.
        features: the features it scores, in order.
    """

    def __init__(
        self, booster: xgb.Booster, manifest: Mapping[str, Any], features: Sequence[Feature]
    ) -> None:
        self.booster = booster
        self.manifest: dict[str, Any] = dict(manifest)
        self.features = tuple(features)
        self.encoder = Encoder.from_json(manifest["features"])
        self.calibration = Calibration.from_json(manifest["calibration"])

    @classmethod
    def fit(
        cls,
        source: Source,
        *,
        features: Sequence[Feature] | None = None,
        group: StreamAttributeGroup = prospect_group,
        recipe: Recipe | None = None,
        seed: int = 0,
        calibrate: bool = True,
        allow_constant: bool = False,
        cache: Path | None = None,
        goal: Mapping[str, Any] = GOAL,
        about: Mapping[str, Any] | None = None,
    ) -> "ProspectModel":
        """Train on every row given; keep test rows out of ``source``.

        Args:
            source: a training set: table, Parquet, or a function giving record batches.
            features: by default those of ``group``.
            recipe: how to train; by default ``Recipe(seed=seed)``.
            calibrate: try calibration on visitors left out (tables only: a stream is
                large enough that the booster's own probabilities stand).
            allow_constant: train though a feature has one value in every row.
            cache: prefix of files for external memory, where the data exceeds memory.
            goal: what the label means, for the manifest.
            about: the training set's own manifest, kept in the model's.
        Raises:
            DataError: the rows cannot train a model; the message says what to change.
        """
        features = tuple(features or features_of(group))
        recipe = recipe or Recipe(seed=seed)
        found = survey(source, features)
        if not allow_constant:
            refuse_constant(found)
        encoder = Encoder.fit(found.categories, features, recipe.never_lower)
        rounds = recipe.rounds or best_rounds(source, encoder, recipe, found)
        matrix = quantile_matrix(source, encoder, cache=cache)
        booster = train_booster(matrix, encoder, recipe, rounds)
        calibration = Calibration()
        if calibrate and isinstance(source, pa.Table):
            calibration = choose_calibration(source, encoder, recipe, rounds)
        model = cls.assemble(booster, encoder, calibration, features, group, recipe, found, goal)
        model.manifest["training_set"] = None if about is None else dict(about)
        return model

    @classmethod
    def assemble(
        cls,
        booster: xgb.Booster,
        encoder: Encoder,
        calibration: Calibration,
        features: Sequence[Feature],
        group: StreamAttributeGroup,
        recipe: Recipe,
        found: Survey,
        goal: Mapping[str, Any] = GOAL,
    ) -> "ProspectModel":
        """A model from a booster trained here or on a cluster; writes the manifest."""
        booster.set_attr(columns=canonical(encoder.to_json()).decode())
        manifest = {
            "format": FORMAT,
            "group": group_entry(group),
            "label": dict(goal),
            "features": encoder.to_json(),
            "data": {
                "rows": found.rows,
                "positives": found.positives,
                "visitors": found.visitors,
                "since": found.since.isoformat(),
                "until": found.until.isoformat(),
            },
            "recipe": {**recipe.to_json(), "rounds": booster.num_boosted_rounds()},
            "calibration": calibration.to_json(),
            "training_set": None,
            "threshold": None,
            "metrics": {},
            "packages": package_versions(),
        }
        return cls(booster, manifest, features)

    @property
    def version(self) -> str:
        """Date of the newest training row and a hash of the content, so that the same
        data gives the same version, such as ``2025-05-13-9f86d081``."""
        digest = hashlib.sha256(self._ubj())
        digest.update(canonical({**self.manifest, "packages": None}))
        return f"{self.manifest['data']['until'][:10]}-{digest.hexdigest()[:8]}"

    @property
    def threshold(self) -> float | None:
        """The score from which a prospect is worth engaging, where one was chosen."""
        chosen = self.manifest["threshold"]
        return None if chosen is None else float(chosen["score"])

    def margins(self, table: pa.Table) -> Floats:
        """Log-odds of every row, before calibration, shape (rows,)."""
        return self._margins(self.encoder.matrix(table))

    def predict(self, table: pa.Table) -> Floats:
        """Calibrated probability of every row, float64, shape (rows,)."""
        return self.calibration.apply(sigmoid(self.margins(table)))

    def contributions(self, table: pa.Table) -> Floats:
        """TreeSHAP log-odds of each feature and, last, the bias: shape (rows, features + 1)."""
        rows = xgb.DMatrix(self.encoder.matrix(table), feature_types=self.encoder.types)
        return np.asarray(self._contributions(rows), dtype=np.float64)

    def score(self, attributes: Mapping[str, Any], at: datetime, *, explain: bool = True) -> Score:
        """Score one prospect's attributes, as Signals gave them, at a moment.

        Raises:
            DataError: an attribute is missing or of another type than in training.
        """
        values = from_attributes(attributes, at, self.features)
        row = self.encoder.row(values)
        if not explain:
            margin = float(self._margins(row)[0])
            return Score(self._calibrated(margin), values, {}, 0.0, margin)
        one = xgb.DMatrix(row, nthread=1)  # the trees know which features are categories
        margin = float(self.booster.predict(one, output_margin=True, validate_features=False)[0])
        *shares, bias = self._contributions(one)[0].tolist()
        if not math.isclose(sum(shares) + bias, margin, rel_tol=1e-4, abs_tol=1e-4):
            raise ModelError(
                f"explanations add up to {sum(shares) + bias}, the margin is {margin}. "
                "The bundle is damaged or needs another xgboost; train it again."
            )
        reasons = top_reasons(self.encoder.names, shares)
        return Score(self._calibrated(margin), values, reasons, bias, margin)

    def save(self, path: Path | str) -> Path:
        """Write the bundle into a folder, made if need be; returns the folder."""
        folder = Path(path)
        write_bundle(folder, self._ubj(), self.manifest, self.version)
        return folder

    @classmethod
    def load(
        cls, path: Path | str, *, group: StreamAttributeGroup | None = None
    ) -> "ProspectModel":
        """Read a bundle and check it against the attributes it will be given.

        Args:
            group: the attributes in use; by default the catalogue's group of that name.
        Raises:
            ModelError: a file is missing or damaged, or features, order, categories or
                the group's definition disagree; the message says which.
        """
        manifest, raw = read_bundle(Path(path))
        name = manifest["group"]["name"]
        group = group or _KNOWN_GROUPS.get(name)
        if group is None:
            raise ModelError(
                f"{path}: trained for group {name!r}, which is not in the catalogue "
                f"({', '.join(_KNOWN_GROUPS)}). Pass it as load(path, group=...)."
            )
        check_group(manifest, group)
        model = cls(
            xgb.Booster(model_file=bytearray(raw)), manifest, check_features(manifest, group)
        )
        check_columns(model.booster.attr("columns"), model.encoder)
        return model

    def _ubj(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))

    def _margins(self, matrix: Matrix) -> Floats:
        found = self.booster.inplace_predict(matrix, predict_type="margin", validate_features=False)
        return np.asarray(found, dtype=np.float64)

    def _contributions(self, rows: xgb.DMatrix) -> Matrix:
        """Documented to be safe to call from several threads, for boosters of trees."""
        found: Matrix = self.booster.predict(rows, pred_contribs=True, validate_features=False)
        return found

    def _calibrated(self, margin: float) -> float:
        return float(self.calibration.apply(sigmoid([margin]))[0])


def top_reasons(names: Sequence[str], shares: Sequence[float], top: int = TOP) -> dict[str, float]:
    """The largest by absolute value, in falling order, and the sum of the rest.

    Example: ``top_reasons(["a", "b", "c"], [0.1, -2.0, 1.0], top=1)`` ->
    ``{"b": -2.0, "__sum_of_others": 1.1}``
    """
    order = sorted(range(len(names)), key=lambda i: -abs(shares[i]))
    reasons = {names[i]: shares[i] for i in order[:top]}
    return {**reasons, OTHERS: sum(shares[i] for i in order[top:])}
