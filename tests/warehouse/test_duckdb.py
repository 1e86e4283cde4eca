"""DuckDB over the events of a sandbox and over files; what cannot be read is refused by name."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ServiceError
from prospect_lib.features import FEATURES
from prospect_lib.sandbox.simulation import history
from prospect_lib.settings import Settings
from prospect_lib.training_set import Anchors, extract
from prospect_lib.warehouse import DuckDBWarehouse, open_warehouse
from prospect_lib.warehouse.events import missing_columns
from tests.support.worlds import START, event, events_table

END = datetime(2026, 1, 5, tzinfo=UTC)
ODD_NAMES = ["it's", "a [1] b", "100% *?"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    history.write(folder, visitors=150, days=60, end=END, seed=5)
    return folder


def test_the_history_of_a_home_becomes_a_training_set(home: Path) -> None:
    warehouse = DuckDBWarehouse.over_home(home)
    rows = extract(warehouse, truth=home / "truth")
    warehouse.close()
    assert rows.table.column_names == [
        "domain_userid", "anchor_ts", "label", *(f.name for f in FEATURES), "best_observable",
    ]  # fmt: skip
    assert rows.manifest["rows"] > 300 and rows.manifest["positives"] > 5
    assert rows.table.schema.field("anchor_ts").type == pa.timestamp("us", "UTC")
    assert rows.table.column("had_conversions_l7d").type == pa.bool_()
    assert rows.table["best_observable"].null_count == 0


def test_the_same_events_give_the_same_training_set(home: Path) -> None:
    results = []
    for _ in range(2):
        warehouse = DuckDBWarehouse.over_home(home)
        results.append(extract(warehouse))
        warehouse.close()
    assert results[0].table.equals(results[1].table)
    assert results[0].manifest == results[1].manifest


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "history"
    folder.mkdir(parents=True)
    pq.write_table(events_table([event(START)]), folder / "events.parquet")
    warehouse = DuckDBWarehouse.over_home(tmp_path / name)
    assert warehouse.query("SELECT * FROM events").num_rows == 1
    warehouse.close()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_events_may_have_any_name(tmp_path: Path, name: str) -> None:
    table = events_table([event(START)])
    pq.write_table(table, tmp_path / f"{name}.parquet")
    columns = ",".join(table.column_names)
    values = ",".join(str(value or "") for value in table.to_pylist()[0].values())
    (tmp_path / f"{name}.csv").write_text(f"{columns}\n{values}\n")
    for ending in ("parquet", "csv"):
        warehouse = DuckDBWarehouse.over_file(tmp_path / f"{name}.{ending}")
        assert warehouse.query("SELECT event_name FROM events").num_rows == 1
        warehouse.close()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no such file"),
        ("other.csv", b"a,b\n1,2\n", "lacks columns"),
        ("empty.csv", b"derived_tstamp,event_name\n", "no events"),
        ("torn.parquet", b"PAR1", "cannot be read"),
        ("binary.csv.gz", b"\x00\x01", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_warehouse(Settings(tmp_path), tmp_path / name)


def test_an_empty_home_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prospect_lib demo"):
        open_warehouse(Settings(tmp_path))


def test_a_damaged_history_is_refused_by_name_and_a_remedy(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "history", tmp_path / "history")
    [file] = (tmp_path / "history").glob("*.parquet")
    os.truncate(file, 2000)
    with pytest.raises(DataError, match=r"simulated\.parquet is damaged .*prospect_lib demo"):
        open_warehouse(Settings(tmp_path))


def test_columns_that_attributes_need_and_events_lack_are_listed() -> None:
    has = ["event_name", "event_vendor", "event_version", "app_id", "domain_sessionid", "page_url"]
    missing = missing_columns(prospect_group, has)
    assert missing["latest_device_class"] == ["contexts_nl_basjes_yauaa_context_1"]
    assert "num_pricing_views_l7d" not in missing and "first_mkt_medium_l30d" in missing


def test_a_refused_statement_is_a_service_error(home: Path) -> None:
    warehouse = DuckDBWarehouse.over_home(home)
    with pytest.raises(ServiceError, match="DuckDB refused"):
        warehouse.query("SELECT nothing FROM nowhere")
    with pytest.raises(DataError, match=r"no training row.*app_ids"):
        extract(warehouse, anchors=Anchors(app_ids=["nowhere"]))
    warehouse.close()
