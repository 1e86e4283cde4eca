"""Sentences about the events of a training set: nobody's, wrong clocks, a goal that never occurs.

Example: ``event_notes(warehouse, problem.group, problem.anchors)`` -> ``["2,411 of 70,000 events
are nobody's: their user_id is missing, empty or nil."]``
"""

from collections.abc import Collection

from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.anchors import Anchors
from prospect_lib.sql.clocks import AHEAD, earlier, time_sql, wrong_clock_sql
from prospect_lib.sql.conditions import counts_sql, nobody_sql, property_sql
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.warehouse import Warehouse

COUNT_EVENTS = """\
SELECT
  COUNT(*) AS events,
  COUNT(CASE WHEN {identifier} IN ({nobody}) THEN NULL ELSE {identifier} END) AS identified,
  COUNT(CASE WHEN {wrong_clock} THEN 1 END) AS wrong_clocks,
  COUNT(CASE WHEN {goal} THEN 1 END) AS goals,
  COUNT(CASE WHEN {at} THEN 1 END) AS moments
FROM {events}
WHERE {window}"""
COUNT_KINDS = """\
SELECT {name} AS name, COUNT(*) AS n FROM {events} GROUP BY 1 ORDER BY n DESC, name LIMIT 8"""
NO_MATCH = "No event matches"  # how the sentence begins


def event_notes(
    warehouse: Warehouse, group: AttributeGroup, anchors: Anchors, columns: Collection[str]
) -> list[str]:
    """Return what is worth knowing about the events, from one pass over them.

    Of anchors with a start, only the events are counted that were collected since about then.

    Args:
        warehouse: holds the events.
        group: whose attribute key identifies a visitor.
        anchors: their goal, moments and window.
        columns: those of the events, in lower case.
    Raises:
        ServiceError: the warehouse refuses the statement.
    """
    sql, events = dialect_of(warehouse.dialect), warehouse.events
    counts = warehouse.query(
        COUNT_EVENTS.format(
            identifier=property_sql(key_property(group), sql),
            nobody=nobody_sql(sql),
            wrong_clock=wrong_clock_sql(columns, warehouse.dialect, events=events),
            goal=counts_sql(anchors.goal_attribute, sql),
            at=counts_sql(anchors.at_attribute, sql) if anchors.at else "TRUE",
            events=events,
            window=_window(anchors, columns, sql),
        )
    ).to_pylist()[0]
    notes = []
    if nobodys := counts["events"] - counts["identified"]:
        notes.append(
            f"{nobodys:,} of {counts['events']:,} events are nobody's: their {key_name(group)} is "
            "missing, empty or nil."
        )
    if counts["wrong_clocks"]:
        notes.append(_clock_note(int(counts["wrong_clocks"])))
    for what, count in (("the goal", counts["goals"]), ("`at` of the anchors", counts["moments"])):
        if counts["events"] and not count:
            notes.append(f"{NO_MATCH} {what}; there are {_kinds(warehouse, sql)}.")
    return notes


def _window(anchors: Anchors, columns: Collection[str], sql: Dialect) -> str:
    """Return the condition that an event was collected in the window of the anchors."""
    if "collector_tstamp" not in columns or anchors.since is None:
        return "TRUE"
    return f"{time_sql('collector_tstamp', sql)} >= {sql.literal(earlier(anchors.since, AHEAD))}"


def _kinds(warehouse: Warehouse, sql: Dialect) -> str:
    """Return the most frequent kinds of events, as ``page_view (4,968), submit_form (430)``."""
    kinds = warehouse.query(
        COUNT_KINDS.format(name=sql.identifier("event_name"), events=warehouse.events)
    )
    return ", ".join(f"{kind['name']} ({kind['n']:,})" for kind in kinds.to_pylist())


def _clock_note(errors: int) -> str:
    """Return the sentence about events with a wrong clock."""
    return (
        f"Events with a wrong clock, which are no training rows: {errors:,}. Their derived_tstamp "
        "is more than an hour later, or 30 days earlier, than the collector_tstamp (without that "
        "column: more than a year from 90% of all events)."
    )
