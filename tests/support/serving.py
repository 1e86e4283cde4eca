"""A little world for the tests of the server: a real model, attributes, scorers of all kinds."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import ServiceError
from prospect_lib.features import features_of

VISITOR = "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
PUBLIC = {"X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok.app"}

COLD = {attribute.name: None for attribute in prospect_group.attributes}
WARM = COLD | {
    "latest_app_id": "website",
    "latest_device_class": "Desktop",
    "num_sessions_l7d": ["s1", "s2"],
    "num_sessions_l30d": ["s1", "s2"],
    "num_apps_l7d": ["website"],
    "num_apps_l30d": ["website"],
    "num_page_views_l7d": 7,
    "num_page_views_l30d": 9,
    "num_pricing_views_l7d": 2,
    "num_pricing_views_l30d": 2,
    "first_mkt_medium_l30d": "email",
}


@dataclass
class Profiles:
    """Attributes from memory; unknown visitors have none. ``error`` is raised if set."""

    rows: dict[str, dict[str, Any]] = field(default_factory=lambda: {VISITOR: WARM})
    error: Exception | None = None
    calls: int = 0

    def read(self, identifier: str) -> dict[str, Any]:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return {"domain_userid": identifier, **self.rows.get(identifier, COLD)}


@dataclass
class Answer:
    score: float
    explanations: dict[str, float]


class Rule:
    """No model at all: pricing pages seen."""

    version, threshold = "rule-1", 0.5
    features = tuple(f for f in features_of(prospect_group) if "pricing" in f.name)

    def score(self, attributes: dict[str, Any], at: datetime) -> Answer:
        assert at.tzinfo is not None
        seen = attributes["num_pricing_views_l7d"] or 0
        return Answer(min(1.0, 0.3 * seen), {"num_pricing_views_l7d": float(seen)})


class Fixed:
    """Gives what it is told to give, or raises it."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def score(self, _attributes: dict[str, Any], _at: datetime) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


DOWN = ServiceError("Signals cannot be reached.")
