"""What the Signals API makes of a request's body, and how it says no."""

import json
from typing import Any, TypeVar

from flask import request
from pydantic import BaseModel, ValidationError

from prospect_lib.sandbox.collector.payloads import BadPayloadError, readable

M = TypeVar("M", bound=BaseModel)
#: What validators of the SDK's models stumble over, besides what pydantic reports.
STUMBLES = (TypeError, ValueError, AttributeError, LookupError)


class Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than success: status and ``detail``."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def json_object() -> dict[str, Any]:
    """The body of the request.

    Raises:
        Refusal: 422, it is no JSON object.
    """
    try:
        found = readable(request.get_json(silent=True), strict=True)
    except (BadPayloadError, RecursionError) as error:
        raise Refusal(422, [{"loc": ["body"], "msg": str(error)}]) from None
    if not isinstance(found, dict):
        raise Refusal(422, [{"loc": ["body"], "msg": "a JSON object is required"}])
    return found


def parsed(model: type[M], body: Any) -> M:
    """The body as one of the SDK's models.

    Raises:
        Refusal: 422 with what is wrong and where, as pydantic says it.
    """
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise Refusal(422, json.loads(error.json(include_url=False, include_input=False))) from None
    except STUMBLES as error:
        raise Refusal(422, [{"loc": ["body"], "msg": f"{type(error).__name__}: {error}"}]) from None
