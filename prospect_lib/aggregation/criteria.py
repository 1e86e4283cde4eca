"""Which events an attribute is about: its ``events`` and its ``criteria``."""

import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.properties import property_text, to_number, to_text


def matches(attribute: Attribute, event: Mapping[str, Any]) -> bool:
    """Whether the event is among the attribute's ``events`` and meets its ``criteria``."""
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


#: What the operators of criteria and of rules have in common, on two values of one type.
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
    "like": lambda a, b: like(str(b), str(a)),
}


def meets(criterion: Any, event: Mapping[str, Any]) -> bool:
    """Whether one criterion holds; comparing with null never does, as in SQL."""
    by, wanted = criterion.operator, criterion.value
    if by in ("is null", "is not null"):
        return bool((property_text(criterion.property, event) is None) == (by == "is null"))
    options = wanted if isinstance(wanted, list) else [wanted]
    if by == "in":
        return any(_compare("=", criterion.property, event, option) for option in options)
    return _compare(by, criterion.property, event, wanted)


def _compare(by: str, prop: Any, event: Mapping[str, Any], wanted: Any) -> bool:
    text = property_text(prop, event)
    as_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    value: Any = to_number(text) if as_number and by != "like" else text
    if value is None:
        return False
    return bool(COMPARISONS[by](value, wanted if as_number else to_text(wanted)))


def like(pattern: str, text: str) -> bool:
    """SQL's ``LIKE``: ``%`` is any run of characters, ``_`` exactly one."""
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)
