"""Training sets from a warehouse: in parts, of one's own anchors, as a table, built again."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.features import FEATURES
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.training_set import partitions as parts
from prospect_lib.training_set.anchors import SITE_ANCHORS, Anchors
from prospect_lib.training_set.extract import create_table, extract, extract_to
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow
from tests.support.worlds import DEVICE

END = datetime(2026, 1, 5, tzinfo=UTC)
BUSIEST = """
SELECT * FROM read_parquet(?) WHERE domain_userid IN (
  SELECT domain_userid FROM read_parquet(?) GROUP BY ALL ORDER BY count(*) DESC, 1 LIMIT 12
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


def test_parts_of_visitors_give_the_rows_of_the_whole(local: DuckDBWarehouse) -> None:
    whole, together = extract(local), extract(local, rows_at_once=97)
    assert whole.table.num_rows > 300
    assert together.table.combine_chunks().equals(whole.table.combine_chunks())
    assert together.manifest == whole.manifest


def test_of_very_many_parts_files_are_written(
    local: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_PARTS_PER_FILE", 4)
    assert extract(local, rows_at_once=97).manifest == extract(local).manifest
    assert local.query("SHOW TABLES")["name"].to_pylist() == ["events"], "nothing is left"


def test_what_is_about_all_visitors_is_sorted_on_disk_once_memory_is_full(
    local: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a million anchors in the memory of two visitors, and no trace of it afterwards."""
    monkeypatch.setattr(parts, "_MIN_MB", 60)
    monkeypatch.setattr(parts, "_MB_PER_THREAD", 0)
    local.run("SET threads = 2")
    monkeypatch.chdir(tmp_path)
    many = """SELECT domain_userid, TIMESTAMP '2026-01-01' + INTERVAL (n) SECOND AS anchor_ts
      FROM (SELECT DISTINCT domain_userid FROM events ORDER BY ALL LIMIT 2),
        (SELECT range AS n FROM range(250000)) ORDER BY domain_userid, anchor_ts"""
    local.run(f"CREATE VIEW mine AS {many}")
    limits, run = [], DuckDBWarehouse.run

    def watched(self: DuckDBWarehouse, sql: str) -> None:
        run(self, sql)
        if sql.startswith("COPY"):
            limits.append(limit(self))

    def limit(warehouse: DuckDBWarehouse) -> int:
        shown = "SELECT current_setting('memory_limit') AS shown"
        return parts._bytes(warehouse.query(shown)["shown"][0].as_py())

    before = limit(local)
    monkeypatch.setattr(DuckDBWarehouse, "run", watched)
    assert extract(local, sample_group, "mine").table.num_rows == 500_000
    assert limits and max(limits) < 200_000_000 < before == limit(local), "and back"
    assert not list(tmp_path.iterdir()), "the working folder stays as it was"


def test_a_manifest_says_all_it_takes_to_build_the_rows_again(local: DuckDBWarehouse) -> None:
    chosen = Anchors(every=timedelta(minutes=5), negatives=0.5, seed=3)
    found = extract(local, anchors=chosen).manifest
    assert found["anchors"]["every"] == 300 and found["anchors"]["at"][0]["name"] == "page_view"
    again = local.query(found["sql"])
    assert (
        again.num_rows == found["rows"]
        and again["label"].to_pylist().count(True) == found["positives"]
    )
    assert extract(local, anchors=chosen).manifest["rows_sha256"] == found["rows_sha256"]
    assert "weight" in extract(local, anchors=chosen).table.column_names


def test_more_rows_than_memory_has_room_for_are_files(
    local: DuckDBWarehouse, tmp_path: Path
) -> None:
    written = extract_to(tmp_path / "rows", local, rows_at_once=300)
    whole = extract(local)
    assert written == whole.manifest == json.loads((tmp_path / "rows/manifest.json").read_text())
    files = sorted((tmp_path / "rows").glob("*.parquet"))
    assert len(files) > 3
    rows = pa.concat_tables([pq.read_table(file) for file in files])
    assert rows.combine_chunks().equals(whole.table.combine_chunks())
    with pytest.raises(DataError, match="is not empty"):
        extract_to(tmp_path / "rows", local)


def test_anchors_of_ones_own_with_and_without_a_label(local: DuckDBWarehouse) -> None:
    local.run(
        "CREATE TABLE mine AS SELECT domain_userid, max(derived_tstamp) AS anchor_ts, "
        "'x' AS note FROM events GROUP BY ALL"
    )
    found = extract(local, anchors="mine")
    assert found.table.column_names == ["domain_userid", "anchor_ts", *(f.name for f in FEATURES)]
    assert found.manifest["positives"] is None and found.manifest["anchors"] == "mine"
    local.run("ALTER TABLE mine ADD COLUMN label BOOLEAN DEFAULT true")
    assert extract(local, anchors="mine").manifest["positives"] == found.table.num_rows


def test_a_training_set_may_stay_in_the_warehouse(local: DuckDBWarehouse) -> None:
    create_table(local, "training", anchors=SITE_ANCHORS)
    kept = local.query("SELECT * FROM training ORDER BY domain_userid, anchor_ts")
    assert kept.num_rows == extract(local, anchors=SITE_ANCHORS).table.num_rows
    with pytest.raises(ServiceError, match="nowhere"):
        create_table(local, "nowhere.training")


def test_no_anchor_is_an_error_that_says_what_was_asked(local: DuckDBWarehouse) -> None:
    with pytest.raises(DataError, match=r"no anchor is left.*min_events=99999"):
        extract(local, anchors=Anchors(min_events=99999))


# --- Snowflake, over HTTP ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def snowflake(home: Path) -> Iterator[SnowflakeWarehouse]:
    secrets = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
    with snow.server():
        table = Settings(home, values={**secrets, "ATOMIC_TABLE": "DB.PUBLIC.EVENTS"})
        warehouse = SnowflakeWarehouse.connect(table)
        for statement in _filled(home):
            warehouse.run(statement)
        yield warehouse
        warehouse.close()


def _filled(home: Path) -> list[str]:
    """Statements that fill the table of the busiest visitors' events, nested ones as VARIANT."""
    columns = [
        "domain_userid", "derived_tstamp", "event_name", "event_vendor", "event_version", "app_id",
        "page_url", "refr_medium", "mkt_medium", "mkt_campaign", "domain_sessionid", DEVICE,
    ]  # fmt: skip
    with duckdb.connect() as reader:
        rows = reader.execute(
            BUSIEST.replace("*", ", ".join(columns), 1), [str(home / "history" / "*.parquet")] * 2
        ).fetchall()
    types = ["timestamp_ntz" if c.endswith("tstamp") else "varchar" for c in columns[:-1]]
    declared = ", ".join(f"{c} {t}" for c, t in zip(columns, [*types, "variant"], strict=True))
    made = [
        "CREATE DATABASE IF NOT EXISTS DB",  # the connector asks again when an answer is late
        "CREATE SCHEMA IF NOT EXISTS DB.PUBLIC",
        f"CREATE OR REPLACE TABLE DB.PUBLIC.EVENTS ({declared})",
    ]
    quoted = [["NULL" if v is None else f"'{v}'" for v in row] for row in rows]
    selects = [f"SELECT {', '.join(row[:-1])}, PARSE_JSON({row[-1]})" for row in quoted]
    return [*made, "INSERT INTO DB.PUBLIC.EVENTS " + " UNION ALL ".join(selects)]


def test_snowflake_gives_the_same_training_set_as_duckdb(
    snowflake: SnowflakeWarehouse, home: Path
) -> None:
    inside = extract(snowflake, anchors=SITE_ANCHORS)
    names = ", ".join(f"'{v}'" for v in inside.table["domain_userid"].unique().to_pylist())
    mine = DuckDBWarehouse.over(
        f"SELECT * FROM read_parquet('{home}/history/*.parquet') WHERE domain_userid IN ({names})"
    )
    expected = extract(mine, anchors=SITE_ANCHORS)
    mine.close()
    assert inside.table.num_rows > 50
    assert inside.table.to_pylist() == expected.table.to_pylist()


def test_a_training_set_may_stay_in_snowflake(snowflake: SnowflakeWarehouse) -> None:
    create_table(snowflake, "DB.PUBLIC.TRAINING", sample_group)
    assert snowflake.query("SELECT count(*) AS n FROM DB.PUBLIC.TRAINING")["n"][0].as_py() > 20


def test_a_dropped_connection_is_opened_again(snowflake: SnowflakeWarehouse) -> None:
    snowflake.connection.close()
    assert snowflake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]


def test_what_snowflake_refuses_is_said_once_and_without_secrets(
    snowflake: SnowflakeWarehouse,
) -> None:
    with pytest.raises(ServiceError, match="Snowflake refused the statement") as refused:
        snowflake.query("SELECT nothing FROM nowhere")
    assert "hush" not in str(refused.value)
    assert snowflake.query("SELECT 1 AS one WHERE FALSE") == pa.table({"one": pa.nulls(0)})


def test_columns_that_a_group_needs_and_snowflake_lacks(snowflake: Any) -> None:
    snowflake.run("ALTER TABLE DB.PUBLIC.EVENTS DROP COLUMN mkt_campaign")
    with pytest.raises(DataError, match="num_engaged_campaigns_l30d needs mkt_campaign"):
        extract(snowflake, prospect_group)
