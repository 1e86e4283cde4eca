"""Refuse a definition that cannot be computed, before anything runs.

Example: ``check_definitions(group)`` raises ``DefinitionError: attribute 'n': aggregation 'sum'
needs a property.``
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import key_name
from prospect_lib.aggregation.properties import TIME_COLUMNS, is_time, leaves, to_utc
from prospect_lib.errors import DefinitionError
from prospect_lib.features import features_of

NUMERIC = {"sum", "min", "max", "mean"}
WITHOUT_PROPERTY = {"counter", "time_since_last", "time_since_first"}
#: The columns that training sets have in addition to the key and the features.
COLUMNS = ("anchor_ts", "label", "weight", "best_observable")
#: The metadata of a training set's schema: the attributes without columns in the events, as JSON.
LEFT_OUT = b"left_out"
_FLOATS = {"double", "float"}
_INTEGERS = {"int32", "int64"}
_SCALARS = {"string", "bool", *_INTEGERS, *_FLOATS}
_TYPES = {
    **dict.fromkeys(["counter", "approx_count_distinct", *NUMERIC], _INTEGERS | _FLOATS),
    **dict.fromkeys(["time_since_last", "time_since_first"], _FLOATS),
    "unique_list": {f"{kind}_list" for kind in _SCALARS},
    "category_count": {"dict"},
}
_RAW = {"contexts", "unstruct_event", "derived_contexts"}  # JSON of several events or entities


def check_definitions(group: AttributeGroup, flags: Mapping[str, str] | None = None) -> None:
    """Refuse a group of which an attribute cannot be computed, or whose names collide.

    Names are compared without regard to case, as warehouses do. Those of a training set's other
    columns (the key, ``anchor_ts``, ``label``, ``weight``, ``best_observable``, ``day_of_week``)
    are taken.

    Args:
        group: the attributes.
        flags: the counts that become flags: attribute -> name of the feature; by default those
            that :func:`prospect_lib.features.features_of` takes.
    Raises:
        DefinitionError: the message names the attribute and the remedy.

    Example:
        >>> from prospect_lib.attributes import sample_group
        >>> check_definitions(sample_group, {"num_page_views": "has_page_views"})
    """
    if not isinstance(group, AttributeGroup):
        raise DefinitionError(
            f"a {type(group).__name__} is not an attribute group; expected one, such as "
            "prospect_group."
        )
    if not group.attributes:
        raise DefinitionError(f"group {group.name!r} has no attributes; expected at least one.")
    for attribute in group.attributes:
        check(attribute)
    for problem in _problems_of_length("ttl", group.ttl):
        raise DefinitionError(f"group {group.name!r}: {problem}.")
    for attribute in group.attributes:
        if attribute.name in (flags or {}) and attribute.type not in _INTEGERS | _FLOATS:
            raise DefinitionError(
                f"flags: attribute {attribute.name!r} is a {attribute.type}, expected a number, "
                "such as a count."
            )
    _check_names("attribute", group, [attribute.name for attribute in group.attributes])
    _check_names("feature", group, [feature.name for feature in features_of(group, flags)])


def _check_names(what: str, group: AttributeGroup, names: Iterable[str]) -> None:
    key = key_name(group)
    if key.casefold() in (*COLUMNS, "day_of_week"):
        raise DefinitionError(
            f"attribute key {key!r} of group {group.name!r}: a training set has another column of "
            "this name; give the key another name."
        )
    taken = {name.casefold(): f"a training set has a column {name} of its own"
             for name in (key, *COLUMNS)}  # fmt: skip
    remedy = "rename the attribute" if what == "attribute" else "rename the flag or the attribute"
    for name in names:
        if reason := taken.get(name.casefold()):
            raise DefinitionError(f"{what} {name!r} of group {group.name!r}: {reason}; {remedy}.")
        taken[name.casefold()] = f"another {what} is called {name}, up to upper and lower case"


def check(attribute: Attribute) -> None:
    """Refuse the definition of an attribute that is incomplete, or that cannot be computed.

    Raises:
        DefinitionError: the message names the attribute and what it needs.
    """
    for problem in _problems(attribute):
        raise DefinitionError(f"attribute {attribute.name!r}: {problem}.")


def _problems(attribute: Attribute) -> Iterator[str]:
    aggregation, kind = attribute.aggregation, attribute.type
    has_property = aggregation not in WITHOUT_PROPERTY
    if has_property and attribute.property is None:
        yield f"aggregation {aggregation!r} needs a property"
    if aggregation.startswith("time_since") and attribute.time_unit is None:
        yield f"{aggregation} needs a time_unit ('s', 'min', 'h' or 'd')"
    for name in ("period", "ttl"):
        yield from _problems_of_length(name, getattr(attribute, name))
    if any(event.event_specification_id for event in attribute.events):
        yield (
            "event_specification_id cannot be evaluated outside Signals; give the event's vendor, "
            "name and version"
        )
    types = _TYPES.get(aggregation, _SCALARS)
    if kind not in types:
        yield f"type={kind!r} does not fit {aggregation!r}; choose {' or '.join(sorted(types))}"
    if has_property:
        yield from _problems_of_value(attribute.property)
    if attribute.default_value is not None and not _fits(attribute.default_value, kind):
        yield f"default_value={attribute.default_value!r}, expected a value of type {kind}"
    criteria = attribute.criteria
    for criterion in [*(criteria.all or []), *(criteria.any or [])] if criteria else []:
        yield from _problems_of_criterion(criterion)


def _problems_of_length(name: str, length: timedelta | None) -> Iterator[str]:
    if length is not None and length <= timedelta():
        yield f"{name}={length} is not longer than nothing"


def _problems_of_value(prop: Any) -> Iterator[str]:
    for leaf in leaves(prop):
        if leaf.type != "atomic":
            continue
        if (leaf.name in TIME_COLUMNS) != bool(leaf.date_part):
            parts = "a date_part such as 'hour_of_day'"
            yield (
                f"{leaf.name} is not a time; leave out its date_part"
                if leaf.date_part
                else f"{leaf.name} is a time; give the property {parts}"
            )
        if leaf.name in _RAW:
            yield f"{leaf.name} has no single value; use an EventProperty or an EntityProperty"


def _problems_of_criterion(criterion: Any) -> Iterator[str]:
    operator, value = criterion.operator, criterion.value
    if operator in ("is null", "is not null"):
        return
    compares_times = is_time(criterion.property)
    if not compares_times:
        yield from _problems_of_value(criterion.property)
    if compares_times and operator == "like":
        yield f"{criterion.property.name} is a time; compare it with = != < <= > >= or in"
    if isinstance(value, list) and operator != "in":
        yield f"a criterion with {operator!r} has a list, expected one value; a list needs 'in'"
    for item in value if isinstance(value, list) else [value]:
        if item is None:
            yield f"a criterion with {operator!r} needs a value"
        if compares_times and to_utc(item) is None:
            yield f"a criterion compares a time with {item!r}; expected ISO 8601 text"
        if isinstance(item, int | float) and not abs(item) < 1e99:
            yield f"a criterion compares with {item!r}; expected a number below 1e99"


def _fits(value: Any, kind: str) -> bool:
    """Return whether a default value is of the attribute type."""
    if kind.endswith("_list"):
        kind = kind.removesuffix("_list")
        return isinstance(value, list) and all(_fits(item, kind) for item in value)
    if kind in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind in _FLOATS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    return isinstance(value, {"string": str, "bool": bool}.get(kind, ()))
