"""Read one event: its time, and its properties as text, numbers and typed values.

An event is a mapping with the column names of Snowplow's atomic events table; properties are the
SDK's objects. The SQL of :mod:`prospect_lib.sql.conditions` mirrors these functions.

Example: ``property_text(AtomicProperty(name="app_id"), event)`` -> ``"website"``.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from prospect_lib.errors import DataError

#: The text of a time, for fold and SQL: ISO 8601 with seconds, if it has a time of day at all.
TIME = (
    "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?"
    "(Z| UTC|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?)?"
)
_TIME = re.compile(TIME)
#: The times of the atomic events table
#: (https://docs.snowplow.io/docs/fundamentals/canonical-event/).
TIME_COLUMNS = frozenset(
    f"{kind}_tstamp"
    for kind in ("derived", "collector", "dvce_created", "dvce_sent", "true", "etl", "load",
                 "refr_dvce")
)  # fmt: skip


def event_time(event: Mapping[str, Any]) -> datetime:
    """Return when the event happened, in UTC.

    Raises:
        DataError: its ``derived_tstamp`` is not a time.
    """
    value = event.get("derived_tstamp")
    ts = to_utc(value)
    if ts is None:
        raise DataError(
            f"event {event.get('event_id')!r}: derived_tstamp is {value!r}, expected a "
            "datetime or ISO 8601 text."
        )
    return ts


def to_utc(value: Any) -> datetime | None:
    """Return a datetime, date or ISO 8601 text in UTC, naive meaning UTC; ``None`` for others."""
    if isinstance(value, str):
        value = _time_of(value)
    if isinstance(value, datetime):
        if value != value:  # pandas' NaT
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return datetime(value.year, value.month, value.day, tzinfo=UTC) if type(value) is date else None


def _time_of(text: str) -> datetime | None:
    if not _TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" UTC", "Z"))
        return moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):  # there is no such day, or it is after the year 9999
        return None


def leaves(prop: Any) -> list[Any]:
    """Return the properties that a property is calculated from; itself if it is not."""
    return [getattr(leaf, "root", leaf) for leaf in getattr(prop, "properties", [prop])]


def column_of(prop: Any) -> str:
    """Return the column of the atomic events table that holds a property, as loaders name it.

    Of a vendor only dots and hyphens are replaced: ``com.acmeCorp``, ``signUp``, version 1 is
    ``unstruct_event_com_acmecorp_sign_up_1`` (``getColumnName`` in ``Schema.scala`` of
    https://github.com/snowplow-incubator/snowplow-bigquery-loader).
    """
    if prop.type == "atomic":
        return str(prop.name)
    prefix = "contexts" if prop.type == "entity" else "unstruct_event"
    vendor = re.sub(r"[.-]", "_", prop.vendor)
    return f"{prefix}_{vendor}_{snake_case(prop.name)}_{prop.major_version}".lower()


def snake_case(name: str) -> str:
    """Return the name of an event, an entity or a field as Snowplow's loaders write it.

    As ``StringUtils.snakeCase`` of https://github.com/snowplow/schema-ddl:

    >>> [snake_case(name) for name in ("signUp", "HTTPError", "myAPICall", "add-to-cart")]
    ['sign_up', 'http_error', 'my_api_call', 'add_to_cart']
    """
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", words)
    return re.sub(r"[.-]", "_", words).lower()


def path_of(prop: Any) -> list[str | int]:
    """Return the steps into a nested column: ``"$.items[1].id"`` -> ``["items", 1, "id"]``."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", prop.path.removeprefix("$").lstrip("."))
    steps: list[str | int] = [int(index) if index else name for index, name in parts]
    return [prop.index or 0, *steps] if prop.type == "entity" else steps


def property_text(prop: Any, event: Mapping[str, Any]) -> str | None:
    """Return a property of an event as text; ``None`` if the event has none."""
    if prop.type == "calculated":
        return _calculated(prop, event)
    value = event.get(column_of(prop))
    if prop.type != "atomic":
        value = _inside(value, path_of(prop))
    return _date_part(prop.date_part, value) if prop.date_part else to_text(value)


def _inside(value: Any, path: Sequence[str | int]) -> Any:
    if isinstance(value, str):
        value = json.loads(value)
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _date_part(part: str, value: Any) -> str | None:
    ts = to_utc(value)
    if ts is None:
        return None
    return {
        "hour_of_day": str(ts.hour),
        "day_of_week": str(ts.isoweekday()),
        "month_of_year": str(ts.month),
        "active_day": ts.date().isoformat(),
        "active_week": (ts - timedelta(days=ts.weekday())).date().isoformat(),
        "active_month": ts.date().replace(day=1).isoformat(),
    }[part]


_ARITHMETIC: dict[str, Callable[[list[float]], float]] = {
    "sum": lambda numbers: sum(numbers),
    "product": lambda numbers: math.prod(numbers),
    "min": lambda numbers: min(numbers),
    "max": lambda numbers: max(numbers),
}


def _calculated(prop: Any, event: Mapping[str, Any]) -> str | None:
    texts = [property_text(leaf, event) for leaf in leaves(prop)]
    present = [text for text in texts if text is not None]
    if prop.operation == "concat":
        return (prop.separator or "").join(present) if present else None
    if prop.operation == "coalesce":
        return present[0] if present else None
    numbers = [number for text in texts if (number := to_number(text)) is not None]
    if len(numbers) < len(texts):
        return None
    return to_text(_ARITHMETIC[prop.operation](numbers))


def to_text(value: Any) -> str | None:
    """Return a scalar as SQL and JSON write it; objects and arrays as compact JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, bool | dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def to_number(text: str | None) -> float | None:
    """Return text as a number; ``None`` if it is not a finite number."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def typed(kind: str, text: str | None) -> Any:
    """Return text as the attribute type ``kind``; of ``string_list`` as its element."""
    kind = kind.removesuffix("_list")
    if text is None or kind in ("string", "dict"):
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower())
    if kind not in ("int32", "int64", "double", "float"):
        return text
    number = to_number(text)
    return whole(number) if kind.startswith("int") and number is not None else number


def whole(number: float) -> int:
    """Return the nearest integer, halves rounded up, as the SQL's ``FLOOR(x + 0.5)`` does."""
    return math.floor(number + 0.5)
