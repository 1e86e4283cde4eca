"""Planted faults: each is named with the values it explains, and nothing else is."""

import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.attributes import prospect_group
from prospect_lib.monitoring.audit import EXIT_CLEAN, EXIT_WRONG, AuditReport, audit
from prospect_lib.monitoring.causes import (
    CLOCK,
    COUNTED_TWICE,
    DAY,
    EVENT_TYPE,
    FILTER,
    FRESHNESS,
    FROZEN,
    LATE,
    PROPERTY,
    UNEXPLAINED,
    VALUES,
    WINDOW,
)
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.reports.audit_report import audit_html
from tests.support.served_world import END, Row, World, happened, record, simulated, write

pytestmark = pytest.mark.usefixtures("blank_pictures")
DAY_LENGTH, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MISSING, STOPPED = (END - 2 * DAY_LENGTH).date(), END - 30 * HOUR
BOT = "Googlebot/2.1"
Plant = dict[str, Any]
HOURS_AND_MONTHS = {
    "num_sessions_l30d", "num_apps_l30d", "num_page_views_l30d", "num_page_pings_l30d",
    "num_pricing_views_l30d",
    "first_page_path_l1h", "num_page_views_l1h", "num_key_page_views_l1h",
}  # fmt: skip
#: The others, with every kind of attribute among them; two faults at once are among all.
FEW = prospect_group.model_copy(
    update={"attributes": [a for a in prospect_group.attributes if a.name not in HOURS_AND_MONTHS]}
)
LONG = "PROSPECT_FUZZ" in os.environ  # `make fuzz`
MORE: Plant = {"visitors": 300}  # forms and an eighth of the visitors are rare


def signals_lacks(is_lost: Callable[[Row], bool]) -> Plant:
    return {"seen": lambda events, _at: [e for e in events if not is_lost(e)]}


def warehouse_lacks(is_lost: Callable[[Row], bool]) -> Plant:
    return {"stored": lambda event: [] if is_lost(event) else [event]}


def changed(event: Row, **columns: Any) -> Row:
    """The event with columns of which it has a value replaced by values, or functions of it."""
    new = {n: v(event[n]) if callable(v) else v for n, v in columns.items() if event[n] is not None}
    return event | new


def signals_has(**columns: Any) -> Plant:
    return {"seen": lambda events, _at: [changed(e, **columns) for e in events]}


def warehouse_has(**columns: Any) -> Plant:
    return {"stored": lambda event: [changed(event, **columns)]}


def another_window(part: str, period: timedelta) -> Plant:
    attributes = [
        a.model_copy(update={"period": period}) if part in a.name else a for a in FEW.attributes
    ]
    return {"group": FEW.model_copy(update={"attributes": attributes})}


def is_named(name: str) -> Callable[[Row], bool]:
    return lambda event: event["event_name"] == name


def is_robot(event: Row) -> bool:
    return int(event["domain_userid"].replace("-", "")[:6], 16) % 8 == 0


def is_media(event: Row) -> bool:
    return event["event_vendor"].endswith(".media")


def is_missing(event: Row) -> bool:
    return happened(event).date() == MISSING


def plans(text: str) -> str:
    return text.replace("/pricing", "/plans")


def robots_in_warehouse(event: Row) -> list[Row]:
    return [changed(event, useragent=BOT) if is_robot(event) else event]


FAULTS: dict[str, tuple[Plant, str, str]] = {
    "submit_form uncounted": (
        signals_lacks(is_named("submit_form")), EVENT_TYPE, "did not count events submit_form."
    ),
    "media lost": (signals_lacks(is_media), EVENT_TYPE, "events of com.snowplowanalytics"),
    "page_ping not stored": (
        warehouse_lacks(is_named("page_ping")), EVENT_TYPE, "The warehouse lacks events page_ping."
    ),
    "half of the form events not stored": (
        warehouse_lacks(is_named("change_form")) | MORE, EVENT_TYPE, "lacks events change_form."
    ),
    "an hour ahead": ({"at": lambda at: at + HOUR}, CLOCK, "about 60.0 minutes ahead"),
    "nine minutes behind": ({"at": lambda at: at - 9 * MINUTE}, CLOCK, "9.0 minutes behind"),
    "thirty seconds old": (
        {"seen": lambda events, at: [e for e in events if happened(e) <= at - MINUTE / 2]},
        FRESHNESS, "up to a minute behind",
    ),
    "a page renamed for Signals": (
        signals_has(page_url=plans, page_urlpath=plans), VALUES, "pricing"
    ),
    "a page renamed in the warehouse": (
        warehouse_has(page_url=plans, page_urlpath=plans), VALUES, "plans"
    ),
    "an app renamed for Signals": (
        signals_has(app_id=lambda app: "www" if app == "website" else app),
        VALUES, "app_id 'website' of the warehouse was 'www' for Signals",
    ),
    "a property empty for Signals": (
        signals_has(refr_medium=None), PROPERTY, "Signals had no values of refr_medium."
    ),
    "a property empty in the warehouse": (
        warehouse_has(mkt_campaign=None), PROPERTY, "warehouse has no values of mkt_campaign."
    ),
    "counted twice": (
        {"seen": lambda events, _at: events + events}, COUNTED_TWICE, "counted every event twice."
    ),
    "some stored twice": (
        {"stored": lambda event: [event] * (1 + (event["event_id"] < "4"))},
        COUNTED_TWICE, "The warehouse has events twice.",
    ),
    "another window": (
        another_window("num_page_pings_l7d", DAY_LENGTH), WINDOW, "num_page_pings_l7d over 1 day."
    ),
    "robots left out by Signals": (
        signals_lacks(is_robot) | {"stored": robots_in_warehouse} | MORE,
        FILTER, f"useragent '{BOT}'.",
    ),
    "visitors left out by Signals": (
        signals_lacks(is_robot) | MORE, FILTER, "nothing of some visitors."
    ),
    "visitors left out of the warehouse": (
        warehouse_lacks(is_robot) | MORE, FILTER, "no events of some visitors."
    ),
    "a day not counted": (
        signals_lacks(is_missing), DAY, f"Signals did not count the events of {MISSING}"
    ),
    "a day not stored": (
        warehouse_lacks(is_missing), DAY, f"The warehouse has no events of {MISSING}"
    ),
    "frozen": (
        {"as_of": lambda at: min(at, STOPPED)}, FROZEN, f"since {STOPPED:%Y-%m-%d %H}"
    ),
    "stopped": (
        {"seen": lambda events, _at: [e for e in events if happened(e) <= STOPPED]},
        FROZEN, "counted nothing since",
    ),
    "computed at night": (
        {"as_of": lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0)},
        FROZEN, "last midnight",
    ),
}  # fmt: skip


def audited(world: World) -> AuditReport:
    served, warehouse = world.serve(), world.warehouse()
    try:
        return audit(warehouse, served, world.claimed)
    finally:
        warehouse.close()


def named(report: AuditReport) -> set[str]:
    return {cause for cause, count in report.causes.items() if count}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_and_nothing_else_is(tmp_path: Path, fault: str) -> None:
    plant, cause, part = FAULTS[fault]
    report = audited(
        World(tmp_path / "served", **{"visitors": 120, "group": FEW, "claimed": FEW} | plant)
    )
    assert named(report) == {cause}, report.findings
    (finding,) = report.findings
    (explanation,) = report.explanations
    wrong = int(report.attributes["mismatches"].sum())
    assert part in finding and explanation.values == wrong > 0
    assert finding.endswith(f"It explains {wrong:,} of {wrong:,} values that differ.")
    assert explanation.sentence.rstrip(".") in audit_html(report).replace("&#39;", "'")


@pytest.mark.parametrize(
    ("plant", "causes", "parts"),
    [
        (
            warehouse_lacks(is_named("page_ping"))
            | {"seen": lambda events, at: [e for e in events if happened(e) < at]},
            {FRESHNESS, EVENT_TYPE},
            ["up to a minute behind", "The warehouse lacks events page_ping."],
        ),
        (
            {"seen": lambda events, _at: [e for e in events * 2 if not is_missing(e)]},
            {COUNTED_TWICE, DAY},
            ["every event twice", f"did not count the events of {MISSING}"],
        ),
        (
            {
                "seen": lambda events, _at: [
                    changed(e, page_url=plans) for e in events if e["event_name"] != "submit_form"
                ]
            },
            {EVENT_TYPE, VALUES},
            ["did not count events submit_form", "page_url like '%pricing%'"],
        ),
    ],
    ids=["old values and a lost type", "twice but for a day", "renamed and uncounted"],
)  # fmt: skip
def test_two_faults_at_once_are_both_named(
    tmp_path: Path, plant: Plant, causes: set[str], parts: list[str]
) -> None:
    report = audited(World(tmp_path / "served", visitors=120, **plant))
    assert named(report) == causes and report.exit_code == EXIT_WRONG
    assert all(part in " ".join(report.findings) for part in parts), report.findings
    explained = sum(explanation.values for explanation in report.explanations)
    assert explained == report.attributes["mismatches"].sum()


def test_what_no_cause_explains_is_not_known_and_shown(tmp_path: Path) -> None:
    """Another visitor's events are counted."""
    others = [e for e in simulated(60).to_pylist() if e["event_name"] == "page_ping"]
    rng = random.Random(0)
    world = World(tmp_path / "served", visitors=60)
    world.seen = lambda events, _at: [*events, *rng.sample(others, k=rng.randrange(40))]
    report = audited(world)
    assert named(report) == {UNEXPLAINED} and report.exit_code == EXIT_WRONG
    (finding,) = report.findings
    assert finding.startswith("Not known: no cause explains")
    assert set(report.examples["cause"]) == {UNEXPLAINED}


@pytest.mark.parametrize("seed", [1, *([2, 3] if LONG else [])])
def test_ten_clean_days_with_late_events_raise_nothing(tmp_path: Path, seed: int) -> None:
    """Of 128 events one is sent half an hour late."""
    delay, group = HOUR / 2, prospect_group
    table = simulated(150, 24, seed)

    def is_late(event: Row) -> bool:
        return bool(event["event_id"] < "02")

    visitors: dict[str, list[Row]] = {}
    for event in table.to_pylist():
        visitors.setdefault(event["domain_userid"], []).append(event)
    world = World(
        tmp_path, visitors=150, days=24, seed=seed,
        stored=lambda e: [e | {"collector_tstamp": e["derived_tstamp"] + is_late(e) * delay}],
    )  # fmt: skip
    warehouse, late = world.warehouse(), 0
    for day in (END - n * DAY_LENGTH for n in range(1, 11)):
        records = []
        for visitor, events in visitors.items():
            for event in events:
                at = happened(event)
                if event["event_name"] == "page_view" and at.date() == day.date():
                    known = [e for e in events if happened(e) + is_late(e) * delay <= at]
                    records.append(record(visitor, attribute_values(group, known, at), at, group))
        folder = tmp_path / f"{day:%d}"
        folder.mkdir()
        write(folder, records)
        report = audit(warehouse, read_served(folder, group), group, tolerated=0.6)
        assert report.findings == () and report.exit_code == EXIT_CLEAN
        assert named(report) <= {LATE, FRESHNESS}
        late += report.causes[LATE]
    warehouse.close()
    assert late, "some days have late events"
