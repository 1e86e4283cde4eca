"""The stand-in for Snowflake: what fakesnow lacks, and what it would let through."""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import snowflake.connector
import sqlglot

from prospect_lib.errors import ServiceError
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow
from tests.support.snowflake_rules import Tables, check, reads

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


OWN = "SELECT visitor, ts FROM DB.PUBLIC.T"
WINDOW_OF_T = (
    "OVER (PARTITION BY v ORDER BY ts RANGE BETWEEN INTERVAL '1 day' PRECEDING AND CURRENT ROW)"
)
REFUSED = {
    "three parts": "SELECT 1 FROM EVENTS",
    "DB.PUBLIC.T is not a temporary": "CREATE TABLE DB.PUBLIC.T AS SELECT 1 AS a",
    "PUBLIC.U is not a temporary": "CREATE TRANSIENT TABLE DB.PUBLIC.U (a INT)",
    "DB.PUBLIC.V is not a temporary": "DROP TABLE IF EXISTS DB.PUBLIC.V",
    "DB.PUBLIC.W is not a temporary": "DELETE FROM DB.PUBLIC.W",
    "EPOCH_US": "SELECT EPOCH_US(ts) AS us FROM DB.PUBLIC.T",
    "LIST": "SELECT LIST(a) AS items FROM DB.PUBLIC.T",
    "STRPTIME": "SELECT STRPTIME('1', '%d') AS day",
    "// starts a comment": "SELECT 7 // 2 AS a",
    "FILTER": "SELECT COUNT(*) FILTER (WHERE a > 1) AS n FROM DB.PUBLIC.T",
    "x -> x": "SELECT REPLACE(a, x -> x) AS b FROM DB.PUBLIC.T",
    "NEW is not a temporary": "CREATE SCHEMA DB.NEW",
    "DISTINCT ON": "SELECT DISTINCT ON (a) a, b FROM DB.PUBLIC.T",
    "MATERIALIZED": "WITH a AS MATERIALIZED (SELECT 1 AS x) SELECT x FROM a",
    "the type": "SELECT a::TEXT[] AS b FROM DB.PUBLIC.T",
    "SEMI JOIN": "SELECT 1 AS a FROM DB.PUBLIC.T AS t SEMI JOIN DB.PUBLIC.U AS u ON t.a = u.a",
    "WITHIN GROUP": "SELECT ARRAY_AGG(a ORDER BY b) AS c FROM DB.PUBLIC.T",
    "BY NAME": f"{OWN} UNION ALL BY NAME {OWN}",
    "QUALIFY": f"{OWN} QUALIFY a = 1",
    "INTERVAL  ": "SELECT INTERVAL (a) HOUR AS b FROM DB.PUBLIC.T",
    "INTERVAL  5 is not spelled": "SELECT INTERVAL 5 HOUR AS b",
    "32 bits": "SELECT INTERVAL '2592000000001 microseconds' AS b",
    "two plain columns": "SELECT 1 AS a FROM DB.PUBLIC.T AS t ASOF JOIN DB.PUBLIC.U AS u "
    "MATCH_CONDITION (t.ts + INTERVAL '1 day' >= u.ts) ON t.v = u.v",
    "without a MATCH_CONDITION": "SELECT 1 AS a FROM DB.PUBLIC.T AS t ASOF LEFT JOIN "
    "DB.PUBLIC.U AS u ON t.v = u.v AND t.ts >= u.ts",
    "LAG": f"SELECT LAG(a) {WINDOW_OF_T} AS b FROM DB.PUBLIC.T",
    "is an alias": "SELECT MAX(ts) AS ts FROM DB.PUBLIC.T WHERE ts > 1",
    "reserved word": "SELECT 1 AS start",
    "rows in VALUES": f"INSERT INTO DB.PUBLIC.COPY VALUES {', '.join(['(1)'] * 16_385)}",
    "MD5": "INSERT INTO DB.PUBLIC.COPY VALUES (MD5('a'))",
    "bytes": f"SELECT '{'a' * 10**6}' AS a",
    "one statement": "SELECT 1 AS a; SELECT 2 AS b",
}


@pytest.mark.parametrize("problem", REFUSED)
def test_a_statement_that_snowflake_refuses_or_reads_otherwise(problem: str) -> None:
    tables = Tables(temporary={"DB.PUBLIC.COPY"})
    with pytest.raises(AssertionError, match=re.escape(problem)) as refused:
        check(REFUSED[problem], tables)
    assert str(refused.value).endswith(f"in the statement:\n{REFUSED[problem]}")


@pytest.mark.parametrize(
    "statement",
    [
        COPY,
        "INSERT INTO DB.PUBLIC.COPY VALUES (-1), (CAST('2026-01-01' AS TIMESTAMP_NTZ)), (NULL)",
        "DROP TABLE IF EXISTS DB.PUBLIC.COPY",
        "CREATE TABLE DB.PUBLIC.TRAINING AS SELECT 1 AS one",
        f"SELECT SUM(a) {WINDOW_OF_T} AS b FROM DB.PUBLIC.T",
        "SELECT a[0]:\"b\"::VARCHAR AS c, INTERVAL '1 day, 2 microseconds' AS d FROM DB.PUBLIC.T",
        f"{OWN} QUALIFY ROW_NUMBER() OVER (PARTITION BY visitor ORDER BY ts) = 1",
        "SELECT SUM(a) OVER (ORDER BY ts) AS a, t.a AS b, '// LIST(' AS c FROM DB.PUBLIC.T AS t",
    ],
)
def test_a_statement_of_snowflake_passes(statement: str) -> None:
    writable = frozenset({"DB.PUBLIC.TRAINING"})
    check(statement, Tables(temporary={"DB.PUBLIC.COPY"}, writable=writable))


TO = f"SELECT a FROM {EVENTS} AS e WHERE e.collector_tstamp < '2026-02-01'"


@pytest.mark.parametrize(
    ("statement", "is_pruned"),
    [
        (COUNT, True),
        (f"WITH e AS ({COUNT}) SELECT * FROM e JOIN e AS f ON e.n = f.n", True),
        (f"CREATE TEMPORARY TABLE DB.PUBLIC.COPY AS {COUNT}", True),
        (f"{TO} AND '2026-01-01'::TIMESTAMP_NTZ <= \"COLLECTOR_TSTAMP\" AND a > 1", True),
        (
            f"SELECT a FROM {EVENTS} WHERE collector_tstamp BETWEEN '2026-01-01' AND '2027-01-01'",
            True,
        ),
        (f"SELECT * FROM {EVENTS} LIMIT 0", True),
        (f"SELECT MIN(collector_tstamp) AS a, MAX(collector_tstamp) AS b FROM {EVENTS}", True),
        (f"SELECT MAX(derived_tstamp) AS a FROM {EVENTS}", False),
        (f"SELECT a FROM {EVENTS}", False),
        (f"SELECT a FROM {EVENTS} WHERE a = 1 LIMIT 1", False),
        (TO, False),
        (f"{TO} AND derived_tstamp >= '2026-01-01'", False),
        (f"{TO} AND collector_tstamp >= derived_tstamp", False),
        (f"{TO} AND (collector_tstamp >= '2026-01-01' OR a = 1)", False),
        (f"{TO} AND DATE_TRUNC('day', collector_tstamp) >= '2026-01-01'", False),
        (f"{COUNT} UNION ALL {COUNT}", False),
        (f"SELECT n FROM ({COUNT}) AS c JOIN {EVENTS} AS e ON e.a = c.n", False),
    ],
)
def test_a_read_of_the_events_has_two_bounds_and_is_the_only_one(
    statement: str, is_pruned: bool
) -> None:
    parsed = sqlglot.parse_one(statement, read="snowflake")
    assert (not list(reads(parsed, Tables()))) is is_pruned


def test_what_is_refused_fails_the_test_even_if_the_code_goes_on() -> None:
    settings = Settings(Path(), values={**SECRETS, "ATOMIC_TABLE": EVENTS})
    with pytest.raises(AssertionError, match="three parts"), snow.server():
        warehouse = SnowflakeWarehouse.connect(settings)
        with pytest.raises(ServiceError, match="three parts"):
            warehouse.query("SELECT 1 AS one FROM T")
        warehouse.close()


def test_a_missing_time_is_none(analysts: tuple[SnowflakeWarehouse, Any]) -> None:
    for kind in ("NTZ", "TZ"):
        rows = analysts[0].query(f"SELECT CAST(NULL AS TIMESTAMP_{kind}) AS ts")
        assert rows["ts"].to_pylist() == [None]


def test_numbers_are_those_of_snowflake(analysts: tuple[SnowflakeWarehouse, Any]) -> None:
    quotient = analysts[0].query("SELECT 2 / 3 AS a, CAST(2 AS DOUBLE) / 3 AS b").to_pylist()
    assert quotient == [{"a": 0.666667, "b": 2 / 3}]
    with pytest.raises(ServiceError, match="MIN of a boolean"):
        analysts[0].query("SELECT MIN(one = 1) AS a FROM (SELECT 1 AS one) AS t")
