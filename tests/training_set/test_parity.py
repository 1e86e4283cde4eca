"""The compiled SQL gives the values of the fold, for every aggregation, window and edge case."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings, strategies
from snowplow_signals import Attribute, Event, StreamAttributeGroup

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.attributes import PAGE_VIEW, SUBMIT_FORM, prospect_group
from prospect_lib.errors import DataError, DefinitionError
from prospect_lib.features import FEATURES, from_attributes
from prospect_lib.training_set import Anchors, attributes_sql, features_sql
from tests.support.worlds import (
    COMPARED,
    EXAMPLES,
    HOUR,
    PROPERTIES,
    START,
    WEEK,
    anchors_table,
    event,
    events_table,
    group_of,
    histories,
    served,
    worlds,
)  # fmt: skip


def query(
    sql: str, events: list[dict[str, Any]], anchors: list[tuple[str, datetime]] | pa.Table
) -> list[dict[str, Any]]:
    """The rows of a statement over the relations ``events`` and ``anchors``."""
    table = anchors if isinstance(anchors, pa.Table) else anchors_table(anchors)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        for name, rows in (("events", events_table(events)), ("anchors", table)):
            connection.register("arriving", rows)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM arriving")
        result: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
    return result


def comparable(value: Any) -> Any:
    """A value of a row, comparable with the fold's: JSON parsed, floats to a precision of 1e-9."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    return value


def assert_parity(
    group: StreamAttributeGroup,
    events: list[dict[str, Any]],
    anchors: list[tuple[str, datetime]],
    inclusive: bool = True,
) -> None:
    sql = attributes_sql(group, events="events", anchors="anchors", include_anchor=inclusive)
    key = group.attribute_key.name
    rows = query(sql, events, anchors_table(anchors, key))
    assert len(rows) == len(anchors)
    for row in rows:
        user, at = row.pop(key), row.pop("anchor_ts").replace(tzinfo=UTC)
        expected = served(group, events, user, at, inclusive)
        assert list(row) == list(expected)
        for name, value in expected.items():
            COMPARED["DuckDB"] += 1
            equal = row[name] == comparable(value) or comparable(row[name]) == value
            assert equal, (name, user, at)


@settings(max_examples=EXAMPLES or 60, suppress_health_check=list(HealthCheck))
@given(world=worlds())
def test_sql_equals_fold_on_random_worlds(world: Any) -> None:
    assert_parity(*world)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(events=histories(), hours=strategies.integers(0, 24 * 40))
def test_features_in_sql_are_features_of_served_attributes(
    events: list[dict[str, Any]], hours: int
) -> None:
    at = START + timedelta(hours=hours)
    sql = features_sql(prospect_group, events="events", anchors="anchors")
    (row,) = query(sql, events, [("u1", at)])
    expected = from_attributes(served(prospect_group, events, "u1", at, True), at)
    assert list(row) == ["domain_userid", "anchor_ts", *(feature.name for feature in FEATURES)]
    assert {name: row[name] for name in expected} == expected


# --- facts one by one --------------------------------------------------------------------------


def counter(**arguments: Any) -> Attribute:
    return Attribute(name="n", type="int64", events=[PAGE_VIEW], aggregation="counter", **arguments)


def test_an_event_exactly_one_period_old_counts_and_an_older_one_does_not() -> None:
    group = group_of(counter(period=WEEK))
    events = [event(START)]
    assert served(group, events, "u1", START + WEEK, True) == {"n": 1}
    assert served(group, events, "u1", START + WEEK + timedelta(microseconds=1), True) == {
        "n": None
    }


def test_a_lifetime_count_starts_again_from_zero_after_its_ttl() -> None:
    group = group_of(counter(ttl=HOUR))
    events = [event(START), event(START + HOUR), event(START + 3 * HOUR)]
    values = [served(group, events, "u1", START + h * HOUR, True)["n"] for h in (0, 1, 2, 2.5, 3)]
    assert values == [1, 2, 2, None, 1]


def test_a_unique_list_keeps_the_100_latest_in_the_order_last_seen() -> None:
    listed = Attribute(
        name="n", type="string_list", events=[], aggregation="unique_list", property=PROPERTIES[0]
    )
    events = [event(START + timedelta(seconds=i), app_id=f"a{i % 103}") for i in range(110)]
    group = group_of(listed)
    assert_parity(group, events, [("u1", START + HOUR)])
    assert served(group, events, "u1", START + HOUR, True)["n"] == [
        f"a{i % 103}" for i in range(10, 110)
    ]


def test_other_columns_of_anchors_are_kept_and_rows_are_sorted() -> None:
    anchors = anchors_table([("u2", START), ("u1", START + HOUR), ("u1", START)])
    anchors = anchors.append_column("note", pa.array(["x", "y", "z"]))
    sql = attributes_sql(group_of(counter()), events="events", anchors="anchors")
    rows = query(sql, [event(START)], anchors)
    assert [(r["domain_userid"], r["note"], r["n"]) for r in rows] == [
        ("u1", "z", 1),
        ("u1", "y", 1),
        ("u2", "x", None),
    ]


def test_a_label_looks_strictly_ahead_and_needs_a_horizon_that_the_data_covers() -> None:
    events = [
        event(START),
        event(START + HOUR, "submit_form"),
        event(START + HOUR),
        event(START + 3 * HOUR),
    ]
    rows = query(Anchors().sql(events="events"), events, [])
    assert [(r["anchor_ts"].hour, r["label"]) for r in rows] == [(0, True), (1, False)]


@pytest.mark.parametrize(
    ("population", "users"),
    [
        (Anchors(app_ids=["docs"]), ["u2"]),
        (Anchors(first_seen=(2 * WEEK, WEEK)), ["u1"]),
        (Anchors(excluded=["page_view"]), []),
        (Anchors(at=[SUBMIT_FORM]), []),
    ],
)
def test_only_visitors_of_the_population_are_rows(population: Anchors, users: list[str]) -> None:
    events = [
        event(START),
        event(START + timedelta(days=9), user="u2", app_id="docs"),
        event(START + timedelta(days=10), "page_ping", user="u3"),
    ]
    rows = query(population.sql(events="events"), events, [])
    assert [r["domain_userid"] for r in rows] == users


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (Attribute(name="s", type="double", events=[], aggregation="sum"), "'s'.*needs a property"),
        (
            Attribute(name="t", type="double", events=[], aggregation="time_since_last"),
            "'t'.*time_unit",
        ),
        (
            Attribute(
                name="spec", type="int64", aggregation="counter",
                events=[Event(event_specification_id="abc")],
            ),
            "'spec'.*event_specification_id",
        ),
    ],
)  # fmt: skip
def test_an_incomplete_definition_is_refused_by_name(attribute: Attribute, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        attributes_sql(group_of(attribute), events="events", anchors="anchors")


def test_a_refusal_names_the_value() -> None:
    with pytest.raises(DefinitionError, match=r"'oracle'.*'duckdb' or 'snowflake'"):
        attributes_sql(prospect_group, events="e", anchors="a", dialect="oracle")
    with pytest.raises(DataError, match="no time zone"):
        attribute_values(prospect_group, [], datetime(2026, 1, 1))
    with pytest.raises(DataError, match="horizon"):
        Anchors(horizon=timedelta()).sql(events="events")
