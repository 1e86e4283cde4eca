"""The Snowflake dialect through the real connector: the fold's values; no secret in an error."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from snowflake.connector.errors import OperationalError
from snowplow_signals import AtomicProperty, Attribute

from prospect_lib.errors import ServiceError, SettingsError
from prospect_lib.settings import Settings
from prospect_lib.training_set import attributes_sql
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support import snow
from tests.support.worlds import (
    COMPARED,
    DEVICE,
    EXAMPLES,
    HOUR,
    ITEM,
    START,
    anchors_table,
    event,
    events_table,
    group_of,
    served,
    worlds,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with snow.snowflake() as connected:
        yield connected


def comparable(value: Any) -> Any:
    """A value of the connector, comparable with the fold's: nested ones arrive as JSON text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        value = json.loads(value)
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    return value


@settings(max_examples=EXAMPLES or 25, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(size=3))
def test_snowflake_equals_fold_on_random_worlds(connection: Any, world: Any) -> None:
    group, events, anchors, inclusive = world
    snow.load(connection, "EVENTS", events_table(events), (ITEM, DEVICE))
    snow.load(connection, "ANCHORS", anchors_table(anchors, group.attribute_key.name))
    sql = attributes_sql(
        group,
        events="DB.PUBLIC.EVENTS",
        anchors="DB.PUBLIC.ANCHORS",
        dialect="snowflake",
        include_anchor=inclusive,
    )
    rows = connection.cursor().execute(sql).fetchall()
    assert len(rows) == len(anchors)
    for user, at, *values in rows:
        expected = served(group, events, user, at.replace(tzinfo=UTC), inclusive)
        for (name, value), computed in zip(expected.items(), values, strict=True):
            COMPARED["Snowflake"] += 1
            assert comparable(computed) == value, (name, user, at, sql)


def test_the_first_and_the_most_frequent_of_booleans(connection: Any) -> None:
    """Snowflake has no MIN of booleans; two events at one instant are told apart by value."""
    prop = AtomicProperty(name="br_cookies")
    attributes = [
        Attribute(name=name, type="bool", events=[], aggregation=name, property=prop)
        for name in ("first", "last", "most_frequent", "least_frequent")
    ]
    group = group_of(*attributes, ttl=timedelta(days=9))
    values = [(0, True), (0, False), (1, True), (2, True)]
    events = [event(START + n * HOUR, br_cookies=value) for n, value in values]
    snow.load(connection, "EVENTS", events_table(events), (ITEM, DEVICE))
    snow.load(connection, "ANCHORS", anchors_table([("u1", START + 3 * HOUR)]))
    names = {"events": "DB.PUBLIC.EVENTS", "anchors": "DB.PUBLIC.ANCHORS"}
    sql = attributes_sql(group, dialect="snowflake", **names)
    (row,) = connection.cursor().execute(sql).fetchall()
    assert list(row[2:]) == [False, True, True, False]


class Batches:
    """A connection, and its cursor, whose result arrives in these batches."""

    def __init__(self, *batches: pa.Table) -> None:
        self.batches = batches
        self.description = [SimpleNamespace(name=name.upper()) for name in batches[0].column_names]
        self.rowcount = sum(batch.num_rows for batch in batches)

    def cursor(self) -> "Batches":
        return self

    def execute(self, _: str) -> "Batches":
        return self

    def fetch_arrow_batches(self) -> Iterator[pa.Table]:
        return (batch for batch in self.batches if batch.num_rows)

    def fetch_arrow_all(self, *, force_return_table: bool) -> pa.Table:
        assert force_return_table
        return self.batches[0]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_batches_of_different_precision_are_read(zone: str | None) -> None:
    """Nanoseconds, then microseconds because of the year 9999, then an empty batch."""
    last = datetime(9999, 12, 31, 23, 59, 59, 123456, tzinfo=UTC if zone else None)
    first = datetime(2026, 1, 5, 12, tzinfo=UTC if zone else None)
    batches = [
        pa.table({"ts": pa.array(values, pa.timestamp(unit, zone))})
        for unit, values in (("ns", [first]), ("us", [last, None]), ("ns", []))
    ]
    warehouse = SnowflakeWarehouse(lambda: Batches(*batches), "EVENTS")
    assert warehouse.query("SELECT ts FROM t")["ts"].to_pylist() == [first, last, None]
    schemas = {batch.schema for batch in warehouse.batches("SELECT ts FROM t")}
    assert schemas == {pa.schema({"ts": pa.timestamp("us", zone)})}


def test_a_result_without_rows_has_types() -> None:
    empty = pa.table({"TS": pa.array([], pa.timestamp("ns")), "N": pa.array([], pa.int8())})
    result = SnowflakeWarehouse(lambda: Batches(empty), "EVENTS").query("SELECT ts, n FROM t")
    assert result.schema == pa.schema({"ts": pa.timestamp("us"), "n": pa.int8()})


def test_rows_that_stop_arriving_are_one_line() -> None:
    class Broken(Batches):
        def fetch_arrow_batches(self) -> Iterator[pa.Table]:
            yield self.batches[0]
            raise OperationalError("the network is down", errno=250003)

    warehouse = SnowflakeWarehouse(lambda: Broken(pa.table({"n": [1]})), "EVENTS")
    rows = warehouse.batches("SELECT n FROM t")
    assert next(rows)["n"].to_pylist() == [1]
    with pytest.raises(ServiceError, match=r"stopped arriving .*the network is down.*Run it again"):
        next(rows)


def test_a_missing_secret_is_named_and_no_other_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SF_USR.*SF_WH") as refused:
        SnowflakeWarehouse.connect(Settings(tmp_path, values={"SF_PWD": "hush"}))
    assert "hush" not in str(refused.value)
