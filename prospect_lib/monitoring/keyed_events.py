"""The events of served visitors, as the audit joins them.

They are read once, and only those around the served moments. Identifier, time and arrival become
columns: the identifier may be an atomic column, or a field of an event or an entity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC

import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.problem import ScoringProblem
from prospect_lib.sql.clocks import BEHIND, time_sql
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set.events_part import EventsPart
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse
from prospect_lib.warehouse.clocks import end_of_data
from prospect_lib.warehouse.tables import temporary_table

#: The columns that are added: the identifier (text), and when the event happened and arrived (UTC).
KEY, HAPPENED, ARRIVED = "audit_key", "audit_ts", "audit_arrived"
#: Columns by which robots are often left out; an audit reads them too.
ROBOT_COLUMNS = ("useragent", "br_type", "br_family", "platform")


@contextmanager
def served_events(
    warehouse: Warehouse, served: pa.Table, problem: ScoringProblem
) -> Iterator[Warehouse]:
    """Yield the warehouse with the events around served scores; embedded ones as they are.

    Snowflake's are read once, into a temporary table: those of the served visitors, from the
    longest window before the first score to the horizon after the last, and some weeks for events
    that are sent late. Within this context, another one reads nothing.

    Raises:
        DataError, ServiceError: as :meth:`EventsPart.of` and :meth:`EventsPart.read`.
    """
    if isinstance(warehouse, DuckDBWarehouse) or warehouse.source:
        yield warehouse
        return
    end, key = end_of_data(warehouse), key_name(problem.group)
    bounds = pc.min_max(served["anchor_ts"]).as_py()
    first, last = (bounds[name].replace(tzinfo=UTC) for name in ("min", "max"))
    known = last + problem.anchors.label_delay + problem.anchors.session_timeout + BEHIND
    anchors = replace(problem.anchors, since=first, until=known)
    keys = pa.table({key: pc.unique(served[key])})
    with temporary_table(warehouse, "visitors", keys) as visitors:
        select = f"SELECT {dialect_of(warehouse.dialect).identifier(key)} FROM {visitors}"
        part = EventsPart.of(warehouse, problem.group, anchors, visitors=select)
        robots = set(ROBOT_COLUMNS) & set(warehouse.columns())
        part = replace(part, columns=tuple(sorted({*part.columns, *robots})))
        with part.read(warehouse, data_end=end) as events:
            yield events


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
