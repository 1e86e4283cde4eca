"""Prometheus metrics, and one log line per request.

Neither contains personal data: no address, no visitor, no attribute.

With ``PROMETHEUS_MULTIPROC_DIR`` set before Python starts, several processes share their
metrics through files in that folder, and each answers ``/metrics`` for all of them.
"""

import contextlib
import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from prospect_lib.errors import SettingsError
from prospect_lib.server.background import BackgroundWriter
from prospect_lib.server.schemas import PredictResponse

_log = logging.getLogger(__name__)
LINES_EVERY = 0.2  # seconds that log lines wait for others
LINES_WAITING = 100_000  # log lines; further ones are dropped
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's variable for several processes
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SCORES = tuple(step / 10 for step in range(1, 11))
_METHODS = ("GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH")


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object, without traceback, whose text may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's message, or the JSON object in it, with time, level and logger."""
        message = record.getMessage()
        try:
            fields = dict(json.loads(message))
        except (ValueError, TypeError):
            fields = {"event": message}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"at": at, "level": record.levelname, "logger": record.name, **fields})


class LineHandler(logging.Handler):
    """Writes log lines from a thread of its own, so that no request waits for the stream.

    A warning is written at once, with the lines before it; other lines within ``LINES_EVERY``
    seconds, and when Python ends.

    Args:
        stream: lines that cannot be written to it are lost.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._closed = stream, False
        self._writer = BackgroundWriter(
            self._write, name="log lines", limit=LINES_WAITING, every=LINES_EVERY
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record as a line."""
        self._writer.put(self.format(record) + "\n")
        if record.levelno >= logging.WARNING or self._closed:
            self._writer.flush()

    def flush(self) -> None:
        """Write the lines that wait."""
        self._writer.flush()

    def close(self) -> None:
        """Write the lines that wait; later ones are written at once."""
        self._closed = True
        self._writer.close()
        super().close()

    def _write(self, lines: list[str]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
            self._stream.write("".join(lines))
            self._stream.flush()


def log_lines(stream: TextIO) -> None:
    """Write what this library logs to a stream, as JSON lines.

    Other libraries are left out: pyngrok's records may contain the token.
    """
    handler = LineHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("prospect_lib")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    logger.propagate = False


class Monitor:
    """The metrics of one application, in a registry of their own.

    Raises:
        SettingsError: PROMETHEUS_MULTIPROC_DIR is no folder.
    """

    def __init__(self) -> None:
        shared = os.environ.get(SHARED_FOLDER)
        if shared is not None and not Path(shared).is_dir():
            raise SettingsError(
                f"{SHARED_FOLDER}={shared!r} is no folder. Create it, empty, before the start."
            )
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

    def watch(self, app: Flask) -> None:
        """Count and log every request of an application."""
        app.before_request(self._start)
        app.after_request(self._finish)

    def count_call(self, seconds: float, outcome: str) -> None:
        """Count a call to Signals."""
        self.calls.labels(outcome).observe(seconds)

    def count_score(self, answer: PredictResponse) -> None:
        """Count a score."""
        self.scores.labels(answer.model_version).observe(answer.score)
        for kind in ("cold_start", "stale"):
            if getattr(answer, kind):
                self.answers.labels(kind).inc()
        for kind in ("act", "held_out"):
            if getattr(answer.decision, kind):
                self.answers.labels(kind).inc()

    def exposition(self) -> bytes:
        """Return the metrics in Prometheus' text format; those of all processes that share."""
        registry = self.registry
        if SHARED_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _start(self) -> None:
        g.started = time.perf_counter()

    def _finish(self, response: Response) -> Response:
        seconds = time.perf_counter() - g.get("started", time.perf_counter())
        route = request.url_rule.rule if request.url_rule else "unknown"
        caller = "local" if "caller" in g and g.caller.local else "public"
        self.requests.labels(route, response.status_code, caller).inc()
        self.latency.labels(route).observe(seconds)
        if _log.isEnabledFor(logging.INFO):
            line: dict[str, object] = {
                "event": "request",
                "route": route,
                "method": request.method if request.method in _METHODS else "other",
                "status": response.status_code,
                "caller": caller,
                "ms": round(seconds * 1000, 2),
            }
            answer: PredictResponse | None = g.get("answer")
            if answer is not None:
                line |= {
                    "model_version": answer.model_version,
                    "act": answer.decision.act,
                    "cold_start": answer.cold_start,
                    "stale": answer.stale,
                }
            _log.info(json.dumps(line))
        return response
