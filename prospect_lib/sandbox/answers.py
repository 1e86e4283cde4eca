"""Read JSON bodies of requests, and answer every error with problem details (RFC 9457)."""

import json
import logging
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Flask, Response, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from prospect_lib.errors import ProspectError
from prospect_lib.sandbox.collector.payloads import BadPayloadError, readable
from prospect_lib.server.errors import log_place, problem

_log = logging.getLogger(__name__)
M = TypeVar("M", bound=BaseModel)
#: What the validators of the SDK's models raise, besides what pydantic reports.
VALIDATOR_ERRORS = (TypeError, ValueError, AttributeError, LookupError)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than success: its status, and ``detail``, which is JSON."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def refused(refusal: Refusal) -> Response:
    """Return a refusal as problem details; ``detail`` may be a list, as in the Signals API."""
    return problem(refusal.status, HTTPStatus(refusal.status).phrase, refusal.detail)


def answer_all_errors(app: Flask) -> None:
    """Register handlers, so that nothing that a caller sends ends in a 500 or a traceback."""
    app.register_error_handler(Refusal, refused)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = refused(Refusal(error.code or 400, error.description or ""))
        if allowed := getattr(error, "valid_methods", None):
            response.headers["Allow"] = ", ".join(allowed)
        return response

    @app.errorhandler(Exception)
    def failure(error: Exception) -> Response:
        if isinstance(error, ProspectError):  # the disk fails, or a file is damaged
            return refused(Refusal(503, str(error)))
        log_place(_log, error)
        return refused(
            Refusal(503, "The sandbox failed; its log has the kind of error. Try again.")
        )


def json_object() -> dict[str, Any]:
    """Return the body of the request.

    Raises:
        Refusal: 422, it is not a JSON object.
    """
    try:
        body = readable(request.get_json(silent=True), strict=True)
    except (BadPayloadError, RecursionError) as error:
        raise Refusal(422, [{"loc": ["body"], "msg": str(error)}]) from None
    if not isinstance(body, dict):
        raise Refusal(422, [{"loc": ["body"], "msg": "a JSON object is required"}])
    return body


def parsed(model: type[M], body: Any) -> M:
    """Return a body as one of the SDK's models.

    Raises:
        Refusal: 422 with pydantic's list of problems.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Refusal(422, json.loads(error.json(include_url=False, include_input=False))) from None
    except VALIDATOR_ERRORS as error:
        raise Refusal(422, [{"loc": ["body"], "msg": f"{type(error).__name__}: {error}"}]) from None
