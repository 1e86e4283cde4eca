"""The end of the data, and events of devices with a wrong clock.

``derived_tstamp`` trusts the clock of a visitor's device: one event in 2031, or in 2019, is
normal. ``collector_tstamp`` is the collector's own clock. So the data ends at the largest
collector time, never at the largest ``derived_tstamp``
(https://docs.snowplow.io/docs/events/timestamps/).

Example: ``data_end_sql(["collector_tstamp", "derived_tstamp"], "duckdb")`` -> ``SELECT MAX(…``.
"""

from collections.abc import Collection
from datetime import timedelta

from prospect_lib.sql.dialects import Dialect, dialect_of

#: How much later, and how much earlier, than the collector's a right ``derived_tstamp`` may be:
#: offline devices send events weeks later.
AHEAD, BEHIND = timedelta(hours=1), timedelta(days=30)
#: Without collector times, the data ends at the last event at most this much later than
#: this share of all events.
LATEST, SHARE = timedelta(days=365), 0.95

_WITHOUT_COLLECTOR = """\
SELECT MAX(ts) AS ts
FROM (SELECT {derived} AS ts FROM {events}) AS times
WHERE ts <= (
  SELECT PERCENTILE_DISC({share}) WITHIN GROUP (ORDER BY {derived}) FROM {events}
) + {latest}"""


def data_end_sql(
    columns: Collection[str],
    dialect: str = "duckdb",
    *,
    events: str = "events",
    collector: str = "",
    derived: str = "",
) -> str:
    """Return a SELECT of one row with one column ``ts``: the end of the data, in UTC.

    It is the largest ``collector_tstamp``. Events without that column end at the largest
    ``derived_tstamp`` that is at most a year later than 95% of all.

    Args:
        columns: those of the events table, in lower case.
        dialect: ``duckdb`` or ``snowflake``.
        events: the relation to read.
        collector, derived: how ``events`` calls the two times, if not as the events table does.
    Raises:
        DefinitionError: the dialect is not known.

    Example:
        >>> print(data_end_sql(["collector_tstamp"], events="used_events", collector="received"))
        SELECT MAX(received) AS ts FROM used_events
    """
    sql = dialect_of(dialect)
    if "collector_tstamp" in columns:
        return f"SELECT MAX({collector or _utc('collector_tstamp', sql)}) AS ts FROM {events}"
    return _WITHOUT_COLLECTOR.format(
        events=events,
        derived=derived or _utc("derived_tstamp", sql),
        share=SHARE,
        latest=sql.interval(LATEST),
    )


def wrong_clock_sql(
    columns: Collection[str], dialect: str = "duckdb", *, collector: str = "", derived: str = ""
) -> str:
    """Return the condition that a device's clock was wrong; ``FALSE`` without collector times.

    Such an event's ``derived_tstamp`` is more than an hour later, or 30 days earlier, than the
    collector's. The arguments are those of :func:`data_end_sql`.
    """
    sql = dialect_of(dialect)
    if "collector_tstamp" not in columns:
        return "FALSE"
    collector = collector or _utc("collector_tstamp", sql)
    derived = derived or _utc("derived_tstamp", sql)
    return (
        f"({derived} > {collector} + {sql.interval(AHEAD)} "
        f"OR {derived} < {collector} - {sql.interval(BEHIND)})"
    )


def _utc(column: str, sql: Dialect) -> str:
    return f"CAST({sql.identifier(column)} AS {sql.timestamp_type})"
