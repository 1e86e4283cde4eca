"""Counts, distinct counts, first and last values as differences of running totals.

A count over the last 7 days is the running total now less the running total 7 days ago. The
number of distinct values is how many entered the window less how many left it: a value enters
when it was not seen for the window's length, and leaves that long after it was last seen. The
first value is that of the event whose number follows the total before the window; the last value
is that of the event whose number is the total now. So one sorted pass answers all of them: over
the events, the anchors, and the instants before each anchor's windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals.models.model import Attribute

from prospect_lib.sql.context import MICROSECOND, Context, label, lines

COUNTS = {"counter"}
FIRST = {"first", "time_since_first"}
LAST = {"last", "time_since_last"}
DISTINCT = {"unique_list", "approx_count_distinct"}

NEIGHBOURS = """\
-- when the visitor had the same {x} before, and when next
{x}_neighbours AS (
  SELECT
    visitor,
    ts,
    LAG(ts) OVER (PARTITION BY visitor, {x} ORDER BY ts) AS previous_ts,
    LEAD(ts) OVER (PARTITION BY visitor, {x} ORDER BY ts) AS next_ts
  FROM matched
  WHERE {x} IS NOT NULL
),
-- whether the value enters or leaves a window
{x}_changes AS (
  SELECT
    visitor,
    ts,
{changes}
  FROM {x}_neighbours
)"""

TOTALS = """\
-- each anchor, and the last instant before each of its windows
lookups AS (
  SELECT visitor, ts, ts AS anchor_ts, 1 AS place FROM anchor_times{starts}
),
-- in one stream: what is counted when, and the instants at which totals are looked up
merged_stream AS (
  SELECT
    visitor,
    ts,
    CAST(NULL AS {timestamp_type}) AS anchor_ts,
    0 AS place,
{counted}
  FROM matched{changes}
  UNION ALL
  SELECT visitor, ts, anchor_ts, place, {nothing}
  FROM lookups
),
-- the running totals at each anchor, and before its windows{note}
running_totals AS {materialized}(
  SELECT *
  FROM (
    SELECT
      visitor,
      anchor_ts,
      place,
{totals}
    FROM {stream_in_order}
  ) AS totals_per_row
  WHERE place > 0
)"""

WINDOW_START = """
  UNION ALL
  SELECT visitor, {start}, ts, {place} FROM anchor_times"""

VALUE_CHANGES = """
  UNION ALL
  SELECT visitor, ts, NULL, 0, {flags}
  FROM {x}_changes
  WHERE {some}"""

NUMBERED = """\
-- the events that have {x}, numbered as the running total {x}_count counts them
{x}_numbered AS (
  SELECT visitor, ts, {x} AS value, {number} AS number
  FROM matched
  WHERE {x} IS NOT NULL
)"""

WINDOW_COUNTS = """\
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    now.visitor,
    now.anchor_ts AS ts,
{values}
  FROM running_totals AS now
{joins}
  WHERE now.place = 1
)"""

BEFORE = """\
  LEFT JOIN running_totals AS {alias}
    ON {alias}.visitor = now.visitor
    AND {alias}.anchor_ts = now.anchor_ts
    AND {alias}.place = {place}"""

GROUPED_WINDOW_COUNTS = """\
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    visitor,
    anchor_ts AS ts,
{values}
  FROM running_totals
  GROUP BY visitor, anchor_ts
)"""


@dataclass(frozen=True)
class RunningTotals:
    """The steps that the given attributes need, and each attribute's value after them."""

    context: Context
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        return [
            *map(self._neighbours, self._distinct_columns),
            self._running_totals(),
            *map(self._numbered, self.context.columns(self._with(FIRST | LAST))),
            self._window_counts(),
        ]

    def join(self) -> str:
        """Return the joins of the values to the anchors."""
        if not self.attributes:
            return ""
        joins = [self.context.join("window_counts", "c")]
        for attribute in self._with(FIRST | LAST):
            event = self._event(attribute)
            joins.append(
                f"LEFT JOIN {self.context.column(attribute)}_numbered AS {event}\n"
                f"  ON {event}.visitor = c.visitor AND {event}.number = {self._number(attribute)}"
            )
        return "\n".join(joins)

    def value(self, attribute: Attribute) -> str:
        """Return the expression for an attribute where :meth:`join` was joined."""
        if attribute.aggregation in FIRST | LAST:
            column = "ts" if attribute.aggregation.startswith("time_since") else "value"
            return f"{self._event(attribute)}.{column}"
        return f"c.{self.context.name(attribute)}"

    # --- names -------------------------------------------------------------------------------

    def _with(self, aggregations: set[str]) -> list[Attribute]:
        return [a for a in self.attributes if a.aggregation in aggregations]

    def _event(self, attribute: Attribute) -> str:
        """The alias of the event that has an attribute's first or last value."""
        return self.context.name(attribute, "event")

    def _number(self, attribute: Attribute) -> str:
        return f"c.{self.context.name(attribute, 'event number')}"

    @cached_property
    def _places(self) -> dict[timedelta | None, int]:
        """The ``place`` of the last instant before each length of window; ``None`` for any age."""
        lengths = dict.fromkeys(self.context.window(a) for a in self.attributes)
        return {length: place for place, length in enumerate(lengths, start=2)}

    @cached_property
    def _distinct_columns(self) -> list[str]:
        """The columns whose distinct values are counted."""
        return self.context.columns(self._with(DISTINCT))

    # --- totals ------------------------------------------------------------------------------

    def _totals_of(self, attribute: Attribute) -> tuple[str, str]:
        """The total of what has entered the attribute's window, and of what has left it."""
        x, length = self.context.column(attribute), label(self.context.window(attribute))
        if attribute.aggregation in DISTINCT:
            return f"{x}_entered_{length}", f"{x}_left_{length}"
        return f"{x}_count", f"{x}_count"

    @cached_property
    def _totals(self) -> list[str]:
        ordered = sorted(self.attributes, key=lambda a: a.aggregation in DISTINCT)
        return list(dict.fromkeys(total for a in ordered for total in self._totals_of(a)))

    def _changes(self, x: str) -> dict[str, str]:
        """The totals of a column's distinct values, and when an event adds one to each."""
        changes = {}
        for attribute in self._with(DISTINCT):
            if self.context.column(attribute) == x:
                length = self.context.window(attribute)
                entered, left = self._totals_of(attribute)
                changes[entered] = self._alone("previous_ts", "ts > previous_ts", length)
                changes[left] = self._alone("next_ts", "next_ts > ts", length)
        return changes

    def _alone(self, neighbour: str, gap: str, length: timedelta | None) -> str:
        """The condition that a value has no such neighbour within the window's length."""
        within = f" OR {gap} + {self.context.sql.interval(length)}" if length else ""
        return f"{neighbour} IS NULL{within}"

    # --- steps -------------------------------------------------------------------------------

    def _neighbours(self, x: str) -> str:
        changes = self._changes(x).items()
        return NEIGHBOURS.format(
            x=x, changes=lines(f"{flag} AS {total}" for total, flag in changes)
        )

    def _running_totals(self) -> str:
        sql, totals = self.context.sql, self._totals
        counted = {f"{x}_count": f"{x} IS NOT NULL" for x in self.context.columns(self.attributes)}
        starts = (
            WINDOW_START.format(start=self._start(length), place=place)
            for length, place in self._places.items()
        )
        return TOTALS.format(
            starts="".join(starts),
            timestamp_type=sql.timestamp_type,
            counted=lines(f"{counted.get(total, 'FALSE')} AS {total}" for total in totals),
            changes="".join(map(self._changed, self._distinct_columns)),
            nothing=", ".join("FALSE" for _ in totals),
            note=sql.counting_note,
            materialized=sql.materialized,
            totals=lines((f"{sql.running_count(total)} AS {total}" for total in totals), 6),
            stream_in_order=sql.in_order("merged_stream"),
        )

    def _changed(self, x: str) -> str:
        changes = self._changes(x)
        flags = ", ".join(total if total in changes else "FALSE" for total in self._totals)
        return VALUE_CHANGES.format(x=x, flags=flags, some=" OR ".join(changes))

    def _start(self, length: timedelta | None) -> str:
        """The last instant before a window."""
        sql = self.context.sql
        if length is None:
            return sql.beginning
        return f"ts - {sql.interval(self.context.lookback(length) + MICROSECOND)}"

    def _numbered(self, x: str) -> str:
        return NUMBERED.format(x=x, number=self.context.sql.event_number(x))

    @property
    def _joins(self) -> bool:
        """Whether totals are joined: only if they are not computed again for each join."""
        return bool(self.context.sql.materialized)

    def _window_counts(self) -> str:
        values = lines(self._window_count(attribute) for attribute in self.attributes)
        if not self._joins:
            return GROUPED_WINDOW_COUNTS.format(values=values)
        joins = (
            BEFORE.format(alias=f"before_{label(length)}", place=place)
            for length, place in self._places.items()
        )
        return WINDOW_COUNTS.format(values=values, joins="\n".join(joins))

    def _window_count(self, attribute: Attribute) -> str:
        """A count, or the number of the event with the first or last value."""
        entered, left = self._totals_of(attribute)
        length = self.context.window(attribute)
        if self._joins:
            now, before = f"now.{entered}", f"before_{label(length)}.{left}"
        else:
            now = f"MAX(CASE WHEN place = 1 THEN {entered} END)"
            before = f"MAX(CASE WHEN place = {self._places[length]} THEN {left} END)"
        if attribute.aggregation in COUNTS | DISTINCT:
            count = f"CAST({now} - {before} AS BIGINT)"
            return f"NULLIF({count}, 0) AS {self.context.name(attribute)}"
        number = f"{before} + 1" if attribute.aggregation in FIRST else now
        name = self.context.name(attribute, "event number")
        return f"CASE WHEN {now} > {before} THEN {number} END AS {name}"
