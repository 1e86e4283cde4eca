"""Read one event: its time, and its properties as text, numbers and typed values.

An event is a mapping with the column names of Snowplow's atomic events table; properties are the
SDK's objects. The SQL of :mod:`prospect_lib.sql.conditions` mirrors these functions. Their rules:

* A number has one text, however it is written: 20, 20.0 and 2e1 are ``20``; 9.50 is ``9.5``. JSON
  text such as ``"20.0"`` stays as it is.
* Text is a number if it matches :data:`NUMBER`: no spaces, thousands separators, infinities.
* ``true`` and ``false`` are booleans, in either case; objects and arrays have no value.
* Integers are exact within 64 bits; others have none. Fractions are rounded, halves up.
* A time is in UTC; text is a time if it matches :data:`TIME`.

Example: ``property_text(AtomicProperty(name="app_id"), event)`` -> ``"website"``.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache, reduce
from typing import Any

import pandas as pd

from prospect_lib.errors import DataError

#: The text of a time, for fold and SQL: ISO 8601 with seconds, if it has a time of day at all.
TIME = (
    "[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?"
    "(Z| UTC|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?)?"
)
#: The text of a number, for fold and SQL; none reaches 1e200, so that sums stay finite.
NUMBER = "[+-]?([0-9]{1,99}([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]{1,2})?"
#: The text of an integer that is read exactly, if it fits into 64 bits.
INTEGER = "[+-]?[0-9]{1,19}"
_TIME, _NUMBER, _INTEGER = re.compile(TIME), re.compile(NUMBER), re.compile(INTEGER)
#: The times of the atomic events table
#: (https://docs.snowplow.io/docs/fundamentals/canonical-event/).
TIME_COLUMNS = frozenset(
    f"{kind}_tstamp"
    for kind in ("derived", "collector", "dvce_created", "dvce_sent", "true", "etl", "load",
                 "refr_dvce")
)  # fmt: skip

#: Those that are numbers: their text is a number's, whatever the column's type in a table.
NUMBER_COLUMNS = frozenset(
    [
        *("geo_latitude", "geo_longitude", "txn_id", "domain_sessionidx", "se_value"),
        *("page_urlport", "refr_urlport", "tr_total", "tr_tax", "tr_shipping"),
        *("tr_total_base", "tr_tax_base", "tr_shipping_base", "ti_price", "ti_price_base"),
        *("ti_quantity", "pp_xoffset_min", "pp_xoffset_max", "pp_yoffset_min", "pp_yoffset_max"),
        *("br_viewwidth", "br_viewheight", "dvce_screenwidth", "dvce_screenheight"),
        *("doc_width", "doc_height"),
    ]
)


def event_time(event: Mapping[str, Any]) -> datetime:
    """Return when the event happened, in UTC.

    Raises:
        DataError: it is not a mapping, or its ``derived_tstamp`` is not a time.
    """
    if not isinstance(event, Mapping):
        raise DataError(
            f"an event is a {type(event).__name__}, expected a mapping of columns to values."
        )
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


def is_time(prop: Any) -> bool:
    """Return whether a property is a time of the atomic events table, not a part of one."""
    return prop.type == "atomic" and prop.name in TIME_COLUMNS and not prop.date_part


def column_of(prop: Any) -> str:
    """Return the column of the atomic events table that holds a property."""
    if prop.type == "atomic":
        return str(prop.name)
    prefix = "contexts" if prop.type == "entity" else "unstruct_event"
    return schema_column(prefix, prop.vendor, prop.name, prop.major_version)


@lru_cache(maxsize=1024)
def schema_column(prefix: str, vendor: str, name: str, major_version: int | str) -> str:
    """Return the column of a self-describing event or an entity, as Snowplow's loaders name it.

    Of a vendor only dots and hyphens are replaced (``getColumnName`` in ``Schema.scala`` of
    https://github.com/snowplow-incubator/snowplow-bigquery-loader).

    >>> schema_column("unstruct_event", "com.acmeCorp", "signUp", 1)
    'unstruct_event_com_acmecorp_sign_up_1'
    """
    vendor = re.sub(r"[.-]", "_", vendor)
    return f"{prefix}_{vendor}_{snake_case(name)}_{major_version}".lower()


def snake_case(name: str) -> str:
    """Return the name of an event, an entity or a field as Snowplow's loaders write it.

    As ``StringUtils.snakeCase`` of https://github.com/snowplow/schema-ddl:

    >>> [snake_case(name) for name in ("signUp", "HTTPError", "myAPICall", "add-to-cart")]
    ['sign_up', 'http_error', 'my_api_call', 'add_to_cart']
    """
    words = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    words = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", words)
    return re.sub(r"[.-]", "_", words).lower()


Path = Sequence[str | int]


def path_of(prop: Any) -> Path:
    """Return the steps into a nested column: ``"$.items[1].id"`` -> ``["items", 1, "id"]``."""
    return paths_of(prop)[0]


def paths_of(prop: Any) -> list[Path]:
    """Return where a nested property may be: at its path, else at that with names in snake_case.

    Snowflake's loader keeps the names of fields; those of lakes and of Databricks do not.
    """
    return _paths(prop.path, prop.index or 0 if prop.type == "entity" else None)


@lru_cache(maxsize=1024)
def _paths(path: str, index: int | None) -> list[Path]:
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", path.removeprefix("$").lstrip("."))
    steps: list[str | int] = [] if index is None else [index]
    steps += [int(number) if number else name for number, name in parts]
    snake = [snake_case(step) if isinstance(step, str) else step for step in steps]
    return [steps] if snake == steps else [steps, snake]


def property_text(prop: Any, event: Mapping[str, Any]) -> str | None:
    """Return a property of an event as text; ``None`` if the event has none.

    Raises:
        DataError: a nested column is not JSON.
    """
    if prop.type == "calculated":
        return _calculated(prop, event)
    column = column_of(prop)
    if prop.type == "atomic":
        value = event.get(column)
        if prop.date_part:
            return _date_part(prop.date_part, value)
        return to_text(to_number(to_text(value)) if column in NUMBER_COLUMNS else value)
    for path in paths_of(prop):
        text = to_text(_inside(event, column, path))
        if text is not None:
            return _date_part(prop.date_part, text) if prop.date_part else text
    return None


def is_present(prop: Any, event: Mapping[str, Any]) -> bool:
    """Return whether an event has a property; an object or an array is one as well."""
    if prop.type == "calculated" or prop.date_part:
        return property_text(prop, event) is not None
    column = column_of(prop)
    if prop.type == "atomic":
        if column in NUMBER_COLUMNS:
            return property_text(prop, event) is not None
        return not _is_null(event.get(column))
    return any(not _is_null(_inside(event, column, path)) for path in paths_of(prop))


def _inside(event: Mapping[str, Any], column: str, path: Path) -> Any:
    value: Any = event.get(column)
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_constant=_refuse)
        except ValueError:
            raise DataError(
                f"event {event.get('event_id')!r}: {column} is {value[:40]!r}, expected JSON."
            ) from None
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


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


# from left to right, as SQL does: sum() of newer Pythons is more exact
_ARITHMETIC: dict[str, Callable[[list[float]], float]] = {
    "sum": lambda numbers: reduce(operator.add, numbers),
    "product": lambda numbers: reduce(operator.mul, numbers),
    "min": min,
    "max": max,
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
    result = _ARITHMETIC[prop.operation](numbers)
    return to_text(result) if abs(result) < 1e99 else None


def _is_null(value: Any) -> bool:
    """Return whether a value is ``None``, NaN, pandas' NaT or NA."""
    if value is None or isinstance(value, float):
        return value is None or math.isnan(value)
    return value is pd.NaT or value is pd.NA


def to_text(value: Any) -> str | None:
    """Return a value as text; ``None`` for null, objects and arrays.

    >>> [to_text(value) for value in (20, 20.0, 9.5, True, "20.0", float("nan"), {"a": 1})]
    ['20', '20', '9.5', 'true', '20.0', None, None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, int | float | Decimal):
        if value != value:
            return None
        if isinstance(value, Decimal) and value == value.to_integral_value():
            return to_text(int(value))
        return _float_text(value)
    if isinstance(value, Mapping | list | tuple) or _is_null(value):
        return None
    return to_text(value.tolist()) if hasattr(value, "tolist") else str(value)  # of numpy


def _float_text(value: Any) -> str:
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0
    except OverflowError:
        number = math.copysign(math.inf, value)
    return float.__repr__(number).removesuffix(".0")


def to_number(text: str | None) -> float | None:
    """Return text as a number; ``None`` if it is not one.

    >>> [to_number(text) for text in ("20", "-1.5e3", "5.", " 5", "1_000", "inf", "")]
    [20.0, -1500.0, 5.0, None, None, None, None]
    """
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def typed(kind: str, text: str | None) -> Any:
    """Return text as the attribute type ``kind``; of ``string_list`` as its element."""
    kind = kind.removesuffix("_list")
    if text is None or kind == "string":
        return text
    if kind == "bool":
        return {"true": True, "false": False}.get(text.lower())
    if not kind.startswith("int"):
        return to_number(text)
    exact = _in_64_bits(int(text)) if _INTEGER.fullmatch(text) else None
    number = to_number(text) if exact is None else None
    return exact if number is None else whole(number)


def whole(number: float) -> int | None:
    """Return the nearest integer, halves rounded up; ``None`` if it needs more than 64 bits."""
    return _in_64_bits(math.floor(number + 0.5))


def _in_64_bits(number: int) -> int | None:
    return number if -(2**63) <= number < 2**63 else None
