"""Walks of visitors with a hidden intent over the pages of the demo website.

A session is a Markov chain of at most ``MAX_VIEWS`` pages. Each step depends on the page and on
the visitor's intent, so the probability that it ends with a submitted form is known exactly.
"""

from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PAGES = ("home", "product", "pricing", "customers", "blog", "videos", "demo")
DEMO, VIDEOS, SUBMIT, LEAVE = 6, 5, 7, 8
MAX_VIEWS, MAX_DWELL = 20, 150.0  # seconds; a session ends within 55 minutes
LEVELS = 5  # of intent; one more level behaves like a bot
BOT = LEVELS
FORM_SENT = (0.02, 0.06, 0.13, 0.27, 0.48)  # share of those who see the form, by level
LEVEL_SHARE = (0.46, 0.27, 0.15, 0.08, 0.04)  # of visitors
WEEKEND = 0.5  # share of weekend sessions that are moved to a working day
#: shares of the channels and the devices of :mod:`~.rows`, by level
CHANNEL_BY_LEVEL = np.array(
    [
        [0.18, 0.24, 0.14, 0.12, 0.03, 0.12, 0.04, 0.13],
        [0.20, 0.26, 0.10, 0.09, 0.06, 0.12, 0.07, 0.10],
        [0.23, 0.24, 0.07, 0.07, 0.12, 0.10, 0.11, 0.06],
        [0.26, 0.21, 0.04, 0.05, 0.20, 0.07, 0.14, 0.03],
        [0.28, 0.17, 0.02, 0.04, 0.27, 0.04, 0.16, 0.02],
        [0.90, 0.00, 0.00, 0.10, 0.00, 0.00, 0.00, 0.00],
    ]
)
DEVICE_BY_LEVEL = np.array(
    [
        [0.45, 0.49, 0.06, 0], [0.52, 0.43, 0.05, 0], [0.62, 0.34, 0.04, 0],
        [0.72, 0.25, 0.03, 0], [0.80, 0.18, 0.02, 0], [0, 0, 0, 1.0],
    ]
)  # fmt: skip


def transitions() -> FloatArray:
    """Return the probabilities of the next page: P[level, page, next].

    The last two values of ``next`` stand for a submitted form and for leaving the site.
    """
    matrix = np.zeros((LEVELS + 1, len(PAGES), LEAVE + 1))
    #                    home prod pric cust blog vids demo
    curious = np.array([0.5, 1.0, 0.30, 0.45, 0.9, 0.35, 0.05])
    keen = np.array([0.4, 1.0, 1.30, 0.90, 0.4, 0.80, 0.75])
    for level in range(LEVELS):
        intent = level / (LEVELS - 1)
        for page in range(len(PAGES)):
            weight = (1 - intent) * curious + intent * keen
            weight[page] *= 0.3
            weight[DEMO] *= 2.0 if page == PAGES.index("pricing") else 1.0
            matrix[level, page, :SUBMIT] = weight / weight.sum() * (0.55 + 0.25 * intent)
            matrix[level, page, LEAVE] = 0.45 - 0.25 * intent
        submit = FORM_SENT[level]
        matrix[level, DEMO] *= 1 - submit
        matrix[level, DEMO, SUBMIT] = submit
    matrix[BOT, :, :SUBMIT] = 0.95 / len(PAGES)
    matrix[BOT, :, LEAVE] = 0.05
    return matrix


def chances() -> FloatArray:
    """Return the exact probability that a walk ends with a submitted form.

    Its axes are the level, how many more views are possible, and the page.
    """
    matrix = transitions()
    result = np.zeros((LEVELS + 1, MAX_VIEWS, len(PAGES)))
    for left in range(MAX_VIEWS):
        goes_on = result[:, left - 1] if left else np.zeros((LEVELS + 1, len(PAGES)))
        result[:, left] = matrix[:, :, SUBMIT] + np.einsum(
            "lpn,ln->lp", matrix[:, :, :SUBMIT], goes_on
        )
    return result


def sessions_of(
    rng: np.random.Generator, visitors: int, days: int, start: datetime
) -> dict[str, Any]:
    """Return every session of every visitor: its level, channel, device and start.

    Args:
        start: start of the period (aware, UTC); that of a session is in seconds after it.
    """
    level = rng.choice(LEVELS, visitors, p=LEVEL_SHARE)
    level[rng.random(visitors) < 0.03] = BOT
    count = rng.geometric(np.array([0.6, 0.5, 0.4, 0.33, 0.28, 0.5])[level])
    visitor = np.repeat(np.arange(visitors), count)
    first = np.r_[0, np.cumsum(count)[:-1]]
    index = np.arange(len(visitor)) - np.repeat(first, count)
    gap = 7200 + 3600 + rng.exponential(4.5 * 86400, len(visitor))
    gap[first] = rng.uniform(0, days * 86400, visitors)
    total = np.cumsum(gap)
    begin = total - np.repeat(total[first] - gap[first], count)
    rises = (rng.random(len(visitor)) < 0.3) & (index > 0)  # intent grows between sessions
    steps = np.cumsum(rises)
    session_level = level[visitor] + steps - np.repeat(steps[first], count)
    session_level = np.where(level[visitor] == BOT, BOT, np.minimum(session_level, LEVELS - 1))
    return {
        "visitor": visitor,
        "index": index + 1,
        "start": _apart(_rhythm(rng, begin, start), visitor, index),
        "level": session_level,
        "channel": _pick(rng, CHANNEL_BY_LEVEL[session_level]),
        "device": _pick(rng, DEVICE_BY_LEVEL[level])[visitor],
        "docs": rng.random(len(visitor)) < 0.12 - 0.02 * np.minimum(session_level, 4),
        "landing": rng.random(len(visitor)) < 0.4,
        "visitors": visitors,
    }


def _rhythm(rng: np.random.Generator, begin: FloatArray, start: datetime) -> FloatArray:
    """Move starts so that most sessions begin by day, and fewer at weekends (in UTC).

    Within a day, times move towards the afternoon; some weekend sessions move to Monday or
    Tuesday.
    """
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    offset = (start - midnight).total_seconds()
    day, second = np.divmod(begin + offset, 86400)
    weekday = (midnight.weekday() + day) % 7
    postponed = (weekday >= 5) & (rng.random(len(begin)) < WEEKEND)
    day = np.where(postponed, day + 2, day)
    moved = np.clip(rng.normal(14 * 3600, 3.5 * 3600, len(begin)), 0, 82000)
    later = np.where(postponed | (moved >= second), moved, second)
    by_day = rng.random(len(begin)) < 0.7
    result: FloatArray = day * 86400 + np.where(by_day, later, second) - offset
    return result


def _apart(start: FloatArray, visitor: IntArray, index: IntArray) -> FloatArray:
    """Move starts so that a visitor's sessions begin at least three hours apart."""
    floor = visitor * 1e9 - index * 10800.0
    result: FloatArray = np.maximum.accumulate(start + floor) - floor
    return result


def views_of(rng: np.random.Generator, sessions: dict[str, Any]) -> dict[str, Any]:
    """Return every page view of every session, computed one step of all sessions at a time."""
    cumulative = np.cumsum(transitions(), axis=2)
    chance = chances()
    alive = np.arange(len(sessions["level"]))
    entry = np.array([0.42, 0.18, 0.07, 0.07, 0.20, 0.06, 0.00])
    page = rng.choice(len(PAGES), len(alive), p=entry)
    clock = sessions["start"].copy()
    parts: list[dict[str, Any]] = []
    for step in range(MAX_VIEWS):
        level = sessions["level"][alive]
        mean = np.array([12, 18, 26, 36, 44, 2])[level]
        dwell = np.clip(rng.lognormal(np.log(mean), 0.8), 1.0, MAX_DWELL)
        after = (rng.random(len(alive))[:, None] > cumulative[level, page]).sum(axis=1)
        after = np.minimum(after, LEAVE)
        parts.append(
            {
                "session": alive,
                "page": page,
                "step": np.full(len(alive), step),
                "at": clock[alive],
                "dwell": dwell,
                "next": after,
                "p_true": chance[level, MAX_VIEWS - 1 - step, page],
            }
        )
        clock[alive] += dwell + 0.5
        on = after < SUBMIT
        alive, page = alive[on], after[on]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _pick(rng: np.random.Generator, probabilities: FloatArray) -> IntArray:
    """Draw one category per row, by the row's probabilities."""
    cumulative = np.cumsum(probabilities, axis=1)
    drawn = (rng.random(len(cumulative))[:, None] > cumulative).sum(axis=1)
    result: IntArray = np.minimum(drawn, probabilities.shape[1] - 1)
    return result
