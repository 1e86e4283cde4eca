"""Who listens for interventions now."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

KEEP_ALIVE = 15.0
HELD = 30.0  # seconds: a page view may fire a rule before its page has begun to listen
LOOK = 1.0  # seconds between looks whether a listener has left
MAX_LISTENERS = 32  # each holds one of the server's threads (sandbox.THREADS)


class Listener(queue.Queue[str]):
    """What waits to be sent to one caller; ``gone`` says that the caller has left."""

    def __init__(self, gone: Callable[[], bool]) -> None:
        super().__init__()
        self.gone = gone


class Subscribers:
    """Who waits for interventions, by attribute key and identifier."""

    def __init__(self) -> None:
        self._queues: dict[str, set[Listener]] = defaultdict(set)
        self._lock = threading.Lock()
        self._held: dict[str, list[tuple[float, str]]] = {}

    @property
    def full(self) -> bool:
        """Whether another listener would take a thread that the collector needs."""
        with self._lock:
            return len(set().union(*self._queues.values())) >= MAX_LISTENERS

    def push(self, target: str, message: str) -> int:
        """Deliver to all who listen; returns how many did. Who has left does not count, so
        that the one who pushes knows to try again."""
        with self._lock:
            queues = [each for each in self._queues.get(target, ()) if not each.gone()]
        for waiting in queues:
            waiting.put(message)
        return len(queues)

    def post(self, target: str, message: str) -> None:
        """Deliver to all who listen, or to who begins to within a short while."""
        if self.push(target, message):
            return
        now = time.monotonic()
        with self._lock:
            kept = {at: self._young(at, now) for at in self._held}
            self._held = {at: young for at, young in kept.items() if young}
            self._held.setdefault(target, []).append((now, message))

    def _young(self, target: str, now: float) -> list[tuple[float, str]]:
        return [each for each in self._held.get(target, ()) if now - each[0] < HELD]

    def listen(self, targets: list[str], gone: Callable[[], bool]) -> Iterator[str]:
        """Server-sent events for the targets, with keep-alives, until the caller leaves.

        Args:
            gone: says that the caller has left: a browser that goes on to the next page
                does so without a word.
        """
        waiting = Listener(gone)
        with self._lock:
            for target in set(targets):
                self._queues[target].add(waiting)
                for _, message in self._young(target, time.monotonic()):
                    waiting.put(message)
                self._held.pop(target, None)
        try:
            yield ": connected\n\n"
            spoken = time.monotonic()
            while not gone():
                try:
                    yield f"data: {waiting.get(timeout=LOOK)}\n\n"
                except queue.Empty:
                    if time.monotonic() - spoken < KEEP_ALIVE:
                        continue
                    yield ": keep-alive\n\n"
                spoken = time.monotonic()
        finally:
            with self._lock:
                for target in set(targets):
                    self._queues[target].discard(waiting)
                    if not self._queues[target]:
                        del self._queues[target]
