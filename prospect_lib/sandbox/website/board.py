"""The board: visitors on the site now, their events and scores, and the latest conversions.

It may be projected in a classroom, so it shows no personal data: visitors have made-up names,
and addresses are reduced to the plain words of their paths. It holds the latest in memory, never
more than the constants below allow.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.sandbox.events import Row
from prospect_lib.sandbox.website.disguise import Disguise, disguised, plain_path

MAX_BOARD_VISITORS, MAX_FEED, MAX_CONVERSIONS, MAX_IDS = 200, 60, 12, 5000
MAX_EVENTS, MAX_SCORES = 40, 90  # per visitor
MAX_CARDS = 12  # visitors that are shown at a time; the others are counted
PRESENT = timedelta(seconds=120)  # a visitor without an event for longer has left; as one
# whose last event is from before the clock was set back
ACTIONS = {
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
OTHER_ACTION = "sends an event"  # the name may be any text that a stranger sends
#: Attribute keys by which an event or a score finds its visitor, the most stable one first.
KEYS = ("domain_userid", "user_id", "network_userid", "domain_sessionid")
MARKS = {"page_view": "view", "page_ping": "ping", "submit_form": "goal"}


@dataclass
class Visitor:
    """One visitor on the board; times are aware, in UTC."""

    disguise: Disguise
    first: datetime
    last: datetime
    page: str = ""
    events: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    scores: deque[tuple[datetime, float]] = field(default_factory=lambda: deque(maxlen=MAX_SCORES))
    count: int = 0
    act: bool = False
    held_out: bool = False
    converted: bool = False

    def shown(self) -> dict[str, Any]:
        """Return the visitor as JSON for the page; times are seconds since 1970."""
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
            "held_out": self.held_out,
            "converted": self.converted,
        }


class Board:
    """The latest events and scores; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._visitors: OrderedDict[str, Visitor] = OrderedDict()
            self._feed: deque[dict[str, Any]] = deque(maxlen=MAX_FEED)
            self._converted: deque[dict[str, Any]] = deque(maxlen=MAX_CONVERSIONS)
            self._ids: OrderedDict[str, None] = OrderedDict()
            self._same: OrderedDict[tuple[str, str], str] = OrderedDict()  # key, id -> visitor
            self._minute: deque[datetime] = deque(maxlen=10_000)
            self._threshold: float | None = None
            self._number = self._conversions = 0

    def add_events(self, rows: Iterable[Row], at: datetime) -> None:
        """Show events of the collector, received ``at`` (aware); each counts once."""
        with self._lock:
            for row in rows:
                if row["event_id"] not in self._ids:
                    self._ids[row["event_id"]] = None
                    self._add_event(row, at)
            while len(self._ids) > MAX_IDS:
                self._ids.popitem(last=False)

    def add_score(self, record: Mapping[str, Any], at: datetime) -> None:
        """Show a served score, given ``at`` (aware); ignore a record without visitor or score.

        Args:
            record: as the log of served scores has it.
        """
        key = str(record.get("key", KEYS[0]))
        identifier, score = record.get(key), record.get("score")
        if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
            return
        if not isinstance(identifier, str):
            return
        decision = record.get("decision")
        decision = decision if isinstance(decision, dict) else {}
        threshold = decision.get("threshold")
        with self._lock:
            visitor = self._visitor(self._same.get((key, identifier), identifier), at)
            visitor.scores.append((at, float(score)))
            visitor.act = decision.get("act") is True
            visitor.held_out = decision.get("held_out") is True
            if isinstance(threshold, float) and 0 <= threshold <= 1:
                self._threshold = threshold

    def state(self, now: datetime) -> dict[str, Any]:
        """Return what the page shows at a time (aware)."""
        with self._lock:
            here = [v for v in self._visitors.values() if abs(now - v.last) <= PRESENT]
            here.sort(key=lambda v: (-(v.scores[-1][1] if v.scores else -1), v.first))
            return {
                "now": now.timestamp(),
                "here": len(here),
                "minute": sum(abs(now - at) <= timedelta(minutes=1) for at in self._minute),
                "conversions": self._conversions,
                "threshold": self._threshold,
                "visitors": [visitor.shown() for visitor in here[:MAX_CARDS]],
                "feed": list(self._feed)[::-1],
                "converted": list(self._converted)[::-1],
            }

    def _visitor(self, identifier: str, at: datetime) -> Visitor:
        visitor = self._visitors.get(identifier)
        if visitor is None:
            visitor = self._visitors[identifier] = Visitor(disguised(identifier), at, at)
            if len(self._visitors) > MAX_BOARD_VISITORS:
                self._visitors.popitem(last=False)
        self._visitors.move_to_end(identifier)
        return visitor

    def _add_event(self, row: Row, at: datetime) -> None:
        name = str(row["event_name"])
        self._minute.append(at)
        names = [(key, str(row[key])) for key in KEYS if row.get(key) not in (None, *NOBODY)]
        if not names or name == "web_vitals":
            return
        visitor = self._visitor(names[0][1], at)
        self._same |= dict.fromkeys(names, names[0][1])
        while len(self._same) > MAX_IDS:
            self._same.popitem(last=False)
        visitor.last, visitor.count = at, visitor.count + 1
        visitor.page = plain_path(row.get("page_urlpath")) or visitor.page
        visitor.events.append(_mark(name))
        self._number += 1
        entry = {
            "number": self._number,
            "at": at.timestamp(),
            "key": visitor.disguise.key,
            "name": visitor.disguise.name,
            "hue": visitor.disguise.hue,
            "action": ACTIONS.get(name, OTHER_ACTION),
            "page": visitor.page,
            "mark": _mark(name),
        }
        self._feed.append(entry)
        if name == "submit_form":
            visitor.converted, self._conversions = True, self._conversions + 1
            score = visitor.scores[-1][1] if visitor.scores else None
            self._converted.append({**entry, "score": score, "took": _seconds(visitor, at)})


def _seconds(visitor: Visitor, at: datetime) -> float:
    return max(0.0, (at - visitor.first).total_seconds())


def _mark(name: str) -> str:
    """Return the symbol by which the page shows an event."""
    if name in ("focus_form", "change_form"):
        return "form"
    if name.endswith("_event"):
        return "film"
    return MARKS.get(name, "other")
