"""When the data of a warehouse ends.

Example: ``end_of_data(warehouse)`` -> ``datetime(2026, 1, 5, 12, tzinfo=UTC)``.
"""

from datetime import UTC, datetime

from prospect_lib.errors import DataError
from prospect_lib.sql.clocks import data_end_sql
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
