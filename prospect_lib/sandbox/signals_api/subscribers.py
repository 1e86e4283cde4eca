"""Pages and programs that listen for interventions now, and delivery to them."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

KEEP_ALIVE = 15.0  # seconds between signs of life on a silent stream
HELD = 30.0  # seconds: a page view may fire a rule before its page listens
CHECK = 1.0  # seconds between checks whether a listener has left
MAX_LISTENERS = 32  # each occupies one of the server's threads (process.THREADS)


class Listener(queue.Queue[str | None]):
    """Messages that wait to be sent to one caller, until ``None`` ends the stream.

    ``has_left`` tells when the caller has disconnected.
    """

    def __init__(self, targets: set[str], has_left: Callable[[], bool]) -> None:
        super().__init__()
        self.targets, self.has_left = targets, has_left


class Subscribers:
    """Listeners by target, such as ``domain_userid=u1``; safe to share between threads."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._by_target: dict[str, set[Listener]] = defaultdict(set)
        self._lock = threading.Lock()
        self._held: dict[str, list[tuple[float, str]]] = {}

    def push(self, target: str, message: str) -> int:
        """Deliver to all current listeners of a target; return how many there are.

        Listeners that have left do not count, so that the sender knows to try again.
        """
        with self._lock:
            listeners = [each for each in self._by_target.get(target, ()) if not each.has_left()]
        for listener in listeners:
            listener.put(message)
        return len(listeners)

    def post(self, target: str, message: str) -> None:
        """Deliver to the listeners of a target, or hold the message ``HELD`` seconds for one."""
        if self.push(target, message):
            return
        now = time.monotonic()
        with self._lock:
            held = {each: self._not_expired(each, now) for each in self._held}
            self._held = {each: messages for each, messages in held.items() if messages}
            self._held.setdefault(target, []).append((now, message))

    def _not_expired(self, target: str, now: float) -> list[tuple[float, str]]:
        return [each for each in self._held.get(target, ()) if now - each[0] < HELD]

    def enter(self, targets: Iterable[str], has_left: Callable[[], bool]) -> Listener | None:
        """Return a listener for the targets, or ``None`` if there are ``MAX_LISTENERS`` already.

        Args:
            has_left: tells whether the caller has disconnected.
        """
        listener = Listener(set(targets), has_left)
        with self._lock:
            if len(self._listeners) >= MAX_LISTENERS:
                return None
            self._listeners.add(listener)
            for target in listener.targets:
                self._by_target[target].add(listener)
                for _, message in self._not_expired(target, time.monotonic()):
                    listener.put(message)
                self._held.pop(target, None)
        return listener

    def messages(self, listener: Listener) -> Iterator[str]:
        """Yield server-sent events for a listener, with keep-alives, until the caller leaves."""
        yield ": connected\n\n"
        last_sent = time.monotonic()
        while not listener.has_left():
            try:
                message = listener.get(timeout=CHECK)
            except queue.Empty:
                if time.monotonic() - last_sent < KEEP_ALIVE:
                    continue
                yield ": keep-alive\n\n"
            else:
                if message is None:
                    return
                yield f"data: {message}\n\n"
            last_sent = time.monotonic()

    def close(self) -> None:
        """End all streams, as a server does that stops."""
        with self._lock:
            for listener in self._listeners:
                listener.put(None)

    def leave(self, listener: Listener) -> None:
        """Deliver nothing more to a listener, and let another one enter."""
        with self._lock:
            self._listeners.discard(listener)
            for target in listener.targets:
                self._by_target[target].discard(listener)
                if not self._by_target[target]:
                    del self._by_target[target]
