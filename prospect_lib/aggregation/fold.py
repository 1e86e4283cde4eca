"""What an attribute means: which events count, in which window, folded into which value.

:func:`attribute_values` is the definition in plain Python, one visitor at a time, and
what the sandbox serves. The SQL of :mod:`prospect_lib.training_set` must give the same.

It follows Snowplow's documentation of Signals (https://docs.snowplow.io/docs/signals/).
Where that is silent, the choices are: an event exactly one period old still counts; an
event whose property is null does not update the attribute; at one and the same instant
the smaller value counts as the earlier; events are ordered by ``derived_tstamp``.
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

from prospect_lib.aggregation.criteria import like, matches, meets
from prospect_lib.aggregation.properties import (
    column_of,
    moment,
    path_of,
    property_text,
    to_moment,
    to_number,
    to_text,
    typed,
    whole,
)
from prospect_lib.errors import DataError, DefinitionError

__all__ = [
    "MAX_VALUES",
    "NUMERIC",
    "SECONDS_IN",
    "WITHOUT_PROPERTY",
    "attribute_values",
    "check",
    "column_of",
    "group_hash",
    "like",
    "matches",
    "meets",
    "moment",
    "path_of",
    "property_text",
    "to_moment",
    "to_number",
    "to_text",
    "ttl_of",
    "typed",
    "whole",
]

MAX_VALUES = 100  # a unique_list or category_count holds no more (Signals documentation)
NUMERIC = {"sum", "min", "max", "mean"}
WITHOUT_PROPERTY = {"counter", "time_since_last", "time_since_first"}
SECONDS_IN = {"s": 1, "min": 60, "h": 3600, "d": 86400}

Seen = tuple[datetime, Any]  # when, and the property's value then


def attribute_values(
    group: AttributeGroup,
    events: Iterable[Mapping[str, Any]],
    at: datetime,
    *,
    include_anchor: bool = True,
) -> dict[str, Any]:
    """The group's attributes at the moment ``at``, from the events of one key value.

    Args:
        group: a Signals attribute group.
        events: mappings with atomic column names, in any order; ``derived_tstamp`` is a
            datetime (naive means UTC) or ISO 8601 text, nested columns are objects or JSON.
        at: an aware datetime; events after it are ignored.
        include_anchor: whether events exactly at ``at`` count.

    Returns:
        Values by attribute name in the group's order; ``None`` where nothing matched.

    Example: two page views give ``{"num_page_views_l7d": 2, ...}``.
    """
    if at.tzinfo is None:
        raise DataError(f"at={at!r} has no time zone; pass an aware datetime such as UTC.")
    known = [(moment(event), event) for event in events]
    seen = [(ts, event) for ts, event in known if ts < at or (include_anchor and ts == at)]
    return {a.name: _value(group, a, seen, at) for a in group.attributes or []}


def _value(
    group: AttributeGroup, attribute: Attribute, events: list[tuple[datetime, Any]], at: datetime
) -> Any:
    check(attribute)
    matching = [
        (ts, value)
        for ts, event in events
        if matches(attribute, event) and (value := _aggregated(attribute, event)) is not None
    ]
    matching.sort()
    current = _in_window(matching, attribute, ttl_of(group, attribute), at)
    value = _FOLDS[attribute.aggregation](current, attribute, at) if current else None
    return attribute.default_value if value is None else value


def _in_window(
    seen: list[Seen], attribute: Attribute, ttl: timedelta | None, at: datetime
) -> list[Seen]:
    """The last ``period``; or, for a lifetime, what came since it last ran out of ttl."""
    if attribute.period is not None:
        return [(ts, value) for ts, value in seen if ts >= at - attribute.period]
    if ttl is None or not seen:
        return seen
    if seen[-1][0] < at - ttl:
        return []
    starts = [i + 1 for i, (one, two) in enumerate(pairwise(seen)) if two[0] - one[0] > ttl]
    return seen[starts[-1] :] if starts else seen


def ttl_of(group: AttributeGroup, attribute: Attribute) -> timedelta | None:
    """How long a lifetime attribute lives: its own ttl, else the group's, else the key's."""
    if attribute.period is not None:
        return None
    return attribute.ttl or group.ttl or _key_ttl(group)


def _key_ttl(group: AttributeGroup) -> timedelta | None:
    key = group.attribute_key
    return None if isinstance(key, LinkAttributeKey) else key.ttl


def group_hash(group: AttributeGroup) -> str:
    """16 hex digits that change exactly when a value of the group could change."""
    content = group.model_dump(
        mode="json",
        include={"name", "version", "ttl", "attributes"},
        exclude={"attributes": {"__all__": {"description"}}},
        exclude_none=True,
    )
    content["key"] = group.attribute_key.name
    content["key_ttl"] = str(_key_ttl(group))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def check(attribute: Attribute) -> None:
    """Refuse a definition that has no meaning.

    Raises:
        DefinitionError: naming the attribute and what it lacks.
    """
    needs_property = attribute.aggregation not in WITHOUT_PROPERTY
    if needs_property and attribute.property is None:
        raise DefinitionError(
            f"attribute {attribute.name!r}: aggregation {attribute.aggregation!r} needs a property."
        )
    if attribute.aggregation.startswith("time_since") and attribute.time_unit is None:
        raise DefinitionError(
            f"attribute {attribute.name!r}: {attribute.aggregation} needs a time_unit "
            "('s', 'min', 'h' or 'd')."
        )
    if any(event.event_specification_id for event in attribute.events):
        raise DefinitionError(
            f"attribute {attribute.name!r}: event_specification_id cannot be evaluated outside "
            "Signals; give the event's vendor, name and version."
        )


def _aggregated(attribute: Attribute, event: Mapping[str, Any]) -> Any:
    """What the fold takes from a matching event; ``None`` means it takes nothing."""
    if attribute.aggregation in WITHOUT_PROPERTY:
        return True
    text = property_text(attribute.property, event)
    if attribute.aggregation in NUMERIC:
        return to_number(text)
    if attribute.aggregation in ("category_count", "approx_count_distinct"):
        return text
    return typed(attribute.type, text)


# --- folds: (what was seen, oldest first; the attribute; the moment) -> the value -----------


@dataclass(frozen=True)
class _Tally:
    """How often each value was seen, and when first."""

    counts: Counter[Any]
    first: dict[Any, datetime]

    @classmethod
    def of(cls, seen: list[Seen]) -> "_Tally":
        first: dict[Any, datetime] = {}
        for ts, value in seen:
            first.setdefault(value, ts)
        return cls(Counter(value for _, value in seen), first)

    def ranked(self, sign: int = -1) -> list[Any]:
        """Values by count (``sign`` -1: highest first); of equals the earliest seen first."""
        return sorted(self.counts, key=lambda v: (sign * self.counts[v], self.first[v], v))


def _numbers(fold: Callable[[list[float]], float]) -> Callable[[list[Seen], Attribute, Any], Any]:
    def folded(seen: list[Seen], attribute: Attribute, _at: datetime) -> Any:
        value = fold([number for _, number in seen])
        return whole(value) if attribute.type.startswith("int") else value

    return folded


def _unique_list(seen: list[Seen], _attribute: Attribute, _at: datetime) -> list[Any]:
    last_seen = {value: (ts, value) for ts, value in seen}
    return sorted(last_seen, key=lambda value: last_seen[value])[-MAX_VALUES:]


def _category_count(seen: list[Seen], _attribute: Attribute, _at: datetime) -> dict[str, int]:
    tally = _Tally.of(seen)
    return {value: tally.counts[value] for value in tally.ranked()[:MAX_VALUES]}


def _age(seen: Seen, attribute: Attribute, at: datetime) -> float:
    return (at - seen[0]) / timedelta(seconds=SECONDS_IN[attribute.time_unit or "s"])


_FOLDS: dict[str, Callable[[list[Seen], Attribute, datetime], Any]] = {
    "counter": lambda seen, _a, _t: len(seen),
    "sum": _numbers(math.fsum),
    "min": _numbers(min),
    "max": _numbers(max),
    "mean": _numbers(lambda numbers: math.fsum(numbers) / len(numbers)),
    "first": lambda seen, _a, _t: seen[0][1],
    "last": lambda seen, _a, _t: seen[-1][1],
    "unique_list": _unique_list,
    "most_frequent": lambda seen, _a, _t: _Tally.of(seen).ranked()[0],
    "least_frequent": lambda seen, _a, _t: _Tally.of(seen).ranked(sign=1)[0],
    "category_count": _category_count,
    "approx_count_distinct": lambda seen, _a, _t: len({value for _, value in seen}),
    "time_since_last": lambda seen, a, t: _age(seen[-1], a, t),
    "time_since_first": lambda seen, a, t: _age(seen[0], a, t),
}
