"""The Snowflake dialect, through the real connector: what the fold gives, and safe quoting."""

import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from prospect_lib.training_set import attributes_sql
from tests.support import snow
from tests.support.worlds import (
    COMPARED,
    DEVICE,
    EXAMPLES,
    ITEM,
    anchors_table,
    events_table,
    served,
    worlds,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    with snow.snowflake() as connected:
        yield connected


def plain(value: Any) -> Any:
    """What the connector gives as Python values: nested ones arrive as JSON text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        value = json.loads(value)
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    return value


@settings(max_examples=EXAMPLES or 25, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(size=3))
def test_snowflake_equals_fold_on_random_worlds(connection: Any, world: Any) -> None:
    group, events, moments, inclusive = world
    snow.load(connection, "EVENTS", events_table(events), (ITEM, DEVICE))
    snow.load(connection, "ANCHORS", anchors_table(moments))
    sql = attributes_sql(
        group, events="EVENTS", anchors="ANCHORS", dialect="snowflake", include_anchor=inclusive
    )
    rows = connection.cursor().execute(sql).fetchall()
    assert len(rows) == len(moments)
    for user, at, *values in rows:
        expected = served(group, events, user, at.replace(tzinfo=UTC), inclusive)
        for (name, value), found in zip(expected.items(), values, strict=True):
            COMPARED["Snowflake"] += 1
            assert plain(found) == value, (name, user, at, sql)
