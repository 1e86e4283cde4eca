"""The sandbox's memory: an event is acknowledged only when it is on disk.

Accepted events are lines of ``live/events.ndjson``. Requests that arrive together share
one write and one ``fsync`` (group commit). ``event_id`` is kept once. A line that a crash
cut short is set aside when the sandbox starts again.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any

from prospect_lib.errors import ServiceError, SettingsError

Row = dict[str, Any]


class Storage:
    """Events of one sandbox, on disk and, by visitor, in memory.

    Args:
        home: the sandbox's folder; made if need be.
    Raises:
        SettingsError: the folder cannot be written.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "live"
        self.log, self.bad_log = self.folder / "events.ndjson", self.folder / "bad.ndjson"
        self._pending: list[tuple[Row, bytes]] = []
        self._written = self._queued = self._failures = 0
        self._lock = threading.Lock()
        self._disk = threading.Lock()
        self.seen: set[str] = set()
        self.by_visitor: dict[str, list[Row]] = {}
        self.counts = {"good": 0, "bad": 0}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._recover()
            self._file = FileIO(self.log, "ab")
            self._bad_file = FileIO(self.bad_log, "ab")
        except OSError as error:
            raise SettingsError(
                f"{home} cannot be written ({error.strerror}). Set PROSPECT_HOME to a folder of "
                "yours."
            ) from error

    def accept(self, rows: Iterable[Row]) -> int:
        """Keep events; returns when they are on disk. Those already kept are passed over.

        Returns:
            How many were new.
        Raises:
            ServiceError: they are not on disk; none is remembered, so sending again works.
        """
        lines = [(row, _line(row)) for row in rows]
        with self._lock:
            new = [(row, line) for row, line in lines if self._is_new(row)]
            self._pending += new
            self._queued += 1
            ticket, failures = self._queued, self._failures
        self._commit(ticket)
        if self._failures != failures:  # also for a duplicate of an event that was not written
            raise ServiceError(f"{self.log} cannot be written: is the disk full? Send again.")
        return len(new)

    def reject(self, reasons: Iterable[tuple[str, Any]], at: datetime) -> None:
        """Note what failed validation: each payload with its reason.

        Raises:
            ServiceError: the log of bad events cannot be written.
        """
        records = [
            {"reason": reason, "collector_tstamp": stamp(at), "payload": payload}
            for reason, payload in reasons
        ]
        if not records:
            return
        try:
            with self._disk:
                _append(self._bad_file, b"".join(map(_line, records)))
        except OSError as error:
            raise ServiceError(f"{self.bad_log} cannot be written: {error.strerror}") from error
        with self._lock:
            self.counts["bad"] += len(records)

    def of_visitor(self, identifier: str) -> list[Row]:
        """The live events of one visitor, in order of arrival."""
        with self._lock:
            return list(self.by_visitor.get(identifier, ()))

    def good(self) -> list[Row]:
        """Every live event, in order of arrival."""
        return _records(self.log)

    def bad(self) -> list[Row]:
        """What was rejected, and why."""
        return _records(self.bad_log)

    def reset(self) -> None:
        """Forget all live events."""
        with self._disk, self._lock:
            for file in (self._file, self._bad_file):
                file.truncate(0)
            self.seen.clear()
            self.by_visitor.clear()
            self.counts = {"good": 0, "bad": 0}

    def close(self) -> None:
        """Close the files; nothing is pending, as every event was awaited."""
        self._file.close()
        self._bad_file.close()

    def _commit(self, ticket: int) -> None:
        """Whoever holds the disk writes for all who wait; the others find their work done."""
        with self._disk:
            if self._written >= ticket:
                return
            with self._lock:
                batch, last = self._pending, self._queued
                self._pending = []
            try:
                _append(self._file, b"".join(line for _, line in batch))
            except OSError:
                with self._lock:
                    self._failures += 1
                    self.seen -= {row["event_id"] for row, _ in batch}
            else:
                with self._lock:
                    for row, _ in batch:
                        self._remember(row)
            self._written = last

    def _is_new(self, row: Row) -> bool:
        identifier = row["event_id"]
        if identifier in self.seen:
            return False
        self.seen.add(identifier)
        return True

    def _remember(self, row: Row) -> None:
        self.counts["good"] += 1
        if visitor := row.get("domain_userid"):
            self.by_visitor.setdefault(visitor, []).append(row)

    def _recover(self) -> None:
        if not self.log.is_file():
            return
        content = self.log.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with (self.folder / "torn.ndjson").open("ab") as torn:
                torn.write(content[whole:] + b"\n")
            os.truncate(self.log, whole)
        for line in content[:whole].splitlines():
            row = json.loads(line)
            if self._is_new(row):
                self._remember(row)
        self.counts["bad"] = len(self.bad())


def stamp(at: datetime) -> str:
    """A UTC moment as the log writes it: ``2026-01-05T10:00:00.123000Z``."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _append(file: FileIO, content: bytes) -> None:
    """All of it on disk, or (``OSError``) the file as it was."""
    if not content:
        return
    before, rest = os.fstat(file.fileno()).st_size, memoryview(content)
    try:
        while rest:
            rest = rest[file.write(rest) or 0 :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), before)
        raise


def _line(record: Row) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _records(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]
