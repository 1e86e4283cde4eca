"""The value of an attribute, in plain Python: which events count, in which window, folded how.

:func:`attribute_values` is the definition, for one visitor at a time; the sandbox serves it. The
SQL of :mod:`prospect_lib.sql` must give the same values.

It follows Snowplow's documentation of Signals (https://docs.snowplow.io/docs/signals/). Where that
is silent: an event exactly one period old still counts; an event whose property is null does not
update the attribute; of two values at the same instant the smaller one counts as the earlier;
events are ordered by ``derived_tstamp``.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from snowplow_signals import AttributeGroup, LinkAttributeKey
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.criteria import matches
from prospect_lib.aggregation.definitions import NUMERIC, WITHOUT_PROPERTY, check
from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.aggregation.properties import (
    column_of,
    event_time,
    property_text,
    to_number,
    typed,
    whole,
)
from prospect_lib.errors import DataError

MAX_VALUES = 100  # of a unique_list or a category_count (Signals documentation)
SECONDS_IN = {"s": 1, "min": 60, "h": 3600, "d": 86400}

Occurrence = tuple[datetime, Any]  # an event's time, and the value of its property


def attribute_values(
    group: AttributeGroup,
    events: Iterable[Mapping[str, Any]],
    at: datetime,
    *,
    include_anchor: bool = True,
) -> dict[str, Any]:
    """Return the group's attributes at the instant ``at``, from the events of one key value.

    Args:
        group: a Signals attribute group.
        events: mappings with the column names of the atomic events table, in any order;
            ``derived_tstamp`` is a datetime (naive means UTC) or ISO 8601 text, nested columns
            are objects or JSON text.
        at: an aware datetime; events after it are ignored.
        include_anchor: whether events exactly at ``at`` count.

    Returns:
        Values by attribute name in the group's order; ``None`` if no event matched.

    Raises:
        DataError: ``at`` is naive, or an event has no time.
        DefinitionError: an attribute's definition is incomplete.

    Example:
        >>> from datetime import UTC
        >>> from prospect_lib.attributes import sample_group
        >>> view = {
        ...     "derived_tstamp": "2026-01-05T12:00:00Z",
        ...     "event_name": "page_view",
        ...     "event_vendor": "com.snowplowanalytics.snowplow",
        ...     "event_version": "1-0-0",
        ...     "page_url": "https://example.com/pricing",
        ... }
        >>> attribute_values(sample_group, [view, view], datetime(2026, 1, 6, tzinfo=UTC))
        {'num_page_views': 2, 'num_pricing_views': 2, 'num_customers_views': None}
    """
    for refused, problem in (
        (not isinstance(group, AttributeGroup), f"group is a {type(group).__name__}, expected an "
         "attribute group such as prospect_group"),
        (hasattr(events, "to_dict"), "events is a DataFrame; pass events.to_dict('records')"),
        (isinstance(events, str | Mapping), f"events is a {type(events).__name__}, expected a list "
         "of mappings, one per event"),
        (not isinstance(at, datetime), f"at is a {type(at).__name__}, expected an aware datetime"),
    ):  # fmt: skip
        if refused:
            raise DataError(f"{problem}.")
    if at.tzinfo is None:
        raise DataError(f"at={at!r} has no time zone; pass an aware datetime such as UTC.")
    timed = [(event_time(event), event) for event in events]
    past = [(ts, event) for ts, event in timed if ts < at or (include_anchor and ts == at)]
    return {a.name: _value(group, a, past, at) for a in group.attributes or []}


def _value(
    group: AttributeGroup, attribute: Attribute, events: list[tuple[datetime, Any]], at: datetime
) -> Any:
    check(attribute)
    occurrences = [
        (ts, value)
        for ts, event in events
        if matches(attribute, event) and (value := _event_value(attribute, event)) is not None
    ]
    occurrences.sort()
    current = _in_window(occurrences, attribute, ttl_of(group, attribute), at)
    value = _FOLDS[attribute.aggregation](current, attribute, at) if current else None
    return attribute.default_value if value is None else value


def _in_window(
    occurrences: list[Occurrence], attribute: Attribute, ttl: timedelta | None, at: datetime
) -> list[Occurrence]:
    """Those of the last period; for a lifetime attribute, those since it last expired."""
    if attribute.period is not None:
        return [(ts, value) for ts, value in occurrences if ts >= at - attribute.period]
    if ttl is None or not occurrences:
        return occurrences
    if occurrences[-1][0] < at - ttl:
        return []
    pairs = enumerate(pairwise(occurrences), 1)
    starts = [number for number, (one, two) in pairs if two[0] - one[0] > ttl]
    return occurrences[starts[-1] :] if starts else occurrences


def ttl_of(group: AttributeGroup, attribute: Attribute) -> timedelta | None:
    """Return after how long without an update a lifetime attribute expires; ``None`` for never.

    That is its own ``ttl``, else the group's, else the key's.
    """
    if attribute.period is not None:
        return None
    return attribute.ttl or group.ttl or _key_ttl(group)


def _key_ttl(group: AttributeGroup) -> timedelta | None:
    key = group.attribute_key
    return None if isinstance(key, LinkAttributeKey) else key.ttl


def group_hash(group: AttributeGroup) -> str:
    """Return 16 hex digits that change exactly when a value of the group could change."""
    content = group.model_dump(
        mode="json",
        include={"name", "version", "ttl", "attributes"},
        exclude={"attributes": {"__all__": {"description"}}},
        exclude_none=True,
    )
    content["key"] = group.attribute_key.name
    if column_of(key_property(group)) != key_name(group):
        content["key_property"] = key_property(group).model_dump(mode="json", exclude_none=True)
    content["key_ttl"] = str(None if group.ttl else _key_ttl(group))  # the group's ttl wins
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _event_value(attribute: Attribute, event: Mapping[str, Any]) -> Any:
    """The value that a matching event has for the attribute; ``None`` if it does not count."""
    if attribute.aggregation in WITHOUT_PROPERTY:
        return True
    text = property_text(attribute.property, event)
    if attribute.aggregation in NUMERIC:
        return to_number(text)
    if attribute.aggregation in ("category_count", "approx_count_distinct"):
        return text
    return typed(attribute.type, text)


# --- folds: (occurrences, oldest first; the attribute; the instant) -> the value -------------


@dataclass(frozen=True)
class _Frequencies:
    """How often each value occurred, and when first."""

    counts: Counter[Any]
    first: dict[Any, datetime]

    @classmethod
    def of(cls, occurrences: list[Occurrence]) -> "_Frequencies":
        first: dict[Any, datetime] = {}
        for ts, value in occurrences:
            first.setdefault(value, ts)
        return cls(Counter(value for _, value in occurrences), first)

    def ranked(self, sign: int = -1) -> list[Any]:
        """Values by count (``sign`` -1: highest first); ties by the one seen first."""
        return sorted(self.counts, key=lambda v: (sign * self.counts[v], self.first[v], v))


Fold = Callable[[list[Occurrence], Attribute, datetime], Any]


def _numbers(fold: Callable[[list[float]], float]) -> Fold:
    def folded(occurrences: list[Occurrence], attribute: Attribute, _at: datetime) -> Any:
        value = fold([number for _, number in occurrences])
        return whole(value) if attribute.type.startswith("int") else value

    return folded


def _unique_list(occurrences: list[Occurrence], _attribute: Attribute, _at: datetime) -> list[Any]:
    last_seen = {value: (ts, value) for ts, value in occurrences}
    return sorted(last_seen, key=lambda value: last_seen[value])[-MAX_VALUES:]


def _category_count(
    occurrences: list[Occurrence], _attribute: Attribute, _at: datetime
) -> dict[str, int]:
    frequencies = _Frequencies.of(occurrences)
    return {value: frequencies.counts[value] for value in frequencies.ranked()[:MAX_VALUES]}


def _age(occurrence: Occurrence, attribute: Attribute, at: datetime) -> float:
    return (at - occurrence[0]) / timedelta(seconds=SECONDS_IN[attribute.time_unit or "s"])


_FOLDS: dict[str, Fold] = {
    "counter": lambda occurrences, _a, _t: len(occurrences),
    "sum": _numbers(math.fsum),
    "min": _numbers(min),
    "max": _numbers(max),
    "mean": _numbers(lambda numbers: math.fsum(numbers) / len(numbers)),
    "first": lambda occurrences, _a, _t: occurrences[0][1],
    "last": lambda occurrences, _a, _t: occurrences[-1][1],
    "unique_list": _unique_list,
    "most_frequent": lambda occurrences, _a, _t: _Frequencies.of(occurrences).ranked()[0],
    "least_frequent": lambda occurrences, _a, _t: _Frequencies.of(occurrences).ranked(sign=1)[0],
    "category_count": _category_count,
    "approx_count_distinct": lambda occurrences, _a, _t: len({value for _, value in occurrences}),
    "time_since_last": lambda occurrences, a, t: _age(occurrences[-1], a, t),
    "time_since_first": lambda occurrences, a, t: _age(occurrences[0], a, t),
}
