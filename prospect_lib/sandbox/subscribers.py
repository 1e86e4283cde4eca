"""Who listens for interventions now, and the scores that were reported lately."""

import queue
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

KEEP_ALIVE = 15.0
MAX_LISTENERS = 32  # each holds one of the server's threads (sandbox.THREADS)


class Subscribers:
    """Who waits for interventions, by attribute key and identifier; and reported scores."""

    def __init__(self) -> None:
        self._queues: dict[str, set[queue.Queue[str]]] = defaultdict(set)
        self._lock = threading.Lock()
        self.scores: deque[dict[str, Any]] = deque(maxlen=2000)

    @property
    def full(self) -> bool:
        """Whether another listener would take a thread that the collector needs."""
        with self._lock:
            return len(set().union(*self._queues.values())) >= MAX_LISTENERS

    def push(self, target: str, message: str) -> int:
        """Deliver to all who listen; returns how many did."""
        with self._lock:
            queues = list(self._queues.get(target, ()))
        for waiting in queues:
            waiting.put(message)
        return len(queues)

    def listen(self, targets: list[str]) -> Iterator[str]:
        """Server-sent events for the targets, with keep-alives, until the caller leaves."""
        waiting: queue.Queue[str] = queue.Queue()
        with self._lock:
            for target in set(targets):
                self._queues[target].add(waiting)
        try:
            yield ": connected\n\n"
            while True:
                try:
                    yield f"data: {waiting.get(timeout=KEEP_ALIVE)}\n\n"
                except queue.Empty:
                    yield ": keep-alive\n\n"
        finally:
            with self._lock:
                for target in set(targets):
                    self._queues[target].discard(waiting)
                    if not self._queues[target]:
                        del self._queues[target]
