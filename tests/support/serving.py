"""Attributes, scorers and small helpers for the tests of the prediction server."""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import ServiceError
from prospect_lib.features import features_of
from prospect_lib.model.prospect_model import ProspectModel
from prospect_lib.model.store import bundle_path, promote
from prospect_lib.server.app import Options, create_app

VISITOR = "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10"
OTHER_VISITOR = VISITOR.replace("6", "7")
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
#: Headers of a request that a tunnel brings.
PUBLIC = {"X-Forwarded-For": "203.0.113.9", "Host": "abc.ngrok.app"}
#: The origin of the demo website, and one that an owner may add.
SITE, SHOP = "http://127.0.0.1:9090", "https://shop.example"
DOWN = ServiceError("Signals cannot be reached.")

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
class MemoryAttributes:
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
class PlainScore:
    """The least that a scorer has to return."""

    score: float
    explanations: dict[str, float]


class Rule:
    """A scorer without a model: 0.3 for each view of a pricing page."""

    version, threshold = "rule-1", 0.5
    features = tuple(f for f in features_of(prospect_group) if "pricing" in f.name)

    def score(self, attributes: dict[str, Any], at: datetime) -> PlainScore:
        assert at.tzinfo is not None
        views = attributes["num_pricing_views_l7d"] or 0
        return PlainScore(min(1.0, 0.3 * views), {"num_pricing_views_l7d": float(views)})


class FixedScore:
    """A scorer that always returns one result, or raises it."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def score(self, _attributes: dict[str, Any], _at: datetime) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def app_of(scorer: Any = None, attributes: Any = None, **kwargs: Any):
    """Create an application with a rule, attributes from memory and a fixed clock."""
    options = kwargs.pop("options", Options())
    return create_app(
        scorer or Rule(),
        attributes or MemoryAttributes(),
        options=options,
        clock=lambda: AT,
        **kwargs,
    )


def post(app, body: Any = None, **kwargs: Any):
    """POST to /predict inside this process, by default for ``VISITOR``."""
    body = {"domain_userid": VISITOR} if body is None else body
    return app.test_client().post("/predict", json=body, **kwargs)


def post_to(url: str, visitor: str = VISITOR, **kwargs: Any) -> requests.Response:
    """POST to /predict over HTTP, on a connection of its own."""
    body = {"domain_userid": visitor}
    return requests.post(f"{url}/predict", json=body, **{"timeout": 10, **kwargs})


def is_problem(response, status: int, detail: str) -> None:
    """Assert that a response is problem details with a status and a matching detail."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.mimetype == "application/problem+json"
    body = response.get_json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert re.search(detail, body["detail"]), body["detail"]


def save_and_promote(models: Path, model: ProspectModel) -> None:
    """Save a model in a folder of models and promote it."""
    model.save(bundle_path(models, model.version))
    promote(models, model.version)


def in_threads(number: int, call: Callable[[], Any]) -> list[Any]:
    """Call a function in several threads; returns what the calls returned."""
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == number
    return results
