"""The board: who is on the site now, what they do, how they score, who just converted.

It is the picture that a teacher projects, so it names nobody: visitors have made-up names,
and of an address only the plain words of its path are shown. It keeps the latest in memory,
never more than the constants below allow.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from prospect_lib.aggregation.properties import to_utc
from prospect_lib.sandbox.events import Row
from prospect_lib.sandbox.website.disguise import Disguise, disguised, plain_path

VISITORS, EVENTS, SCORES, FEED, CONVERTED, IDS = 200, 40, 90, 60, 12, 5000
SHOWN = 12  # visitors on the board at a time; the others are counted
HERE = timedelta(seconds=120)  # without an event, a visitor has left
RECENT = timedelta(minutes=30)  # older events are not taken over at a start
SAID = {
    "page_view": "looks at",
    "page_ping": "reads on",
    "focus_form": "enters a field",
    "change_form": "fills in a field",
    "submit_form": "sends the form",
    "play_event": "plays a film",
    "pause_event": "pauses the film",
    "percent_progress_event": "keeps watching",
    "end_event": "sees a film to its end",
    "link_click": "follows a link",
    "application_error": "meets an error",
}
KINDS = {"page_view": "view", "page_ping": "ping", "submit_form": "goal"}


@dataclass
class Visitor:
    """What the board knows of one visitor; moments are UTC."""

    disguise: Disguise
    first: datetime
    last: datetime
    page: str = ""
    events: deque[str] = field(default_factory=lambda: deque(maxlen=EVENTS))
    scores: deque[tuple[datetime, float]] = field(default_factory=lambda: deque(maxlen=SCORES))
    count: int = 0
    act: bool = False
    converted: bool = False

    def shown(self) -> dict[str, Any]:
        """As the page gets it; moments are seconds since 1970."""
        return {
            "key": self.disguise.key,
            "name": self.disguise.name,
            "hue": self.disguise.hue,
            "first": self.first.timestamp(),
            "last": self.last.timestamp(),
            "page": self.page,
            "events": list(self.events),
            "count": self.count,
            "scores": [[round(at.timestamp(), 1), round(score, 4)] for at, score in self.scores],
            "act": self.act,
            "converted": self.converted,
        }


class Board:
    """The latest of what happened; safe to share by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._visitors: OrderedDict[str, Visitor] = OrderedDict()
            self._feed: deque[dict[str, Any]] = deque(maxlen=FEED)
            self._converted: deque[dict[str, Any]] = deque(maxlen=CONVERTED)
            self._ids: OrderedDict[str, None] = OrderedDict()
            self._minute: deque[datetime] = deque(maxlen=10_000)
            self._threshold: float | None = None
            self._number = self._conversions = 0

    def saw(self, rows: Iterable[Row], at: datetime) -> None:
        """Events of the collector, received ``at`` (aware); each counts once."""
        with self._lock:
            for row in rows:
                if row["event_id"] not in self._ids:
                    self._ids[row["event_id"]] = None
                    self._note(row, at)
            while len(self._ids) > IDS:
                self._ids.popitem(last=False)

    def scored(self, record: Mapping[str, Any], at: datetime) -> None:
        """A served score, ``at`` (aware); a record without visitor or score is passed over."""
        identifier, score = record.get("domain_userid"), record.get("score")
        if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
            return
        if not isinstance(identifier, str):
            return
        decision = record.get("decision")
        decision = decision if isinstance(decision, dict) else {}
        threshold = decision.get("threshold")
        with self._lock:
            visitor = self._visitor(identifier, at)
            visitor.scores.append((at, float(score)))
            visitor.act = decision.get("act") is True
            if isinstance(threshold, float) and 0 <= threshold <= 1:
                self._threshold = threshold

    def take_over(self, rows: Iterable[Row], records: Iterable[Any], now: datetime) -> None:
        """After a start: what is on disk of the last while, in order of time."""
        for row in rows:
            at = to_utc(row.get("collector_tstamp"))
            if at is not None and now - RECENT <= at <= now:
                self.saw([row], at)
        for record in records:
            at = to_utc(record.get("scored_at")) if isinstance(record, dict) else None
            if at is not None and now - RECENT <= at <= now:
                self.scored(record, at)

    def state(self, now: datetime | None = None) -> dict[str, Any]:
        """What the page shows, at a moment (aware)."""
        now = now or datetime.now(UTC)
        with self._lock:
            here = [v for v in self._visitors.values() if now - v.last <= HERE]
            here.sort(key=lambda v: (-(v.scores[-1][1] if v.scores else -1), v.first))
            return {
                "now": now.timestamp(),
                "here": len(here),
                "minute": sum(now - at <= timedelta(minutes=1) for at in self._minute),
                "conversions": self._conversions,
                "threshold": self._threshold,
                "visitors": [visitor.shown() for visitor in here[:SHOWN]],
                "feed": list(self._feed)[::-1],
                "converted": list(self._converted)[::-1],
            }

    def _visitor(self, identifier: str, at: datetime) -> Visitor:
        found = self._visitors.get(identifier)
        if found is None:
            found = self._visitors[identifier] = Visitor(disguised(identifier), at, at)
            if len(self._visitors) > VISITORS:
                self._visitors.popitem(last=False)
        self._visitors.move_to_end(identifier)
        return found

    def _note(self, row: Row, at: datetime) -> None:
        name, identifier = str(row["event_name"]), row.get("domain_userid")
        self._minute.append(at)
        if not identifier or name == "web_vitals":
            return
        visitor = self._visitor(str(identifier), at)
        visitor.last, visitor.count = max(visitor.last, at), visitor.count + 1
        visitor.page = plain_path(row.get("page_urlpath")) or visitor.page
        visitor.events.append(_kind(name))
        self._number += 1
        entry = {
            "number": self._number,
            "at": at.timestamp(),
            "key": visitor.disguise.key,
            "name": visitor.disguise.name,
            "hue": visitor.disguise.hue,
            "said": SAID.get(name, name.replace("_", " ")),
            "page": visitor.page,
            "kind": _kind(name),
        }
        self._feed.append(entry)
        if name == "submit_form":
            visitor.converted, self._conversions = True, self._conversions + 1
            score = visitor.scores[-1][1] if visitor.scores else None
            self._converted.append({**entry, "score": score, "took": _seconds(visitor, at)})


def _seconds(visitor: Visitor, at: datetime) -> float:
    return max(0.0, (at - visitor.first).total_seconds())


def _kind(name: str) -> str:
    if name in ("focus_form", "change_form"):
        return "form"
    if name.endswith("_event"):
        return "film"
    return KINDS.get(name, "other")
