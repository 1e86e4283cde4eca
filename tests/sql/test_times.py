"""Times of events and anchors go to UTC, whatever the column's type and the session's zone."""

from datetime import datetime

import duckdb
import pytest
from snowplow_signals import AtomicProperty, Attribute

from prospect_lib.sql.compiler import attributes_sql
from prospect_lib.sql.dialects import dialect_of
from tests.support import snow
from tests.support.worlds import HOUR, group_of

UTC_TIME = "TIMESTAMP '2026-01-04 23:30:00.25'"
#: The same moment, as DuckDB types it.
COLUMNS = [
    UTC_TIME,
    "TIMESTAMP_NS '2026-01-04 23:30:00.25'",
    "TIMESTAMP_MS '2026-01-04 23:30:00.25'",
    "TIMESTAMPTZ '2026-01-05 01:30:00.25+02'",
    "'2026-01-05T01:30:00.25+02:00'",
    "'2026-01-04 23:30:00.25 UTC'",
    "'2026-01-04 23:30:00.25'",
    "CAST('2026-01-04 23:30:00.25' AS VARCHAR)",
]
if duckdb.sql("FROM duckdb_types() WHERE type_name ILIKE 'timestamptz_ns'").fetchall():
    COLUMNS.append("CAST('2026-01-05 01:30:00.25+02' AS TIMESTAMPTZ_NS)")  # as pandas writes them
GROUP = group_of(
    Attribute(name="n", type="int64", events=[], aggregation="counter", period=HOUR),
    Attribute(name="age", type="double", events=[], aggregation="time_since_last", time_unit="s"),
    Attribute(
        name="day", type="string", events=[], aggregation="last",
        property=AtomicProperty(name="derived_tstamp", date_part="active_day"),
    ),
)  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize(
    ("event", "anchor"), [*zip(COLUMNS, reversed(COLUMNS), strict=True), (UTC_TIME, UTC_TIME)]
)
def test_types_of_times_and_the_session_s_zone_do_not_matter(
    event: str, anchor: str, zone: str
) -> None:
    sql = attributes_sql(GROUP, events="events", anchors="anchors")
    with duckdb.connect() as connection:
        connection.execute(f"SET TimeZone = '{zone}'")
        connection.execute(f"CREATE TABLE events AS SELECT 'u' AS domain_userid, "
                           f"{event} AS derived_tstamp, 'page_view' AS event_name")  # fmt: skip
        connection.execute(
            f"CREATE TABLE anchors AS SELECT 'u' AS domain_userid, {anchor} AS anchor_ts"
        )
        rows = connection.execute(sql).fetchall()
    assert rows == [("u", datetime(2026, 1, 4, 23, 30, 0, 250_000), 1, 0.0, "2026-01-04")]


@pytest.mark.parametrize("column", [COLUMNS[0], *COLUMNS[3:5]])
def test_snowflake_s_times_go_to_utc(column: str) -> None:
    utc = dialect_of("snowflake").utc("X")
    with snow.snowflake() as connection:
        connection._duck_conn.execute(f"CREATE TABLE DB.PUBLIC.T AS SELECT {column} AS X")
        rows = connection.cursor().execute(f"SELECT {utc} FROM DB.PUBLIC.T").fetchall()
    assert rows == [(datetime(2026, 1, 4, 23, 30, 0, 250_000),)]


def test_a_column_that_is_no_time_is_an_error() -> None:
    with pytest.raises(duckdb.Error, match="yesterday"):
        duckdb.sql(f"SELECT {dialect_of('duckdb').utc('x')} FROM (SELECT 'yesterday' AS x)").show()
