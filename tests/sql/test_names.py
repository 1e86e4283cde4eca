"""Attributes may have any name: it works in both dialects, or is refused before anything runs."""

from typing import Any

import duckdb
import pytest
from snowplow_signals import AtomicProperty, Attribute, AttributeKey

from prospect_lib.aggregation.definitions import check_definitions
from prospect_lib.errors import DefinitionError
from prospect_lib.sql.compiler import attributes_sql, features_sql
from tests.support import snow
from tests.support.worlds import (
    HOUR,
    START,
    WEEK,
    anchors_table,
    event,
    events_table,
    group_of,
    served,
)

#: Names of our own steps and columns, of SQL, and of Snowplow's columns.
NAMES = [
    "visitor", "ts", "value", "number", "visitors", "matched", "x1", "x1_count", "has_x1", "flags",
    "window_counts", "anchor_times", "anchor_rows", "running_totals", "a", "t", "c", "v", "now",
    "run", "select", "SELECT_", "1", "app_id", "derived_tstamp", "events", "is_anchor", "lifetime",
]  # fmt: skip
KINDS: list[dict[str, Any]] = [
    {"aggregation": "counter", "type": "int64", "period": WEEK},
    {"aggregation": "counter", "type": "int64", "ttl": HOUR},
    {"aggregation": "first", "type": "string"},
    {"aggregation": "last", "type": "string"},
    {"aggregation": "unique_list", "type": "string_list", "period": WEEK},
    {"aggregation": "most_frequent", "type": "string", "ttl": HOUR},
    {"aggregation": "approx_count_distinct", "type": "int64", "period": HOUR},
]
APP = AtomicProperty(name="app_id")
EVENTS = [event(START, app_id="b"), event(START + HOUR, app_id="a"), event(START + HOUR)]


def named(names: list[str], shift: int = 0) -> Any:
    """A group of attributes of all kinds, with these names."""
    kinds = [KINDS[(number + shift) % len(KINDS)] for number in range(len(names))]
    return group_of(
        *(
            Attribute(name=n, events=[], property=APP, **k)
            for n, k in zip(names, kinds, strict=True)
        )
    )


@pytest.mark.parametrize("shift", range(len(KINDS)))
def test_names_of_our_own_steps_and_columns_are_free(shift: int) -> None:
    group = named(NAMES, shift)
    with duckdb.connect() as connection:
        connection.register("events", events_table(EVENTS))
        connection.register("anchors", anchors_table([("u1", START + HOUR)]))
        sql = attributes_sql(group, events="events", anchors="anchors")
        (values,) = connection.sql(sql).to_arrow_table().to_pylist()
        features = features_sql(group, events="events", anchors="anchors")
        assert len(connection.sql(features).to_arrow_table().to_pylist()) == 1
    row = {name: value for name, value in values.items() if name in NAMES}
    assert row == served(group, EVENTS, "u1", START + HOUR, True)


def test_names_are_free_in_snowflake() -> None:
    group = named(NAMES)
    with snow.snowflake() as connection:
        snow.load(connection, "EVENTS", events_table(EVENTS))
        snow.load(connection, "ANCHORS", anchors_table([("u1", START + HOUR)]))
        sql = attributes_sql(
            group, events="DB.PUBLIC.EVENTS", anchors="DB.PUBLIC.ANCHORS", dialect="snowflake"
        )
        ((_, _, *values),) = connection.cursor().execute(sql).fetchall()
    expected = list(served(group, EVENTS, "u1", START + HOUR, True).values())
    texts = [value for value in expected if not isinstance(value, list)]
    assert [v for v, e in zip(values, expected, strict=True) if not isinstance(e, list)] == texts


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        (["label"], {}, "attribute 'label'.*column label"),
        (["WEIGHT"], {}, "attribute 'WEIGHT'.*column weight"),
        (["anchor_ts"], {}, "anchor_ts"),
        (["Domain_UserId"], {}, "column domain_userid"),
        (["best_observable"], {}, "best_observable"),
        (["views", "Views"], {}, "'Views'.*another attribute is called views"),
        (["day_of_week"], {}, "'day_of_week'.*another feature is called day_of_week"),
        (["n", "had_n"], {"n": "had_n"}, "feature 'had_n'.*another feature"),
        (["n"], {"n": "label"}, "feature 'label'.*column label.*rename the flag"),
    ],
)
def test_names_that_collide_are_refused_before_anything_runs(
    names: list[str], flags: dict[str, str], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message) as refused:
        check_definitions(named(names), flags)
    assert "\n" not in str(refused.value)
    if not flags:
        with pytest.raises(DefinitionError, match=message):
            attributes_sql(named(names), events="events", anchors="anchors")


def test_a_key_has_a_name_of_its_own() -> None:
    key = AttributeKey(name="Label", property=AtomicProperty(name="user_id"))
    with pytest.raises(DefinitionError, match="attribute key 'Label' of group 'g'"):
        check_definitions(named(["a"]).model_copy(update={"attribute_key": key}))


def test_only_numbers_become_flags() -> None:
    with pytest.raises(
        DefinitionError, match="flags: attribute 'b' is a string, expected a number"
    ):
        check_definitions(named(["a", "n", "b"]), {"b": "has_b"})


def test_wrong_types_are_refused_in_one_line() -> None:
    relations: dict[str, Any] = {"events": "events", "anchors": "anchors"}
    for compiled in (attributes_sql, features_sql):
        with pytest.raises(DefinitionError, match="a str is not an attribute group"):
            compiled("prospect_group", **relations)  # type: ignore[arg-type]
        with pytest.raises(DefinitionError, match="anchors is a Table, expected the name"):
            compiled(named(["a"]), **{**relations, "anchors": anchors_table([("u1", START)])})
