"""From a visitor's attributes to the answer with score, reasons and decision; without HTTP.

``Predictor`` combines a scorer and a source of attributes. A scorer is any object with
``score(attributes, at)``: a ``ProspectModel``, a rule, a client of another service.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from snowplow_signals import AttributeGroup

from prospect_lib.errors import DataError, ModelError, ServiceError
from prospect_lib.features import FEATURES, Feature, from_attributes, is_unknown
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.server.attribute_cache import AttributeCache, Reading
from prospect_lib.server.interventions import Holdout
from prospect_lib.server.schemas import (
    UNKNOWN_VISITOR,
    Decision,
    Health,
    ModelHealth,
    PredictResponse,
)

Scorer = Any  # has score(attributes, at), and may have version, threshold, features, manifest


class ScoreLike(Protocol):
    """A scorer's result. It may also have ``features``, which are computed otherwise, and
    ``base_value``, the log-odds to which the explanations are added."""

    @property
    def score(self) -> float:
        """Probability of the goal, 0 to 1."""
        ...

    @property
    def explanations(self) -> Mapping[str, float]:
        """Contributions to the score, in log-odds, by feature."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A scorer in use, with the properties of it that every score needs."""

    scorer: Scorer
    version: str
    threshold: float | None
    attributes: frozenset[str]

    def score(self, attributes: Mapping[str, Any], at: datetime, *, explain: bool) -> ScoreLike:
        """Score attributes; leave explanations out if the scorer can."""
        if isinstance(self.scorer, ProspectModel):
            return self.scorer.score(attributes, at, explain=explain)
        scored: ScoreLike = self.scorer.score(attributes, at)
        return scored

    @classmethod
    def of(cls, scorer: Scorer, threshold: float | None = None) -> "Loaded":
        """Inspect a scorer; ``threshold`` overrides the scorer's own.

        Raises:
            ModelError: it has no method ``score``.
        """
        if not callable(getattr(scorer, "score", None)):
            raise ModelError(
                f"a {type(scorer).__name__} cannot score: expected an object with "
                "score(attributes, at), such as ProspectModel.load(path)."
            )
        if isinstance(scorer, ProspectModel):
            # one row is too little to share: XGBoost's threads would wait for each other,
            # measured 31 ms instead of 1.3 ms while the other core is busy
            scorer.booster.set_param({"nthread": 1})
        chosen = threshold if threshold is not None else getattr(scorer, "threshold", None)
        needed = (feature.attribute for feature in getattr(scorer, "features", ()))
        return cls(
            scorer,
            version=str(getattr(scorer, "version", type(scorer).__name__)),
            threshold=None if chosen is None else float(chosen),
            attributes=frozenset(name for name in needed if name is not None),
        )


def check_fits(loaded: Loaded, group: AttributeGroup) -> None:
    """Refuse a model that needs attributes which the service does not serve.

    Raises:
        ModelError: naming the attributes and the group.
    """
    missing = sorted(loaded.attributes - {a.name for a in group.attributes or []})
    if missing:
        raise ModelError(
            f"model {loaded.version} needs {', '.join(missing)}, which attribute group "
            f"{group.name!r} of the service does not have. Train the model on this group, or "
            "serve with the scoring problem that it was trained for."
        )


class Predictor:
    """Scores visitors; safe to share by threads.

    Args:
        current: returns the scorer in use; called once per score.
        attributes: reads visitors' attributes.
        key: name of the attribute key.
        features: those to show for a scorer that does not return its own.
        decision: name of the decision that the score is for.
        suppressed_by: counts that forbid to act when they are at least one.
        holdout: sessions that are not acted on; none by default.
        explain: add reasons to each score; without them a model takes half the time.
    """

    def __init__(
        self,
        current: Callable[[], Loaded],
        attributes: AttributeCache,
        *,
        key: str = "domain_userid",
        features: Sequence[Feature] = FEATURES,
        decision: str = "invite",
        suppressed_by: Sequence[str] = (),
        holdout: Holdout | None = None,
        explain: bool = True,
    ) -> None:
        self._current, self._attributes = current, attributes
        self._key, self._features = key, features
        self._decision, self._explain = decision, explain
        self._suppressed_by, self._holdout = suppressed_by, holdout

    def predict(self, visitor: str, at: datetime) -> PredictResponse:
        """Score one visitor at a point in time.

        Raises:
            ServiceError: there are no attributes, or one is missing; the message names it.
            ModelError: the scorer failed, or its result is no score.
        """
        loaded = self._current()

        def answer(reading: Reading) -> PredictResponse:
            scored = self._score(loaded, reading.attributes, at)
            return self._answer(visitor, loaded, reading, scored, at)

        return self._attributes.use(visitor, answer)

    def readiness(self, at: datetime) -> str:
        """Return ``"ok"`` if a score is possible now, otherwise the reason why not."""
        try:
            stale = self.predict(UNKNOWN_VISITOR, at).stale
        except (ServiceError, ModelError) as error:
            return str(error)
        return "Signals does not answer; known visitors get stale scores." if stale else "ok"

    def _score(self, loaded: Loaded, attributes: Mapping[str, Any], at: datetime) -> ScoreLike:
        missing = sorted(loaded.attributes - attributes.keys())
        if missing:
            raise ServiceError(
                f"the service's answer lacks {', '.join(missing)}, which the model needs. "
                "Publish the attribute group and the service again: python -m prospect_lib publish."
            )
        try:
            return loaded.score(attributes, at, explain=self._explain)
        except (ServiceError, ModelError):
            raise
        except DataError as error:
            raise ServiceError(f"the service's answer cannot be scored: {error}") from error
        except Exception as error:  # any scorer may be plugged in
            raise ModelError(f"{loaded.version} failed: {type(error).__name__}.") from error

    def _answer(
        self, visitor: str, loaded: Loaded, reading: Reading, scored: ScoreLike, at: datetime
    ) -> PredictResponse:
        score, threshold = float(scored.score), loaded.threshold
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise ModelError(f"{loaded.version} returned {score}, expected a number from 0 to 1.")
        attributes = reading.attributes
        features, base = getattr(scored, "features", None), getattr(scored, "base_value", None)
        cold = is_unknown(attributes, self._key)
        suppressed_by = next((name for name in self._suppressed_by if attributes.get(name)), None)
        chosen = threshold is not None and score >= threshold and not (suppressed_by or cold)
        holdout = self._holdout
        held_out = chosen and holdout is not None and holdout.contains(visitor, attributes)
        return PredictResponse.model_construct(
            signals=dict(attributes),
            scoring_attributes=self._computed(attributes, at) if features is None else {**features},
            explanations={name: float(x) for name, x in scored.explanations.items()},
            base_value=None if base is None else float(base),
            score=score,
            model_version=loaded.version,
            scored_at=at,
            decision=Decision.model_construct(
                name=self._decision,
                threshold=threshold,
                act=chosen and not held_out,
                suppressed_by=suppressed_by,
                held_out=held_out,
                holdout_share=0.0 if holdout is None else holdout.share,
            ),
            cold_start=cold,
            stale=reading.stale,
        )

    def _computed(self, attributes: Mapping[str, Any], at: datetime) -> dict[str, Any]:
        """Return the features that can be computed from these attributes."""
        computable = (f for f in self._features if f.attribute in (None, *attributes))
        return dict(from_attributes(attributes, at, tuple(computable)))


class Readiness:
    """Reports whether a score is possible now; calls Signals at most every few seconds."""

    def __init__(
        self,
        predictor: Predictor,
        current: Callable[[], Loaded],
        clock: Callable[[], datetime],
        *,
        every: float = 5.0,
    ) -> None:
        self._predictor, self._current, self._clock = predictor, current, clock
        self._every, self._next_check = every, 0.0
        self._lock = threading.Lock()
        self._signals = ""

    def check(self) -> Health:
        """Return the answer of ``/health``."""
        with self._lock:
            if time.monotonic() >= self._next_check:
                self._signals = self._predictor.readiness(self._clock())
                self._next_check = time.monotonic() + self._every
        refused = getattr(self._current, "refused", None)
        model = ModelHealth(version=self._current().version, refused=refused)
        return Health(ready=self._signals == "ok", model=model, signals=self._signals)
