"""Event patterns, criteria and properties of an attribute as SQL over the atomic events table.

The functions have their counterparts in :mod:`prospect_lib.aggregation.criteria` and
:mod:`prospect_lib.aggregation.properties`, and must mean the same.

Example: ``event_condition(attribute, sql)`` -> ``"event_name" = 'page_view' AND …``.
"""

from typing import Any

from snowplow_signals import Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.definitions import NUMERIC, WITHOUT_PROPERTY
from prospect_lib.aggregation.properties import column_of, leaves, path_of
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
    operator, value = criterion.operator, criterion.value
    text = property_sql(criterion.property, sql)
    if operator in ("is null", "is not null"):
        return f"{text} {operator.upper()}"
    if operator == "in":
        options = value if isinstance(value, list) else [value]
        return f"({' OR '.join(_compare('=', text, option, sql) for option in options)})"
    return _compare(operator, text, value, sql)


def _compare(operator: str, text: str, value: Any, sql: Dialect) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and operator != "like":
        return f"{sql.number(text)} {operator} {sql.literal(float(value))}"
    value = str(value).lower() if isinstance(value, bool) else value
    return f"{text} {operator.upper()} {sql.text(value)}"


def _value(attribute: Attribute, sql: Dialect) -> str:
    text = property_sql(attribute.property, sql)
    if attribute.aggregation in NUMERIC:
        return sql.number(text)
    if attribute.aggregation in ("category_count", "approx_count_distinct"):
        return text
    return _typed(attribute.type, text, sql)


def _typed(kind: str, text: str, sql: Dialect) -> str:
    """Return text as the attribute type ``kind``; of ``string_list`` as its element."""
    kind = kind.removesuffix("_list")
    if kind == "bool":
        return f"CASE LOWER({text}) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"
    if kind in ("int32", "int64"):
        return sql.whole(sql.number(text))
    return sql.number(text) if kind in ("double", "float") else text


def property_sql(prop: Any, sql: Dialect, relation: str = "") -> str:
    """Return a property of the event as text; NULL if the event has none.

    Args:
        relation: the alias of the events, where another relation may have such a column too.
    """
    if prop.type == "calculated":
        return _calculated(prop, sql)
    column = f"{relation}." * bool(relation) + sql.identifier(column_of(prop))
    if prop.type == "atomic":
        if prop.date_part:
            return sql.date_part(prop.date_part, sql.utc(column))
        return f"CAST({column} AS VARCHAR)"
    text = sql.inside(column, path_of(prop))
    return sql.date_part(prop.date_part, sql.timestamp(text)) if prop.date_part else text


def _calculated(prop: Any, sql: Dialect) -> str:
    texts = [property_sql(leaf, sql) for leaf in leaves(prop)]
    if prop.operation == "coalesce":
        return f"COALESCE({', '.join(texts)})" if len(texts) > 1 else texts[0]
    if prop.operation == "concat":
        return sql.concat(texts, prop.separator or "")
    numbers = [sql.number(text) for text in texts]
    if prop.operation in ("sum", "product"):
        return sql.number_text(f"({(' + ' if prop.operation == 'sum' else ' * ').join(numbers)})")
    # GREATEST and LEAST ignore NULL in some warehouses; here one NULL makes the result NULL
    known = " AND ".join(f"{number} IS NOT NULL" for number in numbers)
    function = "GREATEST" if prop.operation == "max" else "LEAST"
    return sql.number_text(f"CASE WHEN {known} THEN {function}({', '.join(numbers)}) END")
