"""Metrics of requests and scores; log lines that are complete and contain no personal data."""

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prospect_lib.errors import SettingsError
from prospect_lib.server import metrics
from prospect_lib.server.metrics import JsonLines, LineHandler
from tests.support.serving import DOWN, PUBLIC, VISITOR, MemoryAttributes, app_of, post


def test_metrics_count_requests_calls_and_scores():
    attributes = MemoryAttributes()
    app = app_of(attributes=attributes)
    post(app)
    post(app, {})
    attributes.error = DOWN
    post(app)
    text = app.test_client().get("/metrics").get_data(as_text=True)
    for line in (
        'prospect_requests_total{caller="local",route="/predict",status="200"} 2.0',
        'prospect_requests_total{caller="local",route="/predict",status="422"} 1.0',
        'prospect_request_seconds_count{route="/predict"} 3.0',
        'prospect_attribute_call_seconds_count{outcome="ok"} 1.0',
        'prospect_attribute_call_seconds_count{outcome="error"} 1.0',
        'prospect_score_bucket{le="0.6",model_version="rule-1"} 2.0',
        'prospect_score_bucket{le="0.5",model_version="rule-1"} 0.0',
        'prospect_answers_total{kind="stale"} 1.0',
        'prospect_answers_total{kind="act"} 2.0',
    ):
        assert line in text, line
    assert VISITOR not in text


def test_a_missing_folder_for_shared_metrics_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"missing' is no folder\. Create it"):
        app_of()


def test_each_request_is_one_log_line_without_personal_data(caplog):
    app = app_of()
    with caplog.at_level(logging.INFO, logger="prospect_lib"):
        post(app, headers=PUBLIC)
        post(app)
    refused, served = [json.loads(message) for message in caplog.messages]
    assert {**refused, "ms": 0} == {
        "event": "request", "route": "/predict", "method": "POST", "status": 401,
        "caller": "public", "ms": 0,
    }  # fmt: skip
    assert served.keys() - refused.keys() == {"model_version", "act", "cold_start", "stale"}
    assert not re.search(f"{VISITOR}|203.0.113|website|email", caplog.text)


# ---- log lines ----


class Stream(io.StringIO):
    """A stream that counts its writes, and reports the first."""

    def __init__(self) -> None:
        super().__init__()
        self.writes, self.written = 0, threading.Event()

    def write(self, text: str) -> int:
        self.writes += 1
        count = super().write(text)
        self.written.set()
        return count


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def every() -> float:
    return 3600.0


@pytest.fixture
def handler(stream: Stream, every: float, monkeypatch) -> Iterator[LineHandler]:
    monkeypatch.setattr(metrics, "LINES_EVERY", every)
    made = LineHandler(stream)
    made.setFormatter(JsonLines())
    yield made
    made.close()


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("prospect_lib.x", level, "", 0, message, (), None)


def events(stream: Stream) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_the_lines_of_all_threads_are_written_in_few_writes(handler, stream):
    def log(thread: int) -> None:
        for number in range(200):
            handler.handle(record(f"{thread} {number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    handler.close()
    lines = events(stream)
    assert len(lines) == 1600
    for thread in range(8):
        of_thread = [line for line in lines if line.startswith(f"{thread} ")]
        assert of_thread == [f"{thread} {number}" for number in range(200)]
    assert stream.writes < 1600


def test_a_warning_is_written_at_once_with_the_lines_before_it(handler, stream):
    handler.handle(record("first"))
    assert stream.getvalue() == ""
    handler.handle(record("second", logging.WARNING))
    assert events(stream) == ["first", "second"]


def test_after_closing_lines_are_written_at_once(handler, stream):
    handler.handle(record("first"))
    handler.close()
    handler.handle(record("second"))
    assert events(stream) == ["first", "second"]


@pytest.mark.parametrize("every", [0.01])
def test_a_line_does_not_wait_for_the_next_one(handler, stream):
    handler.handle(record("alone"))
    assert stream.written.wait(30)
    assert events(stream) == ["alone"]


def test_a_closed_stream_is_no_error(handler, stream):
    stream.close()
    handler.handle(record("lost", logging.WARNING))


def test_lines_beyond_the_limit_are_dropped(stream, monkeypatch, caplog):
    monkeypatch.setattr(metrics, "LINES_WAITING", 3)
    monkeypatch.setattr(metrics, "LINES_EVERY", 3600.0)
    handler = LineHandler(stream)
    handler.setFormatter(JsonLines())
    for number in range(5):
        handler.handle(record(str(number)))
    handler.close()
    assert events(stream) == ["0", "1", "2"]
    assert caplog.messages[-1] == "log lines: 2 were dropped"
