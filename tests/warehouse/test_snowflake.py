"""The Snowflake dialect through the real connector: the fold's values; no secret in an error."""

import json
from collections.abc import Iterator
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from snowplow_signals import AtomicProperty, Attribute

from prospect_lib.errors import SettingsError
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


@settings(max_examples=EXAMPLES or 25, suppress_health_check=list(HealthCheck))
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


def test_a_missing_secret_is_named_and_no_other_is_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SF_USR.*SF_WH") as refused:
        SnowflakeWarehouse.connect(Settings(tmp_path, values={"SF_PWD": "hush"}))
    assert "hush" not in str(refused.value)
