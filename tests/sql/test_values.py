"""Each value of an event, whatever its spelling, is the same in the fold and in each dialect."""

import json
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from snowplow_signals import Attribute

from prospect_lib.aggregation.criteria import meets
from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.sql.conditions import event_condition, matched_value
from prospect_lib.sql.dialects import dialect_of
from tests.support import snow
from tests.support.worlds import (
    CRITERIONS,
    DEVICE,
    DEVICES,
    ITEM,
    NUMBERS,
    PRICES,
    SIZES,
    START,
    TEXTS,
    TIMES,
    event,
    events_table,
    group_of,
)

VALUES = [float("inf"), 20.0, 9.5, -0.0, None]
EVENTS = [
    event(
        START, event_id=str(number), se_value=VALUES[number % 5], domain_sessionidx=number % 3,
        br_cookies=[None, True, False][number % 3], mkt_campaign=["", "12", "12.0"][number % 3],
        **{ITEM: f'{{"{name}": {value}}}', DEVICE: DEVICES[number % len(DEVICES)]},
    )
    for number, (name, value) in enumerate(
        [("at", json.dumps(time)) for time in TIMES]
        + [("price", price) for price in PRICES]
        + [("size", size) for size in SIZES]
    )
]  # fmt: skip
KINDS = ["string", "double", "int64", "bool"]
Query = Callable[[str, pa.Table], list[Any]]


def on_duckdb(sql: str, events: pa.Table) -> list[Any]:
    with duckdb.connect() as connection:
        connection.register("events", events)
        return connection.execute(sql).fetchall()


def on_snowflake(sql: str, events: pa.Table) -> list[Any]:
    with snow.snowflake() as connection:
        snow.load(connection, "EVENTS", events, (ITEM, DEVICE))
        sql = sql.replace("FROM events", "FROM DB.PUBLIC.EVENTS")
        rows: list[Any] = connection.cursor().execute(sql).fetchall()
        return rows


def attribute(kind: str, prop: Any) -> Attribute:
    return Attribute(name="x", type=kind, events=[], aggregation="last", property=prop)


@pytest.mark.parametrize(("dialect", "run"), [("duckdb", on_duckdb), ("snowflake", on_snowflake)])
def test_values_are_those_of_the_fold(dialect: str, run: Query) -> None:
    sql = dialect_of(dialect)
    attributes = [attribute(kind, prop) for kind in KINDS for prop in [*TEXTS, *NUMBERS]]
    columns = [f"{matched_value(each, sql)} AS c{n}" for n, each in enumerate(attributes)]
    rows = run(
        f"SELECT {', '.join(columns)} FROM events ORDER BY CAST(event_id AS INTEGER)",
        events_table(EVENTS),
    )
    for row, each in zip(rows, EVENTS, strict=True):
        for computed, definition in zip(row, attributes, strict=True):
            expected = attribute_values(group_of(definition), [each], START)["x"]
            assert computed == expected and type(computed) is type(expected), (each, definition)


@pytest.mark.parametrize(("dialect", "run"), [("duckdb", on_duckdb), ("snowflake", on_snowflake)])
def test_criteria_select_the_events_that_the_fold_selects(dialect: str, run: Query) -> None:
    sql = dialect_of(dialect)
    counters = [
        Attribute(name="x", type="int64", events=[], aggregation="counter", criteria={"all": [c]})
        for c in CRITERIONS
    ]
    columns = [f"{event_condition(c, sql)} AS c{n}" for n, c in enumerate(counters)]
    rows = run(
        f"SELECT {', '.join(columns)} FROM events ORDER BY CAST(event_id AS INTEGER)",
        events_table(EVENTS),
    )
    for row, each in zip(rows, EVENTS, strict=True):
        for selected, criterion in zip(row, CRITERIONS, strict=True):
            assert bool(selected) is meets(criterion, each), (each, criterion)
