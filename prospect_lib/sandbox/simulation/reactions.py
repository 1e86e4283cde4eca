"""Visitors who react to invitations by a known amount, so that a measurement can be checked.

Example: ``with_reactions(events, invited, effect=0.05)`` -> the events, and the forms that were
sent because of an invitation
"""

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from prospect_lib.errors import DataError
from prospect_lib.sandbox.simulation.rows import BODIES, SIMULATED_EVENTS, SUBMITTED

_SECONDS = (20.0, 600.0)  # from an invitation to the form
_HORIZON = timedelta(hours=1)


def with_reactions(
    events: pa.Table, invited: pa.Table, *, effect: float = 0.0, seed: int = 0
) -> pa.Table:
    """Return events with the forms that visitors send because they are invited.

    Args:
        events: of :func:`~.visitors.simulate`, or some of their columns.
        invited: one row per invitation, at the time of an event or later: ``domain_userid`` and
            ``anchor_ts`` (UTC, without zone).
        effect: expected rise of the share of the invited who send the form within an hour. Those
            who would have sent none react, each with the same probability.
        seed: of the random choice.
    Raises:
        DataError: not so many send none.
    """
    moments = invited.select(["domain_userid", "anchor_ts"]).to_pandas().sort_values("anchor_ts")
    times = events.select(["domain_userid", "derived_tstamp", "event_name"]).to_pandas()
    times = times.assign(place=np.arange(len(times))).sort_values("derived_tstamp", kind="stable")
    forms = times[times["event_name"] == "submit_form"]
    sides = {"left_on": "anchor_ts", "right_on": "derived_tstamp", "by": "domain_userid"}
    following = pd.merge_asof(moments, forms, direction="forward", tolerance=_HORIZON, **sides)
    latest = pd.merge_asof(moments, times, **sides)["place"]
    silent = following["place"].isna().to_numpy()
    if not 0 <= effect <= silent.mean():
        raise DataError(
            f"effect={effect}: expected 0 to {silent.mean():.2f}, the share without a form."
        )
    rng = np.random.default_rng(seed)
    reacts = silent & (rng.random(len(silent)) * silent.mean() < effect)
    waits = rng.uniform(*_SECONDS, len(silent))
    event, vendor, name = SIMULATED_EVENTS[SUBMITTED]
    sent = {column: _body(bodies) for column, bodies in BODIES.items()}
    sent |= {"event": event, "event_vendor": vendor, "event_name": name}
    rows = events.take(pa.array(latest[reacts].astype("int64"))).to_pylist()
    for number, (row, moment, wait) in enumerate(
        zip(rows, moments["anchor_ts"][reacts], waits[reacts], strict=True)
    ):
        at = moment.to_pydatetime() + timedelta(seconds=wait)
        stamps = dict.fromkeys((column for column in row if column.endswith("_tstamp")), at)
        row |= {**sent, **stamps, "event_id": f"{seed:08x}-0000-4000-a000-{number:012x}"}
    return pa.concat_tables([events, pa.Table.from_pylist(rows, schema=events.schema)])


def _body(bodies: dict[int, Any]) -> str | None:
    return json.dumps(bodies[SUBMITTED]) if SUBMITTED in bodies else None
