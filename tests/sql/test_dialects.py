"""Quoting, literals and names of time windows, as each warehouse reads them."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from prospect_lib.errors import DefinitionError
from prospect_lib.sql.context import label
from prospect_lib.sql.dialects import DuckDB, dialect_of


@pytest.mark.parametrize("dialect", ["duckdb", "snowflake"])
@pytest.mark.parametrize(
    ("value", "literal"),
    [(None, "NULL"), (True, "TRUE"), (2.5, "2.5"), ("O'Hara", "'O''Hara'"), ("a;b%", "'a;b%'")],
)
def test_a_value_is_data_and_never_sql(value: object, literal: str, dialect: str) -> None:
    assert dialect_of(dialect).literal(value) == literal


def test_each_warehouse_has_its_names_backslashes_and_arrays() -> None:
    duckdb_sql, snowflake_sql = dialect_of("duckdb"), dialect_of("snowflake")
    assert duckdb_sql.identifier('a"b') == '"a""b"'
    assert snowflake_sql.identifier('a"b') == '"A""B"'
    assert duckdb_sql.text("a\\b") == "'a\\b'"
    assert snowflake_sql.text("a\\b") == "'a\\\\b'"
    assert duckdb_sql.literal(["a", 1]) == "['a', 1]"
    assert snowflake_sql.literal(["a", 1]) == "ARRAY_CONSTRUCT('a', 1)"


def test_snowflake_reads_an_interval_exactly_and_integers_of_64_bits() -> None:
    sql = dialect_of("snowflake")
    month = timedelta(days=30, microseconds=1)
    assert sql.interval(month) == "INTERVAL '2592000 seconds, 1 microseconds'"
    assert sql.interval(timedelta(days=30)) == "INTERVAL '2592000 seconds'"
    assert "BETWEEN -9223372036854775808 AND 9223372036854775807" in sql.integer("x")
    assert sql.least("x", "bool") == "BOOLAND_AGG(x)"


def test_a_path_into_a_nested_column() -> None:
    path = [0, "a.b", 1, "it's"]
    assert dialect_of("snowflake").raw('"C"', path) == '"C"[0]:"a.b"[1]."it\'s"::VARCHAR'
    sql = dialect_of("duckdb").inside("c", path)
    rows = duckdb.sql(f"""SELECT {sql} FROM (SELECT '[{{"a.b": [0, {{"it''s": 7}}]}}]' AS c)""")
    assert rows.fetchall() == [("7",)]


def test_a_datetime_becomes_utc() -> None:
    at = datetime(2026, 1, 5, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    expected = "CAST('2026-01-04 23:30:00.000000' AS TIMESTAMP)"
    assert dialect_of("duckdb").literal(at) == expected
    assert dialect_of("duckdb").literal(at.astimezone(UTC).replace(tzinfo=None)) == expected


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-01-05T01:30:00+02:00", datetime(2026, 1, 4, 23, 30)),
        ("2026-01-05 01:30:00-0530", datetime(2026, 1, 5, 7)),
        ("2026-01-05T01:30:00Z", datetime(2026, 1, 5, 1, 30)),
        ("2026-01-05T01:30:00.5", datetime(2026, 1, 5, 1, 30, 0, 500_000)),
        ("2026-01-05", datetime(2026, 1, 5)),
        ("never", None),
    ],
)
def test_a_timestamp_as_text_becomes_utc_in_any_session(
    text: str, utc: datetime | None, zone: str
) -> None:
    sql = dialect_of("duckdb")
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = {sql.text(zone)}")
        query = f"SELECT {sql.timestamp(sql.text(text))}"
        assert connection.execute(query).fetchall() == [(utc,)]


def test_the_name_of_a_file_is_no_pattern(tmp_path: Path) -> None:
    for name in ("a[1].csv", "a1.csv", "a?.csv", "it's.csv"):
        (tmp_path / name).write_text(f"name\n{name}\n")
    for file in tmp_path.iterdir():
        rows = duckdb.sql(f"SELECT name FROM read_csv({DuckDB().files([file])})").fetchall()
        assert rows == [(file.name,)]


@pytest.mark.parametrize(
    ("length", "name"),
    [
        (timedelta(days=7), "7d"),
        (timedelta(hours=36), "36h"),
        (timedelta(minutes=90), "90min"),
        (timedelta(seconds=61), "61s"),
        (timedelta(seconds=1, microseconds=1), "1000001us"),
        (None, "all"),
    ],
)
def test_a_window_is_named_by_its_length(length: timedelta | None, name: str) -> None:
    assert label(length) == name


def test_an_unknown_dialect_is_refused_with_those_there_are() -> None:
    with pytest.raises(DefinitionError, match=r"'oracle'.*'duckdb' or 'snowflake'"):
        dialect_of("oracle")
