"""The prediction server: ``POST /predict`` and what a website needs around it.

Example::

    app = create_app(ProspectModel.load(path), signals.reader(settings), settings)
    with Server(app, port=9091) as server:
        requests.post(f"{server.url}/predict", json={"domain_userid": visitor}).json()["score"]
"""

import errno
import json
import logging
import math
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import waitress
from flask import Flask, Response, g, request
from flask_limiter import Limiter
from snowplow_signals import Service
from waitress import wasyncore
from waitress.server import TcpWSGIServer
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from prospect_lib.attributes import prospect_service
from prospect_lib.contract import MAX_BODY, BadBodyError, Health, openapi, parse_request
from prospect_lib.errors import ProspectError, ServiceError, SettingsError
from prospect_lib.guard import Guard, is_local
from prospect_lib.predictor import Loaded, Predictor, Scorer, check_fits
from prospect_lib.profiles import LiveProfiles, Profiles
from prospect_lib.settings import PREDICT_PORT, SANDBOX_PORT, Settings

log = logging.getLogger(__name__)
_SCRIPT = (Path(__file__).parent / "prospect.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Options:
    """What the owner of a server chooses.

    Attributes:
        origins: web origins whose pages may call; the demo website always may.
        threshold: score from which to act; by default the model's own.
        decision: name of what is decided.
        public_scores: callers without the token may see score and decision.
        fresh_seconds: attributes this young are used again; 0 asks Signals every time.
        stale_seconds: last known attributes this young serve while Signals fails.
        caller_limit, visitor_limit: for callers from outside this machine.
    """

    origins: tuple[str, ...] = ()
    threshold: float | None = None
    decision: str = "invite"
    public_scores: bool = False
    fresh_seconds: float = 0.0
    stale_seconds: float = 60.0
    caller_limit: str = "120 per minute"
    visitor_limit: str = "30 per minute"


def create_app(
    model: Scorer,
    profiles: Profiles,
    settings: Settings | None = None,
    *,
    options: Options | None = None,
    service: Service = prospect_service,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Flask:
    """The prediction server as a Flask application.

    Args:
        model: any object with ``score(attributes, at)``.
        profiles: any object with ``read(identifier) -> dict``.
        settings: where the demo website is, and where state is kept; without them
            nothing is written to disk.
        service: the service that ``profiles`` reads, to check the model against.
        clock: gives the scoring moment, an aware datetime.
    Raises:
        ModelError: the model needs attributes that the service does not serve.
    """
    options = options or Options()
    loaded = Loaded.of(model, options.threshold)
    check_fits(loaded, service)
    live = LiveProfiles(
        profiles, fresh_seconds=options.fresh_seconds, stale_seconds=options.stale_seconds
    )
    predictor = Predictor(lambda: loaded, live, decision=options.decision)
    guard = Guard((*_site(settings), *options.origins), public_scores=options.public_scores)

    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.extensions["prospect_guard"] = guard
    limiter = guard.protect(app, options.caller_limit)
    ready = _Readiness(predictor, clock)

    @limiter.limit(
        options.visitor_limit,
        key_func=lambda: str(g.visitor),
        exempt_when=lambda: is_local(request),
    )
    def scored() -> Response:
        answer = predictor.predict(g.visitor, clock())
        hidden = () if g.caller.trusted else ("signals", "scoring_attributes", "explanations")
        answer = answer.model_copy(update=dict.fromkeys(hidden))
        return Response(answer.model_dump_json(), mimetype="application/json")

    @app.post("/predict")
    def predict() -> Response:
        g.caller = guard.admit(request, score_only=True)
        if not request.is_json:
            raise UnsupportedMediaType("Send JSON as 'Content-Type: application/json'.")
        g.visitor = parse_request(request.get_data()).domain_userid
        return scored()

    @app.get("/health")
    def health() -> Response:
        found = ready.check()
        status = 200 if found.ready else 503
        return Response(found.model_dump_json(), status, mimetype="application/json")

    @app.get("/openapi.json")
    def document() -> dict[str, Any]:
        return openapi()

    @app.get("/prospect.js")
    def script() -> Response:
        return Response(_SCRIPT, mimetype="text/javascript")

    _answer_errors(app, limiter)
    return app


class _Readiness:
    """Whether the server can score. Signals is asked at most every five seconds."""

    def __init__(self, predictor: Predictor, clock: Callable[[], datetime]) -> None:
        self._predictor, self._clock = predictor, clock
        self._lock = threading.Lock()
        self._until, self._problem = 0.0, ""

    def check(self) -> Health:
        with self._lock:
            if time.monotonic() >= self._until:
                self._problem = self._predictor.ready(self._clock())
                self._until = time.monotonic() + 5
        return self._predictor.health(self._problem)


def _answer_errors(app: Flask, limiter: Limiter) -> None:
    """Every error becomes problem details (RFC 9457); none becomes a 500 or shows a trace."""

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        answer = _problem(error.code or 400, error.name, error.description or "")
        if limiter.current_limit and error.code == 429:
            wait = math.ceil(limiter.current_limit.reset_at - time.time())
            answer.headers["Retry-After"] = str(max(1, wait))
        return answer

    @app.errorhandler(BadBodyError)
    def bad(error: BadBodyError) -> Response:
        return _problem(error.status, "Bad request", str(error))

    @app.errorhandler(ProspectError)
    def failed(error: ProspectError) -> Response:
        title = "Signals fails" if isinstance(error, ServiceError) else "The model fails"
        trusted = is_local(request) or (getattr(g, "caller", None) and g.caller.trusted)
        return _problem(503, title, str(error) if trusted else "Try again shortly.")

    @app.errorhandler(Exception)
    def broken(error: Exception) -> Response:
        # the kind and the place, not the message: it may hold a visitor's data
        at = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s in %s, line %s", type(error).__name__, Path(at.filename).name, at.lineno)
        return _problem(503, "The server failed", "Try again shortly.")


def _problem(status: int, title: str, detail: str) -> Response:
    kind = title.lower().replace(" ", "-")
    body = {"type": f"urn:prospect:{kind}", "title": title, "status": status, "detail": detail}
    answer = Response(json.dumps(body), status, mimetype="application/problem+json")
    if status == 503:
        answer.headers["Retry-After"] = "1"
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def _site(settings: Settings | None) -> tuple[str, str]:
    """Origins of the demo website: the same page under both names of this machine."""
    port = settings.sandbox_port if settings else SANDBOX_PORT
    return f"http://127.0.0.1:{port}", f"http://localhost:{port}"


class Server:
    """Serves an application from a background thread.

    Args:
        app: from ``create_app``.
        host: loopback unless other machines shall reach it; they need the token then.
        port: 0 takes any free one.
        threads: by default 8 for each processor, at most 64: they mostly wait for Signals.
    """

    def __init__(
        self,
        app: Flask,
        host: str = "127.0.0.1",
        port: int = PREDICT_PORT,
        *,
        threads: int | None = None,
    ) -> None:
        self.app, self.host, self.port = app, host, port
        self._threads = threads or min(64, 8 * (os.cpu_count() or 1))
        self._sockets: dict[int, Any] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Address on this machine, such as ``http://127.0.0.1:9091``."""
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> "Server":
        """Start to serve, and return; a server that runs is left running.

        Raises:
            SettingsError: the port is in use, or may not be opened.
        """
        if self._thread is None:
            server = self._listen()
            self.port = int(server.effective_port)
            self._stopping.clear()
            self._thread = threading.Thread(
                target=self._serve, args=(server,), name="prospect-server", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Answer the requests in flight, close, and wait for it; harmless if not running."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _listen(self) -> TcpWSGIServer:
        try:
            return waitress.create_server(
                self.app,
                map=self._sockets,
                host=self.host,
                port=self.port,
                threads=self._threads,
                ident=None,
                max_request_body_size=1 << 20,
                asyncore_use_poll=True,
                channel_timeout=30,
                # the guard has to see them: they tell a tunnel's callers from local ones
                clear_untrusted_proxy_headers=False,
            )
        except OSError as error:
            busy = error.errno == errno.EADDRINUSE
            raise SettingsError(
                f"cannot serve on {self.host}:{self.port}: "
                f"{'the port is in use' if busy else error.strerror}. Stop what uses it, or "
                "choose another port: set PREDICT_PORT (0 < port < 65536) or pass port=0."
            ) from error

    def _serve(self, server: TcpWSGIServer) -> None:
        """waitress' loop, but one that can be ended: stop listening, finish, close."""
        while not self._stopping.is_set():
            wasyncore.loop(0.2, use_poll=True, map=self._sockets, count=1)
        wasyncore.dispatcher.close(server)
        patience = time.monotonic() + 5
        while _busy(server) and time.monotonic() < patience:
            wasyncore.loop(0.05, use_poll=True, map=self._sockets, count=1)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(self._sockets, ignore_all=True)


def _busy(server: TcpWSGIServer) -> bool:
    channels = list(server.active_channels.values())
    return any(channel.requests or channel.total_outbufs_len for channel in channels)
