"""Who listens for interventions now, and the scores that were reported lately."""

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

KEEP_ALIVE = 15.0
LOOK = 1.0  # seconds between looks whether a listener has left
MAX_LISTENERS = 32  # each holds one of the server's threads (sandbox.THREADS)


class Listener(queue.Queue[str]):
    """What waits to be sent to one caller; ``gone`` says that the caller has left."""

    def __init__(self, gone: Callable[[], bool]) -> None:
        super().__init__()
        self.gone = gone


class Subscribers:
    """Who waits for interventions, by attribute key and identifier; and reported scores."""

    def __init__(self) -> None:
        self._queues: dict[str, set[Listener]] = defaultdict(set)
        self._lock = threading.Lock()
        self.scores: deque[dict[str, Any]] = deque(maxlen=2000)

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
