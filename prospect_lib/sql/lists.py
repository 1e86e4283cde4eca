"""Attributes that hold several values, or rank them by how often they occurred.

A list is made of runs: a run is a stretch of one value, in which the list holds the value until
it is seen again in a later run, or too old. A ranking counts along a timeline of its own for each
value of a visitor.
"""

from dataclasses import dataclass

from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import MAX_VALUES
from prospect_lib.sql.context import Context
from prospect_lib.sql.windows import Windows

LISTS = {"unique_list", "approx_count_distinct"}
RANKINGS = {"most_frequent", "least_frequent", "category_count"}

LIST = """\
-- {title}: whether another value follows, or the same one after the list has expired
{changes} AS (
  SELECT
    visitor,
    ts,
    value,
    CASE WHEN value = LAG(value) OVER (PARTITION BY visitor ORDER BY ts, value)
      THEN 0 ELSE 1 END AS changed,
    CASE WHEN {expired} THEN 1 ELSE 0 END AS expired
  FROM (SELECT DISTINCT visitor, ts, {x} AS value FROM matched WHERE {x} IS NOT NULL) AS d
),
{numbered} AS (
  SELECT
    visitor,
    ts,
    value,
    SUM(expired) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS lifetime,
    SUM(CASE WHEN changed + expired > 0 THEN 1 ELSE 0 END) OVER (
      PARTITION BY visitor ORDER BY ts, value ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS run
  FROM {changes}
),
-- {title}: each run of one value, when it is too old, and when the value's next run starts
{runs} AS (
  SELECT
    visitor,
    value,
    run,
    MIN(ts) AS first_ts,
    {valid_until} AS valid_until,
    LEAD(MIN(ts)) OVER (PARTITION BY visitor, value ORDER BY run) AS next_run_ts
  FROM {numbered}
  GROUP BY visitor, value, run, lifetime
),
{result} AS (
  SELECT t.visitor, t.ts, {collected} AS {result}
  FROM anchor_times AS t
  JOIN {runs} AS r
    ON r.visitor = t.visitor
    AND r.first_ts <= t.ts
    AND (r.next_run_ts IS NULL OR r.next_run_ts > t.ts)
    AND (r.valid_until IS NULL OR r.valid_until >= t.ts)
  GROUP BY t.visitor, t.ts
)"""

RANKING = """\
-- {title}: a timeline for each value of a visitor
{timeline} AS (
  SELECT d.visitor, d.value, t.ts, t.is_anchor{lifetime}, COALESCE(c.events, 0) AS events
  FROM (SELECT DISTINCT visitor, {x} AS value FROM matched WHERE {x} IS NOT NULL) AS d
  JOIN {source} AS t
    ON t.visitor = d.visitor AND (t.is_anchor = 1 OR t.{x}_events > 0)
  LEFT JOIN (
    SELECT visitor, ts, {x} AS value, COUNT(*) AS events
    FROM matched
    WHERE {x} IS NOT NULL
    GROUP BY visitor, ts, {x}
  ) AS c
    ON c.visitor = d.visitor AND c.ts = t.ts AND c.value = d.value
),
{counted} AS (
  SELECT
    visitor,
    value,
    ts,
    is_anchor,
    CAST(SUM(t.events) OVER {frame} AS BIGINT) AS events,
    MIN(CASE WHEN t.events > 0 THEN ts END) OVER {frame} AS first_seen,
    MAX(CASE WHEN t.events > 0 THEN ts END) OVER {frame} AS last_seen
  FROM {timeline} AS t
),
-- {title}: the values by how often they occurred; ties by the one seen first
{ranked} AS (
  SELECT
    visitor,
    ts,
    value,
    events,
    MAX(last_seen) OVER (PARTITION BY visitor, ts) AS updated,
    ROW_NUMBER() OVER (PARTITION BY visitor, ts ORDER BY {order}, first_seen, value) AS place
  FROM {counted}
  WHERE is_anchor = 1 AND events > 0
),
{result} AS (
  SELECT visitor, ts, {collected} AS {result}
  FROM {ranked}
  WHERE place <= {keep}{not_expired}
  GROUP BY visitor, ts
)"""


@dataclass(frozen=True)
class Lists:
    """The steps of the given attributes; the last one has the attribute's name."""

    context: Context
    attributes: list[Attribute]
    windows: Windows

    def steps(self) -> list[str]:
        return [
            self._list(a) if a.aggregation in LISTS else self._ranking(a) for a in self.attributes
        ]

    def join(self) -> str:
        """Return the joins of the values to the anchors."""
        return "\n".join(
            self.context.join(self.context.name(attribute), self._values(attribute))
            for attribute in self.attributes
        )

    def value(self, attribute: Attribute) -> str:
        """Return the expression for an attribute where :meth:`join` was joined."""
        return f"{self._values(attribute)}.{self.context.name(attribute)}"

    def _values(self, attribute: Attribute) -> str:
        return self.context.name(attribute, "values")

    def _list(self, attribute: Attribute) -> str:
        context, sql = self.context, self.context.sql
        length = context.window(attribute)
        earlier = "LAG(ts) OVER (PARTITION BY visitor ORDER BY ts, value)"
        items = sql.last_items(sql.collect("r.value", "r.run"), MAX_VALUES)
        return LIST.format(
            title=attribute.name,
            x=context.column(attribute),
            expired=f"ts > {earlier} + {sql.interval(length)}" if length else "FALSE",
            valid_until=self._valid_until(attribute),
            collected=items if attribute.aggregation == "unique_list" else "COUNT(*)",
            result=context.name(attribute),
            changes=context.name(attribute, "changes"),
            numbered=context.name(attribute, "numbered"),
            runs=context.name(attribute, "runs"),
        )

    def _valid_until(self, attribute: Attribute) -> str:
        """A period after the end of the run, or a TTL after the end of its lifetime."""
        context, sql, ttl = self.context, self.context.sql, self.context.ttl(attribute)
        if attribute.period is not None:
            return f"MAX(ts) + {sql.interval(context.lookback(attribute.period))}"
        if ttl is None:
            return f"CAST(NULL AS {sql.timestamp_type})"
        end = "MAX(MAX(ts)) OVER (PARTITION BY visitor, lifetime)"
        return f"{end} + {sql.interval(context.lookback(ttl))}"

    def _ranking(self, attribute: Attribute) -> str:
        context, sql, ttl = self.context, self.context.sql, self.context.ttl(attribute)
        all_values = attribute.aggregation == "category_count"
        oldest = f"ts - {sql.interval(context.lookback(ttl))}" if ttl else ""
        return RANKING.format(
            title=attribute.name,
            x=context.column(attribute),
            lifetime=f", t.{context.name(attribute, 'lifetime')}" if ttl else "",
            source=self.windows.source,
            frame=self.windows.frame(attribute, "value"),
            order="events" if attribute.aggregation == "least_frequent" else "events DESC",
            keep=MAX_VALUES if all_values else 1,
            not_expired=f" AND updated >= {oldest}" if ttl else "",
            collected=(
                sql.collect_counts("value", "events", "place") if all_values else "ANY_VALUE(value)"
            ),
            result=context.name(attribute),
            timeline=context.name(attribute, "timeline"),
            counted=context.name(attribute, "counted"),
            ranked=context.name(attribute, "ranked"),
        )
