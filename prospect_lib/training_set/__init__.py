"""Attributes and features at past moments: from a group to one point-in-time SQL statement.

An *anchor* is a visitor and a moment. Values are those that would have been served then
(:func:`prospect_lib.aggregation.fold.attribute_values`): state at an anchor includes events at
that very moment; ``include_anchor=False`` leaves them out, as Snowplow's tutorials do.
"""

from snowplow_signals import AttributeGroup

from prospect_lib.features import features_of
from prospect_lib.sql.compiler import compile_attributes, compile_features
from prospect_lib.sql.context import Scope
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.anchors import SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors

__all__ = ["SITE_ANCHORS", "TUTORIAL_ANCHORS", "Anchors", "attributes_sql", "features_sql"]


def attributes_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
) -> str:
    """One statement that gives every attribute of ``group`` at every anchor.

    Args:
        group: a Signals attribute group, compiled attribute by attribute.
        events: name of a relation in Snowplow's atomic events columns.
        anchors: name of a relation with the group's key column and ``anchor_ts`` (UTC); what
            else it has is passed through.
        dialect: ``duckdb`` or ``snowflake``.
        include_anchor: whether events exactly at ``anchor_ts`` count.

    Returns:
        SQL whose rows are the anchors' columns and then one column an attribute, in the
        group's order, sorted by key and ``anchor_ts``. A ``unique_list`` is an array, a
        ``category_count`` a JSON object.

    Raises:
        DefinitionError: an attribute cannot be compiled; the message names it and why.
    """
    return compile_attributes(Scope(group, dialect_of(dialect), events, anchors, include_anchor))


def features_sql(
    group: AttributeGroup,
    *,
    events: str,
    anchors: str,
    dialect: str = "duckdb",
    include_anchor: bool = True,
) -> str:
    """The same with the model's features (:func:`prospect_lib.features.features_of`)."""
    scope = Scope(group, dialect_of(dialect), events, anchors, include_anchor)
    return compile_features(scope, features_of(group))
