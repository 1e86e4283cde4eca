"""Only the needed part of the events is read, once, and the rows are the same."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.anchors import SITE_ANCHORS, Anchors
from prospect_lib.attributes import PAGE_VIEW, prospect_group, sample_group
from prospect_lib.errors import DataError
from prospect_lib.problem import prospect_problem
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.settings import Settings
from prospect_lib.sql.dialects import Snowflake
from prospect_lib.training_set import extract, read_once
from prospect_lib.training_set.events_part import EventsPart
from prospect_lib.warehouse import DuckDBWarehouse, SnowflakeWarehouse
from tests.support import snow
from tests.support.worlds import DEVICE

END = datetime(2026, 1, 5, tzinfo=UTC)
SINCE, UNTIL = END - timedelta(days=10), END - timedelta(days=2)
WINDOW = replace(SITE_ANCHORS, since=SINCE, until=UNTIL)
WITHOUT_WINDOW = replace(SITE_ANCHORS, until=UNTIL)
LITERAL = Snowflake().literal


@pytest.fixture(scope="module")
def events() -> pa.Table:
    """Sixty days of visitors, in the order of collection."""
    return simulate(300, 60, end=END, seed=3).events.sort_by("collector_tstamp")


@pytest.fixture(scope="module")
def file(events: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "events.parquet"
    pq.write_table(events, path, row_group_size=500)
    return path


@pytest.fixture
def local(file: Path) -> Iterator[DuckDBWarehouse]:
    warehouse = DuckDBWarehouse.over_file(file)
    yield warehouse
    warehouse.close()


@pytest.fixture
def snowflake(tmp_path: Path, events: pa.Table) -> Iterator[SnowflakeWarehouse]:
    """A schema in which every event is stored twice, as the Streaming Loader may do."""
    values = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
    values["ATOMIC_TABLE"] = "DB.PUBLIC.EVENTS"
    with snow.server():
        warehouse = SnowflakeWarehouse.connect(Settings(tmp_path, values=values))
        snow.load_into_server("EVENTS", pa.concat_tables([events, events]), (DEVICE,))
        yield warehouse
        warehouse.close()


def rows_from(
    warehouse: Any, anchors: Anchors, group: Any = prospect_group
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = extract(warehouse, group, anchors).table.to_pylist()
    return rows


# --- embedded ---------------------------------------------------------------------------------


def test_a_window_reads_less_and_gives_the_same_rows(local: DuckDBWarehouse) -> None:
    everything = rows_from(local, WITHOUT_WINDOW)
    expected = [row for row in everything if row["anchor_ts"] >= SINCE]
    assert 50 < len(expected) < len(everything)
    assert rows_from(local, WINDOW) == expected


def test_the_statement_of_the_manifest_gives_the_same_rows(local: DuckDBWarehouse) -> None:
    training = extract(local, prospect_group, WINDOW)
    rows = local.query(training.manifest["sql"])
    assert rows.num_rows == training.table.num_rows > 50
    for name in ("domain_userid", "num_page_views_l7d", "latest_device_class", "label"):
        assert rows[name].to_pylist() == training.table[name].to_pylist()


def scans(local: DuckDBWarehouse, anchors: Anchors) -> list[dict[str, Any]]:
    """Run the statement of a manifest; return its scans of the file."""
    sql = extract(local, prospect_group, anchors).manifest["sql"]
    ((_, text),) = local.connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").fetchall()
    waiting, of_file = list(json.loads(text)["operator"]), []
    while waiting:
        operator = waiting.pop()
        if "visitor = visitor" in str(operator["extra_info"].get("Conditions")):
            assert operator["type"] != "NESTED_LOOP_JOIN", "every anchor with every event"
        waiting += operator.get("children", [])
        of_file += [operator] * (operator["extra_info"].get("Function") == "READ_PARQUET")
    return of_file


def test_the_statement_scans_the_events_once_and_only_the_window(local: DuckDBWarehouse) -> None:
    (window,), (everything,) = scans(local, WINDOW), scans(local, WITHOUT_WINDOW)
    assert window["row_groups_scanned"] < 0.8 * everything["row_groups_scanned"]
    assert window["rows_scanned"] < 0.8 * everything["rows_scanned"]


def test_events_that_are_collected_after_the_window_change_no_row(
    local: DuckDBWarehouse, events: pa.Table
) -> None:
    """An event of the window that a device sends days later: next week's run has the same rows."""
    last = next(e for e in reversed(events.to_pylist()) if e["event_name"] == "page_view")
    at = UNTIL.replace(tzinfo=None)
    late = {**last, "event_id": "late", "derived_tstamp": at - timedelta(hours=8)}
    late["collector_tstamp"] = at + timedelta(days=1)
    more = pa.concat_tables([events, pa.Table.from_pylist([late], events.schema)])
    warehouse = DuckDBWarehouse.over("SELECT * FROM stored", stored=more.to_reader())
    assert rows_from(warehouse, WINDOW) == rows_from(local, WINDOW)
    warehouse.close()


def test_events_without_a_collector_time_are_read_in_every_window(events: pa.Table) -> None:
    """A file may lack the collector's time of some events."""
    rows = events.to_pylist()
    for row in rows[::3]:
        row["collector_tstamp"] = None
    some = pa.Table.from_pylist(rows, events.schema)
    warehouse = DuckDBWarehouse.over("SELECT * FROM stored", stored=some.to_reader())
    expected = [r for r in rows_from(warehouse, WITHOUT_WINDOW) if r["anchor_ts"] >= SINCE]
    assert rows_from(warehouse, WINDOW) == expected and len(expected) > 50
    warehouse.close()


def test_a_window_from_the_beginning_of_time_reads_everything(local: DuckDBWarehouse) -> None:
    everything = replace(WINDOW, since="0001-01-01")
    assert rows_from(local, everything) == rows_from(local, WITHOUT_WINDOW)


def test_a_whole_history_is_read_where_that_costs_nothing(local: DuckDBWarehouse) -> None:
    window = Anchors(since=SINCE)
    rows = extract(local, sample_group, window)
    everything = extract(local, sample_group, Anchors()).table.to_pylist()
    assert rows.table.to_pylist() == [row for row in everything if row["anchor_ts"] >= SINCE]
    assert not any("whole history" in note for note in rows.manifest["notes"])


# --- Snowflake --------------------------------------------------------------------------------


def reads(statements: list[str]) -> list[str]:
    """The statements that read rows of the events table; probes and EXPLAIN do not."""
    return [
        sql
        for sql in statements
        if "DB.PUBLIC.EVENTS" in sql
        and not sql.startswith("EXPLAIN")
        and "LIMIT 0" not in sql
        and not sql.startswith("SELECT MAX(")
    ]


def test_snowflake_is_read_once_and_duplicates_count_once(
    snowflake: SnowflakeWarehouse, local: DuckDBWarehouse
) -> None:
    assert rows_from(snowflake, WINDOW) == rows_from(local, WINDOW)
    (read,) = reads(snow.statements())
    assert read.startswith("CREATE OR REPLACE TEMPORARY TABLE DB.PUBLIC.PROSPECT_EVENTS_")
    assert read.count("DB.PUBLIC.EVENTS") == 1
    longest = timedelta(days=31)  # 30 days, and one for clocks and sessions
    assert f'"COLLECTOR_TSTAMP" >= {LITERAL(SINCE - longest)}' in read
    assert f'"COLLECTOR_TSTAMP" < {LITERAL(UNTIL)}' in read
    assert '"PAGE_TITLE"' not in read and "*" not in read
    name = read.split()[5]
    assert snow.statements()[-1] == f"DROP TABLE IF EXISTS {name}"


def test_what_will_be_scanned_is_said_before_it_is_read(snowflake: SnowflakeWarehouse) -> None:
    said: list[str] = []
    snowflake.before_read = said.append
    rows_from(snowflake, WINDOW)
    (sentence,) = said
    assert sentence.startswith("Snowflake will scan DB.PUBLIC.EVENTS: 39 of 60 partitions, 624")

    def stop(_sentence: str) -> None:
        raise DataError("stopped")

    snowflake.before_read, before = stop, len(snow.statements())
    with pytest.raises(DataError, match="stopped"):
        rows_from(snowflake, WINDOW)
    assert not reads(snow.statements()[before:])


def test_snowflake_needs_a_window(snowflake: SnowflakeWarehouse) -> None:
    with pytest.raises(DataError, match=r"a window is needed.*--since.*Anchors\(since=") as refused:
        extract(snowflake, prospect_group, WITHOUT_WINDOW)
    assert "\n" not in str(refused.value)
    assert not reads(snow.statements())


def test_without_an_end_the_window_ends_with_the_data(
    snowflake: SnowflakeWarehouse, local: DuckDBWarehouse
) -> None:
    anchors = replace(SITE_ANCHORS, since=SINCE)
    inside = extract(snowflake, prospect_group, anchors)
    assert inside.table.to_pylist() == rows_from(local, anchors)
    (read,) = reads(snow.statements())
    assert read.count("COLLECTOR_TSTAMP\" < CAST('2026-01-0") == 1
    assert '"COLLECTOR_TSTAMP" < ' in inside.manifest["sql"]


def test_whole_histories_are_limited_and_named(snowflake: SnowflakeWarehouse) -> None:
    anchors = Anchors(since=SINCE, until_goal=True)
    (note,) = EventsPart.of(snowflake, sample_group, anchors).notes
    assert note == (
        "num_customers_views, num_page_views, num_pricing_views, until_goal of the anchors: these "
        "look at a visitor's whole history; events before 2024-12-25 are not read. Give "
        "attributes a period."
    )


def test_another_partition_is_read_with_time_for_the_loader(
    snowflake: SnowflakeWarehouse, local: DuckDBWarehouse
) -> None:
    table = "DB.PUBLIC.EVENTS"
    snow.set_up(f"ALTER TABLE {table} ADD COLUMN LOAD_TSTAMP TIMESTAMP_NTZ")
    snow.set_up(f"UPDATE {table} SET LOAD_TSTAMP = DATEADD('minute', 90, COLLECTOR_TSTAMP)")
    snowflake.partition = "load_tstamp"
    snow.tables().partition = "LOAD_TSTAMP"
    assert rows_from(snowflake, WINDOW) == rows_from(local, WINDOW)
    (read,) = (s for s in reads(snow.statements()) if s.startswith("CREATE"))
    loaded = UNTIL + timedelta(days=1)
    assert f'"LOAD_TSTAMP" < {LITERAL(loaded)}' in read
    assert f'"COLLECTOR_TSTAMP" < {LITERAL(UNTIL)}' in read


def test_a_partition_that_the_table_lacks_is_refused(snowflake: SnowflakeWarehouse) -> None:
    snowflake.partition = "load_tstamp"
    snow.tables().partition = "LOAD_TSTAMP"
    with pytest.raises(DataError, match=r"DB\.PUBLIC\.EVENTS has no column load_tstamp.*SF_PARTI"):
        extract(snowflake, prospect_group, WINDOW)


def test_a_connection_that_is_dropped_anywhere_loses_no_row(
    snowflake: SnowflakeWarehouse, local: DuckDBWarehouse
) -> None:
    """Temporary tables are made again on the new connection."""
    expected = rows_from(local, WINDOW, sample_group)
    rows_from(snowflake, WINDOW, sample_group)
    sent = len(snow.statements())
    for number in range(1, sent + 1):
        snow.drop_connection(at=number)
        assert rows_from(snowflake, WINDOW, sample_group) == expected, number


def test_events_that_are_read_once_serve_all_that_follows(
    snowflake: SnowflakeWarehouse, local: DuckDBWarehouse
) -> None:
    """As in a notebook; the manifest still has the whole statement."""
    once = read_once(snowflake, prospect_problem.with_anchors(WINDOW))
    narrower = replace(WINDOW, since=UNTIL - timedelta(days=4))
    for anchors in (WINDOW, narrower):
        inside, expected = extract(once, prospect_group, anchors), rows_from(local, anchors)
        assert inside.table.to_pylist() == expected and len(expected) > 20
        assert inside.manifest["sql"].count("DB.PUBLIC.EVENTS\n") == 1
        assert "PROSPECT_EVENTS" not in inside.manifest["sql"]
    assert len(reads(snow.statements())) == 1


def test_two_sessions_on_one_schema_do_not_meet(
    snowflake: SnowflakeWarehouse, tmp_path: Path
) -> None:
    values = {"SF_ACNT": "a", "SF_USR": "v", "SF_WH": "w", "SF_PWD": "hush"}
    values["ATOMIC_TABLE"] = "DB.PUBLIC.EVENTS"
    other = SnowflakeWarehouse.connect(Settings(tmp_path, values=values))
    part = EventsPart.of(snowflake, prospect_group, WINDOW)
    count = "SELECT COUNT(*) AS n FROM {}"
    with part.read(snowflake) as first:
        with part.read(other) as second:
            assert first.events == second.events  # the same part; each session has its own table
            both = [w.query(count.format(w.events))["n"][0].as_py() for w in (first, second)]
        assert first.query(count.format(first.events))["n"][0].as_py() == both[0] == both[1]
    other.close()


def test_the_needed_columns_are_read_and_no_others(snowflake: SnowflakeWarehouse) -> None:
    part = EventsPart.of(snowflake, sample_group, Anchors(at=PAGE_VIEW, since=SINCE))
    assert part.columns == (
        "collector_tstamp", "derived_tstamp", "domain_userid", "event_name", "event_vendor",
        "event_version", "page_url",
    )  # fmt: skip
