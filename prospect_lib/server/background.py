"""Work that a request does not wait for: a bounded queue and a thread that empties it.

Log lines, served scores and interventions all go through a ``BackgroundWriter``.

Example::

    writer = BackgroundWriter(lambda lines: file.write("".join(lines)), name="lines", limit=1000)
    writer.put("one line\\n")     # returns at once
    writer.close()               # everything is written
"""

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
BackgroundJob = Callable[[], object]
JOBS_WAITING = 1000


class BackgroundWriter(Generic[_T]):
    """Hands items to ``write`` in batches and in order, from a thread of its own.

    The thread starts with the first item. It is closed when Python ends, so that nothing is
    lost then. An item that is put after ``close`` starts another thread.

    Args:
        write: called with the items that wait, never by two threads at once.
        name: of the thread, and of the items in messages.
        limit: items that may wait; further ones are dropped, counted and logged.
        every: seconds for which the first item of a batch waits for others.
        batch: most items that are handed over at once.
        patience: seconds that ``close`` gives to the items that wait.
    Attributes:
        dropped: number of items dropped so far.
    """

    def __init__(
        self,
        write: Callable[[list[_T]], object],
        *,
        name: str,
        limit: int,
        every: float = 0.0,
        batch: int = 10_000,
        patience: float = 5.0,
    ) -> None:
        self._write, self._name, self._limit = write, name, limit
        self._every, self._batch, self._patience = every, batch, patience
        self._items: deque[_T] = deque()
        self._arrived, self._closing = threading.Event(), threading.Event()
        self._starting, self._writing = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self.dropped = self._reported = 0

    def put(self, item: _T) -> None:
        """Queue an item; never waits."""
        if len(self._items) >= self._limit:
            self._drop()
            return
        self._items.append(item)
        thread = self._thread
        if thread is None or not thread.is_alive():  # not alive: of a process that was forked
            self._start()
        if not self._arrived.is_set():
            self._arrived.set()

    def flush(self) -> None:
        """Write what waits now; returns when it is written."""
        waiting = len(self._items)
        while True:
            failure = None
            with self._writing:
                items = [self._items.popleft() for _ in range(min(self._batch, len(self._items)))]
                try:
                    if items:
                        self._write(items)
                except Exception as error:  # noqa: BLE001 - the thread must survive any failure
                    failure = error
            if failure is not None:
                # only the kind: a message may contain a visitor's id
                _log.warning("%s: writing failed (%s)", self._name, type(failure).__name__)
            waiting -= len(items)
            if waiting <= 0 or not items:
                break
        self._report_drops()

    def close(self) -> None:
        """Write what waits and end the thread; gives up after ``patience`` seconds."""
        with self._starting:
            thread, self._thread = self._thread, None
            self._closing.set()
            self._arrived.set()
        if thread is not None:
            thread.join(self._patience)
            atexit.unregister(self.close)
            if thread.is_alive():
                _log.error("%s: still busy after %g s, not awaited", self._name, self._patience)

    def _start(self) -> None:
        try:
            with self._starting:
                if self._thread is None or not self._thread.is_alive():
                    closing = threading.Event()
                    thread = threading.Thread(
                        target=self._run, args=(closing,), name=self._name, daemon=True
                    )
                    thread.start()
                    self._thread, self._closing = thread, closing
                    atexit.register(self.close)
        except RuntimeError:  # Python is ending and starts no more threads
            self.flush()

    def _run(self, closing: threading.Event) -> None:
        while not closing.is_set():
            self._arrived.wait()
            self._arrived.clear()
            closing.wait(self._every)
            self.flush()
        self.flush()

    def _drop(self) -> None:
        with self._starting:
            self.dropped += 1
            first = self.dropped == self._reported + 1
        if first:
            _log.warning("%s: %d wait already, new ones are dropped", self._name, self._limit)

    def _report_drops(self) -> None:
        with self._starting:
            count, self._reported = self.dropped - self._reported, self.dropped
        if count:
            _log.warning("%s: %d were dropped", self._name, count)


def job_runner(
    name: str = "background jobs", limit: int = JOBS_WAITING
) -> BackgroundWriter[BackgroundJob]:
    """Return a writer whose items are functions, called one after the other.

    A job that fails is logged and does not stop the others.
    """
    return BackgroundWriter(
        lambda jobs: [job() for job in jobs], name=name, limit=limit, batch=1, patience=2.0
    )
