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
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from snowplow_signals import AttributeGroup, Event, LinkAttributeKey
from snowplow_signals.models.model import Attribute

from prospect_lib.errors import DataError, DefinitionError

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


# --- which events ------------------------------------------------------------------------


def matches(attribute: Attribute, event: Mapping[str, Any]) -> bool:
    """Whether the event is among the attribute's ``events`` and meets its ``criteria``."""
    selected = not attribute.events or any(_selects(e, event) for e in attribute.events)
    criteria = attribute.criteria
    if not selected or criteria is None:
        return selected
    every = all(meets(c, event) for c in criteria.all or [])
    return every and (not criteria.any or any(meets(c, event) for c in criteria.any))


def _selects(pattern: Event, event: Mapping[str, Any]) -> bool:
    wanted = (("name", pattern.name), ("vendor", pattern.vendor), ("version", pattern.version))
    return all(value is None or event.get(f"event_{part}") == value for part, value in wanted)


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
    parts = {"%": ".*", "_": "."}
    expression = "".join(parts.get(c, re.escape(c)) for c in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


# --- values ------------------------------------------------------------------------------


def moment(event: Mapping[str, Any]) -> datetime:
    """When the event happened, in UTC."""
    value = event.get("derived_tstamp")
    found = to_moment(value)
    if found is None:
        raise DataError(
            f"event {event.get('event_id')!r}: derived_tstamp is {value!r}, expected a "
            "datetime or ISO 8601 text."
        )
    return found


def to_moment(value: Any) -> datetime | None:
    """A datetime or ISO 8601 text as an aware UTC datetime; ``None`` for anything else."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def column_of(prop: Any) -> str:
    """The atomic events column that holds a property (Snowplow's loader naming)."""
    if prop.type == "atomic":
        return str(prop.name)
    prefix = "contexts" if prop.type == "entity" else "unstruct_event"
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", f"{prop.vendor}_{prop.name}")
    return re.sub(r"[^a-z0-9]", "_", f"{prefix}_{name}_{prop.major_version}".lower())


def path_of(prop: Any) -> list[str | int]:
    """The steps into a nested column: ``"$.items[1].id"`` -> ``["items", 1, "id"]``."""
    steps = re.findall(r"\[(\d+)\]|([^.\[\]]+)", prop.path.removeprefix("$").lstrip("."))
    found: list[str | int] = [int(index) if index else name for index, name in steps]
    return [prop.index or 0, *found] if prop.type == "entity" else found


def property_text(prop: Any, event: Mapping[str, Any]) -> str | None:
    """A property of an event as text; ``None`` where the event has none."""
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
    at = to_moment(value)
    if at is None:
        return None
    return {
        "hour_of_day": str(at.hour),
        "day_of_week": str(at.isoweekday()),
        "month_of_year": str(at.month),
        "active_day": at.date().isoformat(),
        "active_week": (at - timedelta(days=at.weekday())).date().isoformat(),
        "active_month": at.date().replace(day=1).isoformat(),
    }[part]


_ARITHMETIC: dict[str, Callable[[list[float]], float]] = {
    "sum": lambda numbers: sum(numbers),
    "product": lambda numbers: math.prod(numbers),
    "min": lambda numbers: min(numbers),
    "max": lambda numbers: max(numbers),
}


def _calculated(prop: Any, event: Mapping[str, Any]) -> str | None:
    texts = [property_text(getattr(leaf, "root", leaf), event) for leaf in prop.properties]
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
    """A scalar as SQL and JSON write it; objects and arrays as compact JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, bool | dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def to_number(text: str | None) -> float | None:
    """The number a text stands for; ``None`` where it stands for none."""
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def typed(kind: str, text: str | None) -> Any:
    """Text as a value of the attribute type ``kind`` (``string_list`` means its element)."""
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
    """The nearest integer, halves upwards, as the SQL's ``FLOOR(x + 0.5)`` does."""
    return math.floor(number + 0.5)


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
