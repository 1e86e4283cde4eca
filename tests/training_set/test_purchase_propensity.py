"""Snowplow's purchase-propensity tutorial: will this session end in a purchase?

https://docs.snowplow.io/tutorials/signals-ml-purchase-propensity/: an anchor at every event of a
session before its first purchase, at most five negatives per positive, and attributes of what
happened in the session strictly before the anchor.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
from snowplow_signals import (
    Attribute,
    Criteria,
    Criterion,
    Event,
    EventProperty,
    Service,
    StreamAttributeGroup,
    domain_sessionid,
)

from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError
from prospect_lib.problem import ScoringProblem
from prospect_lib.training_set import TrainingSet, extract
from prospect_lib.warehouse import DuckDBWarehouse

VENDOR, NAME = "com.snowplowanalytics.snowplow.ecommerce", "snowplow_ecommerce_action"
COLUMN = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
ACTION = Event(vendor=VENDOR, name=NAME)
TYPE = EventProperty(vendor=VENDOR, name=NAME, major_version=1, path="type")
START, MINUTE = datetime(2026, 3, 2), timedelta(minutes=1)


def is_type(name: str) -> Criteria:
    return Criteria(all=[Criterion.eq(TYPE, name)])


def count_of(name: str, kind: str) -> Attribute:
    return Attribute(
        name=name, type="int64", events=[ACTION], aggregation="counter", criteria=is_type(kind)
    )


GROUP = StreamAttributeGroup(
    name="session_behaviour",
    attribute_key=domain_sessionid,
    owner="a@example.com",
    attributes=[count_of("product_views", "product_view"), count_of("adds", "add_to_cart")],
    ttl=timedelta(days=1),
)
PROBLEM = ScoringProblem(
    name="purchase",
    group=GROUP,
    service=Service(name="purchase", owner="a@example.com", attribute_groups=[GROUP]),
    anchors=Anchors(
        at=Event(),
        goal=ACTION,
        goal_criteria=is_type("transaction"),
        horizon="session",
        until_goal=True,
        negatives_per_positive=5,
    ),
)
#: What happens in a session of each kind, minute by minute; of ten sessions, one buys.
BUYS = ["product_view", "add_to_cart", "transaction", "product_view"]
LOOKS = ["product_view", "product_view", "add_to_cart", "remove_from_cart"]


def events() -> list[dict[str, Any]]:
    """200 sessions, one every ten minutes; the last one looks, and may still buy."""
    return [
        {
            "domain_sessionid": f"s{session:03}",
            "derived_tstamp": START + session * 10 * MINUTE + minute * MINUTE,
            "collector_tstamp": START + session * 10 * MINUTE + minute * MINUTE,
            "event_vendor": VENDOR,
            "event_name": NAME,
            "event_version": "1-0-2",
            COLUMN: {"type": kind},
        }
        for session in range(200)
        for minute, kind in enumerate(BUYS if session % 10 == 0 else LOOKS)
    ]


@pytest.fixture(scope="module", params=["struct", "JSON text", "CSV"])
def rows(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[TrainingSet]:
    """The training set from a file of each kind."""
    folder: Path = tmp_path_factory.mktemp("export")
    path = folder / ("events.csv" if request.param == "CSV" else "events.parquet")
    as_text = request.param != "struct"
    table = pa.Table.from_pylist(
        [e | {COLUMN: json.dumps(e[COLUMN])} if as_text else e for e in events()]
    )
    (csv.write_csv if request.param == "CSV" else pq.write_table)(table, path)
    warehouse = DuckDBWarehouse.over_file(path)
    yield extract(warehouse, PROBLEM, include_anchor=False)
    warehouse.close()


def test_without_an_ended_session_there_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(events()[-8:]), tmp_path / "events.parquet")
    warehouse = DuckDBWarehouse.over_file(tmp_path / "events.parquet")
    with pytest.raises(DataError, match="rows are at any event, if the session has ended, narrow"):
        extract(warehouse, PROBLEM)
    warehouse.close()


def test_rows_are_the_events_before_the_first_purchase(rows: TrainingSet) -> None:
    positives = [row for row in rows.table.to_pylist() if row["label"]]
    assert len(positives) == 20 * 2
    assert {row["anchor_ts"].minute % 10 for row in positives} == {0, 1}


def test_five_negatives_per_positive_stand_for_all_of_ended_sessions(rows: TrainingSet) -> None:
    negatives = [row for row in rows.table.to_pylist() if not row["label"]]
    assert len(negatives) == 5 * 40
    # the last three sessions may still go on: they end less than 30 minutes before the data
    assert sum(row["weight"] for row in negatives) == pytest.approx((180 - 3) * 4)
    assert max(row["domain_sessionid"] for row in negatives) < "s197"


def test_features_are_of_events_of_the_session_strictly_before_the_anchor(
    rows: TrainingSet,
) -> None:
    assert rows.table.column_names[0] == "domain_sessionid"
    for row in rows.table.to_pylist():
        happened = (BUYS if row["label"] else LOOKS)[: row["anchor_ts"].minute % 10]
        assert (row["product_views"] or 0) == happened.count("product_view")
        assert (row["adds"] or 0) == happened.count("add_to_cart")
