"""Monitoring of scores by any attribute key: audit, outcomes of sessions, history, mixed logs."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from snowplow_signals import (
    AtomicProperty,
    Attribute,
    AttributeKey,
    Criteria,
    Criterion,
    EntityProperty,
    Event,
    StreamAttributeGroup,
    domain_sessionid,
    domain_userid,
    network_userid,
    user_id,
)

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.anchors import Anchors
from prospect_lib.errors import DataError, DefinitionError
from prospect_lib.monitoring.audit import EXIT_ATTENTION, EXIT_CLEAN, audit
from prospect_lib.monitoring.backfill import measure_backfill
from prospect_lib.monitoring.causes import FRESHNESS, HISTORY, LATE
from prospect_lib.monitoring.drift import measure_drift
from prospect_lib.monitoring.outcomes import measure_outcomes, served_anchors
from prospect_lib.monitoring.served_scores import read_served, read_served_features
from prospect_lib.problem import ScoringProblem, problem_of
from prospect_lib.training_set import extract
from prospect_lib.warehouse import DuckDBWarehouse
from tests.support.served_world import record, write

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ENTITY = "contexts_com_acme_customer_1"
CUSTOMER = AttributeKey(
    name="customer_id",
    property=EntityProperty(vendor="com.acme", name="customer", major_version=1, path="id"),
)
KEYS = [user_id, domain_sessionid, network_userid, CUSTOMER]
WHO = "eve+1@example.com 'é'"


def group_by(key: AttributeKey, name: str = "shop") -> StreamAttributeGroup:
    page_view = [Event(name="page_view")]
    return StreamAttributeGroup(
        name=name,
        version=1,
        attribute_key=key,
        owner="a@example.com",
        ttl=timedelta(days=30),
        attributes=[
            Attribute(name="NumViews", type="int64", events=page_view, aggregation="counter"),
            Attribute(
                name="score",  # as a column of served rows
                type="string",
                events=page_view,
                aggregation="last",
                property=AtomicProperty(name="app_id"),
            ),
        ],
    )


def event(who: str, at: datetime, name: str = "page_view", **columns: Any) -> dict[str, Any]:
    """An event about a visitor by every key."""
    atomic = dict.fromkeys(["domain_userid", "user_id", "domain_sessionid", "network_userid"], who)
    row = {
        **atomic,
        ENTITY: json.dumps([{"id": who}]),
        "event_name": name,
        "app_id": "web",
        "derived_tstamp": at,
        "collector_tstamp": at,
        **columns,
    }
    for time in ("derived_tstamp", "collector_tstamp"):
        row[time] = row[time].replace(tzinfo=None)
    return row


def warehouse_of(events: list[dict[str, Any]]) -> DuckDBWarehouse:
    opened = DuckDBWarehouse.over("SELECT NULL AS nothing")
    opened.connection.register("stored", pa.Table.from_pylist(events))
    opened.run("CREATE OR REPLACE TABLE events AS SELECT * FROM stored")
    opened.connection.unregister("stored")
    return opened


def serve(folder: Path, group: StreamAttributeGroup, events: list[Any], *moments: Any) -> pa.Table:
    """Log what was served at (visitor, moment), or of (visitor, moment, events known then)."""
    records = []
    for who, at, *known in moments:
        values = attribute_values(group, known[0] if known else events, at)
        records.append(record(who, values, at, group, score=0.25))
    write(folder, records)
    return read_served(folder, group)


@pytest.mark.parametrize("key", KEYS, ids=lambda key: str(key.name))
def test_an_audit_by_any_key_explains_late_and_recent_and_old_events(tmp_path: Path, key) -> None:
    group = group_by(key)
    events = [event(WHO, AT - 9 * HOUR), event(WHO, AT), event(WHO, AT + HOUR)]
    late = event(WHO, AT + 2 * HOUR, collector_tstamp=AT + 4 * HOUR)
    others = [event("other", AT - 9 * HOUR), event("", AT)]
    warehouse = warehouse_of([*events, late, *others])
    served = serve(tmp_path, group, events, (WHO, AT + 3 * MINUTE), (WHO, AT + 2 * HOUR))
    assert served[str(key.name)].to_pylist() == [WHO, WHO]
    report = audit(warehouse, served.slice(0, 1), group)
    assert report.exit_code == EXIT_CLEAN, report.summary()
    report = audit(warehouse, served, group)
    assert report.causes[LATE] == 1 and report.exit_code == EXIT_ATTENTION
    assert list(report.examples.columns)[1] == key.name
    served = serve(tmp_path, group, events, (WHO, AT, events[:1]))
    assert audit(warehouse, served, group).causes[FRESHNESS] == 1
    since = AT - HOUR
    served = serve(tmp_path, group, events, (WHO, AT + 9 * MINUTE, events[1:2]))
    assert audit(warehouse, served, group, known_since=since).causes[HISTORY] == 1
    history = measure_backfill(warehouse, served, since, problem=group)
    assert (history.visitors, history.with_history) == (1, 1)


def shop(key: AttributeKey, **anchors: Any) -> ScoringProblem:
    goal = Anchors(goal=[Event(name="transaction")], **anchors)
    return problem_of(group_by(key)).with_anchors(goal)


def outcomes_of(folder: Path, problem: ScoringProblem, events: list[Any], *moments: Any) -> Any:
    served = serve(folder, problem.group, events, *moments)
    return measure_outcomes(warehouse_of(events), served, problem)


def test_the_outcome_of_a_session_is_a_goal_later_in_it_once_it_has_ended(tmp_path: Path) -> None:
    events = [
        event("buys", AT),
        event("buys", AT + 5 * HOUR, "transaction"),
        event("leaves", AT),
        event("goes on", AT),
        event("goes on", AT + 6 * HOUR),
        event("buys at once", AT, "transaction"),
        event("buys in 2031", AT),
        event("buys in 2031", AT + timedelta(days=2000), "transaction", collector_tstamp=AT + HOUR),
    ]
    problem = shop(domain_sessionid, horizon="session")
    visitors = ["buys", "leaves", "goes on", "buys at once", "buys in 2031", "no event yet"]
    report = outcomes_of(tmp_path, problem, events, *((who, AT) for who in visitors))
    labels = dict(zip(report.rows["domain_sessionid"], report.rows["label"], strict=True))
    assert labels == {
        "buys": True, "leaves": False, "buys at once": False, "buys in 2031": False,
        "no event yet": False,
    }  # fmt: skip
    assert report.censored == 1, "the session that goes on"
    assert report.key == "domain_sessionid" and report.calibration().value == 1 / (5 * 0.25)


def test_outcomes_by_user_follow_the_goal_its_criteria_and_the_horizon(tmp_path: Path) -> None:
    criteria = Criteria(all=[Criterion.eq(AtomicProperty(name="app_id"), "shop")])
    problem = shop(user_id, horizon=timedelta(days=1), goal_criteria=criteria, until_goal=True)
    events = [
        event("buys", AT + 20 * HOUR, "transaction", app_id="shop"),
        event("elsewhere", AT + 20 * HOUR, "transaction"),
        event("late", AT + 25 * HOUR, "transaction", app_id="shop"),
        event("before", AT - HOUR, "transaction", app_id="shop"),
        event("end", AT + 25 * HOUR),
    ]
    visitors = ["buys", "elsewhere", "late", "before"]
    moments = [*((who, AT) for who in visitors), ("buys", AT + 2 * HOUR)]
    report = outcomes_of(tmp_path, problem, events, *moments)
    labels = dict(zip(report.rows["user_id"], report.rows["label"], strict=True))
    assert labels == {"buys": True, "elsewhere": False, "late": False}
    assert (report.censored, report.after_goal) == (1, 1)
    assert "1 not yet, 1 after a goal" in report.summary()
    warehouse = warehouse_of(events)
    anchors = served_anchors(warehouse, tmp_path, problem)
    table = extract(warehouse, problem, anchors).table
    assert table.column_names[0] == "user_id"
    assert sorted(table["user_id"].to_pylist()) == ["buys", "elsewhere", "late"]


def test_scores_of_another_key_or_group_in_the_folder_are_left_out(tmp_path: Path) -> None:
    groups = [group_by(user_id), group_by(domain_userid), group_by(user_id, "other")]
    values = {"NumViews": 2, "score": "web"}
    records = [record(f"u{i}", values, AT, group) for i, group in enumerate(groups)]
    write(tmp_path, records)
    served = read_served(str(tmp_path), problem_of(groups[0]))
    (row,) = served.to_pylist()
    assert (row["user_id"], row["NumViews"], row["signals.score"], row["score"]) == (
        "u0", 2.0, "web", 0.1,
    )  # fmt: skip
    with pytest.raises(DataError, match="no score of attribute group 'shop' and key 'customer_id'"):
        read_served(tmp_path, group_by(CUSTOMER))
    with pytest.raises(DataError, match=r"served has no column 'domain_userid'.*same scoring"):
        measure_outcomes(warehouse_of([event("u0", AT)]), served, groups[1])


def test_drift_by_any_key_counts_its_visitors(tmp_path: Path) -> None:
    problem = problem_of(group_by(user_id))
    training = pd.DataFrame({"user_id": [f"u{i}" for i in range(200)], "anchor_ts": AT})
    training["label"], training["NumViews"] = False, 1.0
    served = training.assign(NumViews=9.0).tail(50)
    assert measure_drift(training, served).visitors == 50
    records = [record("u", {"NumViews": 1, "score": "web"}, AT, problem.group) for _ in range(2)]
    for each in records:
        each["scoring_attributes"] = {"NumViews": 1, "score": "web"}
    write(tmp_path, records)
    today = read_served_features(tmp_path, problem.features, problem)
    assert today.column_names == ["user_id", "anchor_ts", "NumViews", "score", "day_of_week"]
    assert today["score"].to_pylist() == ["web", "web"], "the feature, not the model's score"


WAREHOUSE = warehouse_of([event("u", AT)])


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda _: read_served("x", "shop"), DefinitionError, "a str is no scoring problem"),
        (lambda _: read_served("x", user_id), DefinitionError, "is no scoring problem"),
        (lambda _: read_served("x", group_by(user_id), since="2026"), DataError, "since='2026'"),
        (lambda s: audit("events.parquet", s, group_by(user_id)), DataError, "a str"),
        (lambda _: audit(WAREHOUSE, "served"), DataError, "served is a str"),
        (
            lambda s: audit(WAREHOUSE, s, group_by(user_id), known_since="2026-01-31"),
            DataError,
            "known_since='2026-01-31' is a str, expected a datetime",
        ),
        (
            lambda s: measure_outcomes(WAREHOUSE, s, group_by(user_id), until=AT.date()),
            DataError,
            "until is a date, expected a datetime",
        ),
        (lambda s: measure_outcomes("events", s, group_by(user_id)), DataError, "a str"),
    ],
)  # fmt: skip
def test_wrong_types_are_refused_in_one_line(tmp_path: Path, call, error, sentence: str) -> None:
    events = [event("u", AT)]
    served = serve(tmp_path, group_by(user_id), events, ("u", AT))
    with pytest.raises(error) as refusal:
        call(served)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_missing_columns_are_left_out_or_named(tmp_path: Path) -> None:
    group = group_by(user_id)
    events = [event("u", AT)]
    served = serve(tmp_path, group, events, ("u", AT))
    without_app, without_key = warehouse_of(events), warehouse_of(events)
    without_app.run("ALTER TABLE events DROP app_id")
    without_key.run("ALTER TABLE events DROP user_id")
    report = audit(without_app, served, group)
    assert report.findings == ("score is left out: the events have no column app_id.",)
    assert list(report.attributes.index) == ["NumViews"] and report.exit_code == EXIT_CLEAN
    with pytest.raises(DataError, match="no column user_id"):
        audit(without_key, served, group)
    criteria = Criteria(all=[Criterion.eq(AtomicProperty(name="se_action"), "buy")])
    problem = replace(
        problem_of(group), anchors=Anchors(goal=Event(name="x"), goal_criteria=criteria)
    )
    with pytest.raises(DataError, match="goal of the anchors needs se_action"):
        measure_outcomes(warehouse_of(events), served, problem)
