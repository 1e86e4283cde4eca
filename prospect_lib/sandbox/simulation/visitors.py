"""Simulated visitors with a hidden intent, and the true probability beside their events.

A session is a walk over the pages of the demo website (:mod:`~.walk`).
How it goes on depends on the page and on the visitor's intent, which nobody sees; what can
be seen (channel, device, reading, films, forms, returning) only hints at it. The probability
that it ends with a submitted form is known at every moment: no model can do better than that.
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
    Floats,
    Ints,
    chances,
    sessions_of,
    transitions,
    views_of,
)

FORM_BEGUN = (0.06, 0.10, 0.16, 0.24, 0.34)  # of those who see the form and do not send it
MOMENTS = (VIEW, PLAY, PROGRESS, END, FOCUS, CHANGE)  # at which a visitor may be scored


@dataclass(frozen=True)
class Simulation:
    """What happened, and what was bound to happen.

    Attributes:
        events: rows of atomic events, sorted by visitor, time and id.
        truth: ``domain_userid``, ``anchor_ts`` and ``p_true`` of every page view and every
            event of a film or a form: the probability of a submitted form in the next hour.
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
    """Events of ``visitors`` over the ``days`` before ``end`` (aware); none after it.

    The same arguments give the same tables.

    Args:
        part: this is such a part of a larger world: parts differ, and follow one another in
            the order of their visitors' ids.
    Raises:
        DataError: no visitors, no days, or ``end`` without a time zone.
    """
    _check(visitors, days, end)
    rng = np.random.default_rng([seed, part[0]])
    begin = end.astimezone(UTC) - timedelta(days=days)
    sessions = sessions_of(rng, visitors, days, begin)
    views = views_of(rng, sessions)
    happened = _happenings(rng, sessions, views)
    start = np.datetime64(begin.replace(tzinfo=None), "us")
    happened = {name: column[happened["at"] < days * 86400] for name, column in happened.items()}
    order = np.lexsort((happened["at"], sessions["visitor"][happened["session"]]))
    happened = {name: column[order] for name, column in happened.items()}
    events = events_table(rng, sessions, happened, start, part)
    seen = np.isin(happened["kind"], MOMENTS)
    truth = events.select(["domain_userid", "derived_tstamp"]).filter(pa.array(seen))
    truth = truth.rename_columns(["domain_userid", "anchor_ts"])
    truth = truth.append_column("p_true", pa.array(happened["p_true"][seen]))
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


def _happenings(
    rng: np.random.Generator, sessions: dict[str, Any], views: dict[str, Any]
) -> dict[str, Any]:
    """Page views and what else happens on each page, with moments in seconds."""
    level = sessions["level"][views["session"]]
    human, dwell, every = level != BOT, views["dwell"], np.arange(len(level))
    luck = {name: rng.random(len(level)) for name in ("film", "form", "link", "vitals", "error")}
    eager = np.minimum(level, LEVELS - 1) / (LEVELS - 1)
    film = human & (views["page"] == VIDEOS) & (luck["film"] < 0.35 + 0.5 * eager) & (dwell > 6)
    sent = views["next"] == SUBMIT
    begun = np.array([*FORM_BEGUN, 0.0])[level]
    form = human & (views["page"] == DEMO) & (sent | (luck["form"] < begun))
    found: list[tuple[int, Ints, Floats]] = [(VIEW, every, np.zeros(len(level)))]
    found += [(PING, every[human & (dwell > 10 * n)], np.array(10.0 * n)) for n in range(1, 16)]
    found += [
        (PLAY, every[film], np.array(2.0)),
        (PROGRESS, every[film], dwell[film] * 0.5),
        (END, every[film & (dwell > 25)], np.array(22.0)),
        (FOCUS, every[form], dwell[form] * 0.3),
        (CHANGE, every[form & (sent | (luck["link"] < 0.5))], np.array(0.9)),
        (SUBMITTED, every[sent], dwell[sent]),
        (LINK, every[human & (luck["link"] < 0.2)], np.array(0.8)),
        (VITALS, every[human & (luck["vitals"] < 0.25)], np.array(0.7)),
        (ERROR, every[luck["error"] < 0.01], np.array(0.6)),
    ]
    view = np.concatenate([at for _, at, _ in found])
    offset = np.concatenate([np.broadcast_to(after, len(at)) for _, at, after in found])
    kind = np.concatenate([np.full(len(at), kind) for kind, at, _ in found])
    return {
        **{name: column[view] for name, column in views.items()},
        "p_true": _knowing(kind, level[view], views["step"][view], views["p_true"][view]),
        "kind": kind,
        "at": views["at"][view] + np.minimum(offset, dwell[view]),
    }


def _knowing(kind: Ints, level: Ints, step: Ints, p_view: Floats) -> Floats:
    """The probability at an event of a form: who begins or fills it in is likelier to send it."""
    matrix, chance = transitions(), chances()
    left = MAX_VIEWS - 2 - step  # page views still possible after this one
    onward = np.einsum("ln,lkn->lk", matrix[:, DEMO, :SUBMIT], chance)
    goes_on = np.where(left >= 0, onward[level, np.maximum(left, 0)], 0.0)
    sent = matrix[level, DEMO, SUBMIT]
    known = p_view
    for event, share in ((FOCUS, 1.0), (CHANGE, 0.5)):
        begun = share * np.array([*FORM_BEGUN, 0.0])[level]
        informed = (sent + goes_on * begun) / np.maximum(sent + (1 - sent) * begun, 1e-12)
        known = np.where(kind == event, informed, known)
    result: Floats = known
    return result
