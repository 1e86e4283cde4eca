"""The sandbox's events: one SQLite file per home. An event is acknowledged once it is on disk.

One thread writes. Requests that arrive together share its next transaction, and so one ``fsync``
(group commit). The file is in WAL mode, in which readers and the writer do not wait for each
other, with ``synchronous = FULL``, so that a transaction that has ended survives a crash.
"""

import json
import os
import sqlite3
import threading
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any
from uuid import UUID

from snowplow_signals import AtomicProperty

from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.aggregation.properties import column_of, path_of, property_text
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.files import draft_of, not_writable, writable_folder
from prospect_lib.warehouse.events import NESTED
from prospect_lib.warehouse.stored_events import (
    EVENTS_FILE,
    EVENTS_FORMAT,
    damaged,
    format_of,
    read_only,
    refuse_old_format,
)

Row = dict[str, Any]
DOMAIN_USERID = AtomicProperty(name="domain_userid")
CACHED = 500  # visitors whose events are kept in memory
SEARCHED = 100_000  # `latest` looks through so many events
MAX_NESTED_COLUMNS = 500  # one per schema: DuckDB reads 2,000 in seconds, and 20,000 not at all
ROWS_PER_INSERT = 200  # a row has four parameters; old versions of SQLite take 999

TABLES = f"""
BEGIN;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, -- from 1 in order of arrival, without gaps
    event_id BLOB NOT NULL UNIQUE, -- the 16 bytes of the UUID
    domain_userid TEXT,
    derived_tstamp TEXT NOT NULL,
    row TEXT NOT NULL -- the atomic event as a JSON object
);
CREATE INDEX events_by_visitor ON events (domain_userid);
CREATE INDEX events_by_time ON events (derived_tstamp, domain_userid);
CREATE TABLE nested_columns (name TEXT PRIMARY KEY) WITHOUT ROWID; -- those that events have
CREATE TABLE rejected (
    number INTEGER PRIMARY KEY, -- from 1 in order of arrival, without gaps
    record TEXT NOT NULL -- a JSON object: reason, collector_tstamp, payload
);
PRAGMA user_version = {EVENTS_FORMAT};
COMMIT;
"""


class EventStore:
    """Accepted and rejected events of one sandbox; safe to share between threads.

    Args:
        home: the sandbox's folder; it must exist.

    Raises:
        SettingsError: the file cannot be written.
        DataError: the file is damaged, or the home holds events of another release.
    """

    def __init__(self, home: Path) -> None:
        refuse_old_format(home)
        self.path = home / EVENTS_FILE
        self._connection = _open(home, self.path)
        self._reader, self._reading = read_only(self.path), threading.RLock()
        # by key and identifier: the last number, and the events
        self._cache: dict[tuple[str, str], tuple[int, list[Row]]] = {}
        self._indexes: dict[str, _Index] = {}
        self._nested = {name for (name,) in self._read("SELECT name FROM nested_columns")}
        self._admitting = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="event-writer")
        self._waiting: deque[_Request] = deque()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many events were accepted (``good``) and rejected (``bad``)."""
        largest = "SELECT COALESCE(MAX(number), 0) FROM"
        [(good, bad)] = self._read(f"SELECT ({largest} events), ({largest} rejected)")
        return {"good": good, "bad": bad}

    def admits(self, row: Row) -> bool:
        """Return whether readers can take the nested columns of an event; count new ones.

        There are at most ``MAX_NESTED_COLUMNS``, because each is a column of the readers' table.
        """
        with self._admitting:
            columns = self._nested.union(filter(NESTED.match, row))
            if len(columns) > max(MAX_NESTED_COLUMNS, len(self._nested)):
                return False
            self._nested = columns
        return True

    def add(
        self,
        rows: Iterable[Row],
        rejected: Iterable[tuple[str, Any]] = (),
        at: datetime | None = None,
    ) -> None:
        """Store accepted and rejected events, all or none; return when they are on disk.

        An event whose ``event_id`` is stored already is left out.

        Args:
            rows: atomic events, as ``enrich`` returns them.
            rejected: for each rejected payload the reason, and the payload.
            at: when the collector received the rejected payloads (aware); now by default.

        Raises:
            ServiceError: they are not stored; the store is as before, so they can be sent again.
        """
        request = _Request(list(rows), list(rejected), at or datetime.now(UTC))
        if not request.events and not request.rejected:
            return
        self._waiting.append(request)
        self._writer.submit(self._write).result()  # by then it is written, maybe with others
        if not request.stored:
            raise _not_written(self.path, request.error) from request.error

    def of_visitor(self, identifier: str, key: Any = DOMAIN_USERID) -> list[Row]:
        """Return the events of one visitor, in order of arrival; do not change the list.

        Events of active visitors are cached. Only later ones are read from the file.

        Args:
            key: the property of an event that is the identifier. The first call with another
                one than ``domain_userid`` reads that property of all events.
        """
        with self._reading:
            cached = (place_of(key), identifier)
            number, rows = self._cache.pop(cached, (0, []))
            if later := self._later(identifier, key, number):
                number, rows = later[-1][0], [*rows, *(json.loads(row) for _, row in later)]
            self._cache[cached] = number, rows
            if len(self._cache) > CACHED:
                del self._cache[next(iter(self._cache))]
        return rows

    def visitors(
        self, since: datetime, until: datetime, key: Any = DOMAIN_USERID
    ) -> dict[str, int]:
        """Return how many events each visitor had between two moments (aware, inclusive)."""
        column = column_of(key)
        values = self._read(
            "SELECT json_extract(row, ?) FROM events WHERE derived_tstamp BETWEEN ? AND ?",
            _json_path(column),
            stamp(since),
            stamp(until),
        )
        identifiers = Counter(property_text(key, {column: value}) for (value,) in values)
        return {name: count for name, count in identifiers.items() if name and name not in NOBODY}

    def _later(self, identifier: str, key: Any, number: int) -> list[tuple[int, str]]:
        """Return number and JSON of a visitor's events after one number."""
        if place_of(key) == "domain_userid":
            return self._read(
                "SELECT number, row FROM events WHERE domain_userid = ? AND number > ? "
                "ORDER BY number",
                identifier,
                number,
            )
        index = self._indexes.setdefault(place_of(key), _Index(key))
        index.extend(self._read(index.sql, index.path, index.last))
        if not (numbers := index.after(identifier, number)):
            return []
        return self._read(
            "SELECT number, row FROM events WHERE number IN (SELECT value FROM json_each(?)) "
            "ORDER BY number",
            json.dumps(numbers),
        )

    def latest(self, limit: int, keep: Callable[[Row], bool] | None = None) -> list[Row]:
        """Return up to ``limit`` events, newest first.

        Args:
            keep: whether to return an event, of the ``SEARCHED`` latest; all by default.
        """
        rows = self._scan("SELECT row FROM events ORDER BY number DESC LIMIT ?", SEARCHED)
        with closing(rows):
            return list(islice(filter(keep, rows), limit))

    def latest_rejected(self, limit: int) -> list[Row]:
        """Return up to ``limit`` rejected payloads with their reasons, newest first."""
        records = self._scan("SELECT record FROM rejected ORDER BY number DESC LIMIT ?", limit)
        with closing(records):
            return list(records)

    def reset(self) -> None:
        """Delete all events.

        Raises:
            ServiceError: they cannot be deleted; all are still there.
        """
        try:
            self._writer.submit(self._delete).result()
        except sqlite3.Error as error:
            raise _not_written(self.path, error) from error

    def close(self) -> None:
        """Store the events that wait, and close the file."""
        self._writer.shutdown()
        self._reader.close()
        self._connection.close()

    def _write(self) -> None:
        """Store all requests that wait in one transaction; the writer thread runs this."""
        requests = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if requests:
            self._commit(requests)

    def _commit(self, requests: list["_Request"]) -> None:
        try:
            with self._connection as connection:
                connection.execute("BEGIN IMMEDIATE")
                _insert(connection, requests)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the requests' answer
            if len(requests) == 1:
                requests[0].error = error
                return
            for request in requests:  # each on its own: one must not fail because of another
                self._commit([request])
        else:
            for request in requests:
                request.stored = True

    def _delete(self) -> None:
        with self._connection as connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in ("events", "nested_columns", "rejected"):
                connection.execute(f"DELETE FROM {table}")
        with self._reading, self._admitting:
            self._nested = set()
            self._cache.clear()  # numbers start from 1 again
            self._indexes.clear()

    def _read(self, sql: str, *parameters: Any) -> list[Any]:
        try:
            with self._reading:
                return self._reader.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise _not_read(self.path, error) from error

    def _scan(self, sql: str, *parameters: Any) -> Generator[Row, None, None]:
        """Yield JSON objects one by one, on a connection of its own: other reads do not wait."""
        try:
            with closing(read_only(self.path)) as connection:
                for (text,) in connection.execute(sql, parameters):
                    yield json.loads(text)
        except sqlite3.Error as error:
            raise _not_read(self.path, error) from error


class _Index:
    """The numbers of the events of each identifier, in memory, for a key without a column.

    The identifiers are those of the fold: SQL would convert numbers to text by other rules.
    """

    sql = "SELECT number, json_extract(row, ?) FROM events WHERE number > ? ORDER BY number"

    def __init__(self, key: Any) -> None:
        self._key, self._column = key, column_of(key)
        self._numbers: dict[str | None, list[int]] = defaultdict(list)
        self.path, self.last = _json_path(self._column), 0

    def extend(self, values: list[tuple[int, Any]]) -> None:
        """Add the number and the column of later events."""
        for self.last, value in values:
            self._numbers[property_text(self._key, {self._column: value})].append(self.last)

    def after(self, identifier: str, number: int) -> list[int]:
        """Return the numbers of an identifier's events after one number."""
        numbers = self._numbers.get(identifier, [])
        return numbers[bisect_right(numbers, number) :]


class _Request:
    """What one request wants to store, prepared so that only the disk can refuse it."""

    def __init__(self, rows: list[Row], rejected: list[tuple[str, Any]], at: datetime) -> None:
        self.events = [
            (
                UUID(row["event_id"]).bytes,
                row.get("domain_userid"),
                row["derived_tstamp"],
                _json(row),
            )
            for row in rows
        ]
        self.nested = {(name,) for row in rows for name in row if NESTED.match(name)}
        self.rejected = [
            (_json({"reason": reason, "collector_tstamp": stamp(at), "payload": payload}),)
            for reason, payload in rejected
        ]
        self.stored = False
        self.error: Exception | None = None


def _insert(connection: sqlite3.Connection, requests: list[_Request]) -> None:
    """Insert what requests want to store, with few statements: each one yields the GIL."""
    events = [event for request in requests for event in request.events]
    for start in range(0, len(events), ROWS_PER_INSERT):
        chunk = events[start : start + ROWS_PER_INSERT]
        connection.execute(
            "INSERT INTO events (event_id, domain_userid, derived_tstamp, row) VALUES "
            f"{', '.join(['(?, ?, ?, ?)'] * len(chunk))} ON CONFLICT (event_id) DO NOTHING",
            list(chain.from_iterable(chunk)),
        )
    connection.executemany(
        "INSERT INTO nested_columns VALUES (?) ON CONFLICT DO NOTHING",
        set().union(*(request.nested for request in requests)),
    )
    connection.executemany(
        "INSERT INTO rejected (record) VALUES (?)",
        [record for request in requests for record in request.rejected],
    )


def stamp(at: datetime) -> str:
    """Return an aware time as events hold it, in UTC: ``2026-01-05T10:00:00.123000Z``."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _open(home: Path, path: Path) -> sqlite3.Connection:
    writable_folder(home)  # SQLite writes further files beside it
    try:
        for left_behind in home.glob(f".{EVENTS_FILE}.*"):  # by a kill in `_create`
            left_behind.unlink()
        if not path.exists():
            _create(path)
        os.close(os.open(path, os.O_RDWR))
        for file in home.glob(f"{EVENTS_FILE}*"):
            file.chmod(0o600)  # an earlier release, or a copy, may have left them open to all
    except OSError as error:
        raise not_writable(home, error) from error
    except sqlite3.Error as error:
        raise _not_written(path, error) from error
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30.0)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if format_of(connection, path) != EVENTS_FORMAT:
            connection.executescript(TABLES)
    except DataError:
        connection.close()
        raise
    except sqlite3.Error as error:
        connection.close()
        raise damaged(path, error) if _is_damage(error) else _not_written(path, error) from error
    return connection


def _create(path: Path) -> None:
    """Create a file with tables whole or not at all: readers could not complete a half one."""
    with draft_of(path) as draft:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(TABLES)


def _is_damage(error: sqlite3.Error) -> bool:
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return getattr(error, "sqlite_errorcode", None) in codes


def _not_written(path: Path, error: Exception | None) -> ServiceError:
    return ServiceError(f"{path} cannot be written ({error}): is the disk full? Send again.")


def _not_read(path: Path, error: sqlite3.Error) -> ServiceError | DataError:
    if _is_damage(error):
        return damaged(path, error)
    return ServiceError(f"{path} cannot be read ({error}). Try again.")


def place_of(key: Any) -> str:
    """Return where events have an identifier, as text: the column, and the path in it."""
    return " ".join([column_of(key), *([] if key.type == "atomic" else map(str, path_of(key)))])


def _json_path(column: str) -> str:
    return f'$."{column}"'


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
