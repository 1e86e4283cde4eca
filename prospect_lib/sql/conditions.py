"""Event patterns, criteria and properties of an attribute as SQL over the atomic events table.

The functions have their counterparts in :mod:`prospect_lib.aggregation.criteria` and
:mod:`prospect_lib.aggregation.properties`, and must mean the same.

Example: ``event_condition(attribute, sql)`` -> ``"event_name" = 'page_view' AND …``.
"""

from typing import Any

from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.criteria import compares_as_number
from prospect_lib.aggregation.definitions import NUMERIC, WITHOUT_PROPERTY
from prospect_lib.aggregation.keys import NOBODY
from prospect_lib.aggregation.properties import (
    NUMBER_COLUMNS,
    column_of,
    is_time,
    leaves,
    to_text,
    to_utc,
)
from prospect_lib.sql.dialects import Dialect


def matched_value(attribute: Attribute, sql: Dialect) -> str:
    """Return the value that an event has for the attribute; NULL if it does not count."""
    value = "TRUE" if attribute.aggregation in WITHOUT_PROPERTY else _value(attribute, sql)
    condition = event_condition(attribute, sql)
    return f"CASE WHEN {condition} THEN {value} END" if condition else value


def event_condition(attribute: Attribute, sql: Dialect) -> str:
    """Return the condition under which an event counts; empty if every event does."""
    criteria = attribute.criteria
    parts = [_any_of([_selects(event, sql) for event in attribute.events])]
    if criteria is not None:
        parts += [_criterion_condition(criterion, sql) for criterion in criteria.all or []]
        parts += [
            _any_of([_criterion_condition(criterion, sql) for criterion in criteria.any or []])
        ]
    return " AND ".join(part for part in parts if part)


def counts_sql(attribute: Attribute, sql: Dialect) -> str:
    """Return the condition under which an event counts; ``TRUE`` if every event does."""
    return event_condition(attribute, sql) or "TRUE"


def nobody_sql(sql: Dialect) -> str:
    """Return the identifiers that stand for nobody, as a list for ``IN``."""
    return ", ".join(sql.text(identifier) for identifier in NOBODY)


def _any_of(conditions: list[str]) -> str:
    if len(conditions) < 2 or "" in conditions:
        return "" if "" in conditions else "".join(conditions)
    return f"({' OR '.join(f'({condition})' for condition in conditions)})"


def _selects(pattern: Event, sql: Dialect) -> str:
    parts = {"name": pattern.name, "vendor": pattern.vendor, "version": pattern.version}
    return " AND ".join(
        f"{sql.identifier(f'event_{part}')} = {sql.text(value)}"
        for part, value in parts.items()
        if value is not None
    )


def _criterion_condition(criterion: Any, sql: Dialect) -> str:
    """Return the condition of one criterion; a comparison with NULL is not true."""
    operator, value, prop = criterion.operator, criterion.value, criterion.property
    if operator in ("is null", "is not null"):
        is_number = prop.type == "atomic" and prop.name in NUMBER_COLUMNS
        text = property_sql(prop, sql) if is_number else _as_stored(prop, sql)
        return f"{text} {operator.upper()}"
    if operator == "in":
        options = value if isinstance(value, list) else [value]
        return f"({' OR '.join(_compare('=', prop, o, sql) for o in options) or 'FALSE'})"
    return _compare(operator, prop, value, sql)


def _compare(operator: str, prop: Any, value: Any, sql: Dialect) -> str:
    if is_time(prop):
        return f"{sql.utc(sql.identifier(prop.name))} {operator} {sql.literal(to_utc(value))}"
    if compares_as_number(value) and operator != "like":
        return f"{_number(prop, sql)} {operator} {sql.double(float(value))}"
    if operator == "like":
        return sql.like(property_sql(prop, sql), str(to_text(value)))
    return f"{property_sql(prop, sql)} {operator} {sql.text(to_text(value))}"


def _value(attribute: Attribute, sql: Dialect) -> str:
    if attribute.aggregation in NUMERIC:
        return _number(attribute.property, sql)
    if attribute.aggregation in ("category_count", "approx_count_distinct"):
        return property_sql(attribute.property, sql)
    return _typed(attribute.type.removesuffix("_list"), attribute.property, sql)


def _typed(kind: str, prop: Any, sql: Dialect) -> str:
    """Return a property of the event as the attribute type ``kind``; NULL if it is not one."""
    if kind == "string":
        return property_sql(prop, sql)
    if kind in ("double", "float"):
        return _number(prop, sql)
    text = _as_stored(prop, sql)
    if kind == "bool":
        return f"CASE LOWER({text}) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
    return f"COALESCE({sql.integer(text)}, {sql.whole(sql.number(text))})"


def property_sql(prop: Any, sql: Dialect, relation: str = "") -> str:
    """Return a property of the event as text; NULL if the event has none.

    Args:
        relation: the alias of the events, where another relation may have such a column too.
    """
    if prop.type == "calculated":
        return _calculated(prop, sql)
    column = f"{relation}." * bool(relation) + sql.identifier(column_of(prop))
    if prop.type != "atomic":
        if prop.date_part:
            text = _first([sql.raw(column, path) for path in sql.paths(prop)])
            return sql.date_part(prop.date_part, sql.timestamp(text))
        return _first([sql.inside(column, path) for path in sql.paths(prop)])
    if prop.date_part:
        return sql.date_part(prop.date_part, sql.utc(column))
    text = sql.as_text(column)
    return sql.number_text(sql.number(text)) if prop.name in NUMBER_COLUMNS else text


def _number(prop: Any, sql: Dialect) -> str:
    """Return a property of the event as a number; NULL if it is not one."""
    return sql.number(_as_stored(prop, sql))


def _as_stored(prop: Any, sql: Dialect) -> str:
    """Return a property as text: numbers as they are spelled, objects and arrays as JSON.

    It is NULL exactly if the event does not have the property.
    """
    if prop.type == "calculated" or prop.date_part:
        return property_sql(prop, sql)
    column = sql.identifier(column_of(prop))
    if prop.type == "atomic":
        return sql.as_text(column)
    return _first([sql.raw(column, path) for path in sql.paths(prop)])


def _first(texts: list[str]) -> str:
    return f"COALESCE({', '.join(texts)})" if len(texts) > 1 else texts[0]


def _calculated(prop: Any, sql: Dialect) -> str:
    texts = [property_sql(leaf, sql) for leaf in leaves(prop)]
    if prop.operation == "coalesce":
        return _first(texts)
    if prop.operation == "concat":
        return sql.concat(texts, prop.separator or "")
    numbers = [_number(leaf, sql) for leaf in leaves(prop)]
    if prop.operation in ("sum", "product"):
        result = f"({(' + ' if prop.operation == 'sum' else ' * ').join(numbers)})"
        return f"CASE WHEN ABS({result}) < 1e99 THEN {sql.number_text(result)} END"
    # GREATEST and LEAST ignore NULL in some warehouses; here one NULL makes the result NULL
    known = " AND ".join(f"{number} IS NOT NULL" for number in numbers)
    function = "GREATEST" if prop.operation == "max" else "LEAST"
    return sql.number_text(f"CASE WHEN {known} THEN {function}({', '.join(numbers)}) END")
