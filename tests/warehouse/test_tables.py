"""Temporary tables of a warehouse: written, replaced, dropped, with any text in them."""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from prospect_lib.errors import ServiceError
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.tables import (
    create_temporary,
    drop_table,
    qualified_name,
    write_temporary,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901)
ROWS = pa.table({"visitor": ["O'Hara \\ %s", None], "place": [1, 2], "anchor_ts": [AT, AT]})


class Recorder:
    """A warehouse of the Snowflake dialect that records its statements."""

    dialect, events = "snowflake", "DB.PUBLIC.EVENTS"

    def __init__(self) -> None:
        self.statements: list[str] = []

    def run(self, sql: str) -> None:
        self.statements.append(sql)


def test_rows_are_written_replaced_and_dropped() -> None:
    warehouse = DuckDBWarehouse.over("SELECT 1 AS one")
    for rows in (ROWS.slice(0, 1), ROWS):
        name = write_temporary(warehouse, "moments", rows)
        assert warehouse.query(f"SELECT * FROM {name}").to_pylist() == rows.to_pylist()
    copy = create_temporary(warehouse, "copy", f"SELECT place FROM {name}")
    assert warehouse.query(f"SELECT * FROM {copy} ORDER BY 1")["place"].to_pylist() == [1, 2]
    for _ in range(2):
        drop_table(warehouse, "moments")
    with pytest.raises(ServiceError, match="moments"):
        warehouse.query(f"SELECT * FROM {name}")
    warehouse.close()


def test_snowflake_gets_typed_columns_and_quoted_values() -> None:
    warehouse: Any = Recorder()
    assert write_temporary(warehouse, "moments", ROWS) == "DB.PUBLIC.moments"
    create, insert = warehouse.statements
    assert create == (
        "CREATE OR REPLACE TRANSIENT TABLE DB.PUBLIC.moments "
        "(visitor VARCHAR, place BIGINT, anchor_ts TIMESTAMP_NTZ)"
    )
    moment = "CAST('2026-01-02 03:04:05.678901' AS TIMESTAMP_NTZ)"
    assert insert == (
        "INSERT INTO DB.PUBLIC.moments VALUES "
        rf"('O''Hara \\ %s', 1, {moment}), (NULL, 2, {moment})"
    )


def test_a_table_is_in_the_schema_of_the_events() -> None:
    warehouse = DuckDBWarehouse.over("SELECT 1 AS one")
    assert qualified_name(warehouse, "moments") == "moments"
    warehouse.close()
