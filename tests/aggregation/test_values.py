"""Values of events: one set of rules makes them text, numbers, booleans and times."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import numpy as np
import pandas as pd
import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    Criteria,
    Criterion,
    EntityProperty,
    EventProperty,
)

from prospect_lib.aggregation.definitions import check_definitions
from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.properties import column_of, property_text, to_text, to_utc, typed
from prospect_lib.attributes import sample_group
from prospect_lib.errors import DataError, DefinitionError
from prospect_lib.sql.compiler import attributes_sql
from tests.support.worlds import ITEM, PRICE, START, anchors_table, event, events_table, group_of

APP, CLICKED = AtomicProperty(name="app_id"), AtomicProperty(name="derived_tstamp")


def both(attribute: Attribute, events: list[dict[str, Any]]) -> Any:
    """The attribute's value after the events, which fold and SQL agree on."""
    group = group_of(attribute)
    value = attribute_values(group, events, START)[attribute.name]
    with duckdb.connect() as connection:
        connection.register("events", events_table(events))
        connection.register("anchors", anchors_table([("u1", START)]))
        sql = attributes_sql(group, events="events", anchors="anchors")
        (row,) = connection.execute(sql).fetchall()
    assert row[-1] == value
    return value


def priced(*prices: str) -> list[dict[str, Any]]:
    """One event per price, written as JSON."""
    return [event(START, **{ITEM: f'{{"price": {price}}}'}) for price in prices]


def test_a_number_of_json_is_one_value_however_it_is_spelled() -> None:
    events = priced("20.0", "20", "9.5", "2e1", "2E+1")
    distinct = Attribute(
        name="n", type="int64", events=[], aggregation="approx_count_distinct", property=PRICE
    )
    assert both(distinct, events) == 2
    for criterion in (Criterion.eq(PRICE, "20"), Criterion.eq(PRICE, 20)):
        counted = Attribute(name="n", type="int64", events=[], aggregation="counter",
                            criteria=Criteria(all=[criterion]))  # fmt: skip
        assert both(counted, events) == 4


@pytest.mark.parametrize(
    ("price", "text", "number", "integer"),
    [
        ("20.0", "20", 20.0, 20),
        ("-0.0", "0", 0.0, 0),
        ("2.5", "2.5", 2.5, 3),
        ("-2.5", "-2.5", -2.5, -2),
        ("1e22", "1e+22", 1e22, None),
        ("9007199254740993", "9007199254740993", 9007199254740992.0, 9007199254740993),
        ("9223372036854775807", "9223372036854775807", 2.0**63, 2**63 - 1),
        ("9223372036854775808", "9223372036854775808", 2.0**63, None),
        ('"20.0"', "20.0", 20.0, 20),
        ('"+5"', "+5", 5.0, 5),
        ('".5"', ".5", 0.5, 1),
        *((f'"{text}"', text, None, None) for text in
          ["", " 5 ", "1_000", "1,000", "0x10", "inf", "nan", "１２"]),
        ("true", "true", None, None),
        ("null", None, None, None),
        ("[20]", None, None, None),
        ('{"a": 20}', None, None, None),
    ],
)  # fmt: skip
def test_text_numbers_and_integers(price: str, text: Any, number: Any, integer: Any) -> None:
    events = priced(price)
    for kind, expected in (("string", text), ("double", number), ("int64", integer)):
        last = Attribute(name="x", type=kind, events=[], aggregation="last", property=PRICE)
        assert both(last, events) == expected


@pytest.mark.parametrize(
    ("price", "expected"), [("true", True), ('"FALSE"', False), ('"yes"', None), ("1", None)]
)
def test_booleans(price: str, expected: bool | None) -> None:
    last = Attribute(name="x", type="bool", events=[], aggregation="last", property=PRICE)
    assert both(last, priced(price)) is expected


def test_an_object_is_present_although_it_has_no_text() -> None:
    for criterion, count in ((Criterion.is_not_null(PRICE), 2), (Criterion.is_null(PRICE), 2)):
        counted = Attribute(name="n", type="int64", events=[], aggregation="counter",
                            criteria=Criteria(all=[criterion]))  # fmt: skip
        assert both(counted, [*priced("{}", "[1]", "null"), event(START)]) == count


@pytest.mark.parametrize(
    "item", ['{"unitPrice": 20.0}', '{"unit_price": 20}', {"unit_price": "20"}]
)
def test_a_field_is_found_as_tracked_and_in_snake_case(item: Any) -> None:
    prop = EventProperty(vendor="com.acme", name="item", major_version=1, path="unitPrice")
    last = Attribute(name="x", type="string", events=[], aggregation="last", property=prop)
    assert both(last, [event(START, **{ITEM: item})]) == "20"


def test_structs_and_lists_of_structs_are_read_like_json() -> None:
    prop = EntityProperty(vendor="a", name="b", major_version=1, path="price", index=1)
    group = group_of(
        Attribute(name="x", type="string", events=[], aggregation="last", property=prop)
    )
    sql = attributes_sql(group, events="events", anchors="anchors")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE events AS SELECT 'u1' AS DOMAIN_USERID, $at AS DERIVED_TSTAMP, "
            "[{'price': 1.5}, {'price': 20.0}] AS CONTEXTS_A_B_1",
            {"at": START.replace(tzinfo=None)},
        )
        connection.register("anchors", anchors_table([("u1", START)]))
        assert connection.execute(sql).fetchall()[0][-1] == "20"


@pytest.mark.parametrize(
    ("vendor", "name", "column"),
    [
        ("com.acmeCorp", "signUp", "unstruct_event_com_acmecorp_sign_up_1"),
        ("com.my-shop", "HTTPError", "unstruct_event_com_my_shop_http_error_1"),
        ("io.x", "myAPICall", "unstruct_event_io_x_my_api_call_1"),
        ("io.x", "add-to-cart2Now", "unstruct_event_io_x_add_to_cart2_now_1"),
    ],
)
def test_columns_are_named_as_loaders_name_them(vendor: str, name: str, column: str) -> None:
    prop = EventProperty(vendor=vendor, name=name, major_version=1, path="x")
    assert column_of(prop) == column


# --- values of Python --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), None),
        (np.float64("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.float64(20), "20"),
        (np.int64(20), "20"),
        (np.bool_(True), "true"),
        (Decimal("20.00"), "20"),
        (Decimal("9.50"), "9.5"),
        (Decimal(10**18 + 1), "1000000000000000001"),
        (np.array([1, 2]), None),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 5), "2026-01-05"),
    ],
)
def test_values_of_numpy_and_pandas_are_those_of_python(value: Any, text: str | None) -> None:
    assert to_text(value) == text


def test_records_of_a_frame_are_events() -> None:
    frame = pd.DataFrame(
        {
            "derived_tstamp": pd.to_datetime(["2026-01-05", "2026-01-06"], utc=True),
            "mkt_campaign": ["spring", np.nan],
            "se_value": [np.nan, 20.0],
            "contexts_a_b_1": [np.array([{"c": 1.0}]), None],
        }
    )
    group = group_of(
        Attribute(name="campaign", type="string", events=[], aggregation="last",
                  property=AtomicProperty(name="mkt_campaign")),
        Attribute(name="value", type="double", events=[], aggregation="mean",
                  property=AtomicProperty(name="se_value")),
        Attribute(name="c", type="string", events=[], aggregation="last",
                  property=EntityProperty(vendor="a", name="b", major_version=1, path="c")),
    )  # fmt: skip
    at = datetime(2026, 1, 7, tzinfo=UTC)
    values = attribute_values(group, frame.to_dict("records"), at)
    assert values == {"campaign": "spring", "value": 20.0, "c": "1"}
    with pytest.raises(DataError, match=r"DataFrame.*to_dict\('records'\)"):
        attribute_values(group, frame, at)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "prospect_group"}, "group is a str"),
        ({"events": "events.csv"}, "events is a str"),
        ({"events": {"derived_tstamp": START}}, "events is a dict"),
        ({"events": ["page_view"]}, "an event is a str"),
        ({"events": [{"derived_tstamp": pd.NaT, "event_id": "e"}]}, "'e': derived_tstamp"),
        ({"at": "2026-01-05"}, "at is a str"),
    ],
)
def test_wrong_types_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    right = {"group": sample_group, "events": [], "at": START}
    with pytest.raises(DataError, match=message) as refused:
        attribute_values(**{**right, **arguments})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cell", ["oops", '{"price": NaN}', ""])
def test_a_nested_column_that_is_no_json_is_named(cell: str) -> None:
    with pytest.raises(DataError, match=f"'e1': {ITEM} is '{cell}', expected JSON"):
        property_text(PRICE, {"event_id": "e1", ITEM: cell})


def test_text_of_json_that_python_would_read_is_no_number() -> None:
    assert typed("double", to_text(json.loads("1e999"))) is None


def test_days_are_times() -> None:
    assert to_utc(date(2026, 1, 5)) == START


# --- definitions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "timestamp"}, "'x': type='timestamp' does not fit 'last'; choose bool or double"),
        ({"type": "bytes"}, "type='bytes'"),
        ({"type": "string_list"}, "type='string_list'"),
        ({"aggregation": "sum", "type": "string"}, "type='string' does not fit 'sum'"),
        ({"aggregation": "unique_list", "type": "string"}, "choose .*string_list"),
        ({"aggregation": "category_count", "type": "string"}, "choose dict"),
        ({"aggregation": "time_since_last", "type": "int64", "time_unit": "s"}, "choose double"),
        ({"property": CLICKED}, "derived_tstamp is a time; give the property a date_part"),
        (
            {"property": AtomicProperty(name="app_id", date_part="hour_of_day")},
            "app_id is not a time",
        ),
        ({"property": AtomicProperty(name="contexts")}, "contexts has no single value"),
        ({"default_value": 5}, "default_value=5, expected a value of type string"),
        (
            {"type": "int64", "default_value": 0.5},
            "default_value=0.5, expected a value of type int64",
        ),
        ({"criteria": Criteria(all=[Criterion.gt(CLICKED, "soon")])}, "a time with 'soon'"),
        ({"criteria": Criteria(all=[Criterion.like(CLICKED, "2026%")])}, "is a time; compare"),
        ({"criteria": Criteria(any=[Criterion.gt(PRICE, float("inf"))])}, "with inf"),
        (
            {"criteria": Criteria(any=[Criterion(property=PRICE, operator="=", value=["a"])])},
            "'=' has a list",
        ),
        ({"criteria": Criteria(any=[Criterion(property=PRICE, operator="=")])}, "needs a value"),
        ({"period": timedelta()}, "period=0:00:00 is not longer than nothing"),
        ({"ttl": -timedelta(hours=1)}, "ttl=-1 day, 23:00:00 is not longer"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_the_definition(
    changes: dict[str, Any], message: str
) -> None:
    arguments = {
        "name": "x",
        "type": "string",
        "events": [],
        "aggregation": "last",
        "property": APP,
    }
    group = group_of(Attribute(**{**arguments, **changes}))
    for refusing in (
        lambda: check_definitions(group),
        lambda: attribute_values(group, [], START),
        lambda: attributes_sql(group, events="events", anchors="anchors"),
    ):
        with pytest.raises(DefinitionError, match=message) as refused:
            refusing()
        assert "\n" not in str(refused.value)


def test_times_are_compared_as_instants() -> None:
    criteria = Criteria(all=[Criterion.gte(CLICKED, "2026-01-05T02:00:00+02:00")])
    counted = Attribute(name="n", type="int64", events=[], aggregation="counter", criteria=criteria)
    earlier = START.replace(year=2025)
    assert both(counted, [event(START), event(earlier)]) == 1
