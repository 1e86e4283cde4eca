"""One score, from attributes to answer; nothing here knows of HTTP.

``Predictor`` puts a scorer and a source of attributes together. A scorer is anything
with ``score(attributes, at)``: a ``ProspectModel``, a rule, a client of another service.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from snowplow_signals import AttributeGroup

from prospect_lib.errors import DataError, ModelError, ServiceError
from prospect_lib.features import FEATURES, from_attributes
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.server.attribute_cache import LiveProfiles, Reading
from prospect_lib.server.schemas import NOBODY, Decision, Health, ModelHealth, PredictResponse

Scorer = Any  # has score(attributes, at), and perhaps version, threshold, features, manifest


class Scored(Protocol):
    """What a scorer returns; ``features`` is computed where it has none."""

    @property
    def score(self) -> float:
        """Probability of the goal, 0 to 1."""
        ...

    @property
    def explanations(self) -> Mapping[str, float]:
        """What moved the score, in log-odds."""
        ...


@dataclass(frozen=True)
class Loaded:
    """A scorer in use, with what is asked of it once and not at every score."""

    scorer: Scorer
    version: str
    threshold: float | None
    attributes: frozenset[str]

    def score(self, attributes: Mapping[str, Any], at: datetime, *, explain: bool) -> Scored:
        """Score, without explanations where they are not wanted and can be left out."""
        if isinstance(self.scorer, ProspectModel):
            return self.scorer.score(attributes, at, explain=explain)
        scored: Scored = self.scorer.score(attributes, at)
        return scored

    @classmethod
    def of(cls, scorer: Scorer, threshold: float | None = None) -> "Loaded":
        """Look a scorer over; ``threshold`` overrides its own."""
        if not callable(getattr(scorer, "score", None)):
            raise ModelError(
                f"{scorer!r} cannot score: expected an object with score(attributes, at), "
                "such as ProspectModel.load(path)."
            )
        if isinstance(scorer, ProspectModel):
            # one row is no work to share: XGBoost's threads would wait for one another,
            # measured 31 ms in place of 1.3 ms while the other core is busy
            scorer.booster.set_param({"nthread": 1})
        own = threshold if threshold is not None else getattr(scorer, "threshold", None)
        needed = (feature.attribute for feature in getattr(scorer, "features", ()))
        return cls(
            scorer,
            version=str(getattr(scorer, "version", type(scorer).__name__)),
            threshold=None if own is None else float(own),
            attributes=frozenset(name for name in needed if name is not None),
        )


def check_fits(loaded: Loaded, group: AttributeGroup) -> None:
    """Refuse a model that needs what the service does not serve.

    Raises:
        ModelError: naming the attributes and the group.
    """
    missing = sorted(loaded.attributes - {a.name for a in group.attributes or []})
    if missing:
        raise ModelError(
            f"model {loaded.version} needs {', '.join(missing)}, which attribute group "
            f"{group.name!r} of the service does not have. Train the model on this group, or "
            "give create_app the group that the model was trained on."
        )


class Predictor:
    """Scores visitors; safe to share by threads.

    Args:
        current: gives the scorer in use, asked once for each score.
        profiles: where attributes come from.
        decision: name of what is decided.
        explain: give reasons with each score; without them a model takes half the time.
    """

    def __init__(
        self,
        current: Callable[[], Loaded],
        profiles: LiveProfiles,
        *,
        decision: str = "invite",
        explain: bool = True,
    ) -> None:
        self._current, self._profiles = current, profiles
        self._decision, self._explain = decision, explain

    def predict(self, visitor: str, at: datetime) -> PredictResponse:
        """Score one visitor at a moment.

        Raises:
            ServiceError: no attributes, or one is missing; the message names it.
            ModelError: the scorer failed or gave what is no score.
        """
        loaded, reading = self._current(), self._profiles.read(visitor)
        missing = sorted(loaded.attributes - reading.attributes.keys())
        if missing:
            raise ServiceError(
                f"the service's answer lacks {', '.join(missing)}, which the model needs. "
                "Publish the attribute group and the service again, as notebook 01 does."
            )
        scored = self._score(loaded, reading.attributes, at)
        return self._answer(loaded, reading, scored, at)

    def ready(self, at: datetime) -> str:
        """``"ok"`` if a score could be given now, else what is wrong."""
        try:
            stale = self.predict(NOBODY, at).stale
        except (ServiceError, ModelError) as error:
            return str(error)
        return "Signals does not answer; known visitors get stale scores." if stale else "ok"

    def _score(self, loaded: Loaded, attributes: Mapping[str, Any], at: datetime) -> Scored:
        try:
            return loaded.score(attributes, at, explain=self._explain)
        except (ServiceError, ModelError):
            raise
        except DataError as error:
            raise ServiceError(f"the service's answer cannot be scored: {error}") from error
        except Exception as error:  # any scorer may be plugged in
            raise ModelError(f"{loaded.version} failed: {type(error).__name__}.") from error

    def _answer(
        self, loaded: Loaded, reading: Reading, scored: Any, at: datetime
    ) -> PredictResponse:
        score, threshold = float(scored.score), loaded.threshold
        if not (math.isfinite(score) and 0 <= score <= 1):
            raise ModelError(f"{loaded.version} gave {score}, expected a number from 0 to 1.")
        known = reading.attributes
        features = getattr(scored, "features", None)
        return PredictResponse.model_construct(
            signals=dict(known),
            scoring_attributes=_features(known, at) if features is None else dict(features),
            explanations={name: float(x) for name, x in scored.explanations.items()},
            score=score,
            model_version=loaded.version,
            scored_at=at,
            decision=Decision.model_construct(
                name=self._decision,
                threshold=threshold,
                act=threshold is not None and score >= threshold,
            ),
            cold_start=is_cold(known),
            stale=reading.stale,
        )


class Readiness:
    """Whether a score could be given now; Signals is asked at most every few seconds."""

    def __init__(
        self,
        predictor: Predictor,
        current: Callable[[], Loaded],
        clock: Callable[[], datetime],
        *,
        every: float = 5.0,
    ) -> None:
        self._predictor, self._current, self._clock = predictor, current, clock
        self._every, self._until = every, 0.0
        self._lock = threading.Lock()
        self._problem = ""

    def check(self) -> Health:
        """What ``/health`` says."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._problem = self._predictor.ready(self._clock())
                self._until = time.monotonic() + self._every
        refused = getattr(self._current, "refused", None)
        model = ModelHealth(version=self._current().version, refused=refused)
        return Health(ready=self._problem == "ok", model=model, signals=self._problem)


def is_cold(attributes: Mapping[str, Any]) -> bool:
    """Whether nothing is known of a visitor: every attribute but the key is null."""
    return all(v is None for name, v in attributes.items() if name != "domain_userid")


def _features(attributes: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """The catalogue's features of a scorer that does not say what it scored, as far as
    the attributes at hand go."""
    at_hand: Iterable[Any] = (f for f in FEATURES if f.attribute in (None, *attributes))
    return dict(from_attributes(attributes, at, tuple(at_hand)))
