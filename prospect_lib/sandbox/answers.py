"""Read JSON bodies of requests, and refuse those that are not valid."""

import json
from typing import Any, TypeVar

from flask import Response, jsonify, request
from pydantic import BaseModel, ValidationError

from prospect_lib.sandbox.collector.payloads import BadPayloadError, readable

M = TypeVar("M", bound=BaseModel)
#: What the validators of the SDK's models raise, besides what pydantic reports.
VALIDATOR_ERRORS = (TypeError, ValueError, AttributeError, LookupError)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than success: its status, and ``detail``, which is JSON."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def refused(refusal: Refusal) -> Response:
    """Return a refusal as the Signals API does: its detail in a JSON object."""
    response = jsonify(detail=refusal.detail)
    response.status_code = refusal.status
    return response


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
