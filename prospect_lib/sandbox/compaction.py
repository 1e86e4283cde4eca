"""In the background: finished segments of the live log become Parquet and leave memory.

The order makes a crash harmless at any point. The Parquet file is written under another name,
synced and renamed; the index takes the segment in one transaction; only then does memory let
go of it, and the log is deleted later still. What a crash leaves half done is done again.
"""

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import duckdb

from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.index import Index
from prospect_lib.sandbox.tail import Tail
from prospect_lib.warehouse import segments
from prospect_lib.warehouse.duckdb import live_events

log = logging.getLogger(__name__)
PAUSE = 5.0  # seconds between looks for logs to delete, and before what failed is tried again


class Compactor:
    """One thread that works off finished segments, oldest first.

    Args:
        folder: of the segments.
        index: takes each segment.
        finished: gives the oldest finished segment that is still in memory, if any.
        done: told of a segment that is in Parquet and in the index.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        finished: Callable[[], Tail | None],
        done: Callable[[Tail], None],
    ) -> None:
        self._folder, self._index = folder, index
        self._finished, self._done = finished, done
        self._wake, self._closing = threading.Event(), threading.Event()
        self.working = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="compactor", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """A segment is finished."""
        self._wake.set()

    def close(self) -> None:
        """Return when the work at hand is done."""
        self._closing.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(PAUSE)
            self._wake.clear()
            try:
                with self.working:
                    self.work()
            except (OSError, ServiceError, duckdb.Error, sqlite3.Error) as error:
                # nothing is lost: the log has the events, and memory keeps serving them
                log.warning("live events were not compacted, will be tried again: %s", error)

    def work(self) -> None:
        """Compact every finished segment, and delete logs that nobody reads any more."""
        while (tail := self._finished()) and not self._closing.is_set():
            write_parquet(self._folder, tail)
            self._index.add(tail.number, tail.ids, tail.by_visitor())
            self._done(tail)
        for number in segments.logs(self._folder):
            if number in self._index.known and _settled(self._folder, number):
                segments.log_of(self._folder, number).unlink(missing_ok=True)


def write_parquet(folder: Path, tail: Tail) -> None:
    """The segment's log as Parquet, complete or not at all.

    Raises:
        ServiceError: not every event could be converted; the log stays.
    """
    source, target = segments.log_of(folder, tail.number), segments.parquet_of(folder, tail.number)
    draft = target.with_suffix(".draft")
    with duckdb.connect(config={"threads": 1}) as connection:
        written = connection.execute(
            f"COPY ({live_events(source)}) TO '{_quoted(draft)}' (FORMAT parquet, CODEC 'zstd')"
        ).fetchone()
    if written is None or written[0] != len(tail.lines):
        raise ServiceError(f"{source}: {len(tail.lines)} events, {written} as Parquet")
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    segments.sync_folder(folder)


def _settled(folder: Path, number: int) -> bool:
    age = time.time() - segments.parquet_of(folder, number).stat().st_mtime
    return age > segments.GRACE


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
