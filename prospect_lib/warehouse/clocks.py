"""When the data of a warehouse ends, and how many events came from devices with a wrong clock.

Example: ``end_of_data(warehouse)`` -> ``datetime(2026, 1, 5, 12, tzinfo=UTC)``.
"""

from datetime import UTC, datetime

from prospect_lib.errors import DataError
from prospect_lib.sql.clocks import data_end_sql, wrong_clock_sql
from prospect_lib.warehouse import Warehouse


def end_of_data(warehouse: Warehouse) -> datetime:
    """Return when the data ends, in UTC: see :func:`prospect_lib.sql.clocks.data_end_sql`.

    Raises:
        DataError: no event has a time.
        ServiceError: the warehouse refuses the statement.
    """
    sql = data_end_sql(warehouse.columns(), warehouse.dialect, events=warehouse.events)
    end: datetime | None = warehouse.query(sql)["ts"][0].as_py()
    if end is None:
        raise DataError(f"no event of {warehouse.events} has a time, so the data has no end.")
    return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)


def clock_errors(warehouse: Warehouse) -> int:
    """Return how many events have a wrong clock.

    Raises:
        ServiceError: the warehouse refuses the statement.
    """
    wrong = wrong_clock_sql(warehouse.columns(), warehouse.dialect, events=warehouse.events)
    sql = f"SELECT COUNT(*) AS n FROM {warehouse.events} WHERE {wrong}"
    return int(warehouse.query(sql)["n"][0].as_py())


def clock_note(errors: int) -> str:
    """Return the sentence about events with a wrong clock."""
    return (
        f"Events with a wrong clock, which are no training rows: {errors:,}. Their derived_tstamp "
        "is more than an hour later, or 30 days earlier, than the collector_tstamp (without that "
        "column: more than a year from 90% of all events)."
    )
