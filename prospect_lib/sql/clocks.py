"""The end of the data, and events of devices with a wrong clock.

``derived_tstamp`` trusts the clock of a visitor's device: one event in 2031, or in 2019, is
normal. ``collector_tstamp`` is the collector's own clock. So the data ends at the largest
collector time, never at the largest ``derived_tstamp``
(https://docs.snowplow.io/docs/events/timestamps/).

Example: ``data_end_sql(["collector_tstamp", "derived_tstamp"], "duckdb")`` -> ``SELECT MAX(…``.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from prospect_lib.sql.dialects import Dialect, dialect_of

#: How much later, and how much earlier, than the collector's a right ``derived_tstamp`` may be:
#: offline devices send events weeks later.
AHEAD, BEHIND = timedelta(hours=1), timedelta(days=30)
#: Without collector times, a right ``derived_tstamp`` is at most this much earlier or later than
#: 90% of all, those between the two shares.
FAR, SHARES = timedelta(days=365), (0.05, 0.95)

_WITHOUT_COLLECTOR = """\
SELECT MAX(ts) AS ts
FROM (SELECT {derived} AS ts FROM {events}) AS times
WHERE times.ts <= {latest}"""


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
        dialect: ``duckdb``, ``snowflake`` or ``spark``.
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
        return f"SELECT MAX({collector or time_sql('collector_tstamp', sql)}) AS ts FROM {events}"
    derived = derived or time_sql("derived_tstamp", sql)
    latest = _bounds(derived, events, sql)[1]
    return _WITHOUT_COLLECTOR.format(events=events, derived=derived, latest=latest)


def wrong_clock_sql(
    columns: Collection[str],
    dialect: str = "duckdb",
    *,
    events: str = "events",
    collector: str = "",
    derived: str = "",
) -> str:
    """Return the condition that a device's clock was wrong; NULL if it is not known.

    Such an event's ``derived_tstamp`` is more than an hour later, or 30 days earlier, than the
    collector's; without collector times, a year later or earlier than 90% of all. The arguments
    are those of :func:`data_end_sql`.
    """
    sql = dialect_of(dialect)
    derived = derived or time_sql("derived_tstamp", sql)
    if "collector_tstamp" in columns:
        collector = collector or time_sql("collector_tstamp", sql)
        earliest = f"{collector} - {sql.interval(BEHIND)}"
        latest = f"{collector} + {sql.interval(AHEAD)}"
    else:
        earliest, latest = _bounds(derived, events, sql)
    return f"({derived} > {latest} OR {derived} < {earliest})"


def _bounds(derived: str, events: str, sql: Dialect) -> tuple[str, str]:
    """Return the earliest and the latest right time, without collector times."""
    low, high = (sql.quantile(share, derived, events) for share in SHARES)
    return f"{low} - {sql.interval(FAR)}", f"{high} + {sql.interval(FAR)}"


def time_sql(column: str, sql: Dialect) -> str:
    """Return a column of times in UTC."""
    return sql.utc(sql.identifier(column))


def earlier(moment: datetime, length: timedelta) -> datetime:
    """Return a moment so much earlier; at least the first that Python knows.

    >>> earlier(datetime(1, 1, 2), timedelta(days=7)).day
    1
    """
    first = datetime.min.replace(tzinfo=moment.tzinfo)
    return first if moment - first < length else moment - length
