"""Requests and answers of the prediction server: models that validate them, and the OpenAPI
document that is generated from these models.

Example: ``parse_request(request_model("user_id"), b'{"user_id": "ada@example.com"}')`` ->
``"ada@example.com"``
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.errors import DefinitionError
from prospect_lib.version import __version__

MAX_BODY = 4096  # bytes
MAX_IDENTIFIER = 256  # characters
#: An identifier that no visitor has; readiness is tested with it.
UNKNOWN_VISITOR = NOBODY[-1]
_NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
#: What a record of the log has besides the identifier and the answer.
RECORDED = ("key", "group", "group_hash")
_EXAMPLES = {
    "domain_userid": (
        "the id that the Snowplow tracker gave the visitor",
        "6f1c1f0e-5b1f-4a0e-9a55-7d5f3f6f9d10",
    ),
    "user_id": ("the id of the signed-in user", "u-20417"),
    "domain_sessionid": ("the id of the visit", "b3f6a3c8-8f1c-4b5e-9d0e-2f6c1a7d4e55"),
    "network_userid": ("the id in the collector's cookie", "0f5d7c5e-3a35-4a0a-8c53-9d5a4e6b7f21"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Request(_Strict):
    identifier: str


def request_model(key: str) -> type[_Request]:
    """Return the model of a request for one score: an object with one key.

    Args:
        key: the name of the attribute key, such as ``domain_userid``.
    Raises:
        DefinitionError: the log of served scores needs this name for something else.

    >>> list(request_model("user_id").model_json_schema()["properties"])
    ['user_id']
    """
    if key in (*PredictResponse.model_fields, *RECORDED):
        raise DefinitionError(
            f"the attribute key is named {key!r}, as a part of served scores is. Name it "
            f"otherwise: AttributeKey(name='{key}_id', property=...)."
        )
    description, example = _EXAMPLES.get(key, (f"the {key} in the events", "a-17"))
    field = Field(
        alias=key,
        min_length=1,
        max_length=MAX_IDENTIFIER,
        pattern=_NO_CONTROL_CHARACTERS,
        description=description,
        examples=[example],
        json_schema_extra={"not": {"const": UNKNOWN_VISITOR}},
    )
    identifier: Any = Annotated[str, field]
    return create_model(
        "PredictRequest",
        __base__=_Request,
        __doc__="A request for the score of one visitor.",
        identifier=(identifier, ...),
    )


class Decision(_Strict):
    """The action that the score suggests."""

    name: str = Field(description="name of the decision, such as 'invite'")
    threshold: float | None = Field(description="score from which to act; null: never")
    act: bool
    suppressed_by: str | None = Field(
        default=None,
        description="the attribute because of which not to act, such as a form sent this month",
    )
    held_out: bool = Field(
        default=False,
        description="the score says to act, but the session is in the holdout: act is false",
    )
    holdout_share: float = Field(
        default=0.0, description="share of sessions in the holdout; 0: there is none"
    )


class PredictResponse(_Strict):
    """A score and its origin. The first four fields are null for callers who may see only
    the score."""

    signals: dict[str, Any] | None = Field(description="attributes as Signals returned them")
    scoring_attributes: dict[str, Any] | None = Field(description="the features scored")
    explanations: dict[str, float] | None = Field(
        description="the features that moved the score most, in log-odds, __sum_of_others, and "
        "__calibration if the calibration curve is no line in log-odds"
    )
    base_value: float | None = Field(
        default=None,
        description="log-odds before any feature is known: with all explanations, the log-odds "
        "of the score; null if the scorer gives none",
    )
    score: float = Field(ge=0, le=1, description="probability of the goal")
    model_version: str
    scored_at: datetime
    decision: Decision
    cold_start: bool = Field(
        description="nothing is known about this visitor yet: no reason to act; a ProspectModel "
        "answers with its base value, without explanations"
    )
    stale: bool = Field(description="Signals failed; scored on the last known attributes")


class Problem(_Strict):
    """An error, as problem details (RFC 9457)."""

    type: str = Field(description="a URN that names the kind of problem")
    title: str
    status: int
    detail: str = Field(description="the problem, what was expected, and the fix")


class ModelHealth(_Strict):
    """The model in use."""

    version: str
    refused: str | None = Field(description="why the promoted bundle is not in use; null if it is")


class Health(_Strict):
    """The state of the server. ``live``: the process answers. ``ready``: it can score now."""

    live: Literal[True] = True
    ready: bool
    model: ModelHealth
    signals: str = Field(description="'ok', or the problem")

    def for_the_public(self) -> "Health":
        """Return the same state without reasons."""
        refused = None if self.model.refused is None else "yes"
        model = self.model.model_copy(update={"refused": refused})
        signals = "ok" if self.ready else "failing"
        return self.model_copy(update={"model": model, "signals": signals})


class BadBodyError(ValueError):
    """A body that breaks the contract; ``status`` is 400 or 422."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def parse_request(model: type[_Request], body: bytes) -> str:
    """Validate the body of a request; return the identifier in it.

    Args:
        model: as :func:`request_model` returns it.
        body: as it was received.
    Raises:
        BadBodyError: it is invalid; the message has the place and what was expected, and
            never the value, which may be personal.
    """
    key = str(model.model_fields["identifier"].alias)
    try:
        identifier = model.model_validate_json(body).identifier
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        if place not in (key, "the body"):
            place = "an unknown key"  # its name may be personal
        reason = _REASONS.get(first["type"], first["msg"])
        raise BadBodyError(
            f"{place}: {reason}. {_expected(key)}",
            400 if first["type"] == "json_invalid" else 422,
        ) from None
    if identifier in NOBODY:
        raise BadBodyError(f"{key}: the nil identifier is nobody's. {_expected(key)}", 422)
    return identifier


_REASONS = {
    "string_too_short": "an empty identifier is nobody's",
    "string_too_long": f"expected at most {MAX_IDENTIFIER} characters",
    "string_pattern_mismatch": "expected text without control characters",
}


def _expected(key: str) -> str:
    return f'Send {{"{key}": "<identifier>"}} and nothing else.'


_ERRORS = {
    400: "the request is no valid JSON or HTTP",
    401: "a caller without the right token",
    403: "a page of an origin that is not allowed, or the token of pages for metrics",
    413: f"a body over {MAX_BODY} bytes",
    415: "a body that is not declared as application/json",
    422: "a body that breaks the schema",
    429: "too many requests; Retry-After has the seconds to wait",
    503: "no score is possible now: Signals or the model fails; Retry-After as for 429",
}


def openapi(request: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of a server that takes requests of this model."""
    ref = "#/components/schemas/{model}"
    schemas: dict[str, Any] = {}
    for model in (request, PredictResponse, Problem, Health):
        schema = model.model_json_schema(ref_template=ref, mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    health = _json("Health")
    text = {"description": "text", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Prospect scores", "version": __version__},
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
        "paths": {
            "/predict": {"post": _predict_operation()},
            "/health": {"get": _operation("State of the server", health, {503: health})},
            "/metrics": {"get": _operation("Prometheus metrics", text, _problems(401, 403))},
            "/prospect.js": {"get": _operation("The browser client", _script(), {})},
            "/openapi.json": {"get": _operation("This document", _any_json(), {})},
        },
    }


def _predict_operation() -> dict[str, Any]:
    body = {"required": True, "content": _json("PredictRequest")["content"]}
    answers = _operation("Score a visitor", _json("PredictResponse"), _problems(*_ERRORS))
    return {**answers, "requestBody": body}


def _operation(summary: str, ok: dict[str, Any], other: dict[int, Any]) -> dict[str, Any]:
    answers = {"200": ok, **{str(status): answer for status, answer in other.items()}}
    return {"summary": summary, "responses": answers}


def _problems(*statuses: int) -> dict[int, Any]:
    return {s: _json("Problem", _ERRORS[s], "application/problem+json") for s in statuses}


def _json(model: str, description: str = "", mime: str = "application/json") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{model}"}
    return {"description": description or model, "content": {mime: {"schema": schema}}}


def _any_json() -> dict[str, Any]:
    return {"description": "OpenAPI", "content": {"application/json": {"schema": {}}}}


def _script() -> dict[str, Any]:
    schema = {"schema": {"type": "string"}}
    return {"description": "JavaScript", "content": {"text/javascript": schema}}
