"""By how much the scoring moments are wrong, if they are wrong by the same amount.

Between two events of a visitor nothing changes, so each row that is right at another moment
is right for a whole interval of shifts; the shift in most rows' intervals is the clock's.
"""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from prospect_lib.monitoring.recompute import Rebuilt

FURTHEST = timedelta(hours=14)  # as far apart as time zones are from UTC
_MICROSECOND = timedelta(microseconds=1)


def common_shift(rebuilt: Rebuilt, rows: pa.Table) -> tuple[timedelta, float]:
    """The shift of the moments that makes most rows right, and the share of rows it does."""
    anchors = moments_of_events(rebuilt, rows, FURTHEST)
    rebuilt.place("moved", anchors)
    right = rebuilt.frame(rebuilt.equal_rows("moved"))
    if right.empty:
        return timedelta(), 0.0
    spans = right.merge(_spans(anchors), on=["served_row", "shift"])
    at, count = _deepest(spans["shift"].to_numpy(), spans["end"].to_numpy())
    return at * _MICROSECOND, count / rows.num_rows


def moments_of_events(rebuilt: Rebuilt, rows: pa.Table, within: timedelta) -> pa.Table:
    """Every moment so near a row's at which its visitor did something, and one before them
    all, as anchors for ``Rebuilt.place``."""
    events = rebuilt.times_of_events(rows, within)
    first = rows.select(["served_row", "domain_userid", "anchor_ts"]).to_pandas()
    at = first["anchor_ts"].rename("claimed")
    before = first.assign(anchor_ts=at - within, claimed=at)
    every = pd.concat([before, events.rename(columns={rebuilt.key: "domain_userid"})])
    shift = (every["anchor_ts"] - every["claimed"]) // _MICROSECOND
    table = {
        rebuilt.key: pa.array(every["domain_userid"], pa.string()),
        "anchor_ts": pa.array(every["anchor_ts"].to_numpy("datetime64[us]")),
        "served_row": pa.array(every["served_row"].to_numpy("int64")),
        "shift": pa.array(shift.to_numpy("int64")),
    }
    return pa.table(table)


def _spans(anchors: pa.Table) -> pd.DataFrame:
    """Until which shift each state lasts."""
    found = anchors.select(["served_row", "shift"]).to_pandas()
    found = found.drop_duplicates().sort_values(["served_row", "shift"])
    after = found.groupby("served_row")["shift"].shift(-1)
    return found.assign(end=after.fillna(FURTHEST // _MICROSECOND).astype("int64"))


def _deepest(start: "np.ndarray[tuple[int], np.dtype[np.int64]]", end: object) -> tuple[int, int]:
    """The middle of where most spans overlap, and how many do."""
    edges = np.concatenate([start, np.asarray(end)])
    steps = np.concatenate([np.ones(len(start), int), -np.ones(len(start), int)])
    order = np.lexsort((steps, edges))  # what ends at a place ends before others begin
    depth = np.cumsum(steps[order])
    best = int(depth.argmax())
    following = edges[order][min(best + 1, len(edges) - 1)]
    return int((edges[order][best] + following) // 2), int(depth[best])
