"""Visitors' attributes as the server needs them: shared, bounded in time, never lost at once.

``LiveProfiles`` wraps anything with ``.read(identifier) -> dict``. Requests for the same
visitor that are in flight together share one call; an answer may be reused for a moment;
when the call fails, the last known attributes serve for a while, marked stale.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from prospect_lib.errors import ProspectError, ServiceError

log = logging.getLogger(__name__)
KEPT = 10_000  # visitors whose last attributes are remembered, about 2 KB each
FAILURES = 5  # in a row, after which Signals is left alone
PAUSE = 1.0  # for this many seconds at a time


class Profiles(Protocol):
    """Where attributes come from: ``signals.AttributeReader``, or any object like it."""

    def read(self, identifier: str) -> dict[str, Any]:
        """Every attribute of one visitor; ``None`` where there is no value."""
        ...


@dataclass(frozen=True)
class Reading:
    """A visitor's attributes; ``stale`` if they are not from just now."""

    attributes: Mapping[str, Any]
    stale: bool = False


class LiveProfiles:
    """A source of attributes with sharing, an optional short cache and a stale fallback.

    Args:
        source: anything with ``.read``.
        fresh_seconds: an answer this young is used again; 0 asks every time.
        stale_seconds: a last known answer this young serves when the source fails; 0: never.
        wait: seconds a request waits for a call that another request has started.
        clock: seconds, monotonic.
        observe: told the duration and the outcome ("ok", "error") of each call.
    """

    def __init__(
        self,
        source: Profiles,
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
        self._flying: dict[str, Future[dict[str, Any]]] = {}
        self._kept: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()
        self._failures, self._paused_until = 0, 0.0

    def read(self, identifier: str) -> Reading:
        """The visitor's attributes, from now or from a moment ago.

        Raises:
            ServiceError: the source fails and nothing young enough is known.
        """
        kept = self._known(identifier, self._fresh)
        if kept is not None:
            return Reading(kept)
        try:
            return Reading(self._ask(identifier))
        except ServiceError:
            kept = self._known(identifier, self._stale)
            if kept is None:
                raise
            return Reading(kept, stale=True)

    def _known(self, identifier: str, age: float) -> dict[str, Any] | None:
        at, attributes = self._kept.get(identifier, (0.0, None))
        return attributes if attributes is not None and self._clock() - at < age else None

    def _ask(self, identifier: str) -> dict[str, Any]:
        mine: Future[dict[str, Any]] = Future()
        with self._lock:
            flying = self._flying.setdefault(identifier, mine)
        if flying is mine:
            self._fetch(identifier, mine)
        try:
            return flying.result(self._wait)
        except TimeoutError:
            raise ServiceError(f"Signals did not answer within {self._wait:g} s.") from None

    def _fetch(self, identifier: str, promise: "Future[dict[str, Any]]") -> None:
        """Call the source and settle the promise, whatever happens."""
        try:
            attributes = self._call(identifier)
            self._keep(identifier, attributes)
            promise.set_result(attributes)
        except ProspectError as error:
            promise.set_exception(ServiceError(str(error)))
        except Exception as error:  # noqa: BLE001 - any source may be plugged in
            kind = type(error).__name__
            promise.set_exception(ServiceError(f"the source of attributes failed ({kind})."))
        finally:
            with self._lock:
                del self._flying[identifier]

    def _call(self, identifier: str) -> dict[str, Any]:
        """One call, timed. After several failures in a row only one call a second is let
        through, so that a dead source does not hold every thread for its whole timeout."""
        start = self._clock()
        if self._failures >= FAILURES:
            if start < self._paused_until:
                raise ServiceError("Signals has failed several times in a row. Try again shortly.")
            self._paused_until = start + PAUSE
        outcome = "error"
        try:
            attributes = self._source.read(identifier)
            if not isinstance(attributes, dict):
                kind = type(attributes).__name__
                raise ServiceError(f"expected a dict of attributes, got {kind}.")
            outcome = "ok"
            return attributes
        finally:
            self._note(outcome)
            self._observe(self._clock() - start, outcome)

    def _note(self, outcome: str) -> None:
        """Count failures in a row; say in the log when they begin and when they end."""
        if outcome == "ok" and self._failures:
            log.warning("attributes can be read again, after %d failures", self._failures)
        if outcome == "error" and not self._failures:
            log.warning("attributes cannot be read; /health says why")
        self._failures = 0 if outcome == "ok" else self._failures + 1

    def _keep(self, identifier: str, attributes: dict[str, Any]) -> None:
        if max(self._fresh, self._stale) <= 0:
            return
        with self._lock:
            self._kept[identifier] = (self._clock(), attributes)
            self._kept.move_to_end(identifier)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
