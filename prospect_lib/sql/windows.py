"""Sums, extremes and expiring counts, in window frames over each visitor's timeline.

Every instant of a visitor, those of anchors included, is one row of ``timeline``; window frames
carry the values from there to the anchors. Sums are added up again in each frame, because the
difference of two running sums of fractions would not be exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from snowplow_signals.models.model import Attribute

from prospect_lib.sql.context import Context, lines

#: How the values of one instant are combined, in columns such as ``x1_sum`` of ``timeline``.
_AT_ONE_INSTANT = {
    "events": "CAST(COUNT({x}) AS INTEGER)",
    "sum": "SUM({x})",
    "min": "{least}",
    "max": "MAX({x})",
}
#: How those columns are combined over the window ``w``, for each aggregation.
OVER_A_WINDOW = {
    "counter": "CAST(NULLIF(SUM({events}) OVER {w}, 0) AS BIGINT)",
    "sum": "SUM({sum}) OVER {w}",
    "mean": "SUM({sum}) OVER {w} / NULLIF(SUM({events}) OVER {w}, 0)",
    "min": "MIN({min}) OVER {w}",
    "max": "MAX({max}) OVER {w}",
    "first": "FIRST_VALUE({min}{ignoring_nulls}) OVER {w}",
    "time_since_first": "MIN(CASE WHEN {events} > 0 THEN ts END) OVER {w}",
}

TIMELINE = """\
-- one row per instant of a visitor, anchors included, with the values of that instant combined
timeline AS {materialized}(
  SELECT
    visitor,
    ts,
    MAX(is_anchor) AS is_anchor{columns}
  FROM (
    SELECT visitor, ts, 0 AS is_anchor{xs} FROM matched
    UNION ALL
    SELECT visitor, ts, 1{nulls} FROM anchor_times
  ) AS instants
  GROUP BY visitor, ts
)"""

LIFETIMES = """\
-- when each expiring attribute was updated before
updates AS (
  SELECT *,
{updates}
  FROM timeline
),
-- an update later than the TTL after the one before starts a new lifetime, counted from zero
lifetime_starts AS (
  SELECT *,
{starts}
  FROM updates
),
lifetimes AS (
  SELECT *,
{lifetimes}
  FROM lifetime_starts
)"""

UPDATE = """\
MAX(CASE WHEN {x}_events > 0 THEN ts END) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS {previous}"""

START = """\
CASE WHEN {x}_events > 0 AND ({previous} IS NULL OR ts > {previous} + {ttl}) THEN 1 ELSE 0 END
      AS {start}"""

LIFETIME = """\
SUM({start}) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS {lifetime}"""

WINDOW_VALUES = """\
-- the value of each of these attributes at each anchor
window_values AS (
  SELECT *
  FROM (
    SELECT
      visitor,
      ts,
      is_anchor,
{values}
    FROM {source}
  ) AS every_instant
  WHERE is_anchor = 1
)"""


@dataclass(frozen=True)
class Windows:
    """The steps that the given attributes need; rankings read their ``timeline`` as well."""

    context: Context
    attributes: Sequence[Attribute]

    def steps(self) -> list[str]:
        if not self.attributes:
            return []
        lifetimes = [self._lifetimes()] if self.expiring else []
        values = [self._window_values()] if self._windowed else []
        return [self._timeline(), *lifetimes, *values]

    def join(self) -> str:
        """Return the join of the values to the anchors."""
        if not self._windowed:
            return ""
        return self.context.join("window_values", "w")

    def value(self, attribute: Attribute) -> str:
        """Return the expression for an attribute where :meth:`join` was joined."""
        return f"w.{self.context.name(attribute)}"

    @property
    def source(self) -> str:
        """The step that window frames read."""
        return "lifetimes" if self.expiring else "timeline"

    @cached_property
    def expiring(self) -> list[Attribute]:
        """Lifetime attributes with a TTL: they start again from zero once they have expired."""
        return [a for a in self.attributes if self.context.ttl(a)]

    @cached_property
    def _windowed(self) -> list[Attribute]:
        return [a for a in self.attributes if a.aggregation in OVER_A_WINDOW]

    def frame(self, attribute: Attribute, *partition: str) -> str:
        """Return the window of an attribute, within a visitor and further columns."""
        by = ["visitor", *partition]
        if attribute.period is not None:
            back = self.context.sql.interval(self.context.lookback(attribute.period))
            rows = f"RANGE BETWEEN {back} PRECEDING AND CURRENT ROW"
        else:
            rows = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
            by += [self.context.name(attribute, "lifetime")] * (attribute in self.expiring)
        return f"(PARTITION BY {', '.join(by)} ORDER BY ts {rows})"

    def _combined(self) -> list[tuple[str, str]]:
        """The columns of ``timeline``, such as ``("x1", "events")``."""
        combined: dict[tuple[str, str], None] = {}
        for attribute in self.attributes:
            window = OVER_A_WINDOW.get(attribute.aggregation, "{events}")
            needed = [how for how in _AT_ONE_INSTANT if f"{{{how}}}" in window]
            needed += ["events"] * (attribute in self.expiring)
            combined |= {(self.context.column(attribute), how): None for how in needed}
        return list(combined)

    def _timeline(self) -> str:
        xs = self.context.columns(self.attributes)
        kinds = {self.context.column(a): a.type for a in self.attributes}
        return TIMELINE.format(
            columns="".join(
                f",\n    {self._at_one_instant(x, how, kinds[x])} AS {x}_{how}"
                for x, how in self._combined()
            ),
            xs="".join(f", {x}" for x in xs),
            nulls=", NULL" * len(xs),
            materialized=self.context.sql.materialized,
        )

    def _at_one_instant(self, x: str, how: str, kind: str) -> str:
        least = self.context.sql.least(x, kind)
        return _AT_ONE_INSTANT[how].format(x=x, least=least)

    def _lifetimes(self) -> str:
        names = [
            {
                "x": self.context.column(a),
                "ttl": self.context.sql.interval(self.context.ttl(a) or timedelta()),
                "previous": self.context.name(a, "previous update"),
                "start": self.context.name(a, "lifetime start"),
                "lifetime": self.context.name(a, "lifetime"),
            }
            for a in self.expiring
        ]
        return LIFETIMES.format(
            updates=lines(UPDATE.format(**each) for each in names),
            starts=lines(START.format(**each) for each in names),
            lifetimes=lines(LIFETIME.format(**each) for each in names),
        )

    def _window_values(self) -> str:
        values = (f"{self._value_over(a)} AS {self.context.name(a)}" for a in self._windowed)
        return WINDOW_VALUES.format(values=lines(values, 6), source=self.source)

    def _value_over(self, attribute: Attribute) -> str:
        """The value in the attribute's window, NULL once it has expired."""
        w, x = self.frame(attribute), self.context.column(attribute)
        columns = {how: f"{x}_{how}" for how in _AT_ONE_INSTANT}
        value = OVER_A_WINDOW[attribute.aggregation].format(
            w=w, ignoring_nulls=self.context.sql.ignoring_nulls, **columns
        )
        ttl = self.context.ttl(attribute)
        if ttl is None:
            return value
        updated = f"MAX(CASE WHEN {x}_events > 0 THEN ts END) OVER {w}"
        oldest = f"ts - {self.context.sql.interval(self.context.lookback(ttl))}"
        return f"CASE WHEN {updated} >= {oldest} THEN {value} END"
