"""Temporary tables of a warehouse: written, replaced, dropped, with any text in them."""

import re
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.warehouse import DuckDBWarehouse, SnowflakeWarehouse
from prospect_lib.warehouse.tables import (
    create_temporary,
    drop_table,
    name_of_new_table,
    qualified_name,
    write_temporary,
)

AT = datetime(2026, 1, 2, 3, 4, 5, 678901)
ROWS = pa.table({"visitor": ["O'Hara \\ %s", None], "place": [1, 2], "anchor_ts": [AT, AT]})


class Recorder(SnowflakeWarehouse):
    """Snowflake's warehouse without a connection: it records its statements."""

    def __init__(self, scratch: str = "") -> None:
        super().__init__(lambda: None, "DB.PUBLIC.EVENTS", scratch=scratch)
        self.statements: list[str] = []

    def create_temporary(self, name: str, *statements: str) -> None:
        self.statements += [f"-- {name}", *statements]


def test_rows_are_written_and_dropped() -> None:
    warehouse = DuckDBWarehouse.over("SELECT 1 AS one")
    first = write_temporary(warehouse, "moments", ROWS.slice(0, 1))
    name = write_temporary(warehouse, "moments", ROWS)
    assert name != first and name == write_temporary(warehouse, "moments", ROWS)
    for table, rows in ((first, ROWS.slice(0, 1)), (name, ROWS)):
        assert warehouse.query(f"SELECT * FROM {table}").to_pylist() == rows.to_pylist()
    copy = create_temporary(warehouse, "copy", f"SELECT place FROM {name}")
    assert warehouse.query(f"SELECT * FROM {copy} ORDER BY 1")["place"].to_pylist() == [1, 2]
    for _ in range(2):
        drop_table(warehouse, name)
    with pytest.raises(ServiceError, match="moments"):
        warehouse.query(f"SELECT * FROM {name}")
    warehouse.close()


def test_snowflake_gets_a_temporary_table_with_typed_columns_and_quoted_values() -> None:
    warehouse = Recorder("DB.SCRATCH")
    name = write_temporary(warehouse, "moments", ROWS)
    assert re.fullmatch(r"DB\.SCRATCH\.PROSPECT_MOMENTS_[0-9A-F]{12}", name)
    label, create, insert = warehouse.statements
    assert label == f"-- {name}"
    assert create == (
        f"CREATE OR REPLACE TEMPORARY TABLE {name} "
        '("VISITOR" VARCHAR, "PLACE" BIGINT, "ANCHOR_TS" TIMESTAMP_NTZ)'
    )
    moment = "CAST('2026-01-02 03:04:05.678901' AS TIMESTAMP_NTZ)"
    assert insert == (
        f"INSERT INTO {name} VALUES "
        rf"('O''Hara \\ %s', 1, {moment}), (NULL, 2, {moment})"
    )


def test_temporary_tables_are_in_the_schema_of_the_events_unless_there_is_a_scratch_schema() -> (
    None
):
    assert write_temporary(Recorder(), "moments", ROWS).startswith("DB.PUBLIC.PROSPECT_MOMENTS_")


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("rows", "DB.PUBLIC.rows"),
        ("models.rows", "DB.models.rows"),
        ('"a.b".rows', 'DB."a.b".rows'),
        ("other.models.rows", "other.models.rows"),
    ],
)
def test_a_name_is_completed_by_database_and_schema_of_the_events(name: str, full: str) -> None:
    assert qualified_name(Recorder(), name) == full
    warehouse = DuckDBWarehouse.over("SELECT 1 AS one")
    assert qualified_name(warehouse, name) == name
    warehouse.close()


def test_a_table_to_keep_is_never_beside_the_events() -> None:
    assert name_of_new_table(Recorder("DB.SCRATCH"), "rows") == "DB.SCRATCH.rows"
    assert name_of_new_table(Recorder(), "models.rows") == "DB.models.rows"
    for name in ("rows", "PUBLIC.rows"):
        with pytest.raises(DataError, match=r"DB.PUBLIC.rows would be in the schema of the events"):
            name_of_new_table(Recorder(), name)


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
    _, create, insert = recorder.statements
    assert (
        '("USER ID" VARCHAR, "ANCHOR_TS" TIMESTAMP_NTZ, "LABEL" BIGINT, "WEIGHT" DOUBLE' in create
    )
    assert f"('a', CAST('{AT}' AS TIMESTAMP_NTZ), 1, 2.5, 9.5, CAST(" in insert
    assert insert.endswith(f"({', '.join(['NULL'] * 7)})")


def test_no_statement_has_more_than_snowflake_takes() -> None:
    """At most 16,384 rows, and 1 MB, in bytes of UTF-8."""
    for text, rows in (("é" * 400, 2500), ("a", 25_000)):
        recorder = Recorder()
        write_temporary(recorder, "moments", pa.table({"x": [text] * rows}))
        inserts = [sql for sql in recorder.statements if sql.startswith("INSERT")]
        assert len(inserts) > 2 and max(len(sql.encode()) for sql in inserts) < 1_000_000
        counts = [sql.count(f"('{text}')") for sql in inserts]
        assert sum(counts) == rows and max(counts) <= 10_000


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
