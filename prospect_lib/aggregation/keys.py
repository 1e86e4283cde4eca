"""Whom an attribute group is about: the attribute key, and its value in each event.

The *name* of a key is the column of training sets and the key of ``/predict``. Its *property* is
where an event has the identifier: an atomic column such as ``user_id``, or a field of an event or
an entity. Empty and nil identifiers are nobody's: trackers send them for anonymous visitors.

Example: ``identifier(group, {"domain_userid": "6f1c1f0e-…"})`` -> ``"6f1c1f0e-…"``.
"""

from collections.abc import Mapping
from typing import Any

from snowplow_signals import AtomicProperty, AttributeGroup, LinkAttributeKey

from prospect_lib.aggregation.properties import property_text
from prospect_lib.errors import DefinitionError

#: Identifiers that stand for no visitor: a tracker without consent sends one of them.
NOBODY = ("", "00000000-0000-0000-0000-000000000000")


def key_name(group: AttributeGroup) -> str:
    """Return the name of a group's attribute key, such as ``domain_userid``.

    Raises:
        DefinitionError: the key has no name.
    """
    name = group.attribute_key.name
    if not name:
        raise DefinitionError(
            f"attribute group {group.name!r}: its attribute key has no name. Use one of "
            "snowplow_signals, such as domain_userid, or AttributeKey(name=..., property=...)."
        )
    return name


def key_property(group: AttributeGroup) -> Any:
    """Return the property of an event that holds the identifier.

    It is the key's ``property``; else the atomic column that its ``key`` (deprecated in Signals)
    or its name says.
    """
    key = group.attribute_key
    if not isinstance(key, LinkAttributeKey):
        if key.property is not None:
            return key.property
        if column := key.__dict__.get("key"):
            return _column(column)
    return _column(key_name(group))


def identifier(group: AttributeGroup, event: Mapping[str, Any]) -> str | None:
    """Return whom an event is about, for this group; ``None`` if it is nobody."""
    text = property_text(key_property(group), event)
    return None if text in NOBODY else text


def _column(name: str) -> AtomicProperty:
    """Return a property for any column; the SDK's own check knows the standard ones only."""
    return AtomicProperty.model_construct(type="atomic", name=name, date_part=None)
