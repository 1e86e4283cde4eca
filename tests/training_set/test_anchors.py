"""Which anchors there are, and their labels: the SQL of both warehouses against plain Python."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowplow_signals import (
    AtomicProperty,
    AttributeKey,
    Criteria,
    Criterion,
    EntityProperty,
    Event,
    domain_sessionid,
)

from prospect_lib.anchors import SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors
from prospect_lib.attributes import PAGE_VIEW, SUBMIT_FORM
from prospect_lib.errors import DataError, DefinitionError
from tests.support import snow
from tests.support.worlds import EXAMPLES, HOUR, START, event, events_table

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
PING = Event(name="page_ping")
COLLECTOR = ("collector_tstamp",)


def table_of(events: list[dict[str, Any]]) -> pa.Table:
    """The events, with collector times if they have them."""
    table = events_table(events)
    if not events or "collector_tstamp" not in events[0]:
        return table
    times = pa.array([e["collector_tstamp"].replace(tzinfo=None) for e in events])
    return table.append_column("collector_tstamp", times.cast(pa.timestamp("us")))


def run(anchors: Anchors, events: list[dict[str, Any]], **arguments: Any) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("arriving", table_of(events))
    connection.execute("CREATE TABLE events AS SELECT * FROM arriving")
    sql = anchors.sql(events="events", **arguments)
    rows: list[dict[str, Any]] = connection.sql(sql).to_arrow_table().to_pylist()
    connection.close()
    return rows


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Any]:
    with snow.snowflake() as connected:
        yield connected


NOBODY = ["", "00000000-0000-0000-0000-000000000000", None]
#: How long after an event the collector received it; the last four are wrong clocks.
DELAYS = [
    timedelta(), timedelta(seconds=1), -MINUTE, -HOUR, 29 * DAY,
    -HOUR - timedelta(microseconds=1), 31 * DAY, 7 * 365 * DAY, -5 * 365 * DAY,
]  # fmt: skip


@st.composite
def visits(draw: st.DrawFn, collector: bool = False) -> list[dict[str, Any]]:
    events = []
    steps = [
        timedelta(),
        timedelta(microseconds=1),
        10 * timedelta(seconds=1),
        7 * MINUTE,
        HOUR,
        DAY,
    ]
    for user in ("u1", "u2", "u3", draw(st.sampled_from(NOBODY))):
        at = START + draw(st.sampled_from([timedelta(), HOUR, 9 * DAY]))
        for _ in range(draw(st.integers(0, 8))):
            at += draw(st.sampled_from(steps))
            name = draw(
                st.sampled_from(
                    ["page_view", "page_view", "page_ping", "submit_form", "link_click"]
                )
            )
            delay = draw(st.sampled_from([timedelta()] * 9 + DELAYS)) if collector else timedelta()
            events.append(
                event(
                    at - delay, name, user,
                    domain_sessionid=user and f"{user}-{at:%d%H}",
                    app_id=draw(st.sampled_from(["website", "docs"])),
                    page_url=draw(st.sampled_from(["https://x.io/demo", "https://x.io/"])),
                    **({"collector_tstamp": at} if collector else {}),
                )
            )  # fmt: skip
    return draw(st.permutations(events))


ANCHORS = st.builds(
    Anchors,
    at=st.sampled_from([(PAGE_VIEW,), (PAGE_VIEW, PING), (PING,), Event()]),
    every=st.sampled_from([None, 30 * timedelta(seconds=1), 7 * MINUTE]),
    goal_criteria=st.sampled_from(
        [None, Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%demo")])]
    ),
    horizon=st.sampled_from([MINUTE, HOUR, "session"]),
    session_timeout=st.sampled_from([timedelta(minutes=30), 2 * DAY]),
    app_ids=st.sampled_from([(), ("website",)]),
    first_seen=st.sampled_from([None, None, (2 * DAY, HOUR)]),
    excluded=st.sampled_from([(), ("link_click",)]),
    min_events=st.sampled_from([0, 0, 2]),
    until_goal=st.booleans(),
    per_session=st.sampled_from([None, None, 1, 2]),
    since=st.sampled_from([None, START + 2 * HOUR]),
    until=st.sampled_from([None, START + DAY]),
)
SAMPLED = st.builds(
    lambda anchors, sampling: replace(anchors, **sampling),
    ANCHORS,
    st.sampled_from(
        [{}, {"negatives": 0.5}, *({"negatives_per_positive": k} for k in (0.3, 1, 2.5, 5))]
    ),
)


def key_of(chosen: Anchors) -> str:
    return "domain_sessionid" if chosen.horizon == "session" else "domain_userid"


def expected(chosen: Anchors, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in plain Python, visitor by visitor, each rule as it is documented."""
    key = key_of(chosen)
    right = [
        e for e in events
        if e[key] not in NOBODY
        and -30 * DAY <= e["derived_tstamp"] - collected(e) <= HOUR
        and (chosen.until is None or max(e["derived_tstamp"], collected(e)) < chosen.until)
    ]  # fmt: skip
    left = [e for e in right if e["event_name"] not in chosen.excluded]
    end = max((collected(e) for e in left), default=START)
    rows = []
    for user in sorted({e[key] for e in left}):
        own = [e for e in left if e[key] == user]
        first = min((e["derived_tstamp"], e["app_id"]) for e in own)
        goals = [e["derived_tstamp"] for e in own if _is_goal(chosen, e)]
        places = _places(chosen, own)
        for at in sorted(places):
            refused = (
                _is_censored(chosen, at, [e for e in right if e[key] == user], end)
                or (chosen.app_ids and first[1] not in chosen.app_ids)
                or (chosen.since is not None and at < chosen.since)
                or (chosen.until_goal and any(goal <= at for goal in goals))
                or sum(e["derived_tstamp"] < at for e in own) < chosen.min_events
            )
            if (
                chosen.first_seen
                and not end - chosen.first_seen[0] <= first[0] <= end - chosen.first_seen[1]
            ):
                refused = True
            if not refused:
                horizon = 999 * DAY if isinstance(chosen.horizon, str) else chosen.horizon
                label = any(at < goal <= at + horizon for goal in goals)
                row = {key: user, "anchor_ts": at.replace(tzinfo=None), "label": label}
                rows.append((row, min(places[at])))
    return _sampled(chosen, rows)


def _is_censored(chosen: Anchors, at: datetime, own: list[Any], end: datetime) -> bool:
    if isinstance(chosen.horizon, str):
        return bool(max(e["derived_tstamp"] for e in own) > end - chosen.session_timeout)
    return at > end - chosen.horizon


def collected(e: dict[str, Any]) -> datetime:
    moment: datetime = e.get("collector_tstamp", e["derived_tstamp"])
    return moment


def _is_goal(chosen: Anchors, e: dict[str, Any]) -> bool:
    meets_criteria = chosen.goal_criteria is None or e["page_url"].endswith("demo")
    return e["event_name"] == "submit_form" and meets_criteria


def _places(chosen: Anchors, events: list[dict[str, Any]]) -> dict[datetime, set[str]]:
    """The instants, with the sessions in which they are."""
    names = {pattern.name for pattern in chosen.at}
    places: dict[datetime, set[str]] = {}
    for e in events:
        if e["event_name"] in names or None in names:
            places.setdefault(e["derived_tstamp"], set()).add(e["domain_sessionid"])
    if chosen.every is not None:
        for session in {e["domain_sessionid"] for e in events}:
            times = [e["derived_tstamp"] for e in events if e["domain_sessionid"] == session]
            for at in times:
                ticks = -((min(times) - at) // chosen.every)  # the next tick, or this one
                places.setdefault(min(times) + ticks * chosen.every, set()).add(session)
    return places


def _sampled(chosen: Anchors, rows: list[tuple[dict[str, Any], str]]) -> list[dict[str, Any]]:
    """The rows that sampling keeps, with their weight."""
    key = key_of(chosen)

    def digest(row: dict[str, Any]) -> str:
        microseconds = (row["anchor_ts"] - datetime(1970, 1, 1)) // timedelta(microseconds=1)
        return hashlib.md5(f"{row[key]} {microseconds} {chosen.seed}".encode()).hexdigest()

    sessions: dict[Any, list[dict[str, Any]]] = {}
    for row, session in rows:
        sessions.setdefault((row[key], session), []).append(row)
    left = []
    for own in sessions.values():
        left += sorted(own, key=lambda row: (digest(row), row["anchor_ts"]))[: chosen.per_session]
    positives = [row for row in left if row["label"]]
    negatives = sorted((row for row in left if not row["label"]), key=digest)
    total = len(negatives)
    if chosen.negatives_per_positive is not None:
        ratio = Fraction(str(chosen.negatives_per_positive))
        negatives = negatives[: floor(max(ratio * len(positives), 1))]
        weight = total / max(len(negatives), 1)
    else:
        limit = f"{round(chosen.negatives * 16**8):08x}" if chosen.negatives < 1 else "g"
        negatives = [row for row in negatives if digest(row)[16:24] < limit]
        weight = 1 / chosen.negatives
    samples = chosen.negatives < 1 or chosen.negatives_per_positive is not None
    weighted = [(row, 1.0) for row in positives] + [(row, weight) for row in negatives]
    weighted.sort(key=lambda pair: (pair[0][key], pair[0]["anchor_ts"]))
    return [row | {"weight": w} if samples else row for row, w in weighted]


@pytest.mark.parametrize("collector", [False, True])
@settings(max_examples=EXAMPLES or 50, suppress_health_check=list(HealthCheck))
@given(anchors=SAMPLED, data=st.data())
def test_anchors_in_sql_are_those_in_plain_python(
    collector: bool, anchors: Anchors, data: st.DataObject
) -> None:
    events = data.draw(visits(collector))
    columns = COLLECTOR if collector and events else ()
    assert run(anchors, events, key=key_of(anchors), columns=columns) == expected(anchors, events)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(anchors=SAMPLED, collector=st.booleans(), data=st.data())
def test_snowflake_places_and_samples_the_same_anchors(
    snowflake: Any, anchors: Anchors, collector: bool, data: st.DataObject
) -> None:
    events = data.draw(visits(collector))
    snow.load(snowflake, "EVENTS", table_of(events))
    how = {"key": key_of(anchors), "columns": COLLECTOR if collector and events else ()}
    sql = anchors.sql(events="DB.PUBLIC.EVENTS", dialect="snowflake", **how)
    rows = snowflake.cursor().execute(sql).fetchall()
    assert [tuple(row) for row in rows] == [
        tuple(row.values()) for row in run(anchors, events, **how)
    ]


@pytest.mark.parametrize("every", [timedelta(seconds=10), timedelta(hours=1), timedelta(days=7)])
def test_a_microsecond_after_a_tick_the_next_one_follows(snowflake: Any, every: timedelta) -> None:
    """However long the ticks are; Snowflake rounds a quotient of integers to six decimals."""
    after = [timedelta(), every, every + timedelta(microseconds=1), 9 * every]
    events = [event(START + elapsed, domain_sessionid="s") for elapsed in after]
    anchors = Anchors(at=(), every=every, horizon=timedelta(microseconds=1))
    snow.load(snowflake, "EVENTS", table_of(events))
    statement = anchors.sql(events="DB.PUBLIC.EVENTS", dialect="snowflake")
    ticks = [(START + n * every).replace(tzinfo=None) for n in (0, 1, 2)]
    assert [row[1] for row in snowflake.cursor().execute(statement).fetchall()] == ticks
    assert [row["anchor_ts"] for row in run(anchors, events)] == ticks


def many() -> list[dict[str, Any]]:
    """200 visitors of two sessions with ten page views each; a tenth submits after the first."""
    events = []
    for user in range(200):
        for session in range(2):
            for view in range(10):
                at = START + session * DAY + view * MINUTE + timedelta(seconds=user)
                own = {"user": f"u{user}", "domain_sessionid": f"{user}-{session}"}
                events.append(event(at, **own))
                if user % 10 == 0 and view == 9 and session == 0:
                    events.append(event(at + MINUTE, "submit_form", **own))
    return [*events, event(START + 3 * DAY, "page_ping", "last")]


def test_sampled_negatives_are_the_same_for_a_seed_and_weighted_to_stand_for_all() -> None:
    events, sampling = many(), Anchors(negatives=0.25)
    rows, all_rows = run(sampling, events), run(Anchors(), events)
    assert rows == run(sampling, events) and rows != run(replace(sampling, seed=1), events)
    assert sum(r["label"] for r in rows) == sum(r["label"] for r in all_rows) == 200
    assert {(r["label"], r["weight"]) for r in rows} == {(True, 1.0), (False, 4.0)}
    assert sum(r["weight"] for r in rows) == pytest.approx(len(all_rows), rel=0.1)
    kept = {(r["domain_userid"], r["anchor_ts"]) for r in rows}
    assert kept < {(r["domain_userid"], r["anchor_ts"]) for r in all_rows}


def test_anchors_per_session_are_limited_and_not_always_the_first() -> None:
    rows = run(Anchors(per_session=3), many())
    assert len(rows) == 200 * 2 * 3
    views = [
        (r["anchor_ts"] - START.replace(tzinfo=None)) % DAY
        - timedelta(seconds=int(r["domain_userid"][1:]))
        for r in rows
    ]
    first_views = sum(view < 3 * MINUTE for view in views)
    assert 0.2 < first_views / len(rows) < 0.5


def test_ticks_need_an_event_since_the_tick_before() -> None:
    events = [
        event(START + timedelta(seconds=s), "page_ping", domain_sessionid="a") for s in (0, 4, 61)
    ]
    events.append(event(START + DAY, "page_ping", user="u2", domain_sessionid="b"))
    rows = run(Anchors(at=(), every=timedelta(seconds=10)), events)
    assert [(r["anchor_ts"] - START.replace(tzinfo=None)).seconds for r in rows] == [0, 10, 70]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": timedelta()}, "horizon=0:00:00.*longer than nothing"),
        ({"horizon": "hour"}, "horizon='hour'.*or \"session\""),
        ({"horizon": 3600}, "horizon=3600.*timedelta"),
        ({"every": timedelta()}, "every=0:00:00"),
        ({"every": 10}, r"every=10.*timedelta\(minutes=10\)"),
        ({"at": ()}, r"at=\(\).*every="),
        ({"at": "page_view"}, r"at='page_view'.*Event\(name"),
        ({"at": [SUBMIT_FORM, "page_view"]}, "at='page_view'.*events"),
        ({"goal": ()}, "goal=.*at least one event"),
        ({"goal": 3}, "goal=3.*a list of events"),
        (
            {"goal_criteria": Criterion.eq(AtomicProperty(name="app_id"), "x")},
            "a value of type Criterion",
        ),
        ({"app_ids": [1]}, "app_ids=1.*texts"),
        ({"app_ids": None}, "app_ids=None.*texts"),
        ({"excluded": PAGE_VIEW}, "excluded of Anchors: a value of type Event.*texts"),
        ({"at": {"name": "page_view"}}, "at of Anchors: a value of type dict.*a list of events"),
        ({"min_events": -1}, "min_events=-1.*0 or more"),
        ({"min_events": 1.5}, "min_events=1.5.*whole number"),
        ({"per_session": 0}, "per_session=0.*1 or more"),
        ({"per_session": True}, "per_session=True.*whole number"),
        ({"negatives": 0}, "negatives=0.*more than 0"),
        ({"negatives": 1.5}, "negatives=1.5"),
        ({"negatives": "0.1"}, "negatives='0.1'.*a number"),
        ({"negatives_per_positive": 0}, "negatives_per_positive=0.*more than 0"),
        ({"negatives_per_positive": float("nan")}, "negatives_per_positive=nan"),
        ({"negatives": 0.1, "negatives_per_positive": 5}, "exclude each other"),
        ({"first_seen": 30 * DAY}, "first_seen=30 days.*two timedeltas"),
        ({"first_seen": (HOUR, DAY)}, "first_seen.*the longer first"),
        ({"first_seen": (60, 30)}, "first_seen.*two timedeltas"),
        ({"session_timeout": 1800}, "session_timeout=1800.*timedelta"),
        ({"until_goal": "yes"}, "until_goal='yes'.*True or False"),
        ({"seed": "1'"}, 'seed="1\'".*whole number'),
        ({"since": "yesterday"}, "since='yesterday'.*2026-01-31"),
        ({"until": 20260131}, "until=20260131.*2026-01-31"),
        ({"since": START + DAY, "until": START}, "window is empty"),
    ],
)
def test_arguments_without_meaning_are_refused_by_one_line(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as refused:
        Anchors(**arguments)
    text = str(refused.value)
    assert "\n" not in text and len(text) < 160 and " object at " not in text


def test_one_event_or_text_stands_for_a_list_and_text_for_a_time() -> None:
    single = Anchors(at=PAGE_VIEW, goal=SUBMIT_FORM, app_ids="website", since="2026-01-31")
    several = Anchors([PAGE_VIEW], None, [SUBMIT_FORM], app_ids=["website"])
    assert single == replace(several, since=datetime(2026, 1, 31))
    assert single == replace(several, since=date(2026, 1, 31))
    assert Anchors(until="2026-01-31T06:00Z").until == datetime(2026, 1, 31, 6, tzinfo=UTC)


# --- the rest of a session -----------------------------------------------------------------


def test_the_rest_of_a_session_needs_sessions_as_the_key() -> None:
    anchors = Anchors(horizon="session")
    with pytest.raises(DefinitionError, match=r'horizon="session".*domain_userid.*hours=1'):
        anchors.sql(events="events")
    under_another_name = AttributeKey(
        name="visit", owner="a@example.com", property=AtomicProperty(name="domain_sessionid")
    )
    for key in ("domain_sessionid", domain_sessionid, under_another_name):
        assert "goal_follows" in anchors.sql(events="events", key=key)
    assert anchors.label_delay == DAY and Anchors().label_delay == HOUR


def test_a_session_that_may_still_go_on_has_no_rows() -> None:
    """Sessions a to c end 31, 30 and 29 minutes before the end of the data, that of session d."""
    events = [
        event(START + (31 - n) * MINUTE + at, name, domain_sessionid=session)
        for session, n in (("a", 31), ("b", 30), ("c", 29), ("d", 0))
        for at, name in ((-MINUTE, "page_view"), (timedelta(), "submit_form"))
    ]
    rows = run(Anchors(horizon="session"), events, key="domain_sessionid")
    assert [(r["domain_sessionid"], r["label"]) for r in rows] == [("a", True), ("b", True)]


def test_without_a_positive_a_few_negatives_are_left_for_the_model_to_refuse() -> None:
    events = [e for e in many() if e["event_name"] != "submit_form"]
    rows = run(Anchors(negatives_per_positive=5), events)
    assert [r["label"] for r in rows] == [False]
    assert rows[0]["weight"] == 4000


def test_negatives_per_positive_keeps_the_weight_of_all() -> None:
    rows = run(Anchors(negatives_per_positive=2.5), many())
    weights = [r["weight"] for r in rows if not r["label"]]
    assert sum(r["label"] for r in rows) == 200 and len(weights) == 500
    assert sum(weights) == pytest.approx(4000 - 200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": Event(event_specification_id="x")}, "at of the anchors.*event_specification_id"),
        ({"goal": Event(event_specification_id="x")}, "goal of the anchors.*specification"),
        (
            {"goal_criteria": Criteria(all=[Criterion.gt(AtomicProperty(name="app_id"), 1e300)])},
            "goal of the anchors.*below 1e99",
        ),
    ],
)
def test_events_that_cannot_be_evaluated_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        Anchors(**arguments).sql(events="events")


def test_another_type_than_a_key_is_refused() -> None:
    with pytest.raises(DefinitionError, match="a int, expected a column, an attribute key or a gr"):
        Anchors().sql(events="events", key=3)  # type: ignore[arg-type]


def test_a_key_that_is_called_like_another_column_is_refused() -> None:
    key = AttributeKey(name="Label", owner="a@example.com", property=AtomicProperty(name="app_id"))
    with pytest.raises(DefinitionError, match="attribute key 'Label': a training set has a column"):
        Anchors().sql(events="events", key=key)


# --- keys ------------------------------------------------------------------------------------

BUYER = EntityProperty(
    vendor="nl.basjes", name="yauaa_context", major_version=1, path="deviceClass"
)


@pytest.mark.parametrize(
    "key",
    [
        "app_id",
        AttributeKey(name="app_id", owner="a@example.com", property=AtomicProperty(name="app_id")),
        AttributeKey(name="buyer", owner="a@example.com", property=AtomicProperty(name="app_id")),
        AttributeKey(name="buyer", owner="a@example.com", property=BUYER),
    ],
    ids=["column", "same name", "another name", "entity"],
)
def test_any_attribute_key_identifies_a_visitor(key: Any) -> None:
    own = {"app_id": "b1", "contexts_nl_basjes_yauaa_context_1": [{"deviceClass": "b1"}]}
    nobody = {"app_id": "", "contexts_nl_basjes_yauaa_context_1": []}
    events = [
        event(START, user="u1", **own),
        event(START + MINUTE, "submit_form", user="u2", **own),
        event(START + MINUTE, user="u1", **nobody),
        event(START + DAY, user="u3", **own),
    ]
    name = key if isinstance(key, str) else key.name
    assert run(Anchors(), events, key=key) == [
        {name: "b1", "anchor_ts": START.replace(tzinfo=None), "label": True}
    ]


def test_the_predefined_anchors_compile() -> None:
    events = [event(START), event(START + DAY, "submit_form")]
    for anchors in (SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors(at=[SUBMIT_FORM])):
        assert all(
            set(row) == {"domain_userid", "anchor_ts", "label"} for row in run(anchors, events)
        )
