"""Attributes and features at past moments: from a group to one point-in-time SQL statement.

An *anchor* is a visitor and a moment. Values are those that would have been served then
(:func:`prospect_lib.aggregation.attribute_values`): state at an anchor includes events at
that very moment; ``include_anchor=False`` leaves them out, as Snowplow's tutorials do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from snowplow_signals import AttributeGroup, Event
from snowplow_signals.models.model import Attribute

from prospect_lib.attributes import (
    ANY_MEDIA_EVENT,
    CHANGE_FORM,
    FOCUS_FORM,
    PAGE_VIEW,
    SUBMIT_FORM,
)
from prospect_lib.compiler import compile_attributes, compile_features
from prospect_lib.conditions import matches
from prospect_lib.errors import DataError
from prospect_lib.features import features_of
from prospect_lib.scope import Scope
from prospect_lib.sql import Dialect, dialect_of

HOUR = timedelta(hours=1)


def attributes_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
) -> str:
    """One statement that gives every attribute of ``group`` at every anchor.

    Args:
        group: a Signals attribute group, compiled attribute by attribute.
        events: name of a relation in Snowplow's atomic events columns.
        anchors: name of a relation with the group's key column and ``anchor_ts`` (UTC); what
            else it has is passed through.
        dialect: ``duckdb`` or ``snowflake``.
        include_anchor: whether events exactly at ``anchor_ts`` count.

    Returns:
        SQL whose rows are the anchors' columns and then one column an attribute, in the
        group's order, sorted by key and ``anchor_ts``. A ``unique_list`` is an array, a
        ``category_count`` a JSON object.

    Raises:
        DefinitionError: an attribute cannot be compiled; the message names it and why.
    """
    return compile_attributes(Scope(group, dialect_of(dialect), events, anchors, include_anchor))


def features_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
) -> str:
    """The same with the model's features (:func:`prospect_lib.features.features_of`)."""
    scope = Scope(group, dialect_of(dialect), events, anchors, include_anchor)
    return compile_features(scope, features_of(group))


@dataclass(frozen=True)
class Anchors:
    """Where training rows are placed, and what is asked of each.

    Attributes:
        at: the events at which a visitor is scored.
        goal: the events that make a row positive.
        horizon: how far ahead the question looks; the label is a goal in (t, t + horizon].
        app_ids: only visitors first seen on these; empty means any.
        first_seen: only visitors first seen this long before the end of the data, as
            (earliest, latest), such as 60 to 30 days; ``None`` means any.
        excluded: names of events that are left out altogether.
        since: no row is earlier (earlier events still count in features); a moment
            without a zone is UTC.
        until: as if the data ended here: no row, label or population looks further, so
            the same window gives the same rows next week.
    """

    at: Sequence[Event] = (PAGE_VIEW,)
    goal: Sequence[Event] = (SUBMIT_FORM,)
    horizon: timedelta = HOUR
    app_ids: Sequence[str] = ()
    first_seen: tuple[timedelta, timedelta] | None = None
    excluded: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None

    def sql(self, *, events: str, key: str = "domain_userid", dialect: str = "duckdb") -> str:
        """SELECT the key, ``anchor_ts`` and ``label`` of each anchor, in order.

        Anchors whose horizon the data does not fully cover are left out: their label is
        not known.
        """
        if self.horizon <= timedelta():
            raise DataError(f"horizon={self.horizon} must be longer than nothing, such as 1 hour.")
        if self.since and self.until and _utc(self.since) >= _utc(self.until):
            raise DataError(
                f"the window is empty: since {self.since:%Y-%m-%d %H:%M} is not before until "
                f"{self.until:%Y-%m-%d %H:%M}. Exchange them, or widen --since .. --until."
            )
        sql = dialect_of(dialect)
        parts = {
            "key": sql.identifier(key),
            "ts": f"CAST({sql.identifier('derived_tstamp')} AS {sql.timestamp_type})",
            "events": events,
            "is_anchor": _is_any(self.at, sql),
            "is_goal": _is_any(self.goal, sql),
            "app": sql.identifier("app_id"),
            "just_after": sql.interval(timedelta(microseconds=1)),
            "horizon": sql.interval(self.horizon),
            "kept": self._kept(sql),
            "population": self._population(sql),
            "anchor_ts": sql.identifier("anchor_ts"),
            "label": sql.identifier("label"),
        }
        return _ANCHORS.format(**parts)

    def _kept(self, sql: Dialect) -> str:
        conditions = []
        if self.excluded:
            names = ", ".join(sql.text(name) for name in self.excluded)
            conditions.append(f"{sql.identifier('event_name')} NOT IN ({names})")
        if self.until is not None:
            ts = f"CAST({sql.identifier('derived_tstamp')} AS {sql.timestamp_type})"
            conditions.append(f"{ts} < {_moment(self.until, sql)}")
        return "".join(f" AND {condition}" for condition in conditions)

    def _population(self, sql: Dialect) -> str:
        conditions = []
        if self.app_ids:
            conditions.append(f"first_app IN ({', '.join(sql.text(a) for a in self.app_ids)})")
        if self.first_seen is not None:
            earliest, latest = (sql.interval(age) for age in self.first_seen)
            conditions.append(f"first_ts BETWEEN data_end - {earliest} AND data_end - {latest}")
        if self.since is not None:
            conditions.append(f"ts >= {_moment(self.since, sql)}")
        return "".join(f" AND {condition}" for condition in conditions)


#: The population of Snowplow's tutorial: visitors first seen 60 to 30 days ago on the website
#: or a landing page, without technical events.
TUTORIAL_ANCHORS = Anchors(
    app_ids=("website", "hs-landing"),
    first_seen=(timedelta(days=60), timedelta(days=30)),
    excluded=("application_error", "web_vitals", "link_click"),
)

#: The moments at which the demo website asks for a score, beside its regular interval.
SITE_ANCHORS = Anchors(at=(PAGE_VIEW, FOCUS_FORM, CHANGE_FORM, ANY_MEDIA_EVENT))

_ANCHORS = """\
WITH
-- the events that count, and for each whether a goal follows within the horizon
seen AS (
  SELECT
    {key} AS visitor,
    {ts} AS ts,
    {app} AS app,
    CASE WHEN {is_anchor} THEN 1 ELSE 0 END AS anchor,
    CASE WHEN {is_goal} THEN 1 ELSE 0 END AS goal
  FROM {events}
  WHERE {key} IS NOT NULL{kept}
),
ahead AS (
  SELECT
    visitor,
    ts,
    anchor,
    MAX(goal) OVER (
      PARTITION BY visitor ORDER BY ts
      RANGE BETWEEN {just_after} FOLLOWING AND {horizon} FOLLOWING
    ) AS goal_ahead,
    FIRST_VALUE(app) OVER (PARTITION BY visitor ORDER BY ts, app) AS first_app,
    MIN(ts) OVER (PARTITION BY visitor) AS first_ts,
    MAX(ts) OVER () AS data_end
  FROM seen
)
-- anchors whose horizon the data covers: of the others the label is not known
SELECT DISTINCT
  visitor AS {key},
  ts AS {anchor_ts},
  COALESCE(goal_ahead, 0) = 1 AS {label}
FROM ahead
WHERE anchor = 1 AND ts <= data_end - {horizon}{population}
ORDER BY 1, 2"""


def _is_any(patterns: Sequence[Event], sql: Dialect) -> str:
    attribute = Attribute(name="x", type="int64", events=list(patterns), aggregation="counter")
    return matches(attribute, sql) or "TRUE"


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _moment(moment: datetime, sql: Dialect) -> str:
    text = _utc(moment).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return f"CAST({sql.text(text)} AS {sql.timestamp_type})"
