"""The events as the audit joins them: with identifier, time and arrival as columns.

The identifier may be an atomic column, or a field of an event or an entity.
"""

from snowplow_signals import AttributeGroup, Event
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import key_property
from prospect_lib.sql.conditions import matched_value
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import Warehouse

#: The columns that are added: the identifier (text), and when the event happened and arrived (UTC).
KEY, HAPPENED, ARRIVED = "audit_key", "audit_ts", "audit_arrived"


def keyed_events(warehouse: Warehouse, group: AttributeGroup) -> str:
    """Return a SELECT in parentheses of all events, with :data:`KEY` and the two times.

    Without a column of the collector's time, events arrived when they happened.
    """
    sql = dialect_of(warehouse.dialect)
    value = Attribute(
        name="key",
        type="string",
        events=[Event()],
        aggregation="last",
        property=key_property(group),
    )
    happened = f"CAST({sql.identifier('derived_tstamp')} AS {sql.timestamp_type})"
    arrived = happened
    if "collector_tstamp" in warehouse.columns():
        arrived = f"CAST({sql.identifier('collector_tstamp')} AS {sql.timestamp_type})"
    return (
        f"(SELECT *, {matched_value(value, sql)} AS {KEY}, {happened} AS {HAPPENED}, "
        f"{arrived} AS {ARRIVED} FROM {warehouse.events})"
    )
