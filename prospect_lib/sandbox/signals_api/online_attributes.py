"""Online attribute values: the events of one visitor, folded as the definition says."""

import logging
import threading
from collections import Counter, OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.keys import NOBODY, key_property
from prospect_lib.aggregation.properties import column_of, event_time
from prospect_lib.errors import ServiceError, one_line
from prospect_lib.files import not_writable
from prospect_lib.sandbox.events import EventStore, Row, place_of
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import DuckDB

_SQL = DuckDB()
_log = logging.getLogger(__name__)
_COLUMNS = "SELECT * FROM read_parquet(?, union_by_name = true) LIMIT 0"
CACHED_HISTORIES = 2000  # visitors whose history is kept in memory


class OnlineAttributes:
    """Attributes of visitors at a moment, from history and live events.

    Files of history that DuckDB cannot open are set aside, with a warning.

    Raises:
        SettingsError: there is such a file, and it cannot be renamed.
    """

    def __init__(self, home: Path, events: EventStore) -> None:
        self._folder, self._events = home / "history", events
        self._cache: OrderedDict[tuple[str, str], list[Row]] = OrderedDict()
        self._columns: set[str] = set()
        self._cached_files: tuple[tuple[str, int], ...] = ()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(config={"threads": 1})
        self._set_damaged_aside()

    def values(
        self, group: AttributeGroup, identifier: str, at: datetime, since: datetime
    ) -> dict[str, Any]:
        """Return the group's attributes of one visitor, from events since ``since`` (aware)."""
        events = self.events(group, identifier)
        return attribute_values(group, [e for e in events if event_time(e) >= since], at)

    def events(self, group: AttributeGroup, identifier: str) -> list[Row]:
        """Return all events of one visitor, history and live; nobody has none.

        Args:
            group: whose attribute key the identifier is.
        """
        if identifier in NOBODY:
            return []
        key = key_property(group)
        with self._lock:
            history = self._history(key, identifier)
        return [*history, *self._events.of_visitor(identifier, key)]

    def busiest(
        self, group: AttributeGroup, at: datetime, window: timedelta, count: int = 10
    ) -> list[str]:
        """Return the visitors with most events in the ``window`` before ``at`` (aware)."""
        key = key_property(group)
        visitors = Counter(self._events.visitors(at - window, at, key))
        with self._lock:
            if files := self._files_with(key):
                identifier = property_sql(key, _SQL)
                _, rows = self._query(
                    f"SELECT {identifier}, COUNT(*) FROM read_parquet(?, union_by_name = true) "
                    f"WHERE {identifier} NOT IN (?, ?) AND derived_tstamp BETWEEN ? AND ? "
                    "GROUP BY 1",
                    files,
                    *NOBODY,
                    _naive(at - window),
                    _naive(at),
                )
                visitors.update(dict(rows))
        return sorted(visitors, key=lambda visitor: (-visitors[visitor], visitor))[:count]

    def _history(self, key: Any, identifier: str) -> list[Row]:
        files, cached = self._files_with(key), (place_of(key), identifier)
        if cached not in self._cache and files:
            names, rows = self._query(
                "SELECT * FROM read_parquet(?, union_by_name = true) "
                f"WHERE {property_sql(key, _SQL)} = ?",
                files,
                identifier,
            )
            self._cache[cached] = [dict(zip(names, values, strict=True)) for values in rows]
            if len(self._cache) > CACHED_HISTORIES:
                self._cache.popitem(last=False)
        if cached in self._cache:
            self._cache.move_to_end(cached)
        return self._cache.get(cached, [])

    def _files_with(self, key: Any) -> list[str]:
        """Return the files of history; none if they lack the column of an attribute key."""
        files = self._files()
        return files if column_of(key) in self._columns else []

    def _files(self) -> list[str]:
        """Return the Parquet files of history; the cache is emptied if they have changed."""
        paths = sorted(self._folder.glob("*.parquet"))
        files = tuple((str(path), path.stat().st_mtime_ns) for path in paths)
        if files != self._cached_files:
            self._columns = self._columns_of([name for name, _ in files])
            self._cached_files = files
            self._cache.clear()
        return [name for name, _ in files]

    def _query(self, sql: str, *parameters: Any) -> tuple[list[str], list[Any]]:
        """Return the names of the columns, and the rows."""
        try:
            cursor = self._connection.execute(sql, [*parameters])
            return [str(column[0]) for column in cursor.description or []], cursor.fetchall()
        except duckdb.Error as error:
            raise ServiceError(
                f"{self._folder} cannot be read ({one_line(error)}). Move the damaged file away."
            ) from error

    def _set_damaged_aside(self) -> None:
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                self._query(_COLUMNS, [str(path)])
            except ServiceError as error:
                aside = path.with_suffix(".damaged")
                try:
                    path.replace(aside)
                except OSError as cause:
                    raise not_writable(self._folder, cause) from cause
                _log.warning("%s The sandbox starts without it: it is %s now.", error, aside)

    def _columns_of(self, files: list[str]) -> set[str]:
        if not files:
            return set()
        return set(self._query(_COLUMNS, files)[0])


def span(group: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when events count for the values of a stored group.

    They count from its backfill date, else from its publishing; until now, or until the group
    was unpublished.
    """
    since = group.get("backfill_since_tstamp") or group.get("published_at")
    frozen = group.get("frozen_at")
    return _aware(since) if since else now, _aware(frozen) if frozen else now


def _aware(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _naive(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(tzinfo=None)
