"""Which events an attribute is about: its ``events`` and its ``criteria``."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.properties import property_text, to_number, to_text


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


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "like": lambda a, b: like(str(b), str(a)),
}


def meets(criterion: Any, event: Mapping[str, Any]) -> bool:
    """Whether one criterion holds; comparing with null never does, as in SQL."""
    operator, wanted = criterion.operator, criterion.value
    if operator in ("is null", "is not null"):
        return bool((property_text(criterion.property, event) is None) == (operator == "is null"))
    options = wanted if isinstance(wanted, list) else [wanted]
    if operator == "in":
        return any(_compare("=", criterion.property, event, option) for option in options)
    return _compare(operator, criterion.property, event, wanted)


def _compare(operator: str, prop: Any, event: Mapping[str, Any], wanted: Any) -> bool:
    text = property_text(prop, event)
    as_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    value: Any = to_number(text) if as_number and operator != "like" else text
    if value is None:
        return False
    return bool(_COMPARE[operator](value, wanted if as_number else to_text(wanted)))


def like(pattern: str, text: str) -> bool:
    """SQL's ``LIKE``: ``%`` is any run of characters, ``_`` exactly one."""
    return _expression(pattern).fullmatch(text) is not None


@lru_cache(maxsize=1024)
def _expression(pattern: str) -> re.Pattern[str]:
    parts = {"%": ".*", "_": "."}
    return re.compile("".join(parts.get(c, re.escape(c)) for c in pattern), re.DOTALL)
