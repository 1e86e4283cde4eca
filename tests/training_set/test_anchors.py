"""Which anchors there are, and their labels: the SQL of both warehouses against plain Python."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snowplow_signals import AtomicProperty, Criteria, Criterion, Event

from prospect_lib.anchors import SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors
from prospect_lib.attributes import PAGE_VIEW, SUBMIT_FORM
from prospect_lib.errors import DataError
from tests.support import snow
from tests.support.worlds import HOUR, START, event, events_table

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
PING = Event(name="page_ping")


def run(anchors: Anchors, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("arriving", events_table(events))
    connection.execute("CREATE TABLE events AS SELECT * FROM arriving")
    rows: list[dict[str, Any]] = (
        connection.sql(anchors.sql(events="events")).to_arrow_table().to_pylist()
    )
    connection.close()
    return rows


@pytest.fixture(scope="module")
def snowflake() -> Iterator[Any]:
    with snow.snowflake() as connected:
        yield connected


@st.composite
def visits(draw: st.DrawFn) -> list[dict[str, Any]]:
    events = []
    steps = [
        timedelta(),
        timedelta(microseconds=1),
        10 * timedelta(seconds=1),
        7 * MINUTE,
        HOUR,
        DAY,
    ]
    for user in ("u1", "u2", "u3"):
        at = START + draw(st.sampled_from([timedelta(), HOUR, 9 * DAY]))
        for _ in range(draw(st.integers(0, 8))):
            at += draw(st.sampled_from(steps))
            name = draw(
                st.sampled_from(
                    ["page_view", "page_view", "page_ping", "submit_form", "link_click"]
                )
            )
            events.append(
                event(
                    at, name, user,
                    domain_sessionid=f"{user}-{at:%d%H}",
                    app_id=draw(st.sampled_from(["website", "docs"])),
                    page_url=draw(st.sampled_from(["https://x.io/demo", "https://x.io/"])),
                )
            )  # fmt: skip
    return draw(st.permutations(events))


ANCHORS = st.builds(
    Anchors,
    at=st.sampled_from([(PAGE_VIEW,), (PAGE_VIEW, PING), (PING,)]),
    every=st.sampled_from([None, 30 * timedelta(seconds=1), 7 * MINUTE]),
    goal_criteria=st.sampled_from(
        [None, Criteria(all=[Criterion.like(AtomicProperty(name="page_url"), "%demo")])]
    ),
    horizon=st.sampled_from([MINUTE, HOUR]),
    app_ids=st.sampled_from([(), ("website",)]),
    first_seen=st.sampled_from([None, (2 * DAY, HOUR)]),
    excluded=st.sampled_from([(), ("link_click",)]),
    min_events=st.sampled_from([0, 2]),
    until_goal=st.booleans(),
    since=st.sampled_from([None, START + 2 * HOUR]),
    until=st.sampled_from([None, START + DAY]),
)


def expected(chosen: Anchors, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same in plain Python, visitor by visitor, each rule as it is documented."""
    left = [
        e for e in events
        if e["event_name"] not in chosen.excluded
        and (chosen.until is None or e["derived_tstamp"] < chosen.until)
    ]  # fmt: skip
    end = max((e["derived_tstamp"] for e in left), default=START)
    rows = []
    for user in sorted({e["domain_userid"] for e in left}):
        own = [e for e in left if e["domain_userid"] == user]
        first = min((e["derived_tstamp"], e["app_id"]) for e in own)
        goals = [e["derived_tstamp"] for e in own if _is_goal(chosen, e)]
        for at in sorted(_places(chosen, own)):
            refused = (
                at > end - chosen.horizon
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
                label = any(at < goal <= at + chosen.horizon for goal in goals)
                rows.append(
                    {"domain_userid": user, "anchor_ts": at.replace(tzinfo=None), "label": label}
                )
    return rows


def _is_goal(chosen: Anchors, e: dict[str, Any]) -> bool:
    meets_criteria = chosen.goal_criteria is None or e["page_url"].endswith("demo")
    return e["event_name"] == "submit_form" and meets_criteria


def _places(chosen: Anchors, events: list[dict[str, Any]]) -> set[datetime]:
    names = {pattern.name for pattern in chosen.at}
    places = {e["derived_tstamp"] for e in events if e["event_name"] in names}
    if chosen.every is not None:
        for session in {e["domain_sessionid"] for e in events}:
            times = [e["derived_tstamp"] for e in events if e["domain_sessionid"] == session]
            for at in times:
                ticks = -((min(times) - at) // chosen.every)  # the next tick, or this one
                places.add(min(times) + ticks * chosen.every)
    return places


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(anchors=ANCHORS, events=visits())
def test_anchors_in_sql_are_those_in_plain_python(
    anchors: Anchors, events: list[dict[str, Any]]
) -> None:
    assert run(anchors, events) == expected(anchors, events)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    anchors=ANCHORS,
    events=visits(),
    cap=st.sampled_from([None, 1]),
    share=st.sampled_from([1.0, 0.5]),
)
def test_snowflake_places_and_samples_the_same_anchors(
    snowflake: Any, anchors: Anchors, events: list[dict[str, Any]], cap: int | None, share: float
) -> None:
    anchors = replace(anchors, per_session=cap, negatives=share)
    snow.load(snowflake, "EVENTS", events_table(events))
    rows = snowflake.cursor().execute(anchors.sql(events="EVENTS", dialect="snowflake")).fetchall()
    assert [tuple(row) for row in rows] == [tuple(row.values()) for row in run(anchors, events)]


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
        ({"every": timedelta()}, "every=0:00:00"),
        ({"at": ()}, r"at=\(\).*every="),
        ({"goal": ()}, "goal=.*at least one event"),
        ({"min_events": -1}, "min_events=-1.*0 or more"),
        ({"per_session": 0}, "per_session=0.*1 or more"),
        ({"negatives": 0}, "negatives=0.*more than 0"),
        ({"negatives": 1.5}, "negatives=1.5"),
        ({"since": START + DAY, "until": START}, "window is empty"),
    ],
)
def test_arguments_without_meaning_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Anchors(**arguments)


def test_the_predefined_anchors_compile() -> None:
    events = [event(START), event(START + DAY, "submit_form")]
    for anchors in (SITE_ANCHORS, TUTORIAL_ANCHORS, Anchors(at=[SUBMIT_FORM])):
        assert all(
            set(row) == {"domain_userid", "anchor_ts", "label"} for row in run(anchors, events)
        )
