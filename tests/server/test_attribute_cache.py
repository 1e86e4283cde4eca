"""Attributes are shared, cached and served stale; the clock stands still unless it is moved."""

import threading
import time
from typing import Any

import pytest

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.server.attribute_cache import MAX_FAILURES, AttributeCache, Reading


def reading(cache: AttributeCache, identifier: str) -> Reading:
    return cache.use(identifier, lambda each: each)


class Source:
    """Returns ``{"n": number of the call}``, or raises ``error``."""

    def __init__(self) -> None:
        self.calls, self.error = 0, None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def read(self, identifier: str) -> dict[str, Any]:
        self.calls += 1
        self.entered.set()
        self.gate.wait(5)
        if self.error is not None:
            raise self.error
        return {"domain_userid": identifier, "n": self.calls}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def clock():
    return Clock()


def in_threads(number: int, call) -> list[Any]:
    results: list[Any] = [None] * number

    def run(i: int) -> None:
        try:
            results[i] = call()
        except ServiceError as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    return threads, results


def together(source: Source, cache: AttributeCache) -> list[Any]:
    """Send eight requests for one visitor while the source still answers the first."""
    source.gate.clear()
    threads, results = in_threads(8, lambda: reading(cache, "a"))
    source.entered.wait(5)
    time.sleep(0.05)  # let the others arrive
    source.gate.set()
    for thread in threads:
        thread.join(5)
    return results


def test_requests_in_flight_share_one_call(source):
    results = together(source, AttributeCache(source))
    assert source.calls == 1
    assert {result.attributes["n"] for result in results} == {1}


def test_requests_in_flight_share_a_failure(source):
    source.error = ServiceError("down")
    results = together(source, AttributeCache(source))
    assert source.calls == 1
    assert {str(result) for result in results} == {"down"}


def test_a_request_waits_for_another_ones_call_only_so_long(source):
    cache = AttributeCache(source, wait=0.05)
    source.gate.clear()
    threads, _ = in_threads(1, lambda: reading(cache, "a"))
    source.entered.wait(5)
    with pytest.raises(ServiceError, match=r"within 0\.05 s"):
        reading(cache, "a")
    source.gate.set()
    threads[0].join()


def test_each_visitor_gets_their_own_attributes(source):
    cache = AttributeCache(source, fresh_seconds=10)
    assert [reading(cache, v).attributes["domain_userid"] for v in "abab"] == [*"abab"]


@pytest.mark.parametrize(("fresh", "calls"), [(0, 3), (1, 3), (1.5, 2), (5, 1)])
def test_a_young_answer_is_reused(source, clock, fresh, calls):
    cache = AttributeCache(source, fresh_seconds=fresh, clock=clock)
    for _ in range(3):
        reading(cache, "a")
        clock.now += 1
    assert source.calls == calls


@pytest.mark.parametrize(("age", "served"), [(0, True), (59, True), (61, False)])
def test_the_last_answer_serves_up_to_an_age(source, clock, age, served):
    cache = AttributeCache(source, stale_seconds=60, clock=clock)
    first = reading(cache, "a")
    source.error = ServiceError("down")
    clock.now += age
    if served:
        assert reading(cache, "a") == Reading(first.attributes, stale=True)
    else:
        with pytest.raises(ServiceError, match="down"):
            reading(cache, "a")
    with pytest.raises(ServiceError, match="down"):
        reading(cache, "another")


def test_failure_and_recovery_are_logged_once(source, clock, caplog):
    cache = AttributeCache(source, clock=clock)
    reading(cache, "a")
    source.error = ServiceError("down")
    assert reading(cache, "a").stale
    assert reading(cache, "a").stale
    source.error = None
    assert not reading(cache, "a").stale
    assert caplog.messages == [
        "attributes cannot be read; /health reports the reason",
        "attributes can be read again",
    ]


def test_stale_answers_can_be_turned_off(source, clock):
    cache = AttributeCache(source, stale_seconds=0, clock=clock)
    reading(cache, "a")
    source.error = ServiceError("down")
    with pytest.raises(ServiceError):
        reading(cache, "a")


def fails(cache: AttributeCache, visitor: str, reason: str | None = None) -> None:
    with pytest.raises(ServiceError, match=reason):
        reading(cache, visitor)


def test_a_dead_source_is_called_once_per_second(source, clock):
    cache = AttributeCache(source, clock=clock)
    source.error = ServiceError("down")
    for number in range(50):
        fails(cache, f"visitor {number}")
    assert source.calls == MAX_FAILURES + 1
    clock.now += 1
    for _ in range(10):
        fails(cache, "b")
    assert source.calls == MAX_FAILURES + 2
    source.error = None
    clock.now += 1
    assert not reading(cache, "c").stale
    assert not reading(cache, "d").stale


def test_a_visitor_whose_calls_fail_is_bounded_and_others_are_served(source, clock, caplog):
    cache, read = AttributeCache(source, clock=clock), source.read
    source.read = lambda visitor: read(visitor) if visitor != "heavy" else int("too large")
    for _ in range(20):
        fails(cache, "heavy")
    fails(cache, "heavy", "several times in a row for this visitor")
    for number in range(40):
        assert not reading(cache, f"visitor {number}").stale
        fails(cache, "heavy")
    assert [message.split(";")[0] for message in caplog.messages] == [
        "attributes cannot be read",
        "attributes can be read again",
    ]


def test_a_visitor_whose_calls_failed_is_read_once_per_second_until_one_succeeds(source, clock):
    cache = AttributeCache(source, clock=clock)
    source.error = ServiceError("down")
    for _ in range(20):
        fails(cache, "heavy")
    assert source.calls == MAX_FAILURES + 1
    source.error = None
    clock.now += 1
    for _ in range(3):
        assert not reading(cache, "heavy").stale


def test_attributes_that_cannot_be_used_do_not_replace_those_that_could(source, clock):
    def odd(reading: Reading) -> int:
        if reading.attributes["n"] % 2 == 0:
            raise ServiceError("even")
        return reading.attributes["n"]

    cache = AttributeCache(source, clock=clock)
    assert [cache.use("a", odd) for _ in range(4)] == [1, 1, 3, 3]
    clock.now += 61
    assert cache.use("a", odd) == 5
    clock.now += 61
    with pytest.raises(ServiceError, match="even"):
        cache.use("a", odd)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("secret"), r"failed \(ValueError\)"),
        (SettingsError("start the sandbox"), "start the sandbox"),
    ],
)
def test_any_failure_of_a_source_is_a_service_error(source, error, reason):
    source.error = error
    with pytest.raises(ServiceError, match=reason):
        reading(AttributeCache(source), "a")


def test_an_answer_that_is_no_dict_is_refused(source):
    source.read = lambda _identifier: [1]
    with pytest.raises(ServiceError, match="dict of attributes, got list"):
        reading(AttributeCache(source), "a")


def test_each_call_is_reported_to_the_observer(source, clock):
    observed = []
    cache = AttributeCache(source, clock=clock, observe=lambda *call: observed.append(call))
    reading(cache, "a")
    source.error = ServiceError("down")
    reading(cache, "a")
    assert observed == [(0.0, "ok"), (0.0, "error")]


def test_the_number_of_visitors_kept_is_bounded(source, monkeypatch):
    monkeypatch.setattr("prospect_lib.server.attribute_cache.MAX_VISITORS", 3)
    cache = AttributeCache(source)
    for visitor in "abcde":
        reading(cache, visitor)
    assert [*cache._last] == [*"cde"]
