"""What the server tells about itself: Prometheus metrics and one log line a request.

Neither holds personal data: no address, no visitor, no attribute.
"""

import contextlib
import json
import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TextIO

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from prospect_lib.server.schemas import PredictResponse

log = logging.getLogger(__name__)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SCORES = tuple(step / 10 for step in range(1, 11))


class JsonLines(logging.Formatter):
    """Each record as one JSON object; never a traceback, whose text may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's own JSON object, or its message, with moment, level and logger."""
        message = record.getMessage()
        try:
            own = dict(json.loads(message))
        except (ValueError, TypeError):
            own = {"event": message}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"at": at, "level": record.levelname, "logger": record.name, **own})


class Aside(logging.Handler):
    """Writes lines from a thread of its own, many at once: a request never waits for the
    stream, and threads that compute do not queue behind one that writes. A warning is
    written at once; other lines within ``EVERY`` seconds, and when Python ends.

    Args:
        stream: what cannot be written to it is lost.
    """

    EVERY, WAITING = 0.2, 100_000  # seconds; lines, of which those that come later are lost

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._lines = stream, deque[str](maxlen=self.WAITING)
        self._writing, self._closing = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called by one thread at a time."""
        if len(self._lines) < self.WAITING:
            self._lines.append(self.format(record) + "\n")
        if record.levelno >= logging.WARNING or self._closing.is_set():
            self.flush()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-lines", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Write what waits."""
        with self._writing:
            lines = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
                self._stream.write(lines)
                self._stream.flush()

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()
        super().close()

    def _run(self) -> None:
        while not self._closing.wait(self.EVERY):
            self.flush()


def log_lines(stream: TextIO) -> None:
    """Write what this library and its web server log to a stream, as JSON lines.

    No other library gets a say: pyngrok's records may hold the token.
    """
    handler = Aside(stream)
    handler.setFormatter(JsonLines())
    for name, level in (("prospect_lib", logging.INFO), ("waitress", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False


class Monitor:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "prospect_requests", "Requests", ["route", "status", "caller"], registry=self.registry
        )
        self.latency = Histogram(
            "prospect_request_seconds", "Latency", ["route"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.scores = Histogram(
            "prospect_score", "Scores given", ["model_version"],
            buckets=_SCORES, registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "prospect_answers", "Scores by kind", ["kind"], registry=self.registry
        )
        self.calls = Histogram(
            "prospect_attribute_call_seconds", "Calls to Signals", ["outcome"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip

        self.tunnel = Gauge(
            "prospect_tunnel_requests_this_month", "Of the 20,000 that ngrok's free plan allows",
            registry=self.registry,
        )  # fmt: skip

    def watch(self, app: Flask) -> None:
        """Count and log every request of an application."""
        app.extensions["prospect_monitor"] = self
        app.before_request(self._start)
        app.after_request(self._finish)

    def called(self, seconds: float, outcome: str) -> None:
        """Note a call to Signals."""
        self.calls.labels(outcome).observe(seconds)

    def scored(self, _visitor: str, answer: PredictResponse, _record: bytes) -> None:
        """Note a score."""
        self.scores.labels(answer.model_version).observe(answer.score)
        for kind in ("cold_start", "stale"):
            if getattr(answer, kind):
                self.answers.labels(kind).inc()
        if answer.decision.act:
            self.answers.labels("act").inc()

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _start(self) -> None:
        g.started = time.perf_counter()

    def _finish(self, response: Response) -> Response:
        seconds = time.perf_counter() - g.get("started", time.perf_counter())
        route = request.url_rule.rule if request.url_rule else "unknown"
        caller = "local" if "caller" in g and g.caller.local else "public"
        status = response.status_code
        self.finished(route, request.method, status, caller, seconds, g.get("answer"))
        return response

    def finished(
        self,
        route: str,
        method: str,
        status: int,
        caller: str,
        seconds: float,
        answer: PredictResponse | None,
    ) -> None:
        """Note a request that has been answered, and log its line.

        Args:
            answer: the score that was given, if one was.
        """
        self.requests.labels(route, status, caller).inc()
        self.latency.labels(route).observe(seconds)
        if not log.isEnabledFor(logging.INFO):
            return
        line: dict[str, object] = {
            "event": "request",
            "route": route,
            "method": method if method in _METHODS else "other",
            "status": status,
            "caller": caller,
            "ms": round(seconds * 1000, 2),
        }
        if answer is not None:
            line |= {
                "model_version": answer.model_version,
                "act": answer.decision.act,
                "cold_start": answer.cold_start,
                "stale": answer.stale,
            }
        log.info(json.dumps(line))


_METHODS = ("GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH")
