"""Simulate visitors with a hidden intent, and the true probability of each of their events.

A session is a walk over the pages of the demo website (:mod:`~.walk`). Each step depends on the
page and on the visitor's intent. The intent is hidden; the observable data (channel, device,
reading, films, forms, earlier sessions) only hints at it. The probability that a session ends
with a submitted form is known at every moment: no model can predict better than that.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from prospect_lib.errors import DataError
from prospect_lib.sandbox.simulation.rows import (
    CHANGE,
    END,
    ERROR,
    FOCUS,
    LINK,
    PING,
    PLAY,
    PROGRESS,
    SUBMITTED,
    VIEW,
    VITALS,
    events_table,
)
from prospect_lib.sandbox.simulation.walk import (
    BOT,
    DEMO,
    LEVELS,
    MAX_VIEWS,
    SUBMIT,
    VIDEOS,
    FloatArray,
    IntArray,
    chances,
    sessions_of,
    transitions,
    views_of,
)

FORM_STARTED = (0.06, 0.10, 0.16, 0.24, 0.34)  # share of those who see but do not send it
SCORABLE = (VIEW, PLAY, PROGRESS, END, FOCUS, CHANGE)  # kinds of event that have a true score


@dataclass(frozen=True)
class Simulation:
    """Simulated events, and their true probabilities.

    Attributes:
        events: rows of atomic events, sorted by visitor, time and id.
        truth: ``domain_userid``, ``anchor_ts`` and ``p_true`` (0..1) of every page view and
            every event of a film or a form: the probability of a submitted form in the next hour.
    """

    events: pa.Table
    truth: pa.Table


def simulate(
    visitors: int = 3000,
    days: int = 60,
    *,
    end: datetime,
    seed: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Simulation:
    """Return the events of visitors over the days before ``end``; none is later.

    The same arguments give the same tables.

    Args:
        visitors: how many visit in that time.
        days: length of the period.
        end: end of the period (aware).
        seed: of the random numbers.
        part: number of this part, and of all parts, of a larger simulation. Parts differ, and
            their visitors' ids follow one another.

    Raises:
        DataError: no visitors, no days, or ``end`` without a time zone.

    Example: ``simulate(100, 7, end=datetime.now(UTC)).events.num_rows`` -> some 2,000
    """
    _check(visitors, days, end)
    rng = np.random.default_rng([seed, part[0]])
    begin = end.astimezone(UTC) - timedelta(days=days)
    sessions = sessions_of(rng, visitors, days, begin)
    views = views_of(rng, sessions)
    actions = _actions(rng, sessions, views)
    start = np.datetime64(begin.replace(tzinfo=None), "us")
    actions = {name: column[actions["at"] < days * 86400] for name, column in actions.items()}
    order = np.lexsort((actions["at"], sessions["visitor"][actions["session"]]))
    actions = {name: column[order] for name, column in actions.items()}
    events = events_table(rng, sessions, actions, start, part)
    scorable = np.isin(actions["kind"], SCORABLE)
    truth = events.select(["domain_userid", "derived_tstamp"]).filter(pa.array(scorable))
    truth = truth.rename_columns(["domain_userid", "anchor_ts"])
    truth = truth.append_column("p_true", pa.array(actions["p_true"][scorable]))
    by_visitor = [(name, "ascending") for name in ("domain_userid", "derived_tstamp", "event_id")]
    return Simulation(
        events.sort_by(by_visitor), truth.sort_by([*by_visitor[:1], ("anchor_ts", "ascending")])
    )


def _check(visitors: int, days: int, end: datetime) -> None:
    for name, value in (("visitors", visitors), ("days", days)):
        if value < 1:
            raise DataError(f"{name}={value} cannot be simulated: expected 1 or more.")
    if end.tzinfo is None:
        raise DataError(f"end={end!r} has no time zone; pass an aware datetime such as UTC.")


def _actions(
    rng: np.random.Generator, sessions: dict[str, Any], views: dict[str, Any]
) -> dict[str, Any]:
    """Return page views and the other events on each page, with their times in seconds."""
    level = sessions["level"][views["session"]]
    human, dwell, every = level != BOT, views["dwell"], np.arange(len(level))
    chance = {name: rng.random(len(level)) for name in ("film", "form", "link", "vitals", "error")}
    intent = np.minimum(level, LEVELS - 1) / (LEVELS - 1)
    film = human & (views["page"] == VIDEOS) & (chance["film"] < 0.35 + 0.5 * intent) & (dwell > 6)
    sent = views["next"] == SUBMIT
    started = np.array([*FORM_STARTED, 0.0])[level]
    form = human & (views["page"] == DEMO) & (sent | (chance["form"] < started))
    #: kind, page views on which it happens, seconds after the beginning of the view
    parts: list[tuple[int, IntArray, FloatArray]] = [(VIEW, every, np.zeros(len(level)))]
    parts += [(PING, every[human & (dwell > 10 * n)], np.array(10.0 * n)) for n in range(1, 16)]
    parts += [
        (PLAY, every[film], np.array(2.0)),
        (PROGRESS, every[film], dwell[film] * 0.5),
        (END, every[film & (dwell > 25)], np.array(22.0)),
        (FOCUS, every[form], dwell[form] * 0.3),
        (CHANGE, every[form & (sent | (chance["link"] < 0.5))], np.array(0.9)),
        (SUBMITTED, every[sent], dwell[sent]),
        (LINK, every[human & (chance["link"] < 0.2)], np.array(0.8)),
        (VITALS, every[human & (chance["vitals"] < 0.25)], np.array(0.7)),
        (ERROR, every[chance["error"] < 0.01], np.array(0.6)),
    ]
    view = np.concatenate([at for _, at, _ in parts])
    offset = np.concatenate([np.broadcast_to(after, len(at)) for _, at, after in parts])
    kind = np.concatenate([np.full(len(at), kind) for kind, at, _ in parts])
    return {
        **{name: column[view] for name, column in views.items()},
        "p_true": _informed(kind, level[view], views["step"][view], views["p_true"][view]),
        "kind": kind,
        "at": views["at"][view] + np.minimum(offset, dwell[view]),
    }


def _informed(kind: IntArray, level: IntArray, step: IntArray, p_view: FloatArray) -> FloatArray:
    """Return the true probability at each event.

    At most events it is that of the page view. Starting or filling in a form makes sending it
    more likely.
    """
    matrix, chance = transitions(), chances()
    left = MAX_VIEWS - 2 - step  # page views still possible after this one
    onward = np.einsum("ln,lkn->lk", matrix[:, DEMO, :SUBMIT], chance)
    goes_on = np.where(left >= 0, onward[level, np.maximum(left, 0)], 0.0)
    sent = matrix[level, DEMO, SUBMIT]
    result = p_view
    for event, share in ((FOCUS, 1.0), (CHANGE, 0.5)):
        started = share * np.array([*FORM_STARTED, 0.0])[level]
        informed = (sent + goes_on * started) / np.maximum(sent + (1 - sent) * started, 1e-12)
        result = np.where(kind == event, informed, result)
    return result
