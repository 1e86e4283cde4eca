"""Random worlds for parity tests: an attribute group, histories with edge cases, and anchors.

They draw what real data has: numbers in all spellings, text that only looks like one, times with
offsets and as text, infinities, 64-bit edges, empty and nil identifiers, keys of other columns, and
names that are those of our own steps.
"""

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    AttributeKey,
    CalculatedProperty,
    Criteria,
    Criterion,
    EntityProperty,
    Event,
    EventProperty,
    StreamAttributeGroup,
    domain_sessionid,
    domain_userid,
    user_id,
)

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.aggregation.keys import NOBODY, identifier
from prospect_lib.attributes import PAGE_VIEW

#: How many random worlds a test draws: 0 for its own small number; ``make parity`` sets many.
EXAMPLES = int(os.environ.get("PROSPECT_PARITY", 0))
#: How many values were compared with the fold's, by the warehouse that computed them.
COMPARED: Counter[str] = Counter()
START = datetime(2026, 1, 5, tzinfo=UTC)
#: A world's times are in one of these zones, which says how its tables store them.
ZONED, AS_TEXT = timezone(timedelta(hours=2)), timezone(-timedelta(hours=5, minutes=30))
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
    "user_id": pa.string(),
    "network_userid": pa.string(),
    "refr_medium": pa.string(),
    "page_urlpath": pa.string(),
    "mkt_medium": pa.string(),
    "mkt_campaign": pa.string(),
    "domain_sessionidx": pa.int32(),
    "se_value": pa.float64(),
    "br_cookies": pa.bool_(),
    ITEM: pa.string(),
    DEVICE: pa.string(),
}


def group_of(
    *attributes: Attribute, ttl: timedelta | None = None, key: AttributeKey = domain_userid
) -> StreamAttributeGroup:
    return StreamAttributeGroup(
        name="g",
        attribute_key=key,
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


def events_table(events: list[dict[str, Any]]) -> pa.Table:
    """Events as atomic columns, nested ones as JSON text."""
    rows = [
        {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name in COLUMNS
            for value in [e.get(name)]
        }
        for e in events
    ]
    rows = [{**row, "derived_tstamp": _stored(row["derived_tstamp"])} for row in rows]
    times = {"derived_tstamp": _type_of([e["derived_tstamp"] for e in events])}
    return pa.Table.from_pylist(rows, schema=pa.schema({**COLUMNS, **times}))


def anchors_table(anchors: list[tuple[str, datetime]], key: str = "domain_userid") -> pa.Table:
    rows = [{key: user, "anchor_ts": _stored(at)} for user, at in anchors]
    kind = _type_of([at for _, at in anchors])
    return pa.Table.from_pylist(rows, schema=pa.schema({key: pa.string(), "anchor_ts": kind}))


def _stored(at: datetime) -> Any:
    if at.tzinfo is AS_TEXT:
        return at.isoformat()
    return at if at.tzinfo is ZONED else at.replace(tzinfo=None)


def _type_of(times: list[datetime]) -> pa.DataType:
    zone = times[0].tzinfo if times else UTC
    if zone is AS_TEXT:
        return pa.string()
    return pa.timestamp("us", "Europe/Athens" if zone is ZONED else None)


def served(
    group: StreamAttributeGroup,
    events: list[dict[str, Any]],
    user: str | None,
    at: datetime,
    inclusive: bool,
) -> dict[str, Any]:
    """The fold's values for one visitor."""
    own = [e for e in events if user is not None and identifier(group, e) == user]
    return attribute_values(group, own, at, include_anchor=inclusive)


# --- random worlds ---------------------------------------------------------------------------

ACME = {"vendor": "com.acme", "name": "item", "major_version": 1}
PROPERTIES = [
    AtomicProperty(name="app_id"),
    AtomicProperty(name="mkt_campaign"),
    AtomicProperty(name="domain_sessionidx"),
    AtomicProperty(name="derived_tstamp", date_part="day_of_week"),
    AtomicProperty(name="derived_tstamp", date_part="hour_of_day"),
    AtomicProperty(name="derived_tstamp", date_part="active_week"),
    EventProperty(**ACME, path="$.price"),
    EventProperty(**ACME, path="tags[1].it's"),
    EntityProperty(
        vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass", index=1
    ),
    EventProperty(**ACME, path="$.at", date_part="hour_of_day"),
    EventProperty(**ACME, path="$.at", date_part="active_day"),
    AtomicProperty(name="se_value"),
    AtomicProperty(name="br_cookies"),
    EventProperty(**ACME, path="$.size"),
]
APP, CAMPAIGN, INDEX, PRICE, CLASS = (PROPERTIES[i] for i in (0, 1, 2, 6, 8))
VALUE, COOKIES, SIZE = PROPERTIES[-3:]
TIMES = [
    None, "never", "2026-01-05", "2026-01-05T01:30:00", "2026-01-05T01:30:00Z",
    "2026-01-05T01:30:00+02:00", "2026-01-05 22:30:00.5-05:30", "2026-01-05 22:30:00 UTC",
    "2026-01-05T23:30:00.1234567+02", "2026-02-30", "2026/01/05", "20260105", "2026-1-5", "", 5,
    " 2026-01-05", "2026-01-05T24:00:00", "2026-01-05T23:59:60Z", "2026-01-05t01:30:00z",
    "9999-12-31T23:59:59Z", "infinity", "epoch", "2026-01-05T01:30", "2026-01-05T01:30:00+25:00",
]  # fmt: skip
#: JSON as trackers write it: numbers in all spellings, and text that only looks like a number.
PRICES = [
    "null", "1", "2.5", "-3", "20", "20.0", "2e1", "2E+1", "-0", "-0.0", "0", "9.50", "9.5", "true",
    "false", '"4"', '"x"', '""', '"20.0"', '"20"', '"+5"', '"5."', '".5"', '" 5 "', '"1_000"',
    '"1,000"', '"\uff11\uff12"', '"inf"', '"nan"', '"0x10"', '"1e1"', '"TRUE"', '"no"',
    '{"b":1.0,"a":20}', "[]", "[1,2.0]",
]  # fmt: skip
SIZES = [
    *PRICES, "9007199254740993", "9223372036854775807", "9223372036854775808", "1e15", "1e16",
    "18446744073709551616", "-9223372036854775809", "1e22", "1e-7", "1e120", "9007199254740993.0",
    '"9223372036854775807"', '"99999999999999999999"', '"1e400"', "0.1", "123456789.123456789",
]  # fmt: skip
BUYER = AttributeKey(name="buyer", property=EventProperty(**ACME, path="buyer.id"))
KEYS = [domain_userid, domain_userid, user_id, domain_sessionid, BUYER]
USERS = ["u1", "u2", *NOBODY]
#: Names of attributes: those of our own steps and columns, and of SQL.
NAMES = [
    "a", "visitor", "ts", "value", "number", "x1", "x1_count", "matched", "visitors", "select",
    "running_totals", "Window_Counts", "t", "run", "app_id", "events", "flags", "now",
]  # fmt: skip
TIME = AtomicProperty(name="derived_tstamp")
NUMBERS = [
    INDEX,
    PRICE,
    VALUE,
    CalculatedProperty(operation="sum", properties=[INDEX, PRICE]),
    CalculatedProperty(operation="product", properties=[INDEX, PRICE]),
    CalculatedProperty(operation="min", properties=[INDEX, PRICE]),
    CalculatedProperty(operation="max", properties=[INDEX, PRICE]),
]
TEXTS = [
    *PROPERTIES,
    *NUMBERS[-4:-2],
    CalculatedProperty(operation="concat", properties=PROPERTIES[:3], separator=" '%;"),
    CalculatedProperty(operation="concat", properties=[PRICE, VALUE]),
    CalculatedProperty(operation="coalesce", properties=[CAMPAIGN, APP]),
    CalculatedProperty(operation="coalesce", properties=[PRICE, VALUE]),
]
HOSTILE = "it's 100%_;--ü\\"
CRITERIONS = [
    Criterion.eq(APP, HOSTILE),
    Criterion.neq(CAMPAIGN, "spring"),
    Criterion.like(APP, "w%s_te"),
    Criterion.like(APP, "%'%"),
    Criterion.in_list(CAMPAIGN, ["spring", HOSTILE, ""]),
    Criterion.in_list(PRICE, [20, 2.5]),
    Criterion.in_list(APP, []),
    Criterion.gt(PRICE, 1),
    Criterion.lte(INDEX, 2),
    Criterion.gte(INDEX, 2),
    Criterion.lt(PRICE, 2.5),
    Criterion.eq(PRICE, "20"),
    Criterion.eq(PRICE, 20),
    Criterion.eq(PRICE, "20.0"),
    Criterion.neq(PRICE, True),
    Criterion.eq(COOKIES, True),
    Criterion.eq(COOKIES, "true"),
    Criterion.gt(COOKIES, 0),
    Criterion.like(PRICE, "2%"),
    Criterion.gte(SIZE, "2"),
    Criterion.eq(SIZE, 9007199254740993),
    Criterion.lt(SIZE, 0.30000000000000004),
    Criterion.eq(CAMPAIGN, 12),
    Criterion.eq(VALUE, "9.5"),
    Criterion.gt(TIME, "2026-01-05T02:00:00+02:00"),
    Criterion.lte(TIME, "2026-01-12"),
    Criterion.is_null(CAMPAIGN),
    Criterion.is_null(PRICE),
    Criterion.is_not_null(SIZE),
    Criterion.is_not_null(VALUE),
    Criterion.is_not_null(CLASS),
    Criterion.eq(INDEX, 1),
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
    kinds = ["double", "int64"] if numeric else ["string", "string", "double", "int64", "bool"]
    kind = kind or draw(st.sampled_from(kinds))
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
    properties: list[Any] = NUMBERS if numeric else TEXTS
    if aggregation in ("min", "max"):  # a sum of very large numbers depends on their order
        properties = [*NUMBERS, SIZE]
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
        else draw(st.sampled_from(properties)),
        criteria=criteria,
        period=period,
        ttl=None if period else draw(st.one_of(st.none(), st.sampled_from(LENGTHS))),
        time_unit=draw(st.sampled_from(["s", "min", "h", "d"]))
        if aggregation.startswith("time_since")
        else None,
        default_value=draw(st.sampled_from([None, 7])) if kind == "int64" else None,
    )


@st.composite
def histories(draw: st.DrawFn, key: AttributeKey = domain_userid) -> list[dict[str, Any]]:
    steps = st.sampled_from(
        [timedelta(), timedelta(microseconds=1), timedelta(seconds=1), *LENGTHS, 3 * WEEK]
    )
    zone = draw(st.sampled_from([UTC, UTC, ZONED, AS_TEXT]))
    at, events = START.astimezone(zone), []
    for _ in range(draw(st.integers(0, 12))):
        at += draw(steps)
        acme = draw(st.booleans())
        user = draw(st.sampled_from([*USERS, "u1", "u1"]))
        own = {} if key is BUYER else {key.name: user}
        events.append(
            event(
                at,
                "item" if acme else draw(st.sampled_from(["page_view", "page_ping"])),
                event_vendor="com.acme" if acme else "com.snowplowanalytics.snowplow",
                app_id=draw(st.sampled_from([None, "website", "docs", HOSTILE])),
                mkt_campaign=draw(st.sampled_from([None, "spring", HOSTILE, "", "12", "12.0"])),
                domain_sessionidx=draw(st.sampled_from([None, 1, 2, 3])),
                se_value=draw(st.sampled_from([None, 20.0, 9.5, -0.0, float("inf")])),
                br_cookies=draw(st.sampled_from([None, True, False])),
                **{ITEM: draw(items(user)), DEVICE: draw(st.sampled_from(DEVICES)), **own},
            )
        )
        if draw(st.integers(0, 9)) == 0:
            events.append(dict(events[-1]))  # a duplicate counts as another event
    return draw(st.permutations(events))


DEVICES = [
    None, [], [{"deviceClass": "Phone"}], [{}, {"deviceClass": "TV"}], [{}, {"device_class": 7.0}],
]  # fmt: skip


@st.composite
def items(draw: st.DrawFn, buyer: str) -> str | None:
    """The JSON text of a self-describing event, which spells its numbers in all ways."""
    price, size = draw(st.sampled_from(PRICES)), draw(st.sampled_from(SIZES))
    at = json.dumps(draw(st.sampled_from(TIMES)))
    who = f'"buyer": {{"id": {json.dumps(buyer)}}}'
    full = f'"tags": [1, {{"it\'s": "yes"}}], "price": {price}, "size": {size}, "at": {at}'
    return draw(st.sampled_from([None, f"{{{who}}}", f"{{{who}, {full}}}", f"{{{who}, {full}}}"]))


@st.composite
def worlds(draw: st.DrawFn, size: int = 4) -> tuple[Any, list[dict[str, Any]], list[Any], bool]:
    """A group, events of a few visitors, anchors at edges of windows, and ``include_anchor``."""
    ttl = draw(st.one_of(st.none(), st.sampled_from(LENGTHS)))
    key = draw(st.sampled_from(KEYS))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=size, max_size=size, unique=True))
    group = group_of(*(draw(attributes(name)) for name in names), ttl=ttl, key=key)
    events = draw(histories(key))
    zone = draw(st.sampled_from([UTC, UTC, ZONED, AS_TEXT]))
    starts = [START.astimezone(zone), *(e["derived_tstamp"].astimezone(zone) for e in events)]
    edges = sorted({start + length for start in starts for length in (timedelta(), *LENGTHS)})
    step = -(-len(edges) // 12)
    times = edges[draw(st.integers(0, step - 1)) :: step]
    users = (*USERS, "unseen", None)
    anchors = [(user, at) for user in users for at in times]
    return group, events, anchors, draw(st.booleans())
