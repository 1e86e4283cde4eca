"""Log lines: none is lost, warnings are there at once, and a broken stream stops nobody."""

import io
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prospect_lib.server.metrics import Aside, JsonLines


class Counting(io.StringIO):
    """A stream that counts how often it is written to."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        return super().write(text)


@pytest.fixture
def stream() -> Counting:
    return Counting()


@pytest.fixture
def handler(stream: Counting) -> Iterator[Aside]:
    made = Aside(stream)
    made.setFormatter(JsonLines())
    yield made
    made.close()


def record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("prospect_lib.x", level, "", 0, message, (), None)


def events(stream: Counting) -> list[str]:
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_every_line_of_every_thread_is_written_in_few_writes(handler, stream) -> None:
    def log(thread: int) -> None:
        for number in range(200):
            handler.handle(record(f"{thread} {number}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    handler.close()
    found = events(stream)
    assert len(found) == 1600
    for thread in range(8):
        mine = [line for line in found if line.startswith(f"{thread} ")]
        assert mine == [f"{thread} {number}" for number in range(200)]
    assert stream.writes < 1600


def test_a_warning_is_there_at_once_and_what_came_before_it(handler, stream, monkeypatch) -> None:
    monkeypatch.setattr(Aside, "EVERY", 3600.0)
    handler.handle(record("first"))
    assert stream.getvalue() == ""
    handler.handle(record("second", logging.WARNING))
    assert events(stream) == ["first", "second"]


def test_after_it_is_closed_lines_are_written_at_once(handler, stream) -> None:
    handler.handle(record("first"))
    handler.close()
    handler.handle(record("second"))
    assert events(stream) == ["first", "second"]


def test_a_line_is_written_without_waiting_for_the_next(handler, stream, monkeypatch) -> None:
    monkeypatch.setattr(Aside, "EVERY", 0.01)
    handler.handle(record("alone"))
    thread = handler._thread
    for _ in range(1000):
        if stream.getvalue():
            break
        thread.join(0.01)
    assert events(stream) == ["alone"] and thread.is_alive()


def test_a_closed_stream_stops_nobody(handler, stream) -> None:
    stream.close()
    handler.handle(record("lost", logging.WARNING))


def test_of_too_many_lines_the_last_are_lost(handler, stream, monkeypatch) -> None:
    monkeypatch.setattr(Aside, "EVERY", 3600.0)
    monkeypatch.setattr(Aside, "WAITING", 3)
    for number in range(5):
        handler.handle(record(str(number)))
    handler.close()
    assert events(stream) == ["0", "1", "2"]
