"""The compiled SQL gives what the fold gives, for every aggregation, window and edge."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    CalculatedProperty,
    Criteria,
    Criterion,
    EntityProperty,
    Event,
    EventProperty,
    StreamAttributeGroup,
    domain_userid,
)

from prospect_lib.aggregation import attribute_values
from prospect_lib.attributes import PAGE_VIEW, SUBMIT_FORM, prospect_group
from prospect_lib.errors import DataError, DefinitionError
from prospect_lib.features import FEATURES, from_attributes
from prospect_lib.training_set import Anchors, attributes_sql, features_sql

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
ITEM = "unstruct_event_com_acme_item_1"
DEVICE = "contexts_nl_basjes_yauaa_context_1"
COLUMNS = {
    "domain_userid": pa.string(),
    "derived_tstamp": pa.timestamp("us"),
    "event_id": pa.string(),
    "event_vendor": pa.string(),
    "event_name": pa.string(),
    "event_version": pa.string(),
    "app_id": pa.string(),
    "page_url": pa.string(),
    "domain_sessionid": pa.string(),
    "refr_medium": pa.string(),
    "mkt_medium": pa.string(),
    "mkt_campaign": pa.string(),
    "domain_sessionidx": pa.int32(),
    ITEM: pa.string(),
    DEVICE: pa.string(),
}


def group_of(*attributes: Attribute, ttl: timedelta | None = None) -> StreamAttributeGroup:
    return StreamAttributeGroup(
        name="g",
        attribute_key=domain_userid,
        owner="a@example.com",
        attributes=list(attributes),
        ttl=ttl,
    )


def event(
    at: datetime, name: str = "page_view", user: str = "u1", **columns: Any
) -> dict[str, Any]:
    base = {
        "domain_userid": user,
        "derived_tstamp": at,
        "event_vendor": "com.snowplowanalytics.snowplow",
        "event_name": name,
        "event_version": "1-0-0",
        "app_id": "website",
    }
    return {**base, **columns}


def warehouse(events: list[dict[str, Any]], moments: list[tuple[str, datetime]]) -> Any:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
    rows = [
        {
            name: json.dumps(value) if isinstance(value, dict | list)
            else value.replace(tzinfo=None) if isinstance(value, datetime) else value
            for name in COLUMNS
            for value in [e.get(name)]
        }
        for e in events
    ]  # fmt: skip
    connection.register("e", pa.Table.from_pylist(rows, schema=pa.schema(COLUMNS)))
    connection.execute("CREATE TABLE events AS SELECT * FROM e")
    places = [{"domain_userid": u, "anchor_ts": t.replace(tzinfo=None)} for u, t in moments]
    schema = pa.schema({"domain_userid": pa.string(), "anchor_ts": pa.timestamp("us")})
    connection.register("p", pa.Table.from_pylist(places, schema=schema))
    connection.execute("CREATE TABLE anchors AS SELECT * FROM p")
    return connection


def served(
    group: StreamAttributeGroup,
    events: list[dict[str, Any]],
    user: str,
    at: datetime,
    inclusive: bool,
) -> dict[str, Any]:
    mine = [e for e in events if e["domain_userid"] == user]
    return attribute_values(group, mine, at, include_anchor=inclusive)


def plain(value: Any) -> Any:
    """What SQL gives as Python values: JSON objects parsed, floats rounded to 1e-9."""
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-9, abs=1e-9)
    return value


def assert_parity(
    group: StreamAttributeGroup,
    events: list[dict[str, Any]],
    moments: list[tuple[str, datetime]],
    inclusive: bool = True,
) -> None:
    sql = attributes_sql(group, events="events", anchors="anchors", include_anchor=inclusive)
    rows = warehouse(events, moments).sql(sql).to_arrow_table().to_pylist()
    assert len(rows) == len(moments)
    for row in rows:
        user, at = row.pop("domain_userid"), row.pop("anchor_ts").replace(tzinfo=UTC)
        expected = served(group, events, user, at, inclusive)
        assert list(row) == list(expected)
        for name, value in expected.items():
            assert row[name] == plain(value) or plain(row[name]) == value, (name, user, at)


# --- random worlds ---------------------------------------------------------------------------

PROPERTIES = [
    AtomicProperty(name="app_id"),
    AtomicProperty(name="mkt_campaign"),
    AtomicProperty(name="domain_sessionidx"),
    AtomicProperty(name="derived_tstamp", date_part="day_of_week"),
    AtomicProperty(name="derived_tstamp", date_part="hour_of_day"),
    AtomicProperty(name="derived_tstamp", date_part="active_week"),
    EventProperty(vendor="com.acme", name="item", major_version=1, path="$.price"),
    EventProperty(vendor="com.acme", name="item", major_version=1, path="tags[1].it's"),
    EntityProperty(
        vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass", index=1
    ),
]
NUMBERS = [
    PROPERTIES[2],
    PROPERTIES[6],
    CalculatedProperty(operation="sum", properties=[PROPERTIES[2], PROPERTIES[6]]),
    CalculatedProperty(operation="product", properties=[PROPERTIES[2], PROPERTIES[6]]),
    CalculatedProperty(operation="min", properties=[PROPERTIES[2], PROPERTIES[6]]),
    CalculatedProperty(operation="max", properties=[PROPERTIES[2], PROPERTIES[6]]),
]
TEXTS = [
    *PROPERTIES,
    CalculatedProperty(operation="concat", properties=PROPERTIES[:3], separator=" '%;"),
    CalculatedProperty(operation="coalesce", properties=PROPERTIES[1:2] + PROPERTIES[:1]),
]
HOSTILE = "it's 100%_;--ü\\"
CRITERIONS = [
    Criterion.eq(PROPERTIES[0], HOSTILE),
    Criterion.neq(PROPERTIES[1], "spring"),
    Criterion.like(PROPERTIES[0], "w%s_te"),
    Criterion.like(PROPERTIES[0], "%'%"),
    Criterion.in_list(PROPERTIES[1], ["spring", HOSTILE]),
    Criterion.gt(PROPERTIES[6], 1),
    Criterion.lte(PROPERTIES[2], 2),
    Criterion.gte(PROPERTIES[2], 2),
    Criterion.lt(PROPERTIES[6], 2.5),
    Criterion.is_null(PROPERTIES[1]),
    Criterion.is_not_null(PROPERTIES[8]),
    Criterion.eq(PROPERTIES[2], 1),
]
AGGREGATIONS = (
    "counter", "sum", "min", "max", "mean", "first", "last", "unique_list", "most_frequent",
    "least_frequent", "category_count", "approx_count_distinct", "time_since_last",
    "time_since_first",
)  # fmt: skip
LENGTHS = [timedelta(seconds=2), timedelta(minutes=1), HOUR, timedelta(days=1), WEEK]


@st.composite
def attributes(draw: st.DrawFn, name: str) -> Attribute:
    aggregation = draw(st.sampled_from(AGGREGATIONS))
    numeric = aggregation in ("sum", "min", "max", "mean")
    kind = {"counter": "int64", "approx_count_distinct": "int64", "category_count": "dict"}.get(
        aggregation
    )
    kind = kind or draw(
        st.sampled_from(["double", "int64"] if numeric else ["string", "double", "int32"])
    )
    if aggregation.startswith("time_since"):
        kind = "double"
    if aggregation == "unique_list":
        kind = f"{kind}_list"
    criteria = draw(
        st.one_of(
            st.none(),
            st.builds(
                Criteria,
                all=st.lists(st.sampled_from(CRITERIONS), max_size=2),
                any=st.lists(st.sampled_from(CRITERIONS), max_size=2),
            ),
        )
    )
    period = draw(st.one_of(st.none(), st.sampled_from(LENGTHS)))
    return Attribute(
        name=name,
        type=kind,
        events=draw(
            st.sampled_from(
                [[], [PAGE_VIEW], [PAGE_VIEW, Event(name="item")], [Event(vendor="com.acme")]]
            )
        ),
        aggregation=aggregation,
        property=None
        if aggregation == "counter" or aggregation.startswith("time_since")
        else draw(st.sampled_from(NUMBERS if numeric else TEXTS)),
        criteria=criteria,
        period=period,
        ttl=None if period else draw(st.one_of(st.none(), st.sampled_from(LENGTHS))),
        time_unit=draw(st.sampled_from(["s", "min", "h", "d"]))
        if aggregation.startswith("time_since")
        else None,
        default_value=draw(st.sampled_from([None, 7])) if kind == "int64" else None,
    )


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    steps = st.sampled_from(
        [timedelta(), timedelta(microseconds=1), timedelta(seconds=1), *LENGTHS, 3 * WEEK]
    )
    at, events = START, []
    for _ in range(draw(st.integers(0, 12))):
        at += draw(steps)
        acme = draw(st.booleans())
        price = draw(st.sampled_from([None, 1, 2.5, -3, "4", "x", True]))
        item = draw(st.sampled_from([None, {}, {"price": price, "tags": [1, {"it's": "yes"}]}]))
        devices = draw(
            st.sampled_from([None, [], [{"deviceClass": "Phone"}], [{}, {"deviceClass": "TV"}]])
        )
        events.append(
            event(
                at,
                "item" if acme else draw(st.sampled_from(["page_view", "page_ping"])),
                draw(st.sampled_from(["u1", "u1", "u2"])),
                event_vendor="com.acme" if acme else "com.snowplowanalytics.snowplow",
                app_id=draw(st.sampled_from([None, "website", "docs", HOSTILE])),
                mkt_campaign=draw(st.sampled_from([None, "spring", HOSTILE])),
                domain_sessionidx=draw(st.sampled_from([None, 1, 2, 3])),
                **{ITEM: item, DEVICE: devices},
            )
        )
        if draw(st.integers(0, 9)) == 0:
            events.append(dict(events[-1]))  # a duplicate counts as another event
    return draw(st.permutations(events))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    data=st.data(),
    events=histories(),
    inclusive=st.booleans(),
    ttl=st.one_of(st.none(), st.sampled_from(LENGTHS)),
)
def test_sql_equals_fold_on_random_worlds(
    data: st.DataObject, events: list[dict[str, Any]], inclusive: bool, ttl: timedelta | None
) -> None:
    group = group_of(*(data.draw(attributes(f"a{i}")) for i in range(4)), ttl=ttl)
    edges = [e["derived_tstamp"] + d for e in events for d in (timedelta(), *LENGTHS)]
    chosen = data.draw(
        st.lists(st.sampled_from([*edges, START]), min_size=1, max_size=8, unique=True)
    )
    moments = [(user, at) for user in ("u1", "u2", "nobody") for at in chosen]
    assert_parity(group, events, moments, inclusive)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=histories(), hours=st.integers(0, 24 * 40))
def test_features_in_sql_are_features_of_served_attributes(
    events: list[dict[str, Any]], hours: int
) -> None:
    at = START + timedelta(hours=hours)
    sql = features_sql(prospect_group, events="events", anchors="anchors")
    (row,) = warehouse(events, [("u1", at)]).sql(sql).to_arrow_table().to_pylist()
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


def test_a_lifetime_count_starts_afresh_after_its_ttl() -> None:
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


def test_anchor_columns_are_kept_and_rows_sorted() -> None:
    connection = warehouse([event(START)], [("u2", START), ("u1", START + HOUR), ("u1", START)])
    connection.execute("CREATE TABLE mine AS SELECT *, 'x' AS note FROM anchors")
    sql = attributes_sql(group_of(counter()), events="events", anchors="mine")
    rows = connection.execute(sql).fetchall()
    assert [(r[0], r[2], r[3]) for r in rows] == [("u1", "x", 1), ("u1", "x", 1), ("u2", "x", None)]


def test_label_looks_strictly_ahead_and_unobserved_horizons_are_left_out() -> None:
    events = [
        event(START),
        event(START + HOUR, "submit_form"),
        event(START + HOUR),
        event(START + 3 * HOUR),
    ]
    rows = warehouse(events, []).execute(Anchors().sql(events="events")).fetchall()
    assert [(r[1].hour, r[2]) for r in rows] == [(0, True), (1, False)]


@pytest.mark.parametrize(
    ("population", "users"),
    [
        (Anchors(app_ids=["docs"]), ["u2"]),
        (Anchors(first_seen=(2 * WEEK, WEEK)), ["u1"]),
        (Anchors(excluded=["page_view"]), []),
        (Anchors(at=[SUBMIT_FORM]), []),
    ],
)
def test_population_filters(population: Anchors, users: list[str]) -> None:
    events = [
        event(START),
        event(START + timedelta(days=9), user="u2", app_id="docs"),
        event(START + timedelta(days=10), "page_ping", user="u3"),
    ]
    rows = warehouse(events, []).execute(population.sql(events="events")).fetchall()
    assert [r[0] for r in rows] == users


@pytest.mark.parametrize(
    ("attribute", "said"),
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
def test_what_cannot_be_compiled_is_refused_by_name(attribute: Attribute, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        attributes_sql(group_of(attribute), events="events", anchors="anchors")


def test_other_refusals_name_the_value() -> None:
    with pytest.raises(DefinitionError, match=r"'oracle'.*'duckdb' or 'snowflake'"):
        attributes_sql(prospect_group, events="e", anchors="a", dialect="oracle")
    with pytest.raises(DataError, match="no time zone"):
        attribute_values(prospect_group, [], datetime(2026, 1, 1))
    with pytest.raises(DataError, match="horizon"):
        Anchors(horizon=timedelta()).sql(events="events")
