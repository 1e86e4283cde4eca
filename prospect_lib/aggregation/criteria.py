"""Which events count for an attribute: those that match its ``events`` and its ``criteria``.

Example: ``meets(Criterion.like(AtomicProperty(name="page_url"), "%pricing%"), event)`` -> ``True``.
"""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.properties import (
    is_present,
    is_time,
    property_text,
    to_number,
    to_text,
    to_utc,
)


def matches(attribute: Attribute, event: Mapping[str, Any]) -> bool:
    """Return whether the event is one of the attribute's ``events`` and meets its ``criteria``."""
    selected = not attribute.events or any(_selects(e, event) for e in attribute.events)
    criteria = attribute.criteria
    if not selected or criteria is None:
        return selected
    every = all(meets(c, event) for c in criteria.all or [])
    return every and (not criteria.any or any(meets(c, event) for c in criteria.any))


def _selects(pattern: Event, event: Mapping[str, Any]) -> bool:
    return (
        pattern.name in (None, event.get("event_name"))
        and pattern.vendor in (None, event.get("event_vendor"))
        and pattern.version in (None, event.get("event_version"))
    )


#: The comparison operators of criteria and of interventions' rules, on two values of one type.
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "like": lambda a, b: like(b, a),
}


def meets(criterion: Any, event: Mapping[str, Any]) -> bool:
    """Return whether the event meets one criterion; a comparison with null is false, as in SQL."""
    comparison, value = criterion.operator, criterion.value
    if comparison in ("is null", "is not null"):
        return is_present(criterion.property, event) is (comparison == "is not null")
    if comparison == "in":
        options = value if isinstance(value, list) else [value]
        return any(_compare("=", criterion.property, event, option) for option in options)
    return _compare(comparison, criterion.property, event, value)


def _compare(comparison: str, prop: Any, event: Mapping[str, Any], expected: Any) -> bool:
    """A time is compared with a time, a number with a number, and anything else as text."""
    value: Any
    if is_time(prop):
        value, expected = to_utc(event.get(prop.name)), to_utc(expected)
    elif compares_as_number(expected) and comparison != "like":
        value, expected = to_number(property_text(prop, event)), float(expected)
    else:
        value, expected = property_text(prop, event), to_text(expected)
    return value is not None and bool(COMPARISONS[comparison](value, expected))


def compares_as_number(value: Any) -> bool:
    """Return whether the value of a criterion is a number, not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def like(pattern: str, text: str) -> bool:
    """Return whether the text matches SQL's ``LIKE``: ``%`` any characters, ``_`` exactly one."""
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)
