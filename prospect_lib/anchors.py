"""Anchors: at which instants a visitor becomes a training row, which visitors, and the label.

The label of an anchor is whether a goal event follows within the horizon. Example:
``Anchors(every=timedelta(seconds=10))`` places anchors as a page that asks for a score every
ten seconds would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from snowplow_signals import Criteria, Event
from snowplow_signals.models.model import Attribute

from prospect_lib.attributes import (
    ANY_MEDIA_EVENT,
    CHANGE_FORM,
    FOCUS_FORM,
    PAGE_VIEW,
    SUBMIT_FORM,
)
from prospect_lib.errors import DataError
from prospect_lib.sql.conditions import event_condition
from prospect_lib.sql.context import MICROSECOND, lines
from prospect_lib.sql.dialects import Dialect, dialect_of

HOUR = timedelta(hours=1)

AT_EVENTS = "    SELECT visitor, ts, session FROM used_events WHERE is_anchor = 1"

AT_INTERVALS = """\
    SELECT visitor, {tick} AS ts, session
    FROM (
      SELECT
        visitor,
        session,
        MIN(ts) OVER (PARTITION BY visitor, session) AS session_start,
        {elapsed} AS elapsed
      FROM used_events
    ) AS ticks"""

VISITOR_STARTS = """\
-- each visitor's first event, first goal, and the app of the first event
visitor_starts AS (
  SELECT visitor, MIN(ts) AS first_ts, MIN(CASE WHEN is_goal = 1 THEN ts END) AS goal_ts
  FROM used_events
  GROUP BY visitor
),
first_apps AS (
  SELECT e.visitor, MIN(e.app) AS first_app
  FROM used_events AS e
  JOIN visitor_starts AS s ON s.visitor = e.visitor AND s.first_ts = e.ts
  GROUP BY e.visitor
),
"""

EVENT_COUNTS = """\
-- how many events each visitor has had, after each instant
event_counts AS (
  SELECT
    visitor,
    ts,
    SUM(COUNT(*)) OVER (
      PARTITION BY visitor ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS events
  FROM used_events
  GROUP BY visitor, ts
),
"""

ANCHORS_STATEMENT = """\
WITH
-- the events that are used at all
used_events AS (
  SELECT
    {key} AS visitor,
    {ts} AS ts,
    {session} AS session,
    {app} AS app,
    CASE WHEN {is_anchor} THEN 1 ELSE 0 END AS is_anchor,
    CASE WHEN {is_goal} THEN 1 ELSE 0 END AS is_goal
  FROM {events}
  WHERE {key} IS NOT NULL{used}
),
data_end AS (
  SELECT MAX(ts) AS ts FROM used_events
),
goals AS (
  SELECT visitor, ts FROM used_events WHERE is_goal = 1 GROUP BY visitor, ts
),
{visitor_steps}-- the instants at which a visitor may become a row
candidates AS (
  SELECT visitor, ts, MIN(session) AS session
  FROM (
{places}
  ) AS places
  GROUP BY visitor, ts
),
-- those of chosen visitors whose horizon the data covers; the label of the others is unknown
labelled AS (
  SELECT
    c.visitor,
    c.ts,
    COALESCE(next_goal.ts <= c.ts + {horizon}, FALSE) AS goal_follows{columns}
  FROM candidates AS c
  {next_goal}{joins}
  CROSS JOIN data_end
  WHERE c.ts <= data_end.ts - {horizon}{conditions}
)
SELECT
  visitor AS {key},
  ts AS {anchor_ts},
  goal_follows AS {label}{weight}
FROM labelled{sampled}
ORDER BY 1, 2"""


@dataclass(frozen=True)
class Anchors:
    """Where training rows are placed, and how each is labelled.

    Attributes:
        at: events at which a visitor is scored; empty for none.
        every: also at this interval from a session's start, at each tick before which the
            visitor was active (page pings show activity); ``None`` for never.
        goal: the events that make a row positive.
        goal_criteria: criteria that such an event must also meet.
        horizon: how far ahead the label looks: a goal in (t, t + horizon].
        app_ids: only visitors whose first event has one of these app ids; empty for any.
        first_seen: only visitors whose first event is this old at the end of the data, as
            (oldest, newest), such as 60 to 30 days; ``None`` for any.
        excluded: names of events that are ignored altogether.
        min_events: how many events a visitor must have had before an anchor.
        until_goal: whether a visitor's anchors end at the first goal.
        per_session: the maximum number of anchors per session, sampled by ``seed``.
        negatives: the share of rows without a goal that is kept, sampled by ``seed``; the column
            ``weight`` says how many rows each one stands for.
        seed: of the sampling; the same seed gives the same rows in every warehouse.
        since: no row is earlier, though earlier events count in features; naive means UTC.
        until: later events are ignored, so the same window gives the same rows next week.

    Raises:
        DataError: an argument has no meaning; the message names it and what was expected.

    Example: rows at page views and every ten seconds of a visit, at most five per session.
        >>> anchors = Anchors(every=timedelta(seconds=10), per_session=5)
        >>> Anchors(per_session=0)
        Traceback (most recent call last):
        ...
        prospect_lib.errors.DataError: per_session=0 of Anchors: expected 1 or more.
    """

    at: Sequence[Event] = (PAGE_VIEW,)
    every: timedelta | None = None
    goal: Sequence[Event] = (SUBMIT_FORM,)
    goal_criteria: Criteria | None = None
    horizon: timedelta = HOUR
    app_ids: Sequence[str] = ()
    first_seen: tuple[timedelta, timedelta] | None = None
    excluded: Sequence[str] = ()
    min_events: int = 0
    until_goal: bool = False
    per_session: int | None = None
    negatives: float = 1.0
    seed: int = 0
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse arguments that have no meaning."""
        for name, refused, expected in (
            ("at", not self.at and self.every is None, "events, unless every= is given"),
            ("every", self.every is not None and self.every < MICROSECOND, "longer than nothing"),
            ("goal", not self.goal, "at least one event"),
            ("horizon", self.horizon <= timedelta(), "longer than nothing, such as 1 hour"),
            ("min_events", self.min_events < 0, "0 or more"),
            ("per_session", self.per_session is not None and self.per_session < 1, "1 or more"),
            ("negatives", not 0 < self.negatives <= 1, "more than 0 and at most 1"),
        ):
            if refused:
                raise DataError(f"{name}={getattr(self, name)} of Anchors: expected {expected}.")
        if self.since and self.until and _utc(self.since) >= _utc(self.until):
            raise DataError(
                f"the window is empty: since {self.since:%Y-%m-%d %H:%M} is not before until "
                f"{self.until:%Y-%m-%d %H:%M}. Exchange them, or widen --since .. --until."
            )

    def sql(self, *, events: str, key: str = "domain_userid", dialect: str = "duckdb") -> str:
        """Return the SELECT of key, ``anchor_ts``, ``label`` and perhaps ``weight``, sorted.

        An anchor whose horizon the data does not fully cover is left out.

        Args:
            events: the name of a relation with the columns of the atomic events table.
            key: the column that identifies a visitor.
            dialect: ``duckdb`` or ``snowflake``.
        Raises:
            DefinitionError: the dialect is not known.
        """
        sql = dialect_of(dialect)
        by_session = self.every is not None or self.per_session is not None
        visitor_steps = [VISITOR_STARTS] * self._needs_visitor_starts
        visitor_steps += [EVENT_COUNTS] * bool(self.min_events)
        return ANCHORS_STATEMENT.format(
            key=sql.identifier(key),
            ts=_derived_tstamp(sql),
            events=events,
            session=sql.identifier("domain_sessionid") if by_session else "NULL",
            app=sql.identifier("app_id") if self.app_ids else "NULL",
            is_anchor=_is_any(self.at, sql) if self.at else "FALSE",
            is_goal=_is_any(self.goal, sql, self.goal_criteria),
            used=_and(self._used(sql)),
            visitor_steps="".join(visitor_steps),
            places=self._places(sql),
            horizon=sql.interval(self.horizon),
            columns="".join(f",\n{lines([column])}" for column in self._columns(sql)),
            next_goal=sql.nearest("goals", "next_goal", "c.ts < next_goal.ts", "c"),
            joins="".join(f"\n{lines([join], 2)}" for join in self._joins(sql)),
            conditions=_and(self._conditions(sql)),
            sampled="".join(f"\n{condition}" for condition in self._sampled()),
            anchor_ts=sql.identifier("anchor_ts"),
            label=sql.identifier("label"),
            weight=f",\n  {self._weight()} AS {sql.identifier('weight')}" * (self.negatives < 1),
        )

    @property
    def label_delay(self) -> timedelta:
        """How long after an anchor its label is known: the gap between training and test rows."""
        return self.horizon

    def _used(self, sql: Dialect) -> list[str]:
        """Conditions on the events that are used at all."""
        conditions = []
        if self.excluded:
            names = ", ".join(sql.text(name) for name in self.excluded)
            conditions.append(f"{sql.identifier('event_name')} NOT IN ({names})")
        if self.until is not None:
            conditions.append(f"{_derived_tstamp(sql)} < {sql.literal(self.until)}")
        return conditions

    def _places(self, sql: Dialect) -> str:
        places = [AT_EVENTS] if self.at else []
        if self.every is not None:
            interval = self.every // MICROSECOND
            start = "MIN(ts) OVER (PARTITION BY visitor, session)"
            elapsed = sql.microseconds_between(start, "ts")
            places.append(
                AT_INTERVALS.format(
                    elapsed=f"CAST(CEIL({elapsed} / {interval}.0) AS BIGINT) * {interval}",
                    tick=sql.later("session_start", "elapsed"),
                )
            )
        return "\n    UNION ALL\n".join(places)

    @property
    def _needs_visitor_starts(self) -> bool:
        return bool(self.app_ids) or self.first_seen is not None or self.until_goal

    def _joins(self, sql: Dialect) -> list[str]:
        """Joins of what the conditions on visitors need."""
        joins = []
        if self._needs_visitor_starts:
            joins = [
                f"JOIN {step} ON {step}.visitor = c.visitor"
                for step in ("visitor_starts", "first_apps")
            ]
        if self.min_events:
            joins.append(sql.nearest("event_counts", "earlier", "c.ts > earlier.ts", "c"))
        return joins

    def _columns(self, sql: Dialect) -> list[str]:
        """Columns that decide which rows are sampled."""
        columns = [f"{self._random(sql)} AS sample_hash"] * (self.negatives < 1)
        if self.per_session is not None:
            order = f"PARTITION BY c.visitor, c.session ORDER BY {self._random(sql)}, c.ts"
            columns.append(f"ROW_NUMBER() OVER ({order}) AS place_in_session")
        return columns

    def _random(self, sql: Dialect) -> str:
        """A hash of visitor, instant and seed: the same sample in every warehouse."""
        epoch = f"CAST('1970-01-01' AS {sql.timestamp_type})"
        microseconds = f"CAST({sql.microseconds_between(epoch, 'c.ts')} AS VARCHAR)"
        return f"MD5(CONCAT(c.visitor, ' ', {microseconds}, ' {self.seed}'))"

    def _conditions(self, sql: Dialect) -> list[str]:
        """Conditions on candidates and their visitors."""
        conditions = []
        if self.app_ids:
            conditions.append(f"first_app IN ({', '.join(sql.text(a) for a in self.app_ids)})")
        if self.first_seen is not None:
            oldest, newest = (f"data_end.ts - {sql.interval(age)}" for age in self.first_seen)
            conditions.append(f"first_ts BETWEEN {oldest} AND {newest}")
        if self.since is not None:
            conditions.append(f"c.ts >= {sql.literal(self.since)}")
        if self.until_goal:
            conditions.append("(goal_ts IS NULL OR c.ts < goal_ts)")
        if self.min_events:
            conditions.append(f"earlier.events >= {self.min_events}")
        return conditions

    def _sampled(self) -> list[str]:
        """The WHERE that samples rows: per session first, then negatives."""
        conditions = []
        if self.per_session is not None:
            conditions.append(f"place_in_session <= {self.per_session}")
        if self.negatives < 1:
            conditions.append(f"(goal_follows OR SUBSTR(sample_hash, 17, 8) < '{self._threshold}')")
        return [
            f"{word} {condition}"
            for word, condition in zip(("WHERE", "AND"), conditions, strict=False)
        ]

    @property
    def _threshold(self) -> str:
        """8 hex digits; the hashes below them are the share of negatives that is kept."""
        return f"{min(round(self.negatives * 16**8), 16**8 - 1):08x}"

    def _weight(self) -> str:
        return f"CASE WHEN goal_follows THEN 1.0 ELSE {1 / self.negatives!r} END"


#: The population of Snowplow's tutorial: visitors first seen 60 to 30 days ago on the website
#: or a landing page, without technical events.
TUTORIAL_ANCHORS = Anchors(
    app_ids=("website", "hs-landing"),
    first_seen=(timedelta(days=60), timedelta(days=30)),
    excluded=("application_error", "web_vitals", "link_click"),
)

#: The events at which the demo website asks for a score; it also asks at a regular interval.
SITE_ANCHORS = Anchors(at=(PAGE_VIEW, FOCUS_FORM, CHANGE_FORM, ANY_MEDIA_EVENT))


def _derived_tstamp(sql: Dialect) -> str:
    return f"CAST({sql.identifier('derived_tstamp')} AS {sql.timestamp_type})"


def _is_any(patterns: Sequence[Event], sql: Dialect, criteria: Criteria | None = None) -> str:
    attribute = Attribute(
        name="x", type="int64", events=list(patterns), aggregation="counter", criteria=criteria
    )
    return event_condition(attribute, sql) or "TRUE"


def _and(conditions: Sequence[str]) -> str:
    return "".join(f" AND {condition}" for condition in conditions)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
