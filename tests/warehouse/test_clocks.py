"""The end of the data and wrong clocks: one event years early or late changes neither."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from prospect_lib.errors import DataError
from prospect_lib.sql.clocks import data_end_sql, wrong_clock_sql
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.clocks import end_of_data
from tests.support import snow

NOON = datetime(2026, 1, 5, 12)
#: An export cut at noon: an event per minute, then events of wrong clocks.
MINUTES = [NOON - timedelta(minutes=minute) for minute in range(60)]
WRONG = [NOON.replace(year=2031), NOON.replace(year=2019), NOON + timedelta(hours=2)]
#: Clocks that may be right: a device a little ahead, and one that was offline for 29 days.
RIGHT = [NOON + timedelta(minutes=50), NOON - timedelta(days=29)]


def events(derived: list[datetime], *, collector: bool) -> pa.Table:
    table = pa.table({"derived_tstamp": pa.array(derived, pa.timestamp("us"))})
    collected = pa.array([min(ts, NOON) if ts in MINUTES else NOON for ts in derived])
    return table.append_column("collector_tstamp", collected) if collector else table


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Any]:
    with snow.snowflake() as connection:
        yield connection


def over(table: pa.Table) -> DuckDBWarehouse:
    return DuckDBWarehouse.over("SELECT * FROM stored", stored=table.to_reader())


def clock_errors(warehouse: DuckDBWarehouse) -> int:
    """How many events have a wrong clock."""
    wrong = wrong_clock_sql(warehouse.columns())
    return int(warehouse.query(f"SELECT COUNT(*) AS n FROM events WHERE {wrong}")["n"][0].as_py())


@pytest.mark.parametrize("wrong", [[], *([ts] for ts in WRONG), WRONG])
def test_the_data_ends_when_the_collector_received_the_last_event(wrong: list[datetime]) -> None:
    warehouse = over(events(MINUTES + RIGHT + wrong, collector=True))
    assert end_of_data(warehouse) == NOON.replace(tzinfo=UTC)
    assert clock_errors(warehouse) == len(wrong)
    warehouse.close()


def test_without_collector_times_an_event_of_2031_does_not_move_the_end() -> None:
    warehouse = over(events([*MINUTES, *WRONG[:2]], collector=False))
    assert end_of_data(warehouse) == NOON.replace(tzinfo=UTC)
    assert clock_errors(warehouse) == 2
    warehouse.close()


@pytest.mark.parametrize("collector", [True, False])
def test_snowflake_has_the_same_clocks(snowflake: Any, collector: bool) -> None:
    table = events([*MINUTES, *WRONG[:2]], collector=collector)
    snow.load(snowflake, "EVENTS", table, ())
    wrong = wrong_clock_sql(table.column_names, "snowflake", events="DB.PUBLIC.EVENTS")
    cursor = snowflake.cursor()
    end = data_end_sql(table.column_names, "snowflake", events="DB.PUBLIC.EVENTS")
    assert cursor.execute(end).fetchall() == [(NOON,)]
    cursor.execute(f"SELECT COUNT(*) FROM DB.PUBLIC.EVENTS WHERE {wrong}")
    assert cursor.fetchall() == [(2,)]


def test_no_time_at_all_is_one_sentence() -> None:
    warehouse = DuckDBWarehouse.over("SELECT CAST(NULL AS TIMESTAMP) AS derived_tstamp")
    with pytest.raises(DataError, match="no event of events has a time"):
        end_of_data(warehouse)
    warehouse.close()
