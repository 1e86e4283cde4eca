"""Check the arguments of :class:`prospect_lib.anchors.Anchors`, and give them their types.

Example: ``checked({"at": Event(name="page_view"), ...})["at"]`` -> a tuple of one event.
"""

from collections.abc import Mapping, Sequence, Set
from datetime import date, datetime, timedelta
from math import inf
from numbers import Integral, Real
from types import NoneType
from typing import Any, Final, Literal, NoReturn

from snowplow_signals import Criteria, Event

from prospect_lib.aggregation.properties import to_utc
from prospect_lib.errors import DataError

#: The horizon of a label that looks at the rest of the session.
SESSION: Final = "session"
Horizon = timedelta | Literal["session"]
_Types = tuple[type, ...]
_LENGTH = "a timedelta, such as timedelta(minutes=10)"
_EVENTS = 'events, such as Event(name="page_view")'
#: The arguments of several values: their type, and what is expected, in words.
_SEVERAL: dict[str, tuple[type, str]] = {
    "at": (Event, _EVENTS),
    "goal": (Event, _EVENTS),
    "app_ids": (str, "texts"),
    "excluded": (str, "texts"),
}
#: The same of the other arguments.
_TYPES: dict[str, tuple[_Types, str]] = {
    "every": ((timedelta, NoneType), _LENGTH),
    "goal_criteria": ((Criteria, NoneType), "Criteria of snowplow_signals"),
    "horizon": ((timedelta, str), 'a timedelta, such as timedelta(hours=1), or "session"'),
    "session_timeout": ((timedelta,), _LENGTH),
    "first_seen": ((tuple, list, NoneType), "two timedeltas, the longer first"),
    "min_events": ((Integral,), "a whole number"),
    "until_goal": ((bool,), "True or False"),
    "per_session": ((Integral, NoneType), "a whole number"),
    "negatives": ((Real,), "a number, such as 0.1"),
    "negatives_per_positive": ((Real, NoneType), "a number, such as 5"),
    "seed": ((Integral,), "a whole number"),
}


def checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with single values as tuples and text as datetimes.

    Raises:
        DataError: an argument has no meaning; the message names it and what was expected.
    """
    values = dict(arguments)
    for name, (kind, expected) in _SEVERAL.items():
        values[name] = _several(name, values[name], kind, expected)
    for name in ("since", "until"):
        values[name] = _moment(name, values[name])
    for name, (types, expected) in _TYPES.items():
        if not _is(values[name], types):
            _refuse(name, values[name], expected)
    every, per_session, ratio = (
        values[name] for name in ("every", "per_session", "negatives_per_positive")
    )
    for name, refused, expected in (
        ("at", not values["at"] and every is None, "events, unless every= is given"),
        ("every", every is not None and every <= timedelta(), "longer than nothing"),
        ("goal", not values["goal"], "at least one event"),
        ("horizon", not _is_horizon(values["horizon"]), 'longer than nothing, or "session"'),
        ("session_timeout", values["session_timeout"] < timedelta(), "0 or longer"),
        ("first_seen", not _are_ages(values["first_seen"]), "two timedeltas, the longer first"),
        ("min_events", values["min_events"] < 0, "0 or more"),
        ("per_session", per_session is not None and per_session < 1, "1 or more"),
        ("negatives", not 0 < values["negatives"] <= 1, "more than 0 and at most 1"),
        ("negatives_per_positive", ratio is not None and not 0 < ratio < inf, "more than 0"),
    ):
        if refused:
            _refuse(name, values[name], expected)
    if values["negatives"] < 1 and ratio is not None:
        raise DataError(
            f"negatives={values['negatives']} and negatives_per_positive={ratio} of Anchors "
            "exclude each other: give one."
        )
    _refuse_empty_window(values["since"], values["until"])
    return values


def _is(value: Any, types: _Types) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _is_horizon(horizon: Horizon) -> bool:
    return horizon == SESSION if isinstance(horizon, str) else horizon > timedelta()


def _are_ages(ages: Sequence[Any] | None) -> bool:
    if ages is None:
        return True
    return len(ages) == 2 and all(isinstance(a, timedelta) for a in ages) and ages[0] >= ages[1]


def _several(name: str, value: Any, kind: type, expected: str) -> tuple[Any, ...]:
    """Return one or several events or texts as a tuple."""
    items = (value,) if isinstance(value, kind) else value
    if not isinstance(items, Sequence | Set) or isinstance(items, str):
        _refuse(name, value, f"a list of {expected}")
    items = tuple(items)
    for item in items:
        if not isinstance(item, kind):
            _refuse(name, item, f"a list of {expected}")
    return items


def _moment(name: str, value: Any) -> datetime | None:
    """Return a datetime, or one that is given as a date or ISO 8601 text.

    Raises:
        DataError: it is neither.
    """
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        parsed = value
    if type(parsed) is date:
        parsed = datetime(parsed.year, parsed.month, parsed.day)
    if parsed is not None and not isinstance(parsed, datetime):
        _refuse(name, value, "a datetime, or text such as 2026-01-31 or 2026-01-31T06:00Z")
    return parsed


def _refuse(name: str, value: Any, expected: str) -> NoReturn:
    """Raise an error that shows a simple value, and only the type of any other one."""
    if isinstance(value, str | Real | timedelta | NoneType) or value == ():
        shown = f"{name}={value!r}" if isinstance(value, str) else f"{name}={value}"
        raise DataError(f"{shown} of Anchors: expected {expected}.")
    kind = type(value).__name__
    raise DataError(f"{name} of Anchors: a value of type {kind}, expected {expected}.")


def _refuse_empty_window(since: datetime | None, until: datetime | None) -> None:
    first, end = to_utc(since), to_utc(until)
    if first and end and first >= end:
        raise DataError(
            f"the window is empty: since {since:%Y-%m-%d %H:%M} is not before until "
            f"{until:%Y-%m-%d %H:%M}. Exchange them, or widen --since .. --until."
        )
