"""Draw visitors from the tables of :mod:`~.intent`: one step of all visitors at a time."""

from datetime import datetime
from typing import Any

import numpy as np

from prospect_lib.sandbox.simulation.intent import (
    ASKED,
    BETWEEN,
    CHANGES,
    DEMO,
    DEVICES,
    ENTRIES,
    FANS,
    FIRST_CHANNELS,
    FIRST_INTENTS,
    FOCUSES,
    KEEPS_OPEN,
    LANDING,
    LATER_CHANNELS,
    LEAVE,
    MAX_PINGS,
    MAX_VIEWS,
    NOTHING,
    OPENERS,
    READS_ON,
    RETURNS,
    ROBOT,
    SENDS,
    SENT,
    THANKS,
    VIDEOS,
    WATCHES,
    FloatArray,
    IntArray,
    next_pages,
)

CAMPAIGNS = 4  # channels from this one on are campaigns, and may lead to the landing page
WEEKEND = 0.5  # share of weekend sessions that are moved to a working day
_HOUR, _DAY = 3600.0, 86400.0
#: Whom a page view is of; the rest of its columns are about the view.
WHO = ("visitor", "device", "opener", "fan", "intent", "channel")

Columns = dict[str, Any]


def walk(rng: np.random.Generator, visitors: int, days: int, start: datetime) -> Columns:
    """Return every page view of every session that begins in the period.

    Args:
        rng: source of all numbers.
        visitors: how many there are.
        days: length of the period.
        start: start of the period (aware, UTC).
    Returns:
        Columns, one value per page view, sorted by visitor and time: ``visitor`` (a number),
        ``session`` (from 1 on), ``step`` (from 0 on), ``device``, ``channel``, ``page``, ``at``
        (seconds after the start), ``dwell`` (seconds), ``watches``, ``form`` (how far), ``focus``
        and ``change`` (seconds after ``at``), and the hidden ``intent``, ``opener`` and ``fan``.
    """
    intent = _pick(rng, np.tile(FIRST_INTENTS, (visitors, 1)))
    begin, number = rng.uniform(0, days * _DAY, visitors), 1
    who = {
        "visitor": np.arange(visitors),
        "device": _pick(rng, DEVICES[intent]),
        "opener": rng.random(visitors) < OPENERS,
        "fan": rng.random(visitors) < FANS,
    }
    parts = []
    while len(begin):
        chances = (
            FIRST_CHANNELS[intent] if number == 1 else np.tile(LATER_CHANNELS, (len(begin), 1))
        )
        who |= {"intent": intent, "channel": _pick(rng, chances)}
        views, sent = _session(rng, who, begin := _rhythm(rng, begin, start))
        parts.append({**views, "session": np.full(len(views["at"]), number)})
        intent = np.where(sent, ASKED, intent)
        next_begin = begin + 3 * _HOUR + rng.exponential(4.5 * _DAY, len(begin))
        returns = (rng.random(len(begin)) < RETURNS[intent]) & (next_begin < days * _DAY)
        intent = _pick(rng, BETWEEN[intent])[returns]
        who = {name: column[returns] for name, column in who.items()}
        begin, number = next_begin[returns], number + 1
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns["step"], columns["session"], columns["visitor"]))
    return {name: column[order] for name, column in columns.items()}


def _session(rng: np.random.Generator, who: Columns, begin: FloatArray) -> tuple[Columns, Any]:
    """Return the page views of one session of each visitor, and which visitors sent the form."""
    follows = np.cumsum(next_pages(), axis=2)
    clock, sent = begin.copy(), np.zeros(len(begin), dtype=bool)
    landing = (who["channel"] >= CAMPAIGNS) & (rng.random(len(begin)) < 0.4)
    page = np.where(landing, LANDING, _pick(rng, ENTRIES[who["intent"]]))
    alive, parts = np.arange(len(begin)), []
    for step in range(MAX_VIEWS + 1):
        members = {name: who[name][alive] for name in WHO}
        view = _view(rng, members, page)
        place = {"step": np.full(len(alive), step), "page": page, "at": clock[alive]}
        parts.append({**members, **view, **place})
        clock[alive] += view["dwell"] + 0.5
        sends = view["form"] == SENT
        sent[alive[sends]] = True
        draw = rng.random(len(alive))[:, None]
        after = (draw > follows[members["intent"], page]).sum(axis=1)
        after = np.minimum(after, LEAVE) if step < MAX_VIEWS - 1 else np.full(len(alive), LEAVE)
        after = np.where(sends, THANKS, after)
        alive, page = alive[after < LEAVE], after[after < LEAVE]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, sent


def _view(rng: np.random.Generator, who: Columns, page: IntArray) -> Columns:
    """Return what happens during one page view of each visitor, with times after its begin."""
    size, intent = len(page), who["intent"]
    watches = (page == VIDEOS) & (rng.random(size) < WATCHES[intent])
    form = np.full(size, NOTHING)
    for stage, chance in enumerate((FOCUSES, CHANGES, SENDS)):
        form += (page == DEMO) & (form == stage) & (rng.random(size) < chance[intent])
    reads_on = np.where(who["opener"], KEEPS_OPEN[intent], READS_ON[intent])
    tens = np.minimum(rng.geometric(1 - reads_on) - 1, MAX_PINGS)
    tens = np.where(watches, np.where(who["fan"], rng.integers(3, 9, size), 2), tens)
    focus, steps = rng.uniform(3, 9, size), np.cumsum(rng.uniform(8, 40, (3, size)), axis=0)
    filling = focus + steps[np.maximum(form - 1, 0), np.arange(size)]
    dwell = np.where(form > NOTHING, filling, 10.0 * tens + rng.uniform(3, 9, size))
    dwell = np.where(intent == ROBOT, 2.0, dwell)
    return {
        "watches": watches, "form": form, "dwell": dwell,
        "focus": focus, "change": focus + steps[0],
    }  # fmt: skip


def _rhythm(rng: np.random.Generator, begin: FloatArray, start: datetime) -> FloatArray:
    """Move sessions to later times: most begin by day, and fewer at weekends (in UTC)."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (start - midnight).total_seconds()
    day, second = np.divmod(begin + offset, _DAY)
    weekday = (midnight.weekday() + day) % 7
    postponed = (weekday >= 5) & (rng.random(len(begin)) < WEEKEND)
    moved = np.clip(rng.normal(14 * _HOUR, 3.5 * _HOUR, len(begin)), 0, 82000)
    later = np.where(postponed | (moved >= second), moved, second)
    by_day = rng.random(len(begin)) < 0.7
    moves: FloatArray = (day + 2 * postponed) * _DAY + np.where(by_day, later, second) - offset
    result: FloatArray = np.maximum(begin, moves)
    return result


def _pick(rng: np.random.Generator, probabilities: FloatArray) -> IntArray:
    """Draw one category per row, by the row's probabilities."""
    cumulative = np.cumsum(probabilities, axis=1)
    drawn = (rng.random(len(cumulative))[:, None] > cumulative).sum(axis=1)
    result: IntArray = np.minimum(drawn, probabilities.shape[1] - 1)
    return result
