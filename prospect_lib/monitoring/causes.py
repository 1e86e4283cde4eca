"""Find the cause of each value that was served and would be different in training.

The causes are tried in an order: a mismatch that one explains is not offered to the next.
What remains is unexplained; often one type of event that one side never received.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup, AttributeKey, Event

from prospect_lib.aggregation.fold import group_hash
from prospect_lib.monitoring.keyed_events import ARRIVED, HAPPENED, KEY, keyed_events
from prospect_lib.monitoring.recompute import Recomputation
from prospect_lib.monitoring.served_scores import ROW, SHIFT, anchors_of
from prospect_lib.sql.dialects import dialect_of

LATE, FRESHNESS, DEFINITION = "late events", "freshness", "definition"
HISTORY, CLOCK, UNEXPLAINED = "not backfilled", "clock", "unexplained"
#: Each cause of a mismatch, and what to do about it.
CAUSES = {
    LATE: "Events happened before the score and arrived after it: trackers send late, or the "
    "collector is busy. Nothing to do unless the share grows; then train on what had arrived.",
    FRESHNESS: "Signals, or the server's cache, was some seconds behind. Request the score a "
    "moment after the event, or lower Options(fresh_seconds=).",
    DEFINITION: "The attributes were served under a different definition. Publish the group "
    "again, or train a model on the definition that is served.",
    HISTORY: "These visitors have events from before Signals began to count. Publish the group "
    "with backfill_since_tstamp, or train only on events since it was published.",
    CLOCK: "The scoring times are all wrong by the same amount. Set the server's clock (NTP), "
    "and score in UTC.",
    UNEXPLAINED: "No known cause. Look at the examples: events that one side never received, or "
    "a bug.",
}
#: Causes that a correct system has in small numbers.
EXPECTED_CAUSES = (LATE, FRESHNESS)

_ROW_KEY = "audit_row_key"  # a served row's number as the identifier of its own events
_MICROSECOND = timedelta(microseconds=1)
_OLDEST, _NEWEST = timedelta(seconds=60), timedelta(seconds=2)  # further off: a wrong clock
_MAX_CLOCK_ERROR = timedelta(hours=14)  # the largest difference of a time zone from UTC
_CLOCK_SAMPLE, _CLOCK_MIN_ROWS, _CLOCK_MIN_SHARE = 400, 5, 0.5


def explain_definition(
    recomputation: Recomputation, group: AttributeGroup, changed: Sequence[str]
) -> None:
    """Explain mismatches of changed attributes, and of scores served under another group.

    Args:
        group: all attributes, as they are defined now.
        changed: names of the attributes whose published definition is different.
    """
    sql = dialect_of("duckdb")
    served_hash = sql.text(group_hash(group))
    recomputation.explain_served(DEFINITION, f"group_hash <> {served_hash}")
    for attribute in recomputation.attributes:
        name = sql.text(attribute.name)
        not_served = f"SELECT served_row FROM served WHERE list_contains(not_served, {name})"
        rows = "" if attribute.name in changed else f" AND served_row IN ({not_served})"
        recomputation.explain(DEFINITION, f"attribute = {name}{rows}")


def explain_late_events(recomputation: Recomputation) -> None:
    """Explain values that are right if events that arrived after the score are left out."""
    rows, key = recomputation.unexplained_rows(), recomputation.key
    warehouse = recomputation.warehouse
    if rows.num_rows == 0:
        return
    anchors = recomputation.write(anchors_of(rows, key))
    before = f"{recomputation.events_of_visitors(anchors)} AND e.{HAPPENED} <= a.anchor_ts"
    late = warehouse.query(f"SELECT DISTINCT a.{ROW} FROM {before} AND e.{ARRIVED} > a.anchor_ts")
    rows = rows.filter(pc.is_in(rows["served_row"], late[ROW].cast(pa.int64())))
    if rows.num_rows == 0:
        return
    anchors = recomputation.write(anchors_of(rows, key))
    before = f"{recomputation.events_of_visitors(anchors)} AND e.{HAPPENED} <= a.anchor_ts"
    events = recomputation.write_events(  # each row has its own: its number stands for the visitor
        f"SELECT e.*, CAST(a.{ROW} AS VARCHAR) AS {_ROW_KEY} FROM {before} "
        f"AND e.{ARRIVED} <= a.anchor_ts",
    )
    by_row = {"attribute_key": AttributeKey(name=_ROW_KEY)}
    rows = rows.append_column(_ROW_KEY, rows["served_row"].cast(pa.string()))
    recomputation.recompute(
        "from_arrived_events",
        anchors_of(rows, _ROW_KEY),
        events,
        recomputation.group.model_copy(update=by_row),
    )
    recomputation.explain_equal_values(LATE, "from_arrived_events")


def explain_freshness(recomputation: Recomputation) -> None:
    """Explain rows that are right for a moment up to a minute earlier, or 2 seconds later."""
    recomputation.explain_served(FRESHNESS, "stale")
    rows = recomputation.unexplained_rows()
    if rows.num_rows:
        recomputation.recompute("shifted", _anchors_at_events(recomputation, rows, _OLDEST))
        _explain_shifted(recomputation, FRESHNESS, f"{SHIFT} <= {_NEWEST // _MICROSECOND}")


def explain_history(recomputation: Recomputation, since: datetime) -> None:
    """Explain values that are right if events before ``since`` (aware) are left out."""
    rows, warehouse = recomputation.unexplained_rows(), recomputation.warehouse
    if rows.num_rows == 0:
        return
    start = dialect_of(warehouse.dialect).literal(since)
    events = recomputation.write_events(
        f"SELECT * FROM {keyed_events(warehouse, recomputation.group)} AS e "
        f"WHERE e.{HAPPENED} >= {start}",
    )
    recomputation.recompute("without_history", anchors_of(rows, recomputation.key), events)
    recomputation.explain_equal_values(HISTORY, "without_history")


def explain_clock(recomputation: Recomputation) -> timedelta | None:
    """Explain rows that are right if all scoring times are moved by the same amount.

    Returns:
        How far the server's clock is ahead; ``None`` if no amount makes most rows right.
    """
    rows = recomputation.unexplained_rows(limit=_CLOCK_SAMPLE)
    if rows.num_rows < _CLOCK_MIN_ROWS:
        return None
    shift, share = _common_shift(recomputation, rows)
    if share < _CLOCK_MIN_SHARE:
        return None
    rows = recomputation.unexplained_rows()
    recomputation.recompute("shifted", anchors_of(rows, recomputation.key, [shift]))
    _explain_shifted(recomputation, CLOCK)
    return -shift


def missing_event_types(group: AttributeGroup, unexplained: pd.DataFrame) -> list[str]:
    """Return one sentence per type of event whose loss explains the remaining mismatches.

    Args:
        group: the attributes that were served.
        unexplained: ``attribute``, ``served`` and ``recomputed`` (as text) per mismatch.
    """
    attributes_of: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for attribute in group.attributes or []:
        attributes_of[tuple(map(_event_name, attribute.events))].append(attribute.name)
    wrong = {
        types: mismatches
        for types, names in attributes_of.items()
        if len(mismatches := unexplained[unexplained["attribute"].isin(names)])
    }
    if len(wrong) == len(attributes_of) > 1:
        return ["Every attribute is wrong for some visitors: look at their examples first."]
    sentences = []
    for types, mismatches in wrong.items():
        served_more = _size(mismatches["served"]) > _size(mismatches["recomputed"])
        side = "the warehouse lacks" if served_more.mean() > 0.5 else "Signals did not count"
        names = ", ".join(sorted(set(mismatches["attribute"])))
        sentences.append(
            f"Dropped event type: {side} events {' / '.join(types)} "
            f"({len(mismatches):,} values of {names})."
        )
    return sentences


def _explain_shifted(recomputation: Recomputation, cause: str, condition: str = "TRUE") -> None:
    equal = recomputation.equal_rows("shifted")
    recomputation.explain(
        cause, f"served_row IN (SELECT served_row FROM ({equal}) WHERE {condition})"
    )


def _common_shift(recomputation: Recomputation, rows: pa.Table) -> tuple[timedelta, float]:
    """Return the shift of the anchors that makes most rows right, and their share.

    Values change only at a visitor's events, so each row that is right at a shifted anchor is
    right for an interval of shifts. The result is in the most intervals.
    """
    anchors = _anchors_at_events(recomputation, rows, _MAX_CLOCK_ERROR)
    recomputation.recompute("shifted", anchors)
    equal = recomputation.frame(recomputation.equal_rows("shifted"))
    if equal.empty:
        return timedelta(), 0.0
    shifts = anchors.select([ROW, SHIFT]).to_pandas()
    shifts = shifts.drop_duplicates().sort_values([ROW, SHIFT])
    next_shift = shifts.groupby(ROW)[SHIFT].shift(-1)
    last = _MAX_CLOCK_ERROR // _MICROSECOND
    ends = shifts.assign(end=next_shift.fillna(last).astype("int64"))
    intervals = equal.rename(columns={"served_row": ROW}).merge(ends, on=[ROW, SHIFT])
    shift, count = _most_overlap(intervals[SHIFT].to_numpy(), intervals["end"].to_numpy())
    return shift * _MICROSECOND, count / rows.num_rows


def _anchors_at_events(recomputation: Recomputation, rows: pa.Table, within: timedelta) -> pa.Table:
    """Return anchors at each event of a row's visitor up to ``within`` before and after the
    row, and one anchor before them all."""
    events = recomputation.event_times(rows, within)
    first = rows.select(["served_row", recomputation.key, "anchor_ts"])
    first = first.rename_columns([ROW, KEY, "anchor_ts"]).to_pandas()
    first["scored_at"] = first["anchor_ts"]
    first["anchor_ts"] -= within
    anchors = pd.concat([first, events])
    shift = (anchors["anchor_ts"] - anchors["scored_at"]) // _MICROSECOND
    return pa.table(
        {
            recomputation.key: pa.array(anchors[KEY], pa.string()),
            "anchor_ts": pa.array(anchors["anchor_ts"].to_numpy("datetime64[us]")),
            ROW: pa.array(anchors[ROW].to_numpy("int64")),
            SHIFT: pa.array(shift.to_numpy("int64")),
        }
    )


def _most_overlap(starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the middle of where most intervals overlap, and how many do."""
    edges = np.concatenate([starts, ends])
    steps = np.repeat([1, -1], len(starts))
    order = np.lexsort((steps, edges))  # at one edge, intervals end before others start
    overlap = np.cumsum(steps[order])
    most = int(overlap.argmax())
    end = edges[order][min(most + 1, len(edges) - 1)]
    return int((edges[order][most] + end) // 2), int(overlap[most])


def _event_name(event: Event) -> str:
    return event.name or f"of {event.vendor or 'any vendor'}"


def _size(values: "pd.Series[str]") -> "pd.Series[float]":
    """Return numbers as they are, the length of a list, 1 for other text and 0 for null."""
    numbers = pd.to_numeric(values, errors="coerce")
    texts = values.fillna("").astype(str)
    items = texts.str.count(",") + (texts != "").astype(float)
    return numbers.astype(float).fillna(items)
