"""The stand-in for Snowflake: what fakesnow lacks, and what it would let through."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector

from prospect_lib.errors import ServiceError
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow

SECRETS = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
EVENTS = "DB.PUBLIC.EVENTS"
TEN_DAYS = pa.table({"collector_tstamp": [datetime(2026, 1, day) for day in range(1, 11)]})
WINDOW = "collector_tstamp >= '2026-01-01' AND collector_tstamp < '2027-01-01'"
COUNT = f"SELECT COUNT(*) AS n FROM {EVENTS} WHERE {WINDOW}"
COPY = "CREATE TEMPORARY TABLE DB.PUBLIC.COPY AS SELECT 1 AS one"


@pytest.fixture
def analysts() -> Iterator[tuple[SnowflakeWarehouse, SnowflakeWarehouse]]:
    settings = Settings(Path(), values={**SECRETS, "ATOMIC_TABLE": EVENTS})
    with snow.server():
        first = SnowflakeWarehouse.connect(settings)
        snow.load_into_server("EVENTS", TEN_DAYS)
        second = SnowflakeWarehouse.connect(settings)
        yield first, second
        first.close()
        second.close()


def plan(cursor: Any, select: str) -> dict[str, int]:
    ((text,),) = cursor.execute(f"EXPLAIN USING JSON {select}").fetchall()
    stats: dict[str, int] = json.loads(text)["GlobalStats"]
    return stats


def test_a_plan_tells_how_many_days_are_read(analysts: tuple[SnowflakeWarehouse, Any]) -> None:
    cursor = analysts[0].connection.cursor()
    select = f"SELECT * FROM {EVENTS} AS e"
    window = "e.collector_tstamp >= '2026-01-03' AND e.collector_tstamp < '2026-01-05'"
    assert plan(cursor, select)["partitionsAssigned"] == 10
    stats = plan(cursor, f"{select} WHERE {window}")
    assert stats == {"partitionsTotal": 10, "partitionsAssigned": 2, "bytesAssigned": 32_000_000}
    with pytest.raises(snowflake.connector.errors.ProgrammingError, match="NOTHING"):
        plan(cursor, f"SELECT nothing FROM {EVENTS}")


def test_a_plan_is_not_sent_as_arrow(analysts: tuple[SnowflakeWarehouse, Any]) -> None:
    with pytest.raises(ServiceError):
        analysts[0].query(f"EXPLAIN USING JSON SELECT * FROM {EVENTS}")


def test_a_temporary_table_belongs_to_its_session(
    analysts: tuple[SnowflakeWarehouse, SnowflakeWarehouse],
) -> None:
    first, second = analysts
    first.run(COPY)
    assert first.query("SELECT COPY.one FROM DB.PUBLIC.COPY")["one"].to_pylist() == [1]
    with pytest.raises(ServiceError, match="COPY does not exist"):
        second.query("SELECT * FROM DB.PUBLIC.COPY")
    second.run(COPY)
    first.run("DROP TABLE DB.PUBLIC.COPY")
    assert second.query("SELECT one FROM DB.PUBLIC.COPY").num_rows == 1
    assert first.query(COUNT)["n"].to_pylist() == second.query(COUNT)["n"].to_pylist() == [10]


def test_a_dropped_connection_loses_its_temporary_tables(
    analysts: tuple[SnowflakeWarehouse, Any],
) -> None:
    first, _ = analysts
    first.run(COPY)
    snow.drop_connection(at=2)
    assert first.query(COUNT)["n"].to_pylist() == first.query(COUNT)["n"].to_pylist() == [10]
    assert snow.statements() == [COPY, COUNT, COUNT, COUNT]
    with pytest.raises(ServiceError, match="COPY does not exist"):
        first.query("SELECT * FROM DB.PUBLIC.COPY")
