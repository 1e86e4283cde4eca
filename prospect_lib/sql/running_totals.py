"""Counts, distinct counts, first and last values as differences of running totals.

A count over the last 7 days is the running total now less the running total 7 days ago. The
number of distinct values is how many entered the window less how many left it: a value enters
when it was not seen for the window's length, and leaves that long after it was last seen. The
first value is that of the event whose number follows the total before the window; the last value
is that of the event whose number is the total now. So one sorted pass over the events, and one
lookup per anchor for each distinct length of window, answer all of them.
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

FLAGS = """\
-- which values each event has; the values themselves where distinct ones are counted
flags AS (
  SELECT
    visitor,
    ts{values},
{flags}
  FROM matched
)"""

NEIGHBOURS = """\
-- when the visitor had the same value before, and when next
neighbours AS (
  SELECT
    *,
{neighbours}
  FROM flags
  WHERE {some}
  UNION ALL
  SELECT *, {nulls}
  FROM flags
  WHERE NOT ({some})
)"""

TOTALS = """\
-- which totals each event adds one to: it has a value, or its value enters or leaves a window
increments AS (
  SELECT
    visitor,
    ts,
{increments}
  FROM {source}
  UNION ALL
  SELECT visitor, {beginning}, {nothing}
  FROM visitors
),
-- the running totals after each instant of a visitor{note}
running_totals AS {materialized}(
  SELECT visitor, ts, {names}
  FROM (
    SELECT
      visitor,
      ts,
{totals},
      {next_ts} AS next_ts
    FROM {increments_in_order}
  ) AS totals_per_event
  WHERE next_ts IS NULL OR next_ts <> ts
)"""

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
    a.visitor,
    a.ts,
{values}
  FROM (SELECT visitor, ts, {starts} FROM anchor_times) AS a
{lookups}
)"""

MERGED_STREAM = """\
-- each visitor's anchors, and the instants before their windows, in one stream with the events
merged_stream AS (
  SELECT visitor, ts, 0 AS place, {no_anchor} AS anchor_ts,
{increments}
  FROM {source}
{moments}
),
-- the running totals at each of these instants
running_totals AS (
  SELECT
    visitor,
    anchor_ts,
    place,
{totals}
  FROM merged_stream
),
-- the totals at each anchor, less the totals before each window
window_counts AS (
  SELECT
    visitor,
    anchor_ts AS ts,
{values}
  FROM running_totals
  WHERE anchor_ts IS NOT NULL
  GROUP BY visitor, anchor_ts
)"""

MOMENTS = """\
  UNION ALL
  SELECT visitor, {ts}, {place}, ts, {nothing} FROM anchor_times"""


@dataclass(frozen=True)
class Counter:
    """What is added up for an attribute: a total of what enters a window, and one of what leaves.

    A plain count of events has one total for both. The flags are conditions on an event.
    """

    entered: str
    entered_flag: str
    left: str
    left_flag: str


@dataclass(frozen=True)
class RunningTotals:
    """The steps that the given attributes need, and each attribute's value after them."""

    context: Context
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        neighbours = [self._neighbours()] if self._distinct_columns else []
        return [
            self._flags(),
            *neighbours,
            *([self._totals()] if self.context.sql.has_asof_join else []),
            *self._numbered(),
            self._window_counts() if self.context.sql.has_asof_join else self._merged_stream(),
        ]

    def join(self) -> str:
        """Return the joins of the values to the anchor times, ``t``."""
        if not self.attributes:
            return ""
        joins = ["LEFT JOIN window_counts AS c\n  ON c.visitor = t.visitor AND c.ts = t.ts"]
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
    def _windows(self) -> list[timedelta | None]:
        """The distinct lengths of windows; ``None`` for all of the past."""
        return list(dict.fromkeys(self.context.window(a) for a in self.attributes))

    @cached_property
    def _distinct_columns(self) -> list[str]:
        """The columns whose distinct values are counted."""
        return self.context.columns(self._with(DISTINCT))

    # --- counters ----------------------------------------------------------------------------

    def _counter(self, attribute: Attribute) -> Counter:
        x = self.context.column(attribute)
        if attribute.aggregation not in DISTINCT:
            return Counter(f"{x}_count", f"has_{x}", f"{x}_count", f"has_{x}")
        length = self.context.window(attribute)
        previous, following = f"{x}_previous_ts", f"{x}_next_ts"
        return Counter(
            f"{x}_entered_{label(length)}",
            self._alone(x, previous, f"ts > {previous}", length),
            f"{x}_left_{label(length)}",
            self._alone(x, following, f"{following} > ts", length),
        )

    def _alone(self, x: str, neighbour: str, gap: str, length: timedelta | None) -> str:
        """The condition that a value has no such neighbour within the window's length."""
        if length is None:
            return f"has_{x} AND {neighbour} IS NULL"
        return f"has_{x} AND ({neighbour} IS NULL OR {gap} + {self.context.sql.interval(length)})"

    @cached_property
    def _flag_of_total(self) -> dict[str, str]:
        """Every total, and the condition on an event that adds one to it."""
        counters = [self._counter(attribute) for attribute in self.attributes]
        entered = {counter.entered: counter.entered_flag for counter in counters}
        return entered | {counter.left: counter.left_flag for counter in counters}

    # --- steps -------------------------------------------------------------------------------

    def _flags(self) -> str:
        columns = self.context.columns(self.attributes)
        return FLAGS.format(
            values="".join(f", {x}" for x in self._distinct_columns),
            flags=lines(f"{x} IS NOT NULL AS has_{x}" for x in columns),
        )

    def _neighbours(self) -> str:
        columns = self._distinct_columns
        none = f"CAST(NULL AS {self.context.sql.timestamp_type})"
        return NEIGHBOURS.format(
            neighbours=lines(
                f"{function}(ts) OVER (PARTITION BY visitor, {x} ORDER BY ts) AS {x}_{side}_ts"
                for x in columns
                for function, side in (("LAG", "previous"), ("LEAD", "next"))
            ),
            some=" OR ".join(f"has_{x}" for x in columns),
            nulls=", ".join([none] * (2 * len(columns))),
        )

    def _totals(self) -> str:
        sql, totals = self.context.sql, self._flag_of_total
        return TOTALS.format(
            increments=lines(f"{flag} AS {total}" for total, flag in totals.items()),
            source="neighbours" if self._distinct_columns else "flags",
            beginning=sql.beginning,
            nothing=", ".join("FALSE" for _ in totals),
            note=sql.counting_note,
            materialized=sql.materialized,
            names=", ".join(totals),
            totals=lines((f"{sql.running_count(total)} AS {total}" for total in totals), 6),
            next_ts=sql.next_ts,
            increments_in_order=sql.in_order("increments"),
        )

    def _numbered(self) -> list[str]:
        number = self.context.sql.event_number
        columns = self.context.columns(self._with(FIRST | LAST))
        return [NUMBERED.format(x=x, number=number(x)) for x in columns]

    def _window_counts(self) -> str:
        now, before = self._totals_looked_up()
        lookups = [self._lookup("now", "ts", now)]
        lookups += [
            self._lookup(f"before_{label(length)}", f"start_{label(length)}", before[length])
            for length in self._windows
        ]
        return WINDOW_COUNTS.format(
            values=lines(self._window_count(a) for a in self.attributes),
            starts=", ".join(f"{self._start(n)} AS start_{label(n)}" for n in self._windows),
            lookups="\n".join(lookups),
        )

    def _start(self, length: timedelta | None) -> str:
        """The last instant before a window."""
        sql = self.context.sql
        if length is None:
            return sql.beginning
        return f"ts - {sql.interval(self.context.lookback(length) + MICROSECOND)}"

    def _totals_looked_up(self) -> tuple[list[str], dict[timedelta | None, list[str]]]:
        """The totals needed at an anchor, and before each window: few columns are fast."""
        now: dict[str, None] = {}
        before: dict[timedelta | None, dict[str, None]] = {}
        for attribute in self.attributes:
            counter = self._counter(attribute)
            now[counter.entered] = None
            before.setdefault(self.context.window(attribute), {})[counter.left] = None
        return list(now), {length: list(totals) for length, totals in before.items()}

    def _lookup(self, alias: str, ts: str, totals: list[str]) -> str:
        relation = f"(SELECT visitor, ts, {', '.join(totals)} FROM running_totals)"
        return "  " + self.context.sql.nearest(
            relation, alias, ">=", to=f"a.{ts}", of="anchor_times", values=totals
        )

    def _total_at(self, total: str, length: timedelta | None = None, when: str = "now") -> str:
        """A total at an anchor, or before the window of this length."""
        if self.context.sql.has_asof_join:
            return f"{when}.{total}" if when == "now" else f"before_{label(length)}.{total}"
        if when == "now":
            place = 1
        elif length is None:
            return "0"
        else:
            place = 2 + [each for each in self._windows if each].index(length)
        return f"MAX(CASE WHEN place = {place} THEN {total} END)"

    def _window_count(self, attribute: Attribute) -> str:
        """A count, or the number of the event with the first or last value."""
        counter, length = self._counter(attribute), self.context.window(attribute)
        now, before = (
            self._total_at(counter.entered),
            self._total_at(counter.left, length, "before"),
        )
        if attribute.aggregation in COUNTS | DISTINCT:
            count = f"CAST({now} - {before} AS BIGINT)"
            return f"NULLIF({count}, 0) AS {self.context.name(attribute)}"
        number = f"{before} + 1" if attribute.aggregation in FIRST else now
        name = self.context.name(attribute, "event number")
        return f"CASE WHEN {now} > {before} THEN {number} END AS {name}"

    def _merged_stream(self) -> str:
        """The totals and the values at the anchors, without a look-up."""
        totals, nothing = self._flag_of_total, ", ".join("FALSE" for _ in self._flag_of_total)
        instants = ["ts", *(self._start(length) for length in self._windows if length)]
        order = "PARTITION BY visitor ORDER BY ts, place"
        over = f"OVER ({order} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
        return MERGED_STREAM.format(
            no_anchor=f"CAST(NULL AS {self.context.sql.timestamp_type})",
            increments=lines(f"{flag} AS {total}" for total, flag in totals.items()),
            source="neighbours" if self._distinct_columns else "flags",
            moments="\n".join(
                MOMENTS.format(ts=ts, place=place, nothing=nothing)
                for place, ts in enumerate(instants, start=1)
            ),
            totals=lines(f"COUNT(CASE WHEN {t} THEN 1 END) {over} AS {t}" for t in totals),
            values=lines(self._window_count(a) for a in self.attributes),
        )
