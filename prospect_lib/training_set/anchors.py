"""Where training rows are placed, who is among them, and what is asked of each.

An anchor is a visitor and a moment; its label says whether a goal follows within the
horizon. Example: ``Anchors(every=timedelta(seconds=10))`` places them as a page that asks
for a score every ten seconds would.
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
from prospect_lib.sql.conditions import matches
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.training_set.placing import (
    ANCHORS,
    EVENT_PLACES,
    EVENTS_SO_FAR,
    TICK_PLACES,
    VISITOR_FIRSTS,
)

HOUR, MICROSECOND = timedelta(hours=1), timedelta(microseconds=1)


@dataclass(frozen=True)
class Anchors:
    """Where training rows are placed, and what is asked of each.

    Attributes:
        at: the events at which a visitor is scored; empty means none.
        every: also at this interval since a session's start, each tick after which the
            visitor was seen to be there (page pings prove presence); ``None`` means never.
        goal: the events that make a row positive.
        goal_criteria: what else such an event must meet.
        horizon: how far ahead the question looks; the label is a goal in (t, t + horizon].
        app_ids: only visitors first seen on these; empty means any.
        first_seen: only visitors first seen this long before the end of the data, as
            (earliest, latest), such as 60 to 30 days; ``None`` means any.
        excluded: names of events that are left out altogether.
        min_events: how many events a visitor must have had before an anchor.
        until_goal: whether a visitor's anchors end with the first goal.
        per_session: at most so many anchors of a session, drawn by ``seed``.
        negatives: the share of rows without a goal that is kept, drawn by ``seed``; column
            ``weight`` says how many rows each stands for.
        seed: of the draws; the same seed draws the same rows.
        since: no row is earlier (earlier events still count in features); a moment
            without a zone is UTC.
        until: as if the data ended here: no row, label or population looks further, so
            the same window gives the same rows next week.
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
        """Refuse what has no meaning.

        Raises:
            DataError: naming the argument, its value and what was expected.
        """
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
        """SELECT the key, ``anchor_ts`` and ``label`` of each anchor, in order.

        Anchors whose horizon the data does not fully cover are left out: their label is
        not known. Where negatives are drawn there is a ``weight`` too.
        """
        sql = dialect_of(dialect)
        by_session = self.every is not None or self.per_session is not None
        return ANCHORS.format(
            key=sql.identifier(key),
            ts=_derived(sql),
            events=events,
            session=sql.identifier("domain_sessionid") if by_session else "NULL",
            app=sql.identifier("app_id") if self.app_ids else "NULL",
            is_anchor=_is_any(self.at, sql) if self.at else "FALSE",
            is_goal=_is_any(self.goal, sql, self.goal_criteria),
            left_out="".join(f" AND {condition}" for condition in self._left_in(sql)),
            known=VISITOR_FIRSTS * self._asks_of_visitors + EVENTS_SO_FAR * bool(self.min_events),
            places=self._places(sql),
            horizon=sql.interval(self.horizon),
            columns="".join(f",\n    {column}" for column in self._columns(sql)),
            next_goal=sql.nearest("goals", "goal", "p.ts < goal.ts", "p"),
            joins="".join(f"\n  {join}" for join in self._joins(sql)),
            conditions="".join(f" AND {condition}" for condition in self._population(sql)),
            drawn="".join(f"\n{line}" for line in self._drawn()),
            anchor_ts=sql.identifier("anchor_ts"),
            label=sql.identifier("label"),
            weight=f",\n  {self._weight()} AS {sql.identifier('weight')}" * (self.negatives < 1),
        )

    def _left_in(self, sql: Dialect) -> list[str]:
        """Conditions on the events that count at all."""
        conditions = []
        if self.excluded:
            names = ", ".join(sql.text(name) for name in self.excluded)
            conditions.append(f"{sql.identifier('event_name')} NOT IN ({names})")
        if self.until is not None:
            conditions.append(f"{_derived(sql)} < {sql.constant(self.until)}")
        return conditions

    def _places(self, sql: Dialect) -> str:
        places = [EVENT_PLACES] if self.at else []
        if self.every is not None:
            micros = self.every // MICROSECOND
            passed = sql.microseconds_between("MIN(ts) OVER (PARTITION BY visitor, session)", "ts")
            places.append(
                TICK_PLACES.format(
                    passed=f"CAST(CEIL({passed} / {micros}.0) AS BIGINT) * {micros}",
                    tick=sql.later("started", "passed"),
                )
            )
        return "\n    UNION ALL\n".join(places)

    @property
    def _asks_of_visitors(self) -> bool:
        return bool(self.app_ids) or self.first_seen is not None or self.until_goal

    def _joins(self, sql: Dialect) -> list[str]:
        """What else must be known of a visitor for the rows to be chosen."""
        joins = []
        if self._asks_of_visitors:
            joins = [f"JOIN {of} ON {of}.visitor = p.visitor" for of in ("firsts", "first_apps")]
        if self.min_events:
            joins.append(sql.nearest("so_far", "before", "p.ts > before.ts", "p"))
        return joins

    def _columns(self, sql: Dialect) -> list[str]:
        """What lots decide by."""
        columns = [f"{self._lot(sql)} AS lot"] * (self.negatives < 1)
        if self.per_session is not None:
            of_session = "PARTITION BY p.visitor, p.session"
            columns.append(
                f"ROW_NUMBER() OVER ({of_session} ORDER BY {self._lot(sql)}, p.ts) AS place"
            )
        return columns

    def _lot(self, sql: Dialect) -> str:
        """A hash of visitor, moment and seed: the same draw in every warehouse."""
        ts = sql.microseconds_between(f"CAST('1970-01-01' AS {sql.timestamp_type})", "p.ts")
        return f"MD5(CONCAT(p.visitor, ' ', CAST({ts} AS VARCHAR), ' {self.seed}'))"

    def _population(self, sql: Dialect) -> list[str]:
        conditions = []
        if self.app_ids:
            conditions.append(f"first_app IN ({', '.join(sql.text(a) for a in self.app_ids)})")
        if self.first_seen is not None:
            earliest, latest = (sql.interval(age) for age in self.first_seen)
            conditions.append(
                f"first_ts BETWEEN ending.data_end - {earliest} AND ending.data_end - {latest}"
            )
        if self.since is not None:
            conditions.append(f"p.ts >= {sql.constant(self.since)}")
        if self.until_goal:
            conditions.append("(goal_ts IS NULL OR p.ts < goal_ts)")
        if self.min_events:
            conditions.append(f"before.events >= {self.min_events}")
        return conditions

    def _drawn(self) -> list[str]:
        """Conditions that lots decide; a session's places are drawn before negatives are."""
        lines = []
        if self.per_session is not None:
            lines.append(f"WHERE place <= {self.per_session}")
        if self.negatives < 1:
            share = f"(positive OR SUBSTR(lot, 17, 8) < '{self._threshold}')"
            lines.append(f"{'AND' if lines else 'WHERE'} {share}")
        return lines

    @property
    def _threshold(self) -> str:
        """8 hex digits: lots below it are the share of negatives that is kept."""
        return f"{min(round(self.negatives * 16**8), 16**8 - 1):08x}"

    def _weight(self) -> str:
        return f"CASE WHEN positive THEN 1.0 ELSE {1 / self.negatives!r} END"


#: The population of Snowplow's tutorial: visitors first seen 60 to 30 days ago on the website
#: or a landing page, without technical events.
TUTORIAL_ANCHORS = Anchors(
    app_ids=("website", "hs-landing"),
    first_seen=(timedelta(days=60), timedelta(days=30)),
    excluded=("application_error", "web_vitals", "link_click"),
)

#: The moments at which the demo website asks for a score, beside its regular interval.
SITE_ANCHORS = Anchors(at=(PAGE_VIEW, FOCUS_FORM, CHANGE_FORM, ANY_MEDIA_EVENT))


def _derived(sql: Dialect) -> str:
    return f"CAST({sql.identifier('derived_tstamp')} AS {sql.timestamp_type})"


def _is_any(patterns: Sequence[Event], sql: Dialect, criteria: Criteria | None = None) -> str:
    attribute = Attribute(
        name="x", type="int64", events=list(patterns), aggregation="counter", criteria=criteria
    )
    return matches(attribute, sql) or "TRUE"


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
