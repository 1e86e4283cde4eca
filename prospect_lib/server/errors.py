"""Every error as problem details (RFC 9457): no 500, no traceback, no personal data."""

import json
import logging
import traceback
from pathlib import Path

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException

from prospect_lib.errors import ProspectError, ServiceError
from prospect_lib.server.schemas import BadBodyError

_log = logging.getLogger(__name__)
RETRY_LATER = "Try again shortly; /health tells the server's owner the reason."


def answer_errors(app: Flask) -> None:
    """Register handlers that answer every error with problem details."""

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        response = problem(error.code or 400, error.name, error.description or "")
        for name, value in error.get_headers():
            if name in ("Allow", "Retry-After"):
                response.headers[name] = value
        return response

    @app.errorhandler(BadBodyError)
    def bad_body(error: BadBodyError) -> Response:
        return problem(error.status, "Bad request", str(error))

    @app.errorhandler(Exception)
    def failure(error: Exception) -> Response:
        # the message of a ProspectError may name an attribute's value: for the operator only
        operator = "caller" in g and g.caller.operator
        if isinstance(error, ServiceError):
            return problem(503, "Signals fails", str(error) if operator else RETRY_LATER)
        if isinstance(error, ProspectError):
            _log.error("The model fails: %s", type(error.__cause__ or error).__name__)
            return problem(503, "The model fails", str(error) if operator else RETRY_LATER)
        log_place(_log, error)
        return problem(503, "The server failed", RETRY_LATER)


def log_place(log: logging.Logger, error: Exception) -> None:
    """Log the kind of an error and its place only: its message may contain a visitor's data."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s in %s, line %s", type(error).__name__, Path(at.filename).name, at.lineno)


def problem(status: int, title: str, detail: object) -> Response:
    """Return a response with problem details and the headers that belong to the status.

    Args:
        detail: text; from the sandbox any JSON, as the Signals API answers.
    """
    kind = title.lower().replace(" ", "-")
    body = {"type": f"urn:prospect:{kind}", "title": title, "status": status, "detail": detail}
    response = Response(json.dumps(body), status, mimetype="application/problem+json")
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response
