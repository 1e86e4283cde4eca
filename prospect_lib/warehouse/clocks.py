"""When the data of a warehouse ends, and windows that end with it.

Example: ``end_of_data(warehouse)`` -> ``datetime(2026, 1, 5, 12, tzinfo=UTC)``.
"""

from datetime import UTC, datetime, timedelta

from prospect_lib.errors import DataError
from prospect_lib.sql.clocks import data_end_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse


def end_of_data(warehouse: Warehouse) -> datetime:
    """Return when the data ends, in UTC: see :func:`prospect_lib.sql.clocks.data_end_sql`.

    A remote warehouse knows it without reading the table.

    Raises:
        DataError: no event has a time.
        ServiceError: the warehouse refuses the statement.
    """
    if warehouse.data_end is not None:
        return warehouse.data_end
    as_it_is = ""
    if not isinstance(warehouse, DuckDBWarehouse):
        as_it_is = dialect_of(warehouse.dialect).identifier("collector_tstamp")
    sql = data_end_sql(
        warehouse.columns(), warehouse.dialect, events=warehouse.events, collector=as_it_is
    )
    end: datetime | None = warehouse.query(sql)["ts"][0].as_py()
    if end is None:
        raise DataError(f"no event of {warehouse.events} has a time, so the data has no end.")
    return end.replace(tzinfo=UTC) if end.tzinfo is None else end.astimezone(UTC)


def last_days(warehouse: Warehouse, days: int) -> tuple[datetime, datetime]:
    """Return a window of whole days, in UTC, that ends with the day of the last event.

    Example: ``Anchors(since=last_days(warehouse, 60)[0])`` -> rows of the last 60 days.

    Raises:
        DataError, ServiceError: as :func:`end_of_data`.
    """
    midnight = end_of_data(warehouse).replace(hour=0, minute=0, second=0, microsecond=0)
    until = midnight + timedelta(days=1)
    return until - timedelta(days=days), until
