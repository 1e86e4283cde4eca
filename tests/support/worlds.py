"""Random worlds for parity tests: an attribute group, histories with edge cases, and anchors."""

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
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

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.attributes import PAGE_VIEW

#: How many random worlds a test draws: 0 for its own small number; ``make parity`` sets many.
EXAMPLES = int(os.environ.get("PROSPECT_PARITY", 0))
#: How many values were compared with the fold's, by the warehouse that computed them.
COMPARED: Counter[str] = Counter()
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
    "user_id": pa.string(),
    "network_userid": pa.string(),
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


def events_table(events: list[dict[str, Any]]) -> pa.Table:
    """Events as atomic columns, nested ones as JSON text."""
    rows = [
        {
            name: json.dumps(value) if isinstance(value, dict | list)
            else value.replace(tzinfo=None) if isinstance(value, datetime) else value
            for name in COLUMNS
            for value in [e.get(name)]
        }
        for e in events
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(COLUMNS))


def anchors_table(anchors: list[tuple[str, datetime]]) -> pa.Table:
    rows = [{"domain_userid": u, "anchor_ts": t.replace(tzinfo=None)} for u, t in anchors]
    schema = pa.schema({"domain_userid": pa.string(), "anchor_ts": pa.timestamp("us")})
    return pa.Table.from_pylist(rows, schema=schema)


def served(
    group: StreamAttributeGroup,
    events: list[dict[str, Any]],
    user: str,
    at: datetime,
    inclusive: bool,
) -> dict[str, Any]:
    """The fold's values for one visitor."""
    own = [e for e in events if e["domain_userid"] == user]
    return attribute_values(group, own, at, include_anchor=inclusive)


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
    EventProperty(
        vendor="com.acme", name="item", major_version=1, path="$.at", date_part="hour_of_day"
    ),
    EventProperty(
        vendor="com.acme", name="item", major_version=1, path="$.at", date_part="active_day"
    ),
]
TIMES = [
    None, "never", "2026-01-05", "2026-01-05T01:30:00", "2026-01-05T01:30:00Z",
    "2026-01-05T01:30:00+02:00", "2026-01-05 22:30:00.5-05:30",
]  # fmt: skip
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
        tags, ordered = [1, {"it's": "yes"}], draw(st.sampled_from(TIMES))
        full = {"price": price, "tags": tags, "at": ordered}
        item = draw(st.sampled_from([None, {}, full]))
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


@st.composite
def worlds(draw: st.DrawFn, size: int = 4) -> tuple[Any, list[dict[str, Any]], list[Any], bool]:
    """A group, events of a few visitors, anchors at edges of windows, and ``include_anchor``."""
    ttl = draw(st.one_of(st.none(), st.sampled_from(LENGTHS)))
    group = group_of(*(draw(attributes(f"a{i}")) for i in range(size)), ttl=ttl)
    events = draw(histories())
    edges = [e["derived_tstamp"] + d for e in events for d in (timedelta(), *LENGTHS)]
    times = draw(st.lists(st.sampled_from([*edges, START]), min_size=1, max_size=8, unique=True))
    anchors = [(user, at) for user in ("u1", "u2", "nobody") for at in times]
    return group, events, anchors, draw(st.booleans())
