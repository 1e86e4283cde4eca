"""What may have gone wrong between the events, Signals and the log: one hypothesis each.

A hypothesis is a counterfactual: events, moments or definitions as they would have been. Where
the warehouse lacks what Signals counted, nothing can be recomputed; then it is the evidence, a
condition that its mismatches meet.

Example: ``Hypothesis(EVENT_TYPE, "Signals did not count events page_ping.", without(condition))``
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd
from snowplow_signals import Criteria, Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.properties import column_of, leaves
from prospect_lib.monitoring.causes import (
    CLOCK,
    COUNTED_TWICE,
    DAY,
    DEFINITION,
    EVENT_TYPE,
    FILTER,
    FRESHNESS,
    FROZEN,
    HISTORY,
    LATE,
    PROPERTY,
    VALUES,
    WINDOW,
)
from prospect_lib.monitoring.facts import Facts, property_name
from prospect_lib.monitoring.keyed_events import ARRIVED, HAPPENED, KEY
from prospect_lib.monitoring.served_scores import is_number
from prospect_lib.sql.conditions import event_condition, property_sql
from prospect_lib.sql.dialects import Dialect, dialect_of

_LOCAL = dialect_of("duckdb")
_TWICE = "SELECT * FROM {events} AS e UNION ALL SELECT * FROM {events} AS e"
_DAY = timedelta(days=1)
_OLDEST, _NEWEST = timedelta(seconds=60), timedelta(seconds=2)
#: How much older than the score frozen values may be.
LONGEST_FROZEN = timedelta(days=7)
_PERIODS = {
    "5 minutes": timedelta(minutes=5), "1 hour": timedelta(hours=1), "1 day": _DAY,
    "2 days": 2 * _DAY, "7 days": 7 * _DAY, "14 days": 14 * _DAY, "28 days": 28 * _DAY,
    "30 days": 30 * _DAY, "60 days": 60 * _DAY, "90 days": 90 * _DAY, "a lifetime": None,
}  # fmt: skip


@dataclass(frozen=True)
class Hypothesis:
    """One thing that may have gone wrong, and what would then have been served.

    Attributes:
        cause: one of :data:`prospect_lib.monitoring.causes.CAUSES`.
        sentence: what went wrong.
        events: a SELECT of the events that would be counted, from ``{events}``.
        known: the condition on an event ``e`` to be known at a moment ``a.anchor_ts``.
        moves: returns the moments of served rows (``served_row``, ``visitor``, ``anchor_ts``).
        within: the values are those of another moment, at least and at most so much later.
        attributes: other definitions, by name.
        evidence: a condition on mismatches in DuckDB's SQL, where nothing can be recomputed.
        by_row: whether it may be true of some rows only: those of which it breaks no value.
        is_flexible: whether it fits many worlds, so that it must explain more than others.
    """

    cause: str
    sentence: str
    events: str = "SELECT * FROM {events} AS e"
    known: str = ""
    moves: Callable[[pd.DataFrame], "pd.Series[Any]"] | None = None
    within: tuple[timedelta, timedelta] | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    evidence: str = ""
    by_row: bool = False
    is_flexible: bool = False


def hypotheses(facts: Facts) -> list[Hypothesis]:
    """Return all that may have gone wrong; of two that explain the same the first is better."""
    kinds = (_expected, _definition, _event_types, _days, _filters, _properties, _values,
             _duplicates, _windows)  # fmt: skip
    return [hypothesis for kind in kinds for hypothesis in kind(facts)]


def without(condition: str) -> str:
    """Return the SELECT of the events that do not meet a condition."""
    return f"SELECT * FROM {{events}} AS e WHERE COALESCE(NOT ({condition}), TRUE)"


def _expected(facts: Facts) -> Iterator[Hypothesis]:
    yield Hypothesis(
        LATE, "Events arrived after the score.", known=f"e.{ARRIVED} <= a.anchor_ts", by_row=True
    )
    yield Hypothesis(
        FRESHNESS,
        "Signals, or the server's cache, was up to a minute behind.",
        within=(-_OLDEST, _NEWEST),
        by_row=True,
    )
    if facts.known_since is not None:
        yield Hypothesis(
            HISTORY,
            f"Signals knew no events from before {facts.known_since:%Y-%m-%d}.",
            without(f"e.{HAPPENED} < {facts.sql.literal(facts.known_since)}"),
        )


def _definition(facts: Facts) -> Iterator[Hypothesis]:
    if changed := {n: a for n, a in facts.published.items() if n in facts.open}:
        names = ", ".join(changed)
        yield Hypothesis(
            DEFINITION, f"Signals now defines {names} differently.", attributes=changed
        )


def _event_types(facts: Facts) -> Iterator[Hypothesis]:
    """A type that Signals did not count, or that the warehouse lacks."""
    for condition, name in _types(facts).items():
        yield Hypothesis(EVENT_TYPE, f"Signals did not count events {name}.", without(condition))
    lacking = dict[str, list[Event]]()
    for attribute in facts.attributes:
        absent = [event for event in attribute.events if not _has_events(event, facts.types)]
        lacking[" / ".join(map(_event_name, absent))] = absent
    for names, absent in lacking.items():
        counting = [
            _too_low(a)
            for a in facts.attributes
            if any(_overlap(event, other) for event in a.events for other in absent)
        ]
        if counting:
            sentence = f"The warehouse lacks events {names}."
            yield Hypothesis(EVENT_TYPE, sentence, evidence=" OR ".join(counting))


def _types(facts: Facts) -> dict[str, str]:
    """Return the conditions of event types that open attributes count, with their names."""
    types = dict[str, str]()
    for attribute in facts.attributes:
        for events in [attribute.events, *([event] for event in attribute.events)]:
            pattern = {"events": events, "criteria": None}
            condition = event_condition(attribute.model_copy(update=pattern), facts.sql)
            types[condition or "TRUE"] = " / ".join(map(_event_name, events))
    for row in facts.types.itertuples():
        event = Event(vendor=row.event_vendor, name=row.event_name)
        patterns = [e for a in facts.attributes for e in a.events]
        if any(_overlap(event, pattern) for pattern in patterns if not pattern.name):
            pair = {"vendor": row.event_vendor, "name": row.event_name}
            condition = " AND ".join(
                f"{facts.sql.identifier(f'event_{part}')} = {facts.sql.text(value)}"
                for part, value in pair.items()
            )
            types.setdefault(condition, row.event_name)
    return types


def _days(facts: Facts) -> Iterator[Hypothesis]:
    for day, is_empty in facts.days.items():
        start = datetime(day.year, day.month, day.day)
        if not is_empty:
            bounds = [f"e.{HAPPENED} {sign} {facts.sql.literal(at)}"
                      for sign, at in ((">=", start), ("<", start + _DAY))]  # fmt: skip
            sentence = f"Signals did not count the events of {day}."
            yield Hypothesis(DAY, sentence, without(" AND ".join(bounds)))
            continue
        moment = "(SELECT anchor_ts FROM served AS s WHERE s.served_row = mismatches.served_row)"
        reaching = " OR ".join(
            f"({_too_low(a)} AND {moment} < {_LOCAL.literal(start + _DAY + a.period)})"
            if a.period
            else _too_low(a)
            for a in facts.attributes
        )
        evidence = f"{moment} >= {_LOCAL.literal(start)} AND ({reaching})"
        yield Hypothesis(DAY, f"The warehouse has no events of {day}.", evidence=evidence)


def _filters(facts: Facts) -> Iterator[Hypothesis]:
    """Events or visitors with a value that is more frequent where values are wrong."""
    values = facts.values
    if len(values):
        shares = (
            values.drop_duplicates(["visitor", "property", "value"])
            .groupby(["property", "value", "open"])["visitor"].nunique().unstack(fill_value=0)
            .reindex(columns=[True, False], fill_value=0)
        )  # fmt: skip
        visitors = values.groupby("open")["visitor"].nunique()
        shares = shares.div(visitors.reindex([True, False]).fillna(1), axis=1)
        shares = (shares[True] - shares[False]).sort_values(ascending=False, kind="stable")
        for number, value in shares[shares > 0].index[:8]:
            prop = facts.properties[number]
            has = f"{property_sql(prop, facts.sql)} = {facts.sql.text(value)}"
            visitor_has = f"e.{KEY} IN (SELECT {KEY} FROM {{events}} AS e WHERE {has})"
            for who, condition in (("visitors", visitor_has), ("events", has)):
                sentence = f"Signals did not count {who} with {property_name(prop)} {value[:60]!r}."
                yield Hypothesis(FILTER, sentence, without(condition))
    yield Hypothesis(
        FILTER,
        "Signals counted nothing of some visitors.",
        without("TRUE"),
        by_row=True,
        is_flexible=True,
    )
    too_low = " OR ".join(_too_low(a) for a in facts.attributes)
    yield Hypothesis(
        FILTER,
        "The warehouse has no events of some visitors.",
        evidence=f"served_row IN (SELECT served_row FROM served_without_events) AND ({too_low})",
        is_flexible=True,
    )


def _properties(facts: Facts) -> Iterator[Hypothesis]:
    properties = {
        column_of(leaf): leaf for a in facts.attributes if a.property for leaf in leaves(a.property)
    }
    for column, prop in properties.items():
        if column in ("event_name", "event_vendor", "event_version", "derived_tstamp"):
            continue
        quoted, name = facts.sql.identifier(column), property_name(prop)
        yield Hypothesis(
            PROPERTY,
            f"Signals had no values of {name}.",
            _replacing({column: f"CASE WHEN FALSE THEN {quoted} END"}, facts.sql),
        )
        if name not in facts.empty:
            continue
        reading = [a for a in facts.attributes if a.property and prop in leaves(a.property)]
        names = ", ".join(_LOCAL.text(a.name) for a in reading)
        yield Hypothesis(
            PROPERTY,
            f"The warehouse has no values of {name}.",
            evidence=f"attribute IN ({names}) AND served IS NOT NULL AND recomputed IS NULL",
        )


def _values(facts: Facts) -> Iterator[Hypothesis]:
    for pair in facts.pairs.itertuples():
        attribute = next(a for a in facts.attributes if a.name == pair.attribute)
        prop = attribute.property
        if prop is None or prop.type != "atomic" or prop.date_part:
            continue
        old, new = facts.sql.text(pair.recomputed), facts.sql.text(pair.served)
        name = f"e.{facts.sql.identifier(prop.name)}"
        columns = {str(prop.name): f"CASE WHEN {name} = {old} THEN {new} ELSE {name} END"}
        if prop.name.startswith("page_url"):
            columns = {
                page: f"REPLACE(e.{facts.sql.identifier(page)}, {old}, {new})"
                for page in ("page_url", "page_urlpath")
                if page in facts.columns
            }
        yield Hypothesis(
            VALUES,
            f"{prop.name} {pair.recomputed!r} of the warehouse was {pair.served!r} for Signals.",
            _replacing(columns, facts.sql),
        )
    criterions = {
        (column_of(criterion.property), criterion.operator, str(criterion.value)): (a, criterion)
        for a in facts.attributes
        if a.criteria
        for criterion in [*(a.criteria.all or []), *(a.criteria.any or [])]
        if criterion.operator in ("like", "=", "in")
    }
    for (column, operator, value), (attribute, criterion) in criterions.items():
        only = attribute.model_copy(
            update={"criteria": Criteria.model_construct(all=[criterion], any=None)}
        )
        met = event_condition(only, facts.sql)
        quoted = f"e.{facts.sql.identifier(column)}"
        shown = f"{property_name(criterion.property)} {operator} {value!r}"
        yield Hypothesis(
            VALUES,
            f"Signals saw no events with {shown}: it knows them by another value.",
            _replacing({column: f"CASE WHEN {met} THEN NULL ELSE {quoted} END"}, facts.sql),
        )
        if criterion.property.type != "atomic":
            continue
        text = criterion.value[0] if isinstance(criterion.value, list) else criterion.value
        text = facts.sql.text(str(text).replace("%", "") if operator == "like" else text)
        for token in _tokens(facts, column, like=operator == "like"):
            has = f"{quoted} LIKE {facts.sql.text(f'%{token}%')}"
            has = has if operator == "like" else f"{quoted} = {facts.sql.text(token)}"
            yield Hypothesis(
                VALUES,
                f"Signals counted {column} {token!r} of the warehouse as {shown}.",
                _replacing({column: f"CASE WHEN {has} THEN {text} ELSE {quoted} END"}, facts.sql),
            )


def _tokens(facts: Facts, column: str, *, like: bool) -> Sequence[str]:
    """Return the values of a column in the sample; parts of paths, if a part is compared."""
    values: list[str] = list(facts.paths.get(column, []))
    if not like:
        return values[:30]
    parts = [part for value in values for part in value.split("?")[0].split("/")[3:] if part]
    return list(dict.fromkeys(parts))[:30]


def _duplicates(facts: Facts) -> Iterator[Hypothesis]:
    yield Hypothesis(
        COUNTED_TWICE,
        "Signals counted every event twice.",
        _TWICE,
    )
    for condition, name in _types(facts).items():
        sentence = f"Signals counted events {name} twice."
        yield Hypothesis(COUNTED_TWICE, sentence, f"{_TWICE} WHERE {condition}")
    same = ["event_id"] if "event_id" in facts.columns else [KEY, HAPPENED, "event_name"]
    names = ", ".join(facts.sql.identifier(name) for name in same)
    order = f"ORDER BY {ARRIVED}, {HAPPENED}"
    yield Hypothesis(
        COUNTED_TWICE,
        "The warehouse has events twice.",
        "SELECT * FROM {events} AS e "
        f"QUALIFY ROW_NUMBER() OVER (PARTITION BY {names} {order}) = 1",
    )


def _windows(facts: Facts) -> Iterator[Hypothesis]:
    for text, period in _PERIODS.items():
        subsets = {(a.name,): [a] for a in facts.attributes}
        for a in facts.attributes:
            same = [b for b in facts.attributes if b.period == a.period]
            subsets[tuple(b.name for b in same)] = same
        for names, attributes in subsets.items():
            if attributes[0].period == period or attributes[0].period is None:
                continue
            yield Hypothesis(
                WINDOW,
                f"Signals counts {', '.join(map(str, names))} over {text}.",
                attributes={
                    str(a.name): a.model_copy(update={"period": period}) for a in attributes
                },
            )


def clock(shift: timedelta) -> Hypothesis:
    """Scoring times that are all wrong; the right moments are so much later."""
    seconds = round(abs(shift).total_seconds())
    length = f"{seconds} seconds" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    direction = "behind" if shift > timedelta() else "ahead"
    return Hypothesis(
        CLOCK,
        f"The scoring times are about {length} {direction}.",
        moves=lambda frame: frame["anchor_ts"] + shift,
    )


def frozen(rows: pd.DataFrame, moments: Sequence[datetime], sql: Dialect) -> Iterator[Hypothesis]:
    """Values that stopped changing: at one moment, or after a visitor's first score."""
    yield Hypothesis(
        FROZEN,
        "Signals' values are those of the last midnight (UTC).",
        moves=lambda frame: frame["anchor_ts"].dt.floor("D"),
    )
    for moment in moments:
        shown, limit = f"{moment:%Y-%m-%d %H:%M} UTC", pd.Timestamp(moment)
        yield Hypothesis(
            FROZEN,
            f"Signals has counted nothing since {shown}.",
            without(f"e.{HAPPENED} > {sql.literal(moment)}"),
        )
        yield Hypothesis(
            FROZEN,
            f"Signals' values are frozen since {shown}.",
            moves=partial(_no_later, limit=limit),
        )
    first = rows.groupby("visitor")["anchor_ts"].min()
    yield Hypothesis(
        FROZEN,
        "A visitor's values did not change after the first score.",
        moves=lambda frame: frame["visitor"].map(first).fillna(frame["anchor_ts"]),
    )
    yield Hypothesis(
        FROZEN,
        "Signals' values are from an earlier moment.",
        within=(-LONGEST_FROZEN, -_OLDEST),
        by_row=True,
        is_flexible=True,
    )


def _no_later(rows: pd.DataFrame, limit: pd.Timestamp) -> "pd.Series[Any]":
    return rows["anchor_ts"].clip(upper=limit)


def _replacing(columns: Mapping[str, str], sql: Dialect) -> str:
    values = ", ".join(f"{value} AS {sql.identifier(name)}" for name, value in columns.items())
    return f"SELECT e.* REPLACE ({values}) FROM {{events}} AS e"


def _too_low(attribute: Attribute) -> str:
    """Return the condition that a mismatch is of this attribute, and more was served."""
    of_it = f"attribute = {_LOCAL.text(attribute.name)}"
    if not is_number(attribute) or attribute.aggregation.startswith("time_since"):
        return f"({of_it})"
    served, recomputed = (f"TRY_CAST({name} AS DOUBLE)" for name in ("served", "recomputed"))
    return f"({of_it} AND {served} > COALESCE({recomputed}, 0))"


def _has_events(pattern: Event, types: pd.DataFrame) -> bool:
    return any(
        _overlap(pattern, Event(vendor=row.event_vendor, name=row.event_name))
        for row in types.itertuples()
    )


def _overlap(one: Event, other: Event) -> bool:
    """Return whether an event can match both patterns."""
    return all(
        getattr(one, part) is None or getattr(other, part) in (None, getattr(one, part))
        for part in ("vendor", "name")
    )


def _event_name(event: Event) -> str:
    return event.name or f"of {event.vendor or 'any vendor'}"
