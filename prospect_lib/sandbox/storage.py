"""The sandbox's memory: an event is acknowledged only when it is on disk.

Accepted events are lines of a log in ``live/``. Requests that arrive together share one write
and one ``fsync`` (group commit). A full log becomes Parquet in the background
(:mod:`prospect_lib.sandbox.compaction`), so memory and starting take the same for a
thousand events and for millions. An ``event_id`` is kept once, whenever it comes again.
"""

import contextlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.sandbox.compaction import Compactor
from prospect_lib.sandbox.recovery import indexed
from prospect_lib.sandbox.tail import Row, Tail, id_of, read_tail, stamp
from prospect_lib.warehouse import segments

SEGMENT = 10_000  # events of one log
REMEMBERED = 500  # visitors whose events are kept ready
SHOWN = 10_000  # events or bad records that inspection gives at most
SEARCHED = 100_000  # events that inspection looks at for those it gives


class Storage:
    """Events of one sandbox: the latest in memory, all on disk.

    Args:
        home: the sandbox's folder; made if need be.
        segment: how many events a log holds before the next begins, ``SEGMENT`` unless given.
    Raises:
        SettingsError: the folder cannot be written.
    """

    def __init__(self, home: Path, segment: int | None = None) -> None:
        self.folder, self._segment = home / "live", segment or SEGMENT
        self.bad_log = self.folder / "bad.ndjson"
        self._pending: list[tuple[Row, bytes]] = []
        self._written = self._queued = self._failures = 0
        self._lock = threading.Lock()
        self._disk = threading.Lock()
        self._seen: set[bytes] = set()  # ids that the index does not have yet
        self._tails: list[Tail] = []  # segments not yet in the index; the last one grows
        self._ready: OrderedDict[str, list[Row]] = OrderedDict()
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
        self._compactor = Compactor(self.folder, self._index, self._finished, self._let_go)
        self._compactor.wake()

    @property
    def log(self) -> Path:
        """The log that grows now."""
        return segments.log_of(self.folder, self._tails[-1].number)

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
            if identifier not in self._ready:
                lines = self._index.of_visitor(identifier)
                lines += [line for tail in self._tails for line in tail.of_visitor(identifier)]
                self._ready[identifier] = [json.loads(line) for line in lines]
                if len(self._ready) > REMEMBERED:
                    self._ready.popitem(last=False)
            self._ready.move_to_end(identifier)
            return list(self._ready[identifier])

    def good(self, limit: int = SHOWN, keep: Callable[[Row], bool] | None = None) -> list[Row]:
        """Live events, the latest first, up to ``limit``; of the ``SEARCHED`` latest those
        that ``keep`` wants."""
        latest = map(json.loads, islice(self._latest(), SEARCHED))
        return list(islice(filter(keep, latest) if keep else latest, limit))

    def recent(self, limit: int) -> list[Row]:
        """The last events of the log that grows now, oldest first: quick, as none is unpacked."""
        with self._lock:
            lines = self._tails[-1].lines[-limit:]
        return [json.loads(line) for line in lines]

    def bad(self, limit: int = SHOWN) -> list[Row]:
        """What was rejected, and why; the latest first, up to ``limit``."""
        with self.bad_log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - (limit * 4096)))
            lines = file.read().split(b"\n")[:-1]
        found = (_record(line) for line in reversed(lines))
        return list(islice((record for record in found if record), limit))

    def reset(self) -> None:
        """Forget all live events."""
        with self._compactor.working, self._disk, self._lock:
            old = [*segments.logs(self.folder), *segments.parquets(self.folder)]
            self._index.clear()
            self._begin(max(old, default=0) + 1)
            for number in old:
                segments.parquet_of(self.folder, number).unlink(missing_ok=True)
                segments.log_of(self.folder, number).unlink(missing_ok=True)
            self._bad_file.truncate(0)
            self._tails = self._tails[-1:]
            self._seen.clear()
            self._ready.clear()
            self.counts = {"good": 0, "bad": 0}

    def close(self) -> None:
        """Close the files; nothing is pending, as every event was awaited."""
        self._compactor.close()
        self._index.close()
        self._file.close()
        self._bad_file.close()

    def compact(self) -> None:
        """Turn what is live now into Parquet, and return when that is done."""
        with self._disk, self._lock:
            if self._tails[-1].lines:
                self._begin(self._tails[-1].number + 1)
        with self._compactor.working:
            self._compactor.work()

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
                    self._seen -= {id_of(row) for row, _ in batch}
            else:
                self._remember(batch)
            self._written = last

    def _is_new(self, row: Row) -> bool:
        identifier = id_of(row)
        if identifier in self._seen or self._index.has(identifier):
            return False
        self._seen.add(identifier)
        return True

    def _remember(self, batch: list[tuple[Row, bytes]]) -> None:
        with self._lock:
            for row, line in batch:
                self._tails[-1].add(row, line)
                if (ready := self._ready.get(row.get("domain_userid", ""))) is not None:
                    ready.append(row)
            self.counts["good"] += len(batch)
            if len(self._tails[-1].lines) < self._segment:
                return
            with contextlib.suppress(OSError):  # then this log grows on
                self._begin(self._tails[-1].number + 1)
        self._compactor.wake()

    def _begin(self, number: int) -> None:
        """Go on in a new log; both locks are held."""
        file = FileIO(segments.log_of(self.folder, number), "ab")
        segments.sync_folder(self.folder)
        self._file.close()
        self._file = file
        self._tails.append(Tail(number))

    def _finished(self) -> Tail | None:
        with self._lock:
            return self._tails[0] if len(self._tails) > 1 else None

    def _let_go(self, tail: Tail) -> None:
        with self._lock:
            self._tails.remove(tail)
            self._index.known[tail.number] = len(tail.lines)
            self._seen.difference_update(tail.ids)

    def _latest(self) -> Iterator[bytes]:
        with self._lock:
            tails, known = list(self._tails), sorted(self._index.known, reverse=True)
        for tail in reversed(tails):
            yield from reversed(tail.lines[:])
        for number in known:
            with self._lock:
                lines = self._index.of_segment(number)
            yield from reversed(lines)

    def _recover(self) -> None:
        segments.adopt(self.folder)
        self._index = indexed(self.folder)
        numbers = [n for n in segments.logs(self.folder) if n not in self._index.known]
        self._tails = [read_tail(self.folder, number) for number in numbers]
        begun = max([*numbers, *self._index.known], default=0)
        if not numbers or segments.parquet_of(self.folder, begun).is_file():
            self._tails.append(Tail(begun + 1))  # nothing is ever added to what is Parquet
        self._seen = {one for tail in self._tails for one in tail.ids}
        good = sum(self._index.known.values()) + len(self._seen)
        self.counts = {"good": good, "bad": _count(self.bad_log)}


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


def _record(line: bytes) -> Row | None:
    """A line of the bad log; ``None`` where only its end was read."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _count(path: Path) -> int:
    """Lines of a file of any size."""
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
