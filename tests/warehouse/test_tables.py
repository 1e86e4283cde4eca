"""Temporary tables of a warehouse: written, replaced, dropped, with any text in them."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from prospect_lib.errors import DataError, ServiceError
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
        '("VISITOR" VARCHAR, "PLACE" BIGINT, "ANCHOR_TS" TIMESTAMP_NTZ)'
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


def test_any_column_of_a_training_set_can_be_written() -> None:
    """Categories, zoned times, NaN, decimals of Snowflake, an empty column, a name with a space."""
    utc = AT.replace(tzinfo=UTC)
    rows = pa.table(
        {
            "user id": pa.array(["a", None]).dictionary_encode(),
            "anchor_ts": pa.array([utc, None], pa.timestamp("ns", "Asia/Kolkata")),
            "label": pa.array([Decimal(1), None], pa.decimal128(38, 0)),
            "weight": pa.array([2.5, float("nan")]),
            "price": pa.array([Decimal("9.50"), None], pa.decimal128(18, 2)),
            "day": pa.array([AT.date(), None]),
            "empty": pa.nulls(2),
        }
    )
    duckdb, recorder = DuckDBWarehouse.over("SELECT 1 AS one"), Recorder()
    written = duckdb.query(f"SELECT * FROM {write_temporary(duckdb, 'moments', rows)}").to_pylist()
    duckdb.close()
    values = ["a", AT, 1, 2.5, 9.5, datetime(AT.year, AT.month, AT.day), None]
    first = dict(zip(rows.column_names, values, strict=True))
    assert written == [first, dict.fromkeys(rows.column_names)]
    write_temporary(recorder, "moments", rows)
    create, insert = recorder.statements
    assert (
        '("USER ID" VARCHAR, "ANCHOR_TS" TIMESTAMP_NTZ, "LABEL" BIGINT, "WEIGHT" DOUBLE' in create
    )
    assert f"('a', CAST('{AT}' AS TIMESTAMP_NTZ), 1, 2.5, 9.5, CAST(" in insert
    assert insert.endswith(f"({', '.join(['NULL'] * 7)})")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([[1]]), "column x has type list<.*>; expected text, numbers, booleans or times"),
        (pa.array([b"x"]), "column x has type binary"),
        (pa.array([float("inf")]), "column x has an infinite number"),
        (pa.array([2**64 - 1], pa.uint64()), "column x: .*; expected 64-bit numbers"),
    ],
)
def test_a_column_that_cannot_be_written_is_refused_by_name(column: pa.Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_temporary(Recorder(), "moments", pa.table({"x": column}))
