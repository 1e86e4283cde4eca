"""The best observable score: what somebody who knows the simulator could know from the events.

It is the exact Bayes filter of the Markov chain in :mod:`~.intent`. The hidden intent is never
read: at each moment there is a *belief*, a probability of each intent given all events of the
visitor until then, and whatever happens multiplies it by how likely that is under each intent.
No model can expect a lower log loss on these events.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.sandbox.simulation import intent
from prospect_lib.sandbox.simulation.intent import (
    ASKED,
    DEMO,
    INTENTS,
    LANDING,
    LEAVE,
    MAX_PINGS,
    MAX_VIEWS,
    OPENERS,
    SENT,
    THANKS,
    VIDEOS,
    FloatArray,
    IntArray,
)
from prospect_lib.sandbox.simulation.rows import DEVICE_NAMES, ORIGINS, PATHS

#: Name of the column with the score.
BEST = "best_observable"
#: The columns of the events that it is computed from.
NEEDED = ("domain_userid", "domain_sessionid", "derived_tstamp", "event_name", "page_urlpath",
          "mkt_campaign", "refr_urlhost", "contexts_nl_basjes_yauaa_context_1")  # fmt: skip
_FILM = ("play_event", "percent_progress_event", "end_event")
_FORM = ("focus_form", "change_form", "submit_form")

# A state is an intent of one who does, or does not, keep pages open: all tables twice. Here the
# states are always the last axis.
_FOCUSES, _CHANGES, _SENDS, _WATCHES, _RETURNS = (
    np.tile(table, 2)
    for table in (intent.FOCUSES, intent.CHANGES, intent.SENDS, intent.WATCHES, intent.RETURNS)
)
_READS_ON = np.concatenate([intent.READS_ON, intent.KEEPS_OPEN])
_FIRST = np.concatenate([(1 - OPENERS) * intent.FIRST_INTENTS, OPENERS * intent.FIRST_INTENTS])
_BETWEEN = np.kron(np.eye(2), intent.BETWEEN)
_AFTER_SENDING = np.kron(np.eye(2), np.tile(np.arange(len(INTENTS)) == ASKED, (len(INTENTS), 1)))
_DEVICES, _CHANNELS, _ENTRIES, _FOLLOWS, _ON_PAGE, _AFTER_PAGE = (
    np.moveaxis(np.concatenate([table, table]), 0, -1)
    for table in (
        intent.DEVICES, intent.FIRST_CHANNELS, intent.ENTRIES,
        intent.next_pages(), *intent.chances(),
    )
)  # fmt: skip


def best_observable(events: pa.Table) -> pa.Table:
    """Return the probability of a sent form within the hour, at every moment of a score.

    Args:
        events: simulated atomic events, each visitor's from the first one on, sorted by visitor
            and time, with the columns ``NEEDED``.
    Returns:
        ``domain_userid``, ``anchor_ts`` and ``best_observable`` (0..1) of each page view and each
        event of a film or a form but its sending.
    """
    is_a = {
        kind: pc.equal(events["event_name"], kind).to_numpy()
        for kind in ("page_view", "page_ping", *_FILM, *_FORM)
    }
    view_of = np.cumsum(is_a["page_view"]) - 1  # the page view that each event belongs to
    views = _views(events, is_a, view_of)
    belief = _beliefs(views)
    place = np.maximum(MAX_VIEWS - 1 - views["step"], 0), views["page"]
    after = _AFTER_PAGE[place]
    sends = _SENDS + (1 - _SENDS) * after
    scores = {
        "page_view": _mean(belief, _ON_PAGE[place]),
        **dict.fromkeys(_FILM, _mean(belief * _WATCHES, after)),
        "focus_form": _mean(belief * _FOCUSES, _CHANGES * sends + (1 - _CHANGES) * after),
        "change_form": _mean(belief * _FOCUSES * _CHANGES, sends),
    }
    score = np.full(events.num_rows, np.nan)
    for kind, of_view in scores.items():
        score[is_a[kind]] = of_view[view_of[is_a[kind]]]
    columns = (events["domain_userid"], events["derived_tstamp"], pa.array(score))
    table = pa.table(dict(zip(("domain_userid", "anchor_ts", BEST), columns, strict=True)))
    return table.filter(pa.array(~np.isnan(score)))


def _views(events: pa.Table, is_a: dict[str, Any], view_of: IntArray) -> dict[str, Any]:
    """Return what is observed of each page view, in the order of the events."""
    rows = events.filter(pa.array(is_a["page_view"]))
    origin = pc.binary_join_element_wise(
        *(pc.fill_null(rows[name], "") for name in ("mkt_campaign", "refr_urlhost")), " "
    )
    number = np.arange(rows.num_rows)
    new_visitor, new_session = (
        np.r_[True, np.diff(_codes(rows[name])) != 0]
        for name in ("domain_userid", "domain_sessionid")
    )
    new_session |= new_visitor
    counts = {
        kind: np.bincount(view_of[chosen], minlength=len(number)) for kind, chosen in is_a.items()
    }
    return {
        "new_session": new_session,
        "place": number - np.maximum.accumulate(np.where(new_visitor, number, 0)),
        "step": number - np.maximum.accumulate(np.where(new_session, number, 0)),
        "page": _positions(rows["page_urlpath"], PATHS),
        "channel": _positions(origin, ORIGINS),
        "device": _positions(rows["contexts_nl_basjes_yauaa_context_1"], DEVICE_NAMES),
        "pings": np.minimum(counts["page_ping"], MAX_PINGS),
        "watches": counts["play_event"] > 0,
        "form": np.sum([counts[kind] > 0 for kind in _FORM], axis=0),
    }


def _beliefs(views: dict[str, Any]) -> FloatArray:
    """Return the belief at the beginning of each page view, shape (page views, states).

    The n-th page views of all visitors are computed at a time.
    """
    page, place = views["page"], views["place"]
    enters = np.where(page[:, None] == LANDING, 1.0, _ENTRIES[page])
    first = _FIRST * _DEVICES[views["device"]] * _CHANNELS[views["channel"]] * enters
    seen, sent = _likelihood(views), views["form"] == SENT
    last = views["step"] >= MAX_VIEWS - 1
    leaves = np.where((last | sent)[:, None], 1.0, _FOLLOWS[page, LEAVE])
    arrives = np.ones_like(seen)
    arrives[1:] = _FOLLOWS[page[:-1], page[1:]]
    arrives[page == THANKS] = 1.0
    belief = np.empty_like(seen)
    order = np.argsort(place, kind="stable")
    for group in np.split(order, np.searchsorted(place[order], np.arange(1, place.max() + 1))):
        if place[group[0]] == 0:
            belief[group] = _normal(first[group])
            continue
        before = _normal(belief[group - 1] * seen[group - 1])
        before = np.where(sent[group - 1][:, None], before @ _AFTER_SENDING, before)
        onward = before * arrives[group]
        returns = (_normal(before * leaves[group - 1]) * _RETURNS) @ _BETWEEN * enters[group]
        belief[group] = _normal(np.where(views["new_session"][group][:, None], returns, onward))
    return belief


def _likelihood(views: dict[str, Any]) -> FloatArray:
    """Return how likely is what happens during a page view, in each state."""
    page, pings, form = (views[name][:, None] for name in ("page", "pings", "form"))
    reads = _READS_ON**pings * np.where(pings < MAX_PINGS, 1 - _READS_ON, 1.0)
    film = np.where(views["watches"][:, None], _WATCHES, (1 - _WATCHES) * reads)
    starts, fills = _FOCUSES, _FOCUSES * _CHANGES
    stages = np.stack([1 - starts, starts * (1 - _CHANGES), fills * (1 - _SENDS), fills * _SENDS])
    filling = stages[views["form"]] * np.where(form > 0, 1.0, reads)
    likelihood: FloatArray = np.where(page == VIDEOS, film, np.where(page == DEMO, filling, reads))
    return likelihood


def _normal(weights: FloatArray) -> FloatArray:
    """Return weights that add up to 1 in each row; equal ones where all are 0."""
    total = weights.sum(axis=1, keepdims=True)
    equal = np.full_like(weights, 1 / weights.shape[1])
    normal: FloatArray = np.divide(weights, total, out=equal, where=total > 0)
    return normal


def _mean(weights: FloatArray, values: FloatArray) -> FloatArray:
    """Return the mean of each row's values under its weights."""
    mean: FloatArray = (_normal(weights) * values).sum(axis=1)
    return mean


def _codes(column: Any) -> IntArray:
    codes: IntArray = column.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes


def _positions(column: Any, values: tuple[str, ...]) -> IntArray:
    """Return the position of each value, 0 for one that the simulator does not have."""
    positions: IntArray = pc.fill_null(pc.index_in(column, pa.array(values)), 0).to_numpy()
    return positions
