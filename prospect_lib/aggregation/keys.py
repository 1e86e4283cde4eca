"""Whom an attribute group is about: the attribute key, and its value in each event.

The *name* of a key is the column of training sets and the key of ``/predict``. Its *property* is
where an event has the identifier: an atomic column such as ``user_id``, or a field of an event or
an entity. Empty and nil identifiers are nobody's: trackers send them for anonymous visitors.

The *session* that a visitor is in is the group's key, or the newest id in an attribute that lists
``domain_sessionid``.

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


def keyed_by_session(group: AttributeGroup) -> bool:
    """Return whether a group is about sessions: its identifiers are their ids."""
    return getattr(key_property(group), "name", None) == "domain_sessionid"


def session_attribute(group: AttributeGroup) -> str | None:
    """Return the name of the attribute that is, or ends with, the current session's id."""
    for attribute in group.attributes or []:
        property_name = getattr(attribute.property, "name", None)
        if property_name == "domain_sessionid" and attribute.aggregation in ("unique_list", "last"):
            return str(attribute.name)
    return None


def session_of(group: AttributeGroup, visitor: str, attributes: Mapping[str, Any]) -> str:
    """Return the id of a visitor's session, from their attributes; empty if they do not tell.

    Args:
        group: the attributes' definitions.
        visitor: the identifier, which is the session's id where the group is about sessions.
        attributes: their values.
    """
    if keyed_by_session(group):
        return visitor
    value = attributes.get(session_attribute(group) or "")
    newest = (value or [None])[-1] if isinstance(value, list) else value
    return "" if newest is None else str(newest)


def _column(name: str) -> AtomicProperty:
    """Return a property for any column; the SDK's own check knows the standard ones only."""
    return AtomicProperty.model_construct(type="atomic", name=name, date_part=None)
