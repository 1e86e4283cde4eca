"""Rows as they arrive from Snowflake, through the real connector."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from snowflake.connector.cursor import SnowflakeCursor
from snowflake.connector.errors import OperationalError

from prospect_lib.errors import ServiceError
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow


@pytest.fixture(scope="module")
def warehouse() -> Iterator[SnowflakeWarehouse]:
    values = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
    settings = Settings(Path(), values={**values, "ATOMIC_TABLE": "DB.PUBLIC.EVENTS"})
    with snow.server():
        connected = SnowflakeWarehouse.connect(settings)
        yield connected
        connected.close()


@pytest.mark.parametrize(("kind", "zone"), [("NTZ", None), ("TZ", "Etc/UTC")])
@pytest.mark.parametrize("year", [1, 2026, 9999])
def test_times_arrive_in_microseconds_whatever_the_values(
    warehouse: SnowflakeWarehouse, year: int, kind: str, zone: str | None
) -> None:
    """Nanoseconds cannot express the years 1 and 9999, and batches must have one type."""
    at = datetime(year, 12, 31, 23, 59, 59, 123456, tzinfo=UTC if zone else None)
    sql = f"SELECT '{at.isoformat(' ')}'::TIMESTAMP_{kind} AS ts, 1 AS n"
    for table in (warehouse.query(sql), *warehouse.batches(sql)):
        assert table["ts"].to_pylist() == [at]
        assert table.schema.field("ts").type == pa.timestamp("us", zone)
    empty = warehouse.query(f"{sql} WHERE FALSE").schema
    assert empty.field("ts").type.unit == "us" and empty.field("n").type == pa.int64()


def test_rows_that_stop_arriving_are_one_line(
    warehouse: SnowflakeWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Iterator[pa.Table]:
        yield pa.table({"N": [1]})
        raise OperationalError("the network is down", errno=250003)

    monkeypatch.setattr(SnowflakeCursor, "fetch_arrow_batches", broken)
    rows = warehouse.batches("SELECT 1 AS n")
    assert next(rows)["n"].to_pylist() == [1]
    with pytest.raises(ServiceError, match=r"stopped arriving .*the network is down.*Run it again"):
        next(rows)
