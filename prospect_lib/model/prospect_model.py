"""The prospect model: fit, score, explain, save and load.

It is an XGBoost booster with a manifest that describes it. Both are saved as a bundle, a
folder with ``model.ubj`` (XGBoost's own format) and ``manifest.json``; never as a pickle.

Example::

    model = ProspectModel.fit(table)
    model.save("models/today")
    ProspectModel.load("models/today").score(attributes, at).score  # 0.0123
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost as xgb
from snowplow_signals import AttributeGroup

from prospect_lib.errors import ModelError, TooFewError, wrong_type
from prospect_lib.features import Feature, from_attributes, is_unknown
from prospect_lib.model.calibration import Calibration, logit, sigmoid
from prospect_lib.model.dataset import DatasetSummary, Source, summarize
from prospect_lib.model.encoding import Encoder, Matrix
from prospect_lib.model.rows import Floats
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
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem, sample_problem

TOP = 5
OTHERS, CALIBRATION = "__sum_of_others", "__calibration"
_KNOWN_PROBLEMS = {p.group.name: p for p in (prospect_problem, sample_problem)}


@dataclass(frozen=True)
class Score:
    """One prospect's score and its explanations.

    Explanations are TreeSHAP values: they divide the difference between the score and an
    average score among the features. They are in log-odds, because log-odds add up:
    ``base_value`` and all explanations are the log-odds of the score.

    Of a visitor of whom nothing is known, the score is the base value and there is nothing to
    explain, unless the model was trained on such rows.

    A ``sigmoid`` calibration is a line in log-odds, so it scales TreeSHAP's values and moves the
    base value, and the explanations are exactly those of the calibrated score. An ``isotonic``
    one is no line: the features keep the booster's log-odds, and the curve's shift at this
    score is a part of its own, ``__calibration``.

    Attributes:
        score: calibrated probability (0 to 1) of the goal within the horizon.
        features: the values that were scored, by name, in the model's order.
        explanations: log-odds of the 5 features that moved the score most, largest first,
            then the sum of the others as ``__sum_of_others``, and ``__calibration`` if the
            curve is ``isotonic``; empty if not requested.
        base_value: log-odds before any feature is known, the same for every prospect; ``None``
            if not requested.
    """

    score: float
    features: dict[str, Any]
    explanations: dict[str, float]
    base_value: float | None

    @property
    def log_odds(self) -> float:
        """Log-odds of the score, ln(score / (1 - score))."""
        return float(logit(self.score))


class ProspectModel:
    """A trained booster and the manifest that describes it.

    Attributes:
        booster: XGBoost's model.
        manifest: plain JSON values, as saved in ``manifest.json``.
        features: the features it scores, in order.
        encoder: encodes feature values for the booster.
        calibration: the curve from the booster's probability to the score.
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
        problem: ScoringProblem | AttributeGroup = prospect_problem,
        recipe: Recipe | None = None,
        seed: int = 0,
        calibrate: bool = True,
        cache: Path | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> "ProspectModel":
        """Train on all rows of ``source``; keep test rows out of it.

        Args:
            source: a training set: table, Parquet path, or a function that returns record
                batches.
            features: by default those of ``problem``. Those that are the same in all rows, and
                those that extraction left out, are left out; ``notes`` in the manifest name them.
            problem: the scoring problem, or an attribute group.
            recipe: the training parameters; by default ``Recipe(seed=seed)``.
            seed: of the rows and columns that each tree samples.
            calibrate: try calibration on visitors left out (tables only: a stream is large
                enough for the booster's own probabilities).
            cache: prefix of files for external memory, for data that exceeds memory.
            about: the training set's own manifest, kept in the model's.
        Raises:
            DataError: the rows cannot train a model; the message tells what to change.
            TooFewError: there is too little to learn from.

        Example: ``ProspectModel.fit(split.train, recipe=Recipe(rounds=100))``
        """
        problem = problem_of(problem)
        if recipe is not None and not isinstance(recipe, Recipe):
            raise wrong_type("recipe", recipe, "a Recipe, such as Recipe(rounds=100)")
        recipe = (recipe or Recipe(seed=seed)).for_problem(problem)
        summary = summarize(source, features or problem.features, problem.key)
        if about and about.get("left_out"):  # its notes name these features and their columns
            summary = replace(summary, absent=())
        encoder = Encoder.fit(summary.categories, summary.features, recipe.never_lower or ())
        horizon = problem.anchors.label_delay
        rounds = recipe.rounds or best_rounds(source, encoder, recipe, summary, horizon)
        matrix = quantile_matrix(source, encoder, cache=cache)
        booster = train_booster(matrix, encoder, recipe, rounds)
        calibration, notes = Calibration(), summary.notes()
        if calibrate and isinstance(source, pa.Table):
            try:
                calibration = choose_calibration(source, encoder, recipe, rounds)
            except TooFewError as error:
                notes.append(f"Not calibrated, {error}")
        model = cls.assemble(booster, encoder, calibration, problem, recipe, summary)
        model.manifest |= {"training_set": about and dict(about), "notes": notes}
        return model

    def refit(
        self,
        source: Source,
        *,
        problem: ScoringProblem | AttributeGroup = prospect_problem,
        cache: Path | None = None,
    ) -> "ProspectModel":
        """Return the same model fitted on more rows, the rows that judged it among them.

        Features, parameters, number of trees, calibration and threshold stay. In the manifest,
        ``data`` is about the new rows, and ``metrics`` are still those of this model, whose
        version and rows ``judged`` names.

        Args:
            source: all rows.
            problem: the scoring problem, or an attribute group.
            cache: as for :meth:`fit`.
        Raises:
            DataError: the rows cannot train this model.

        Example: ``evaluate(honest_split(table))[0].refit(table)``
        """
        recipe = Recipe(**self.manifest["recipe"])
        model = ProspectModel.fit(
            source,
            features=self.features,
            problem=problem,
            recipe=recipe,
            calibrate=False,
            cache=cache,
        )
        kept = ("calibration", "metrics", "notes", "threshold", "training_set")
        manifest = {
            **model.manifest,
            **{name: self.manifest[name] for name in kept},
            "judged": {"version": self.version, "data": self.manifest["data"]},
        }
        return ProspectModel(model.booster, manifest, model.features)

    @classmethod
    def assemble(
        cls,
        booster: xgb.Booster,
        encoder: Encoder,
        calibration: Calibration,
        problem: ScoringProblem,
        recipe: Recipe,
        summary: DatasetSummary,
    ) -> "ProspectModel":
        """Build a model, with its manifest, from a booster trained here or on a cluster."""
        booster.set_attr(columns=canonical(encoder.to_json()).decode())
        manifest = {
            "format": FORMAT,
            "problem": problem.name,
            "key": problem.key,
            "group": group_entry(problem.group),
            "label": problem.label(),
            "features": encoder.to_json(),
            "data": {
                "rows": summary.rows,
                "positives": summary.positives,
                "visitors": summary.visitors,
                "since": summary.since.isoformat(),
                "until": summary.until.isoformat(),
                "early": summary.early.isoformat(),
                "unknown": summary.unknown,
            },
            "recipe": {**recipe.to_json(), "rounds": booster.num_boosted_rounds()},
            "calibration": calibration.to_json(),
            "notes": summary.notes(),
            "training_set": None,
            "threshold": None,
            "metrics": {},
            "judged": None,
            "packages": package_versions(),
        }
        return cls(booster, manifest, summary.features)

    @property
    def version(self) -> str:
        """Date of the last training row and a hash of the content: ``2025-05-13-9f86d081``.

        The same data gives the same version.
        """
        digest = hashlib.sha256(self._ubj())
        digest.update(canonical({**self.manifest, "packages": None}))
        return f"{self.manifest['data']['until'][:10]}-{digest.hexdigest()[:8]}"

    @property
    def key(self) -> str:
        """The name of the attribute key, such as ``domain_userid``."""
        return str(self.manifest["key"])

    @property
    def threshold(self) -> float | None:
        """The lowest score at which a prospect is worth engaging, if one was chosen."""
        threshold = self.manifest["threshold"]
        return None if threshold is None else float(threshold["score"])

    def margins(self, table: pa.Table) -> Floats:
        """Return the log-odds of each row, before calibration, shape (rows,)."""
        return self._margins(self.encoder.matrix(table))

    def predict(self, table: pa.Table) -> Floats:
        """Return the calibrated probability of each row, float64, shape (rows,)."""
        return sigmoid(self.calibration.log_odds(self.margins(table)))

    def contributions(self, table: pa.Table) -> Floats:
        """Return TreeSHAP's log-odds per feature and, last, the base value.

        They add up to :meth:`margins`, before calibration. The shape is (rows, features + 1).
        """
        rows = xgb.DMatrix(self.encoder.matrix(table), feature_types=self.encoder.types)
        return np.asarray(self._contributions(rows), dtype=np.float64)

    def score(self, attributes: Mapping[str, Any], at: datetime, *, explain: bool = True) -> Score:
        """Score one prospect from the attributes that Signals returned.

        Args:
            attributes: values by attribute name; ``None`` for no value.
            at: the time of scoring, aware.
            explain: compute ``explanations`` and ``base_value`` as well.
        Raises:
            DataError: an attribute is missing or of another type than in training.
            ModelError: the explanations do not add up to the score.
        """
        if not isinstance(attributes, Mapping):
            raise wrong_type("attributes", attributes, "a dict of values by attribute name")
        if not isinstance(at, datetime):
            raise wrong_type("at", at, "an aware datetime, such as datetime.now(UTC)")
        values = from_attributes(attributes, at, self.features)
        row = self.encoder.row(values)
        if is_unknown(attributes, self.key) and not self.manifest["data"].get("unknown"):
            return self._score_of_unknown(values, explain=explain)
        if not explain:
            log_odds = float(self.calibration.log_odds(self._margins(row))[0])
            return Score(float(sigmoid(log_odds)), values, {}, None)
        one = xgb.DMatrix(row, nthread=1)  # the trees know which features are categories
        margin = float(self.booster.predict(one, output_margin=True, validate_features=False)[0])
        *shares, bias = self._contributions(one)[0].tolist()
        if not math.isclose(sum(shares) + bias, margin, rel_tol=1e-4, abs_tol=1e-4):
            raise ModelError(
                f"explanations add up to {sum(shares) + bias}, but the margin is {margin}: the "
                "bundle is damaged or needs another xgboost. Train the model again."
            )
        slope, shift = self.calibration.line
        reasons = top_reasons(self.encoder.names, [slope * share for share in shares])
        reasons[OTHERS] += slope * (margin - bias - sum(shares))  # TreeSHAP rounds to 32 bits
        log_odds = float(self.calibration.log_odds(margin))
        if self.calibration.method == "isotonic":
            reasons[CALIBRATION] = log_odds - margin
        return Score(float(sigmoid(log_odds)), values, reasons, slope * bias + shift)

    def _score_of_unknown(self, values: dict[str, Any], *, explain: bool) -> Score:
        """Return the score of a visitor of whom nothing is known.

        Training rows are at events, which count: the trees have seen no such row, and would
        answer at random. The base value is about the share of rows that the goal followed.
        """
        empty = self.encoder.row(dict.fromkeys(self.encoder.names))
        base = float(self._contributions(xgb.DMatrix(empty, nthread=1))[0, -1])
        log_odds = float(self.calibration.log_odds(base))
        return Score(float(sigmoid(log_odds)), values, {}, log_odds if explain else None)

    def save(self, path: Path | str) -> Path:
        """Write the bundle into a folder, created if it is missing, and return the folder."""
        folder = _folder(path)
        write_bundle(folder, self._ubj(), self.manifest, self.version)
        return folder

    @classmethod
    def load(
        cls, path: Path | str, *, problem: ScoringProblem | AttributeGroup | None = None
    ) -> "ProspectModel":
        """Read a bundle and check it against the scoring problem in use.

        Args:
            path: the bundle's folder.
            problem: the scoring problem, or an attribute group; by default the catalogue's.
        Raises:
            DataError: ``path`` is no path.
            ModelError: a file is missing or damaged, or features, order, categories or the
                group's definition differ; the message names the difference.
        """
        try:
            return cls._loaded(*read_bundle(_folder(path)), path, problem)
        except (KeyError, TypeError, AttributeError, ValueError, xgb.core.XGBoostError) as error:
            raise ModelError(
                f"{path}: the model is damaged ({type(error).__name__}). Train the model again: "
                "python -m prospect_lib train."
            ) from error

    @classmethod
    def _loaded(
        cls,
        manifest: dict[str, Any],
        raw: bytes,
        path: Path | str,
        problem: ScoringProblem | AttributeGroup | None,
    ) -> "ProspectModel":
        name = manifest["group"]["name"]
        problem = problem or _KNOWN_PROBLEMS.get(name)
        if problem is None:
            raise ModelError(
                f"{path}: trained for attribute group {name!r}, which is not in the catalogue "
                f"({', '.join(_KNOWN_PROBLEMS)}). Give its scoring problem: load(path, "
                "problem=...), or --problem on the command line."
            )
        problem = problem_of(problem)
        check_group(manifest, problem.group)
        features = check_features(manifest, problem.features)
        model = cls(xgb.Booster(model_file=bytearray(raw)), manifest, features)
        check_columns(model.booster.attr("columns"), model.encoder)
        return model

    def _ubj(self) -> bytes:
        return bytes(self.booster.save_raw("ubj"))

    def _margins(self, matrix: Matrix) -> Floats:
        margins = self.booster.inplace_predict(
            matrix, predict_type="margin", validate_features=False
        )
        return np.asarray(margins, dtype=np.float64)

    def _contributions(self, rows: xgb.DMatrix) -> Matrix:
        shares: Matrix = self.booster.predict(rows, pred_contribs=True, validate_features=False)
        return shares


def _folder(path: object) -> Path:
    if not isinstance(path, str | Path):
        raise wrong_type("path", path, "the path of a model's folder")
    return Path(path)


def top_reasons(names: Sequence[str], shares: Sequence[float], top: int = TOP) -> dict[str, float]:
    """Return the largest shares by absolute value, largest first, and the sum of the others.

    Example: ``top_reasons(["a", "b", "c"], [0.1, -2.0, 1.0], top=1)`` returns
    ``{"b": -2.0, "__sum_of_others": 1.1}``.
    """
    order = sorted(range(len(names)), key=lambda i: -abs(shares[i]))
    reasons = {names[i]: shares[i] for i in order[:top]}
    return {**reasons, OTHERS: sum(shares[i] for i in order[top:])}
