"""Simulate the events of visitors with a hidden intent, and the best score that they allow.

The intent is hidden; what can be observed (channel, device, pages, reading, films, forms, earlier
sessions) only hints at it. :mod:`~.intent` has the probabilities, :mod:`~.walk` draws visitors
from them, and :mod:`~.best_observable` computes what nobody can predict better.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from prospect_lib.errors import DataError
from prospect_lib.sandbox.simulation.best_observable import best_observable
from prospect_lib.sandbox.simulation.intent import (
    CHANGED,
    FOCUSED,
    MAX_PINGS,
    ROBOT,
    SENT,
    FloatArray,
    IntArray,
)
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
from prospect_lib.sandbox.simulation.walk import walk

#: The events of a film of twenty seconds; who stays longer sees it again after ten seconds.
FILM = ((PLAY, 2.0), (PROGRESS, 7.0), (PROGRESS, 12.0), (PROGRESS, 17.0), (END, 22.0))
FILM_SECONDS, MAX_FILMS = 30.0, 3


@dataclass(frozen=True)
class Simulation:
    """Simulated events, and the best score that they allow.

    Attributes:
        events: rows of atomic events, sorted by visitor, time and id.
        truth: ``domain_userid``, ``anchor_ts`` and ``best_observable`` of every page view and
            every event of a film or a form, see :func:`~.best_observable.best_observable`.
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
    views = walk(rng, visitors, days, begin)
    actions = _actions(rng, views)
    start = np.datetime64(begin.replace(tzinfo=None), "us")
    actions = {name: column[actions["at"] < days * 86400] for name, column in actions.items()}
    order = np.lexsort((actions["at"], views["visitor"][actions["view"]]))
    actions = {name: column[order] for name, column in actions.items()}
    events = events_table(rng, views, actions, start, part).sort_by(
        [(name, "ascending") for name in ("domain_userid", "derived_tstamp", "event_id")]
    )
    return Simulation(events, best_observable(events))


def _check(visitors: int, days: int, end: datetime) -> None:
    for name, value in (("visitors", visitors), ("days", days)):
        if value < 1:
            raise DataError(f"{name}={value} cannot be simulated: expected 1 or more.")
    if end.tzinfo is None:
        raise DataError(f"end={end!r} has no time zone; pass an aware datetime such as UTC.")


def _actions(rng: np.random.Generator, views: dict[str, Any]) -> dict[str, Any]:
    """Return page views and the other events on each page, with their times in seconds."""
    size, dwell, form = len(views["at"]), views["dwell"], views["form"]
    human, every = views["intent"] != ROBOT, np.arange(size)
    clicks, measured, fails = (rng.random(size) < share for share in (0.2, 0.25, 0.01))
    film = views["watches"]
    #: kind, page views on which it happens, seconds after the beginning of the view
    parts: list[tuple[int, IntArray, FloatArray]] = [(VIEW, every, np.zeros(size))]
    parts += [
        (PING, every[human & (dwell > 10 * n)], np.array(10.0 * n)) for n in range(1, MAX_PINGS + 1)
    ]
    parts += [
        *(
            (kind, every[film & (dwell > at + again)], np.array(at + again))
            for again in FILM_SECONDS * np.arange(MAX_FILMS)
            for kind, at in FILM
        ),
        (FOCUS, every[form >= FOCUSED], views["focus"][form >= FOCUSED]),
        (CHANGE, every[form >= CHANGED], views["change"][form >= CHANGED]),
        (SUBMITTED, every[form == SENT], dwell[form == SENT]),
        (LINK, every[human & clicks], np.array(0.8)),
        (VITALS, every[human & measured], np.array(0.7)),
        (ERROR, every[fails], np.array(0.6)),
    ]
    view = np.concatenate([at for _, at, _ in parts])
    offset = np.concatenate([np.broadcast_to(after, len(at)) for _, at, after in parts])
    kind = np.concatenate([np.full(len(at), kind) for kind, at, _ in parts])
    return {"view": view, "kind": kind, "at": views["at"][view] + offset}
