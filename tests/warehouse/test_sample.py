"""Snowplow's published sample of events: verified, and counted by hand."""

import gzip
from datetime import datetime
from pathlib import Path

import pytest

from prospect_lib.attributes import prospect_group, sample_group
from prospect_lib.errors import DataError
from prospect_lib.training_set import attributes_sql, extract
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.sample import SHA256, sample_events


def test_counts_of_the_sample_are_those_of_an_independent_count(sample: Path) -> None:
    """Every event is an anchor, strictly after what counts, as in Snowplow's tutorial."""
    warehouse = DuckDBWarehouse.over_file(sample)
    warehouse.run(
        "CREATE TABLE anchors AS SELECT domain_userid, derived_tstamp AS anchor_ts FROM events"
    )
    sql = attributes_sql(sample_group, events="events", anchors="anchors", include_anchor=False)
    rows = warehouse.query(sql).to_pylist()
    events = warehouse.query("SELECT * FROM events").to_pylist()
    warehouse.close()
    assert len(rows) == len(events) == 5398
    views: dict[str, list[tuple[datetime, str]]] = {}
    for e in events:
        if e["event_name"] == "page_view":
            views.setdefault(e["domain_userid"], []).append((e["derived_tstamp"], e["page_url"]))
    for row in rows:
        before = [url for ts, url in views.get(row["domain_userid"], []) if ts < row["anchor_ts"]]
        for name, part in (("page", ""), ("pricing", "pricing"), ("customers", "customers")):
            expected = sum(part in url for url in before)
            assert (row[f"num_{name}_views"] or 0) == expected


def test_attributes_of_columns_that_the_sample_lacks_are_left_out(sample: Path) -> None:
    warehouse = DuckDBWarehouse.over_file(sample)
    left_out = extract(warehouse, prospect_group).manifest["left_out"]
    assert left_out["latest_device_class"] == ["contexts_nl_basjes_yauaa_context_1"]
    assert extract(warehouse, sample_group).manifest["rows"] > 4000
    warehouse.close()


def test_a_damaged_sample_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample_events.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(DataError, match=f"expected {SHA256[:16]}"):
        sample_events(tmp_path)
