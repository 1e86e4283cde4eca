"""Every error as problem details (RFC 9457): never a 500, never a trace, nothing personal."""

import json
import logging
import traceback
from pathlib import Path

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from prospect_lib.errors import ProspectError, ServiceError
from prospect_lib.server.schemas import BadBodyError

log = logging.getLogger(__name__)
RETRY_LATER = "Try again shortly; the server's owner finds the reason in /health."


def answer_errors(app: Flask) -> None:
    """Register the handlers."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        answer = problem(error.code or 400, error.name, error.description or "")
        for name, value in error.get_headers():
            if name in ("Allow", "Retry-After"):
                answer.headers[name] = value
        return answer

    @app.errorhandler(BadBodyError)
    def bad(error: BadBodyError) -> Response:
        return problem(error.status, "Bad request", str(error))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        return failure(error, trusted=g.caller.trusted)


def failure(error: Exception, *, trusted: bool) -> Response:
    """A 503 for what went wrong behind a valid question.

    Args:
        trusted: the caller may know the reason, which may name a value of the visitor's.
    """
    if not isinstance(error, ProspectError):
        # the kind and the place only: the message may hold a visitor's data
        at = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s, line %s", type(error).__name__, Path(at.filename).name, at.lineno)
        return problem(503, "The server failed", RETRY_LATER)
    title = "Signals fails" if isinstance(error, ServiceError) else "The model fails"
    if not isinstance(error, ServiceError):
        log.error("%s: %s", title, type(error.__cause__ or error).__name__)
    return problem(503, title, str(error) if trusted else RETRY_LATER)


def problem(status: int, title: str, detail: str) -> Response:
    """A response that says what was wrong."""
    kind = title.lower().replace(" ", "-")
    body = {"type": f"urn:prospect:{kind}", "title": title, "status": status, "detail": detail}
    answer = Response(json.dumps(body), status, mimetype="application/problem+json")
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        answer.headers["Retry-After"] = "1"
    return answer
