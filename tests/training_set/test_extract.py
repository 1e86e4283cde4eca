"""Extraction of training sets: in parts, to files, as a table, at your own anchors, repeatably."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snowplow_signals import AtomicProperty, AttributeKey, EntityProperty, domain_sessionid

from prospect_lib.anchors import SITE_ANCHORS, Anchors
from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import DataError, DefinitionError, ServiceError
from prospect_lib.features import FEATURES
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.training_set import partitions
from prospect_lib.training_set.extract import create_table, extract, extract_to
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow
from tests.support.snowflake_rules import Tables
from tests.support.worlds import DEVICE

END = datetime(2026, 1, 5, tzinfo=UTC)
SINCE = END - timedelta(days=25)
BUSIEST = """
SELECT * FROM events WHERE domain_userid IN (
  SELECT domain_userid FROM events GROUP BY ALL ORDER BY count(*) DESC, 1 LIMIT 12
)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    history.write(folder, visitors=150, days=60, end=END, seed=5)
    return folder


@pytest.fixture
def local(home: Path) -> Iterator[DuckDBWarehouse]:
    warehouse = DuckDBWarehouse.over_home(home)
    yield warehouse
    warehouse.close()


def test_extraction_in_parts_gives_the_same_rows(local: DuckDBWarehouse) -> None:
    whole, in_parts = extract(local), extract(local, rows_at_once=97)
    assert whole.table.num_rows > 300
    assert in_parts.table.combine_chunks().equals(whole.table.combine_chunks())
    assert in_parts.manifest == whole.manifest


DEVICE_CLASS = EntityProperty(
    vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass"
)
KEYS = [
    domain_sessionid,
    AttributeKey(name="device", owner="a@example.com", property=DEVICE_CLASS),
    AttributeKey(name="page", owner="a@example.com", property=AtomicProperty(name="page_url")),
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_any_key_can_be_processed_in_parts(
    local: DuckDBWarehouse, home: Path, monkeypatch: pytest.MonkeyPatch, key: AttributeKey
) -> None:
    group = sample_group.model_copy(update={"attribute_key": key})
    whole = extract(local, group, truth=home / "truth")
    assert whole.table.column_names[0] == key.name and whole.table.num_rows > 300
    assert "best_observable" not in whole.table.column_names, "the simulator's are of visitors"
    assert extract(local, group, rows_at_once=97).manifest == whole.manifest
    monkeypatch.setattr(partitions, "_PARTS_PER_FILE", 2)
    assert extract(local, group, rows_at_once=97).manifest == whole.manifest


def test_visitors_without_any_event_are_rows_however_many_parts_there_are(
    local: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "_PARTS_PER_FILE", 1)
    local.run(
        "CREATE TABLE own AS SELECT 'nobody ' || n AS domain_userid, "
        "TIMESTAMP '2026-01-01' AS anchor_ts FROM (SELECT range AS n FROM range(8))"
    )
    assert extract(local, sample_group, "own", rows_at_once=3).table.num_rows == 8


def test_very_many_parts_go_through_files_in_a_folder_of_any_name(
    local: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = extract(local).manifest
    folder = tmp_path / "it's a [1] b, 100% *?"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setattr(partitions, "_PARTS_PER_FILE", 4)
    assert extract(local, rows_at_once=97).manifest == expected
    assert local.query("SHOW TABLES")["name"].to_pylist() == ["events"], "nothing is left"
    assert not [*folder.iterdir()]


def test_a_folder_of_truth_may_have_any_name(
    local: DuckDBWarehouse, home: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "it's [1]"
    shutil.copytree(home / "truth", folder)
    assert extract(local, truth=folder).table["best_observable"].null_count == 0
    [file] = folder.glob("*.parquet")
    os.truncate(file, 2000)
    with pytest.raises(DataError, match=r"simulated\.parquet cannot be read .*prospect_lib demo"):
        extract(local, truth=folder)


def test_statements_about_all_visitors_spill_to_disk_within_a_memory_limit(
    local: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a million anchors in 60 MB; afterwards the limit is back, and no file is left."""
    monkeypatch.setattr(partitions, "_MIN_MB", 60)
    monkeypatch.setattr(partitions, "_MB_PER_THREAD", 0)
    local.run("SET threads = 2")
    monkeypatch.chdir(tmp_path)
    many = """SELECT domain_userid, TIMESTAMP '2026-01-01' + INTERVAL (n) SECOND AS anchor_ts
      FROM (SELECT DISTINCT domain_userid FROM events ORDER BY ALL LIMIT 2),
        (SELECT range AS n FROM range(250000)) ORDER BY domain_userid, anchor_ts"""
    local.run(f"CREATE VIEW own AS {many}")
    limits, run = [], DuckDBWarehouse.run

    def run_and_note_limit(self: DuckDBWarehouse, sql: str) -> None:
        run(self, sql)
        if sql.startswith("COPY"):
            limits.append(limit(self))

    def limit(warehouse: DuckDBWarehouse) -> int:
        shown = "SELECT current_setting('memory_limit') AS shown"
        return partitions._bytes(warehouse.query(shown)["shown"][0].as_py())

    before = limit(local)
    monkeypatch.setattr(DuckDBWarehouse, "run", run_and_note_limit)
    assert extract(local, sample_group, "own").table.num_rows == 500_000
    assert limits and max(limits) < 200_000_000 < before == limit(local)
    assert not list(tmp_path.iterdir()), "the working folder is unchanged"


def test_the_manifest_is_enough_to_build_the_rows_again(local: DuckDBWarehouse) -> None:
    anchors = Anchors(every=timedelta(minutes=5), negatives=0.5, seed=3)
    manifest = extract(local, anchors=anchors).manifest
    assert manifest["anchors"]["every"] == 300
    assert manifest["anchors"]["at"][0]["name"] == "page_view"
    rows = local.query(manifest["sql"])
    assert rows.num_rows == manifest["rows"]
    assert rows["label"].to_pylist().count(True) == manifest["positives"]
    again = extract(local, anchors=anchors)
    assert again.manifest["rows_sha256"] == manifest["rows_sha256"]
    assert "weight" in again.table.column_names


def test_extract_to_writes_the_same_rows_as_files(local: DuckDBWarehouse, tmp_path: Path) -> None:
    manifest = extract_to(tmp_path / "rows", local, rows_at_once=300)
    whole = extract(local)
    assert manifest == json.loads((tmp_path / "rows/manifest.json").read_text())
    files = sorted((tmp_path / "rows").glob("*.parquet"))
    assert len(files) > 3
    tables = [pq.read_table(file) for file in files]
    parts = {file.name: table.num_rows for file, table in zip(files, tables, strict=True)}
    assert manifest == {**whole.manifest, "parts": parts}
    rows = pa.concat_tables(tables)
    assert rows.combine_chunks().equals(whole.table.combine_chunks())
    with pytest.raises(DataError, match="is not empty"):
        extract_to(tmp_path / "rows", local)


def test_your_own_anchors_with_and_without_a_label(local: DuckDBWarehouse) -> None:
    local.run(
        "CREATE TABLE own AS SELECT domain_userid, max(derived_tstamp) AS anchor_ts, "
        "'x' AS note FROM events GROUP BY ALL"
    )
    rows = extract(local, anchors="own")
    assert rows.table.column_names == ["domain_userid", "anchor_ts", *(f.name for f in FEATURES)]
    assert rows.manifest["positives"] is None and rows.manifest["anchors"] == "own"
    local.run("ALTER TABLE own ADD COLUMN label BOOLEAN DEFAULT true")
    assert extract(local, anchors="own").manifest["positives"] == rows.table.num_rows


def test_create_table_keeps_the_rows_in_the_warehouse(local: DuckDBWarehouse) -> None:
    create_table(local, "training", anchors=SITE_ANCHORS)
    rows = local.query("SELECT * FROM training ORDER BY domain_userid, anchor_ts")
    assert rows.num_rows == extract(local, anchors=SITE_ANCHORS).table.num_rows
    with pytest.raises(ServiceError, match="nowhere"):
        create_table(local, "nowhere.training")


def test_an_extraction_without_anchors_is_refused_with_its_arguments(
    local: DuckDBWarehouse,
) -> None:
    with pytest.raises(DataError, match=r"no training row: .*min_events"):
        extract(local, anchors=Anchors(min_events=99999))


def test_a_window_without_events_is_refused_by_one_line(local: DuckDBWarehouse) -> None:
    with pytest.raises(DataError) as refused:
        extract(local, anchors=replace(SITE_ANCHORS, until="2020-01-01"))
    text = str(refused.value)
    assert "no training row before 2020-01-01 00:00: the events are from 2025-11-" in text
    assert "\n" not in text and "(" not in text.replace("(UTC)", "") and len(text) < 330


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("events.parquet",), "needs a warehouse, not a str: give open_warehouse"),
        ((None,), "needs a warehouse, not a NoneType"),
    ],
)
def test_other_types_than_a_warehouse_are_refused_by_one_line(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        extract(*arguments)


def test_other_types_than_a_problem_or_anchors_are_refused_by_one_line(
    local: DuckDBWarehouse,
) -> None:
    with pytest.raises(DefinitionError, match="a str is no scoring problem"):
        extract(local, "prospect")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a timedelta, expected Anchors or the name of a relation"):
        extract(local, sample_group, timedelta(hours=1))  # type: ignore[arg-type]


# --- Snowflake, over HTTP ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def busiest(home: Path) -> pa.Table:
    """The events of the twelve visitors who have most of them."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW events AS FROM '{home}/history/*.parquet'")
        return connection.sql(BUSIEST).to_arrow_table()


@pytest.fixture
def snowflake(tmp_path: Path, busiest: pa.Table) -> Iterator[SnowflakeWarehouse]:
    secrets = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
    secrets |= {"ATOMIC_TABLE": "DB.PUBLIC.EVENTS", "SF_SCRATCH": "DB.SCRATCH"}
    with snow.server(Tables(writable=frozenset({"DB.SCRATCH"}))):
        warehouse = SnowflakeWarehouse.connect(Settings(tmp_path, values=secrets))
        snow.load_into_server("EVENTS", busiest, (DEVICE,))
        snow.set_up("CREATE SCHEMA DB.SCRATCH")
        yield warehouse
        warehouse.close()


def test_snowflake_gives_the_same_training_set_as_duckdb(
    snowflake: SnowflakeWarehouse, home: Path
) -> None:
    anchors = replace(SITE_ANCHORS, since=SINCE)
    inside = extract(snowflake, anchors=anchors)
    visitors = ", ".join(f"'{v}'" for v in inside.table["domain_userid"].unique().to_pylist())
    duckdb_warehouse = DuckDBWarehouse.over(
        f"SELECT * FROM read_parquet('{home}/history/*.parquet') "
        f"WHERE domain_userid IN ({visitors})"
    )
    expected = extract(duckdb_warehouse, anchors=anchors)
    duckdb_warehouse.close()
    assert inside.table.num_rows > 40
    assert inside.table.to_pylist() == expected.table.to_pylist()


def test_create_table_keeps_the_rows_in_snowflake(snowflake: SnowflakeWarehouse) -> None:
    statement = create_table(snowflake, "TRAINING", sample_group, Anchors(since=SINCE))
    counted = "SELECT count(*) AS n FROM DB.SCRATCH.TRAINING"
    rows = snowflake.query(counted)["n"][0].as_py()
    snowflake.run(statement)  # the same in one statement
    assert rows == snowflake.query(counted)["n"][0].as_py() > 20


def test_a_dropped_connection_is_opened_again(snowflake: SnowflakeWarehouse) -> None:
    snowflake.connection.close()
    assert snowflake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_a_statement_that_snowflake_refuses_is_an_error_without_secrets(
    snowflake: SnowflakeWarehouse,
) -> None:
    with pytest.raises(ServiceError, match="Snowflake refused the statement") as refused:
        snowflake.query("SELECT nothing FROM DB.PUBLIC.nowhere")
    assert "hush" not in str(refused.value)


def test_a_result_without_rows_has_its_columns(snowflake: SnowflakeWarehouse) -> None:
    table = snowflake.query("SELECT 1 AS one WHERE FALSE")
    assert table.num_rows == 0 and pa.types.is_integer(table.schema.field("one").type)


def test_own_anchors_in_snowflake_may_have_texts(snowflake: SnowflakeWarehouse) -> None:
    snow.set_up(
        "CREATE TABLE DB.PUBLIC.OWN AS SELECT DOMAIN_USERID, 'yes' AS LABEL, "
        "'2026-01-01T00:00:00+02:00' AS ANCHOR_TS, 1 AS OTHER FROM DB.PUBLIC.EVENTS "
        "UNION SELECT '', 'no', '2026-01-01', 1"
    )
    rows = extract(snowflake, sample_group, "DB.PUBLIC.OWN")
    assert rows.table.num_rows == 12 and rows.manifest["positives"] == 12
    assert set(rows.table["anchor_ts"].to_pylist()) == {datetime(2025, 12, 31, 22, tzinfo=UTC)}
    lifetime, left_out = rows.manifest["notes"]
    assert lifetime == (
        "num_customers_views, num_page_views, num_pricing_views: these look at a visitor's whole "
        "history; events before 2024-12-30 are not read. Give attributes a period."
    )
    assert left_out == "1 of 13 rows of DB.PUBLIC.OWN have no domain_userid; they are left out."
    snow.set_up("UPDATE DB.PUBLIC.OWN SET LABEL = '?'")
    with pytest.raises(DataError, match=r"label of the anchors DB\.PUBLIC\.OWN is '\?'"):
        extract(snowflake, sample_group, "DB.PUBLIC.OWN")


def test_attributes_whose_columns_snowflake_lacks_are_left_out(
    snowflake: SnowflakeWarehouse,
) -> None:
    snow.set_up("ALTER TABLE DB.PUBLIC.EVENTS DROP COLUMN mkt_campaign")
    rows = extract(snowflake, prospect_group, Anchors(since=SINCE))
    assert rows.manifest["left_out"] == {"num_engaged_campaigns_l30d": ["mkt_campaign"]}
    assert "num_engaged_campaigns_l30d" not in rows.table.column_names
