"""The log of served scores: what was known, what was answered, when, by which model.

One newline-JSON file a UTC day, ``served/2026-11-23.ndjson``: the answer's keys and
``domain_userid``. It holds visitors' data, so only the owner may read it, days are
deleted after a while, and it can be left off.

Records wait in memory for at most ``EVERY`` seconds and are then written together, by a
thread of their own: a slow disk never makes a visitor wait. What waits is written when the
server stops and when Python ends; a process that is killed loses it.
"""

import atexit
import logging
import os
import threading
from collections import deque
from datetime import date, datetime, timedelta
from itertools import groupby
from pathlib import Path

from prospect_lib.errors import SettingsError

log = logging.getLogger(__name__)
EVERY = 0.2  # seconds
WAITING = 50_000  # records, about 100 MB; those that come when so many wait are lost


class ServedLog:
    """Appends records to the day's file; safe to share by threads.

    Args:
        folder: made if need be, readable by its owner alone.
        keep_days: files of older days are deleted.
    Raises:
        SettingsError: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, keep_days: int = 30) -> None:
        self._folder, self._keep = folder, timedelta(days=keep_days)
        self._waiting: deque[tuple[date, bytes]] = deque()
        self._starting, self._writing = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._day: date | None = None
        self._torn = b""  # ends a line that a full disk has cut
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SettingsError(
                f"cannot keep served scores in {folder} ({error.strerror}). Set PROSPECT_HOME "
                "to a folder you may write, or leave the log off: Options(served_days=0)."
            ) from error

    def append(self, record: bytes, at: datetime) -> None:
        """Add one record, a JSON object without line breaks. A full or broken disk is
        logged and costs records, not answers."""
        if len(self._waiting) >= WAITING:
            log.error("a served score was not logged: %d wait for the disk", WAITING)
            return
        self._waiting.append((at.date(), record))
        if self._thread is None:
            self._start()

    def flush(self) -> None:
        """Write what waits; returns when it is in the file."""
        with self._writing:
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            for day, records in groupby(waiting, key=lambda each: each[0]):
                self._write(day, b"".join(record + b"\n" for _, record in records))

    def close(self) -> None:
        """Write what waits and end the thread; appending again starts anew."""
        with self._starting:
            thread, self._thread = self._thread, None
            self._closing.set()
        if thread is not None:
            thread.join()
            atexit.unregister(self.close)
        self.flush()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._closing = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._closing,), name="served-log", daemon=True
                )
                self._thread.start()
                atexit.register(self.close)

    def _run(self, closing: threading.Event) -> None:
        while not closing.wait(EVERY):
            self.flush()

    def _write(self, day: date, lines: bytes) -> None:
        try:
            if day != self._day:
                self._day = day
                self._forget(str(day - self._keep))
            path = self._folder / f"{day}.ndjson"
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                lines = self._torn + lines
                while lines:
                    lines = lines[os.write(handle, lines) :]
                    self._torn = b"\n"
                self._torn = b""
            finally:
                os.close(handle)
        except OSError as error:
            log.error("served scores were not logged: %s", error.strerror)

    def _forget(self, before: str) -> None:
        for old in self._folder.glob("????-??-??.ndjson"):
            if old.stem < before:
                old.unlink(missing_ok=True)
