"""Anchors: at which instants a visitor becomes a training row, which visitors, and the label.

The label of an anchor is whether a goal event follows within the horizon. Example:
``Anchors(every=timedelta(seconds=10))`` places anchors as a page that asks for a score every
ten seconds would.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from textwrap import indent

from snowplow_signals import AttributeGroup, AttributeKey, Criteria, Event, LinkAttributeKey
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.definitions import COLUMNS, check
from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.aggregation.properties import column_of
from prospect_lib.anchors.arguments import SESSION, Horizon, checked
from prospect_lib.attributes import (
    ANY_MEDIA_EVENT,
    CHANGE_FORM,
    FOCUS_FORM,
    HOUR,
    PAGE_VIEW,
    SUBMIT_FORM,
)
from prospect_lib.errors import DefinitionError
from prospect_lib.sql.clocks import data_end_sql, time_sql, wrong_clock_sql
from prospect_lib.sql.conditions import counts_sql, nobody_sql, property_sql
from prospect_lib.sql.context import MICROSECOND, lines
from prospect_lib.sql.dialects import Dialect, dialect_of

Key = AttributeKey | LinkAttributeKey
SESSION_ID = "domain_sessionid"

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
-- each visitor's first and last event, and first goal
visitor_starts AS (
  SELECT
    visitor,
    MIN(ts) AS first_ts,
    MAX(ts) AS last_ts,
    MIN(CASE WHEN is_goal = 1 THEN ts END) AS goal_ts
  FROM used_events
  GROUP BY visitor
),
"""

FIRST_APPS = """\
first_apps AS (
  SELECT e.visitor, MIN(e.app) AS first_app
  FROM used_events AS e
  JOIN visitor_starts AS s ON s.visitor = e.visitor AND s.first_ts = e.ts
  GROUP BY e.visitor
),
"""

SESSION_ENDS = """\
-- each session's last event, also an excluded one
session_ends AS (
  SELECT visitor, MAX(ts) AS last_ts
  FROM (
    SELECT {key} AS visitor, {ts} AS ts, {collected} AS collected FROM {events}
  ) AS read_events
  WHERE {used}
  GROUP BY visitor
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
  SELECT *
  FROM (
    SELECT
      {key} AS visitor,
      {ts} AS ts,
      {collected} AS collected,
      {session} AS session,
      {app} AS app,
      CASE WHEN {is_anchor} THEN 1 ELSE 0 END AS is_anchor,
      CASE WHEN {is_goal} THEN 1 ELSE 0 END AS is_goal
    FROM {events}{included}
  ) AS read_events
  WHERE {used}
),
data_end AS (
{data_end}
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
    {goal_follows} AS goal_follows{columns}
  FROM candidates AS c
  {next_goal}{joins}
  CROSS JOIN data_end
  WHERE {conditions}
){class_places}
SELECT
  visitor AS {key_name},
  ts AS {anchor_ts},
  goal_follows AS {label}{weight}
FROM {labelled}{sampled}
ORDER BY 1, 2"""

CLASS_PLACES = """,
-- the place of each row among those with the same label, and how many there are
class_places AS (
  SELECT
    visitor,
    ts,
    goal_follows,
    ROW_NUMBER() OVER (PARTITION BY goal_follows ORDER BY sample_hash, visitor, ts) AS place,
    COUNT(*) OVER (PARTITION BY goal_follows) AS class_rows,
    COUNT(CASE WHEN goal_follows THEN 1 END) OVER () AS positives
  FROM labelled{rows}
)"""


@dataclass(frozen=True)
class Anchors:
    """Where training rows are placed, and how each is labelled.

    A single event or text is accepted where several are possible.

    Attributes:
        at: events at which a visitor is scored, ``Event()`` for every one; empty for none.
        every: also at this interval from a session's start, at each tick before which the
            visitor was active (page pings show activity); ``None`` for never.
        goal: the events that make a row positive.
        goal_criteria: criteria that such an event must also meet.
        horizon: how far ahead the label looks: a goal in (t, t + horizon]. ``"session"`` for the
            rest of the session, if the key is ``domain_sessionid``.
        session_timeout: with ``horizon="session"``: a session may still go on, so that its
            labels are unknown, if its last event is closer than this to the end of the data.
        app_ids: only visitors whose first event has one of these app ids; empty for any.
        first_seen: only visitors whose first event is this old at the end of the data, as
            (oldest, newest), such as 60 to 30 days; ``None`` for any.
        excluded: names of events that are ignored, except for whether a session still goes on.
        min_events: how many events a visitor must have had before an anchor.
        until_goal: whether a visitor's anchors end at the first goal.
        per_session: the maximum number of anchors per session, sampled by ``seed``.
        negatives: the share of rows without a goal that is kept, sampled by ``seed``; the column
            ``weight`` says how many rows each one stands for.
        negatives_per_positive: instead of ``negatives``, at most so many rows without a goal (at
            least one) for each row with one; ``None`` for all.
        seed: of the sampling; the same seed gives the same rows in every warehouse.
        since: no row is earlier, though earlier events count in features; naive means UTC. A
            datetime, a date or ISO 8601 text.
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
    horizon: Horizon = HOUR
    session_timeout: timedelta = timedelta(minutes=30)
    app_ids: Sequence[str] = ()
    first_seen: tuple[timedelta, timedelta] | None = None
    excluded: Sequence[str] = ()
    min_events: int = 0
    until_goal: bool = False
    per_session: int | None = None
    negatives: float = 1.0
    negatives_per_positive: float | None = None
    seed: int = 0
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse arguments that have no meaning."""
        for name, value in checked(vars(self)).items():
            object.__setattr__(self, name, value)

    def sql(
        self,
        *,
        events: str,
        key: str | Key | AttributeGroup = "domain_userid",
        dialect: str = "duckdb",
        columns: Collection[str] = (),
    ) -> str:
        """Return the SELECT of key, ``anchor_ts``, ``label`` and perhaps ``weight``, sorted.

        An anchor whose horizon the data does not fully cover is left out. Events with a wrong
        clock are ignored, as :mod:`prospect_lib.sql.clocks` defines them.

        Args:
            events: the name of a relation with the columns of the atomic events table.
            key: what identifies a visitor: a column, an attribute key, or a group that has one.
            dialect: ``duckdb``, ``snowflake`` or ``spark``.
            columns: the relation's columns, in lower case, for whether it has collector times;
                by default it has none.
        Raises:
            DefinitionError: the dialect is not known, or as in :meth:`check`.

        Example:
            >>> print(Anchors().sql(events="events", key="user_id").splitlines()[-5])
              visitor AS "user_id",
        """
        sql, group = dialect_of(dialect), _group_with(key)
        self.check(group)
        name, prop = key_name(group), key_property(group)
        by_collector = "collector_tstamp" in columns
        ts, names = time_sql("derived_tstamp", sql), {"collector": "collected", "derived": "ts"}
        times = f"(SELECT {ts} AS ts FROM {events}) AS times"
        wrong_clock = wrong_clock_sql(columns, dialect, events=times, **names)
        data_end = data_end_sql(columns, dialect, events="used_events", **names)
        by_session = self.every is not None or self.per_session is not None
        rows = "".join(f"\n  {condition}" for condition in self._sampled())
        steps = [VISITOR_STARTS] * self._needs_visitor_starts
        steps += [FIRST_APPS] * bool(self.app_ids) + [EVENT_COUNTS] * bool(self.min_events)
        read = {
            "key": property_sql(prop, sql),
            "ts": ts,
            "collected": time_sql("collector_tstamp", sql) if by_collector else "NULL",
            "events": events,
            "used": "\n  AND ".join(self._used(wrong_clock, by_collector, sql)),
        }
        steps += [SESSION_ENDS.format(**read)] * (self._last_event == "session_ends")
        ranked = self.negatives_per_positive is not None
        return ANCHORS_STATEMENT.format(
            **read,
            key_name=sql.identifier(name),
            data_end=indent(data_end, "  "),
            session=sql.identifier(SESSION_ID) if by_session else "NULL",
            app=sql.identifier("app_id") if self.app_ids else "NULL",
            is_anchor=counts_sql(self.at_attribute, sql) if self.at else "FALSE",
            is_goal=counts_sql(self.goal_attribute, sql),
            included=self._included(sql),
            visitor_steps="".join(steps),
            places=self._places(sql),
            goal_follows=self._goal_follows(sql),
            columns="".join(f",\n{lines([column])}" for column in self._columns(sql)),
            next_goal=sql.nearest("goals", "next_goal", "<", to="c.ts", of="candidates"),
            joins="".join(f"\n{lines([join], 2)}" for join in self._joins(sql)),
            conditions=" AND ".join(self._conditions(sql)),
            class_places=CLASS_PLACES.format(rows=rows) if ranked else "",
            labelled="class_places" if ranked else "labelled",
            sampled=f"\nWHERE goal_follows OR place <= {self._kept_negatives}"
            if ranked
            else rows.replace("\n  ", "\n"),
            anchor_ts=sql.identifier("anchor_ts"),
            label=sql.identifier("label"),
            weight=f",\n  {self._weight()} AS {sql.identifier('weight')}" * self._samples,
        )

    def check(self, group: AttributeGroup) -> None:
        """Refuse anchors that do not fit a group, or whose events cannot be evaluated.

        Raises:
            DefinitionError: ``horizon="session"`` and the key is not ``domain_sessionid``, the
                key's name is that of another column, or an event or a criterion has no meaning.
        """
        name, prop = key_name(group), key_property(group)
        if self.horizon == SESSION and (prop.type, column_of(prop)) != ("atomic", SESSION_ID):
            raise DefinitionError(
                f'horizon="session" of Anchors: the key is {name}, expected {SESSION_ID}. Use a '
                "group with this attribute key, or a horizon such as timedelta(hours=1)."
            )
        if name.casefold() in COLUMNS:
            raise DefinitionError(
                f"attribute key {name!r}: a training set has a column {name} of its own; rename "
                "the key, and give it the property that it has now."
            )
        for attribute in (self.goal_attribute, self.at_attribute):
            check(attribute)

    @property
    def label_delay(self) -> timedelta:
        """How long after an anchor its label is known: the gap between training and test rows.

        The horizon; for the rest of a session a day, longer than almost every session.
        """
        return timedelta(days=1) if isinstance(self.horizon, str) else self.horizon

    @property
    def goal_attribute(self) -> Attribute:
        """An attribute that counts the events of the goal."""
        return _counter("goal of the anchors", self.goal, self.goal_criteria)

    @property
    def at_attribute(self) -> Attribute:
        """An attribute that counts the events at which a visitor is scored."""
        return _counter("at of the anchors", self.at)

    @property
    def _samples(self) -> bool:
        """Whether negatives are sampled."""
        return self.negatives < 1 or self.negatives_per_positive is not None

    def _included(self, sql: Dialect) -> str:
        names = ", ".join(sql.text(name) for name in self.excluded)
        return bool(names) * f"\n    WHERE {sql.identifier('event_name')} NOT IN ({names})"

    def _used(self, wrong_clock: str, by_collector: bool, sql: Dialect) -> list[str]:
        """Conditions on the events that are used at all."""
        conditions = [f"visitor NOT IN ({nobody_sql(sql)})", f"NOT COALESCE({wrong_clock}, FALSE)"]
        if self.until is not None:
            until = sql.literal(self.until)
            conditions.append(f"ts < {until}")
            if by_collector:
                conditions.append(f"COALESCE(collected < {until}, TRUE)")
        return conditions

    def _places(self, sql: Dialect) -> str:
        places = [AT_EVENTS] if self.at else []
        if self.every is not None:
            interval = self.every // MICROSECOND
            start = "MIN(ts) OVER (PARTITION BY visitor, session)"
            elapsed = sql.microseconds_between(start, "ts")
            places.append(
                AT_INTERVALS.format(
                    elapsed=elapsed,
                    tick=sql.later(
                        "session_start",
                        f"elapsed + MOD({interval} - MOD(elapsed, {interval}), {interval})",
                    ),
                )
            )
        return "\n    UNION ALL\n".join(places)

    @property
    def _needs_visitor_starts(self) -> bool:
        needed = self._last_event == "visitor_starts"
        return bool(needed or self.app_ids or self.first_seen or self.until_goal)

    @property
    def _last_event(self) -> str:
        """The step that has each session's last event; empty if none is needed."""
        if self.horizon != SESSION:
            return ""
        return "session_ends" if self.excluded else "visitor_starts"

    def _goal_follows(self, sql: Dialect) -> str:
        if isinstance(self.horizon, str):
            return "next_goal.ts IS NOT NULL"
        return f"COALESCE(next_goal.ts <= c.ts + {sql.interval(self.horizon)}, FALSE)"

    def _joins(self, sql: Dialect) -> list[str]:
        """Joins of what the conditions on visitors need."""
        steps = ["visitor_starts"] * self._needs_visitor_starts + ["first_apps"] * bool(
            self.app_ids
        )
        joins = [f"JOIN {step} ON {step}.visitor = c.visitor" for step in steps]
        if self._last_event == "session_ends":
            joins.append("JOIN session_ends ON session_ends.visitor = c.visitor")
        if self.min_events:
            joins.append(
                sql.nearest(
                    "event_counts", "earlier", ">", to="c.ts", of="candidates", values=["events"]
                )
            )
        return joins

    def _columns(self, sql: Dialect) -> list[str]:
        """Columns that decide which rows are sampled."""
        columns = [f"{self._random(sql)} AS sample_hash"] * self._samples
        if self.per_session is not None:
            order = f"PARTITION BY c.visitor, c.session ORDER BY {self._random(sql)}, c.ts"
            columns.append(f"ROW_NUMBER() OVER ({order}) AS place_in_session")
        return columns

    def _random(self, sql: Dialect) -> str:
        """A hash of visitor, instant and seed: the same sample in every warehouse."""
        epoch = f"CAST('1970-01-01' AS {sql.timestamp_type})"
        microseconds = sql.as_text(sql.microseconds_between(epoch, "c.ts"))
        return f"MD5(CONCAT(c.visitor, ' ', {microseconds}, ' {self.seed}'))"

    def _conditions(self, sql: Dialect) -> list[str]:
        """Conditions on candidates and their visitors."""
        if isinstance(self.horizon, str):
            timeout = sql.interval(self.session_timeout)
            conditions = [
                "c.ts IS NOT NULL",
                f"{self._last_event}.last_ts <= data_end.ts - {timeout}",
            ]
        else:
            conditions = [f"c.ts <= data_end.ts - {sql.interval(self.horizon)}"]
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
    def _kept_negatives(self) -> str:
        """How many negatives are kept, if there are so many."""
        return f"FLOOR(GREATEST({float(self.negatives_per_positive or 1)!r} * positives, 1))"

    @property
    def _threshold(self) -> str:
        """8 hex digits; the hashes below them are the share of negatives that is kept."""
        return f"{min(round(self.negatives * 16**8), 16**8 - 1):08x}"

    def _weight(self) -> str:
        weight = repr(1 / self.negatives)
        if self.negatives_per_positive is not None:
            weight = f"CAST(class_rows AS DOUBLE) / LEAST(class_rows, {self._kept_negatives})"
        return f"CASE WHEN goal_follows THEN 1.0 ELSE {weight} END"


#: The population of Snowplow's tutorial: visitors first seen 60 to 30 days ago on the website
#: or a landing page, without technical events.
TUTORIAL_ANCHORS = Anchors(
    app_ids=("website", "hs-landing"),
    first_seen=(timedelta(days=60), timedelta(days=30)),
    excluded=("application_error", "web_vitals", "link_click"),
)

#: The events at which the demo website asks for a score; it also asks at a regular interval.
SITE_ANCHORS = Anchors(at=(PAGE_VIEW, FOCUS_FORM, CHANGE_FORM, ANY_MEDIA_EVENT))


def _group_with(key: str | Key | AttributeGroup) -> AttributeGroup:
    """Return a group with this attribute key."""
    if isinstance(key, AttributeGroup):
        return key
    key = LinkAttributeKey.model_construct(name=key) if isinstance(key, str) else key
    if not isinstance(key, Key):
        kind = type(key).__name__
        raise DefinitionError(f"key: a {kind}, expected a column, an attribute key or a group.")
    return AttributeGroup.model_construct(name="anchors", attribute_key=key)


def _counter(name: str, events: Sequence[Event], criteria: Criteria | None = None) -> Attribute:
    return Attribute.model_construct(
        name=name, type="int64", events=list(events), aggregation="counter", criteria=criteria
    )
