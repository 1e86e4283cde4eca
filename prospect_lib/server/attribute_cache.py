"""Visitors' attributes for the server: shared between requests, with a stale fallback.

``AttributeCache`` wraps any object with ``read(identifier) -> dict``. Requests for the same
visitor that are in flight at the same time share one call. An answer may be reused for a short
time. When the call fails, or its answer cannot be used, the last attributes that could be used
serve for a while, marked as stale.

After several failures in a row the source is called only once per second. Failures for one visitor
count for this visitor; those for as many different visitors, without a success between them, for
all.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from prospect_lib.errors import ProspectError, ServiceError

_log = logging.getLogger(__name__)
MAX_VISITORS = 10_000  # whose last attributes are kept, about 2 KB each
MAX_FAILURES = 5  # in a row, after which the source is called less often:
PAUSE = 1.0  # once in so many seconds
_T = TypeVar("_T")


class AttributeSource(Protocol):
    """Reads attributes: ``signals.AttributeReader``, or any object with the same method."""

    def read(self, identifier: str) -> dict[str, Any]:
        """Return every attribute of one visitor, ``None`` where there is no value."""
        ...


@dataclass(frozen=True)
class Reading:
    """A visitor's attributes; ``stale`` if the source failed and these are older ones."""

    attributes: Mapping[str, Any]
    stale: bool = False


@dataclass
class _Breaker:
    """Lets every call through until there are several failures, then one in a while."""

    failures: int = 0
    paused_until: float = 0.0

    def admits(self, now: float) -> bool:
        if self.failures < MAX_FAILURES:
            return True
        if now < self.paused_until:
            return False
        self.paused_until = now + PAUSE
        return True


class AttributeCache:
    """Reads attributes with sharing, an optional short cache and a stale fallback.

    Args:
        source: any object with ``read(identifier)``.
        fresh_seconds: age up to which an answer is reused; 0 calls the source every time.
        stale_seconds: age up to which the last answer serves when the source fails; 0: never.
        wait: seconds that a request waits for a call that another request has started.
        clock: monotonic seconds.
        observe: called with duration (seconds) and outcome ("ok", "error") of each call.
    """

    def __init__(
        self,
        source: AttributeSource,
        *,
        fresh_seconds: float = 0.0,
        stale_seconds: float = 60.0,
        wait: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[float, str], None] = lambda _seconds, _outcome: None,
    ) -> None:
        self._source, self._clock, self._observe = source, clock, observe
        self._fresh, self._stale, self._wait = fresh_seconds, stale_seconds, wait
        self._lock = threading.Lock()
        self._in_flight: dict[str, Future[dict[str, Any]]] = {}
        self._last: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()
        self._all, self._failing = _Breaker(), OrderedDict[str, _Breaker]()
        self._failed_in_a_row = set[str]()  # visitors
        self._reported = False

    def use(self, identifier: str, function: Callable[[Reading], _T]) -> _T:
        """Return a function of the visitor's attributes, of now or of a short while ago.

        Args:
            identifier: the visitor.
            function: raises ServiceError for attributes that it cannot use.
        Raises:
            ServiceError: the source fails or the function cannot use what it answers, and no
                other answer is young enough.
        """
        attributes = self._younger_than(self._fresh, identifier)
        if attributes is not None:
            return function(Reading(attributes))
        try:
            attributes = self._shared_call(identifier)
            result = function(Reading(attributes))
        except ServiceError:
            attributes = self._younger_than(self._stale, identifier)
            if attributes is None:
                raise
            return function(Reading(attributes, stale=True))
        self._keep(identifier, attributes)
        return result

    def _younger_than(self, age: float, identifier: str) -> dict[str, Any] | None:
        at, attributes = self._last.get(identifier, (0.0, None))
        return attributes if attributes is not None and self._clock() - at < age else None

    def _shared_call(self, identifier: str) -> dict[str, Any]:
        own: Future[dict[str, Any]] = Future()
        with self._lock:
            in_flight = self._in_flight.setdefault(identifier, own)
        if in_flight is own:
            self._fulfil(own, identifier)
        try:
            return in_flight.result(self._wait)
        except TimeoutError:
            raise ServiceError(f"Signals did not answer within {self._wait:g} s.") from None

    def _fulfil(self, future: "Future[dict[str, Any]]", identifier: str) -> None:
        """Call the source and settle the future, whatever happens."""
        try:
            future.set_result(self._call(identifier))
        except ProspectError as error:
            future.set_exception(ServiceError(str(error)))
        except Exception as error:  # noqa: BLE001 - any source may be plugged in
            kind = type(error).__name__
            future.set_exception(ServiceError(f"the source of attributes failed ({kind})."))
        finally:
            with self._lock:
                del self._in_flight[identifier]

    def _call(self, identifier: str) -> dict[str, Any]:
        """Call the source, but after several failures in a row only once per second, so that a
        dead source does not hold every thread until its timeout."""
        start = self._clock()
        for breaker, about in (
            (self._failing.get(identifier), " for this visitor"),
            (self._all, ""),
        ):
            if breaker is not None and not breaker.admits(start):
                raise ServiceError(
                    f"Signals has failed several times in a row{about}. Try again shortly."
                )
        outcome = "error"
        try:
            attributes = self._source.read(identifier)
            if not isinstance(attributes, dict):
                kind = type(attributes).__name__
                raise ServiceError(f"expected a dict of attributes, got {kind}.")
            outcome = "ok"
            return attributes
        finally:
            with self._lock:
                self._count(identifier, outcome)
            self._observe(self._clock() - start, outcome)

    def _count(self, identifier: str, outcome: str) -> None:
        """Count failures in a row; log when a series of them begins and when it ends."""
        if outcome == "ok":
            if self._reported:
                _log.warning("attributes can be read again")
            self._reported = False
            self._failed_in_a_row.clear()
            self._all = _Breaker()
            self._failing.pop(identifier, None)
            return
        if not self._failed_in_a_row and identifier not in self._failing:
            _log.warning("attributes cannot be read; /health reports the reason")
            self._reported = True
        self._failed_in_a_row.add(identifier)
        self._all.failures = len(self._failed_in_a_row)
        self._failing.setdefault(identifier, _Breaker()).failures += 1
        if len(self._failing) > MAX_VISITORS:
            self._failing.popitem(last=False)

    def _keep(self, identifier: str, attributes: dict[str, Any]) -> None:
        if max(self._fresh, self._stale) <= 0:
            return
        with self._lock:
            self._last[identifier] = (self._clock(), attributes)
            self._last.move_to_end(identifier)
            if len(self._last) > MAX_VISITORS:
                self._last.popitem(last=False)
