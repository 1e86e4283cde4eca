"""Online attribute values: the events of one visitor, folded as the definition says."""

import threading
from collections import Counter, OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import event_time
from prospect_lib.sandbox.events import EventStore, Row

CACHED_HISTORIES = 2000  # visitors whose history is kept in memory


class OnlineAttributes:
    """Attributes of visitors at a moment, from history and live events."""

    def __init__(self, home: Path, events: EventStore) -> None:
        self._folder, self._events = home / "history", events
        self._cache: OrderedDict[str, list[Row]] = OrderedDict()
        self._cached_files: tuple[tuple[str, int], ...] = ()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(config={"threads": 1})

    def values(
        self, group: AttributeGroup, visitor: str, at: datetime, since: datetime
    ) -> dict[str, Any]:
        """Return the group's attributes of one visitor, from events since ``since`` (aware)."""
        events = [event for event in self.events(visitor) if event_time(event) >= since]
        return attribute_values(group, events, at)

    def events(self, visitor: str) -> list[Row]:
        """Return all events of one visitor, history and live."""
        with self._lock:
            history = self._history(visitor)
        return [*history, *self._events.of_visitor(visitor)]

    def busiest(self, at: datetime, window: timedelta, count: int = 10) -> list[str]:
        """Return the visitors with most events in the ``window`` before ``at`` (aware)."""
        visitors = Counter(self._events.visitors(at - window, at))
        with self._lock:
            if files := self._files():
                cursor = self._connection.execute(
                    "SELECT domain_userid, COUNT(*) FROM read_parquet(?, union_by_name = true) "
                    "WHERE domain_userid IS NOT NULL AND derived_tstamp BETWEEN ? AND ? GROUP BY 1",
                    [files, _naive(at - window), _naive(at)],
                )
                visitors.update(dict(cursor.fetchall()))
        return sorted(visitors, key=lambda visitor: (-visitors[visitor], visitor))[:count]

    def _history(self, visitor: str) -> list[Row]:
        files = self._files()
        if visitor not in self._cache and files:
            cursor = self._connection.execute(
                "SELECT * FROM read_parquet(?, union_by_name = true) WHERE domain_userid = ?",
                [files, visitor],
            )
            names = [column[0] for column in cursor.description or []]
            self._cache[visitor] = [
                dict(zip(names, values, strict=True)) for values in cursor.fetchall()
            ]
            if len(self._cache) > CACHED_HISTORIES:
                self._cache.popitem(last=False)
        if visitor in self._cache:
            self._cache.move_to_end(visitor)
        return self._cache.get(visitor, [])

    def _files(self) -> list[str]:
        """Return the Parquet files of history; the cache is emptied if they have changed."""
        paths = sorted(self._folder.glob("*.parquet"))
        files = tuple((str(path), path.stat().st_mtime_ns) for path in paths)
        if files != self._cached_files:
            self._cached_files = files
            self._cache.clear()
        return [name for name, _ in files]


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
