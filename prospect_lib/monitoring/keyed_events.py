"""The events as the audit joins them: with identifier, time and arrival as columns.

The identifier may be an atomic column, or a field of an event or an entity.
"""

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.keys import key_property
from prospect_lib.sql.clocks import time_sql
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import Warehouse

#: The columns that are added: the identifier (text), and when the event happened and arrived (UTC).
KEY, HAPPENED, ARRIVED = "audit_key", "audit_ts", "audit_arrived"


def keyed_events(warehouse: Warehouse, group: AttributeGroup, condition: str = "TRUE") -> str:
    """Return a SELECT in parentheses of events, with :data:`KEY` and the two times.

    Without a column of the collector's time, events arrived when they happened.

    Args:
        warehouse: holds the events.
        group: whose attribute key is the identifier.
        condition: which events, in SQL over their own columns.
    """
    sql, columns = dialect_of(warehouse.dialect), warehouse.columns()
    happened = time_sql("derived_tstamp", sql)
    arrived = time_sql("collector_tstamp", sql) if "collector_tstamp" in columns else happened
    return (
        f"(SELECT *, {property_sql(key_property(group), sql)} AS {KEY}, {happened} AS {HAPPENED}, "
        f"{arrived} AS {ARRIVED} FROM {warehouse.events} WHERE {condition})"
    )
