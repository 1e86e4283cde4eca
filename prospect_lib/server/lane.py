"""The common question, answered without Flask: a well-formed ``POST /predict`` of this machine.

Finding the route, the contexts, the hooks and the response object of Flask take longer than
the score itself (measured: 0.22 ms against 0.07). So what needs none of them goes past them.
Everything else goes to Flask, which knows what to say to it: other paths and methods, callers
from outside, other origins and content types, bodies that are too long or not valid. Both
ways give the same answer to the same question, which ``tests/test_lane.py`` holds them to;
but a ``before_request`` hook that is added to the application does not see what passes here.
"""

import io
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from prospect_lib.server.access import Guard, Wsgi, is_forwarded
from prospect_lib.server.errors import failure
from prospect_lib.server.metrics import Monitor
from prospect_lib.server.schemas import MAX_BODY, BadBodyError, PredictResponse, parse_request

Environ = dict[str, Any]
Start = Callable[..., Any]
#: Scores a visitor and does what follows from it; also gives the answer as JSON.
Answer = Callable[[str], tuple[PredictResponse, bytes]]
_LOCAL_NAME = re.compile(r"(?:localhost|127\.0\.0\.1)(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?")


class Lane:
    """Wraps an application; safe to share by threads.

    Args:
        inner: what answers everything else.
        guard: knows the origins whose pages may ask.
        monitor: told of each question.
        answer: scores.
    """

    def __init__(self, inner: Wsgi, guard: Guard, monitor: Monitor, answer: Answer) -> None:
        self._inner, self._guard, self._monitor, self._answer = inner, guard, monitor, answer

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        """Answer, or let ``inner`` do it."""
        begun = time.perf_counter()
        visitor = self._visitor(environ)
        if visitor is None:
            return self._inner(environ, start_response)
        answer: PredictResponse | None = None
        try:
            answer, body = self._answer(visitor)
            status, headers = "200 OK", [("Content-Type", "application/json")]
        except Exception as error:  # noqa: BLE001 - as Flask's handlers: an answer, whatever fails
            failed = failure(error, trusted=True)
            status, headers, body = failed.status, [*failed.headers], failed.get_data()
            headers = [(name, value) for name, value in headers if name != "Content-Length"]
        headers.append(("Content-Length", str(len(body))))
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None:
            headers.append(("Access-Control-Allow-Origin", origin))
            headers.append(("Access-Control-Expose-Headers", "Retry-After"))
        seconds = time.perf_counter() - begun
        self._monitor.finished("/predict", "POST", int(status[:3]), "local", seconds, answer)
        start_response(status, headers)
        return [body]

    def _visitor(self, environ: Environ) -> str | None:
        """Who is asked about, if the question may pass here. A body that may not is put back."""
        if not self._passes(environ):
            return None
        length = int(environ["CONTENT_LENGTH"])
        body = environ["wsgi.input"].read(length)
        try:
            if len(body) == length:
                return parse_request(body).domain_userid
        except BadBodyError:
            pass
        environ["wsgi.input"] = io.BytesIO(body)
        return None

    def _passes(self, environ: Environ) -> bool:
        kind, length = environ.get("CONTENT_TYPE", ""), environ.get("CONTENT_LENGTH", "")
        return (
            environ["PATH_INFO"] == "/predict"
            and environ["REQUEST_METHOD"] == "POST"
            and environ.get("REMOTE_ADDR") == "127.0.0.1"
            and _LOCAL_NAME.fullmatch(environ.get("HTTP_HOST", "")) is not None
            and not is_forwarded(environ)
            and environ.get("HTTP_ORIGIN") in (None, *self._guard.origins)
            and (kind == "application/json" or kind.startswith("application/json;"))
            and "HTTP_TRANSFER_ENCODING" not in environ
            and length.isascii()
            and length.isdecimal()
            and int(length) <= MAX_BODY
        )
