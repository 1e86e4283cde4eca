"""Live attribute values: one visitor's events, folded as the definition says."""

import threading
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import event_time
from prospect_lib.sandbox.storage import Storage
from prospect_lib.warehouse.duckdb import events_of

REMEMBERED = 2000  # visitors whose history is kept in memory


class Profiles:
    """Attributes of visitors at a moment, from stored history and live events."""

    def __init__(self, home: Path, storage: Storage) -> None:
        self._home, self._files = home, home / "history"
        self._storage = storage
        self._known: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._stamp: tuple[tuple[str, int], ...] = ()
        self._lock = threading.Lock()
        self._connection = duckdb.connect(config={"threads": 1})

    def values(
        self, group: AttributeGroup, identifier: str, at: datetime, since: datetime
    ) -> dict[str, Any]:
        """The group's attributes of one visitor, from events since ``since`` (aware)."""
        events = [e for e in self.events(identifier) if event_time(e) >= since]
        return attribute_values(group, events, at)

    def events(self, identifier: str) -> list[dict[str, Any]]:
        """All events of one visitor, history and live."""
        with self._lock:
            history = self._history(identifier)
        return [*history, *self._storage.of_visitor(identifier)]

    def visitors(self, at: datetime, window: timedelta, count: int = 10) -> list[str]:
        """Visitors with an event in the last ``window``, the busiest first."""
        relation = events_of(self._home)
        if relation is None:
            return []
        with duckdb.connect(config={"threads": 1}) as connection:
            rows = connection.execute(
                f"SELECT domain_userid FROM ({relation}) "
                "WHERE domain_userid IS NOT NULL AND derived_tstamp BETWEEN ? AND ? "
                "GROUP BY 1 ORDER BY COUNT(*) DESC, 1 LIMIT ?",
                [(at - window).replace(tzinfo=None), at.replace(tzinfo=None), count],
            ).fetchall()
        return [str(visitor) for (visitor,) in rows]

    def _history(self, identifier: str) -> list[dict[str, Any]]:
        files = self._current_files()
        if identifier not in self._known and files:
            cursor = self._connection.execute(
                "SELECT * FROM read_parquet(?, union_by_name = true) WHERE domain_userid = ?",
                [files, identifier],
            )
            names = [column[0] for column in cursor.description or []]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            self._known[identifier] = rows
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        if identifier in self._known:
            self._known.move_to_end(identifier)
        return self._known.get(identifier, [])

    def _current_files(self) -> list[str]:
        files = sorted(self._files.glob("*.parquet"))
        stamp = tuple((str(path), path.stat().st_mtime_ns) for path in files)
        if stamp != self._stamp:
            self._stamp = stamp
            self._known.clear()
        return [str(path) for path in files]


def span(group: dict[str, Any], now: datetime) -> tuple[datetime, datetime]:
    """From when to when a group's values count: from its backfill date, else its publishing,
    until now, or until it was unpublished."""
    since = group.get("backfill_since_tstamp") or group.get("published_at")
    frozen = group.get("frozen_at")
    return _aware(since) if since else now, _aware(frozen) if frozen else now


def _aware(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
