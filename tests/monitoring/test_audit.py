"""A correct service passes the audit; each planted fault is found and named."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from prospect_lib.aggregation.fold import attribute_values
from prospect_lib.attributes import PAGE_VIEW, prospect_group
from prospect_lib.errors import DataError
from prospect_lib.monitoring.audit import (
    EXIT_ATTENTION,
    EXIT_CLEAN,
    EXIT_WRONG,
    audit,
    changed_attributes,
)
from prospect_lib.monitoring.causes import (
    COUNTED_TWICE,
    DEFINITION,
    FRESHNESS,
    HISTORY,
    LATE,
    UNEXPLAINED,
)
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.settings import Settings
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from tests.support.served_world import END, World, happened, record, simulated, write
from tests.support.snow import drop_connection, load_into_server, server, statements
from tests.support.worlds import event, events_table, group_of


def run(world, **options):
    served = world.serve()
    warehouse = world.warehouse()
    try:
        return audit(warehouse, served, world.claimed, **options)
    finally:
        warehouse.close()


def causes(report):
    return {cause for cause, count in report.causes.items() if count}


def test_a_correct_service_has_no_mismatch(tmp_path: Path):
    report = run(World(tmp_path), published=prospect_group, known_since=END - timedelta(days=90))
    assert report.scores > 30 and report.values == report.scores * len(prospect_group.attributes)
    assert causes(report) == set() and report.findings == () and report.exit_code == EXIT_CLEAN
    assert report.examples.empty and (report.attributes["rate"] == 0).all()
    assert "every value is the one that training sees" in report.summary()


def test_late_events_are_distinguished_from_lost_ones(tmp_path: Path):
    """A quarter of the visitors' trackers send an hour late."""

    def late(row):
        return hash_of(row) % 4 == 0

    def hash_of(row):
        return int(row["domain_userid"].replace("-", "")[:6], 16)

    world = World(
        tmp_path,
        visitors=200,
        seen=lambda events, at: [e for e in events if not late(e) or happened(e) < at - HOUR],
    )
    served = world.serve()
    table = simulated(world.visitors)
    times = [r["derived_tstamp"] + (HOUR if late(r) else timedelta()) for r in table.to_pylist()]
    place = table.column_names.index("collector_tstamp")
    arrived = pa.array(times, table.schema.field(place).type)
    warehouse = world.warehouse(table.set_column(place, "collector_tstamp", arrived))
    report = audit(warehouse, served)
    warehouse.close()
    assert causes(report) == {LATE} and report.exit_code == EXIT_ATTENTION
    assert set(report.examples["cause"]) == {LATE}


HOUR = timedelta(hours=1)


def test_values_some_seconds_old_are_freshness(tmp_path: Path):
    world = World(tmp_path, seen=lambda events, at: [e for e in events if happened(e) < at])
    report = run(world)
    assert causes(report) == {FRESHNESS} and report.exit_code == EXIT_ATTENTION
    assert report.causes[FRESHNESS] == report.scores, "each was scored at a page view"
    assert run(world, tolerated=1).exit_code == EXIT_CLEAN


def test_values_twenty_seconds_old_are_freshness_whatever_happened_since(tmp_path: Path):
    ago = timedelta(seconds=20)
    world = World(tmp_path, seen=lambda events, at: [e for e in events if happened(e) <= at - ago])
    report = run(world)
    assert causes(report) == {FRESHNESS}


def test_a_changed_definition_is_named(tmp_path: Path):
    attributes = [
        a.model_copy(update={"period": timedelta(days=1)}) if a.name == "num_page_pings_l7d" else a
        for a in prospect_group.attributes
    ]
    changed = prospect_group.model_copy(update={"attributes": attributes})
    report = run(World(tmp_path, group=changed, visitors=200), published=changed)
    assert causes(report) == {DEFINITION} and report.exit_code == EXIT_WRONG
    (finding,) = report.findings
    assert finding.startswith("Definition: Signals now defines num_page_pings_l7d differently. It")
    assert changed_attributes(prospect_group, prospect_group) == []


def test_a_served_hash_that_differs_is_a_changed_definition(tmp_path: Path):
    attributes = [a for a in prospect_group.attributes if a.name != "num_page_views_l7d"]
    older = prospect_group.model_copy(update={"attributes": attributes})
    world = World(tmp_path, group=older, claimed=older)
    world.serve()
    warehouse = world.warehouse()
    report = audit(warehouse, read_served(tmp_path, prospect_group), prospect_group)
    warehouse.close()
    assert causes(report) == {DEFINITION}
    assert report.findings[0].startswith("Definition: num_page_views_l7d were not served at all.")


def test_a_history_from_before_publishing_is_named(tmp_path: Path):
    published = END - timedelta(days=4)
    world = World(
        tmp_path,
        visitors=400,
        seen=lambda events, _at: [e for e in events if happened(e) >= published],
    )
    report = run(world, known_since=published)
    assert causes(report) == {HISTORY} and report.exit_code == EXIT_WRONG


def test_every_aggregation_is_compared_whatever_its_form(tmp_path: Path):
    """Lists in any order, counts as objects, floats, flags, ages read a moment later."""
    kinds = {
        "unique_list": "string_list", "category_count": "dict", "mean": "double",
        "last": "string", "approx_count_distinct": "int64", "time_since_last": "double",
    }  # fmt: skip
    from snowplow_signals import AtomicProperty
    from snowplow_signals.models.model import Attribute

    def made(aggregation, kind):
        prop = "domain_sessionidx" if aggregation == "mean" else "app_id"
        aged = aggregation.startswith("time")
        return Attribute(
            name=aggregation, type=kind, events=[PAGE_VIEW], aggregation=aggregation,
            property=None if aged else AtomicProperty(name=prop),
            time_unit="s" if aged else None,
        )  # fmt: skip

    group = group_of(*(made(a, k) for a, k in kinds.items()), ttl=timedelta(days=30))
    at = END - timedelta(hours=3)
    events = [
        event(at + timedelta(minutes=i), app_id=app, domain_sessionidx=i, collector_tstamp=at)
        for i, app in enumerate(["b", "a", "b"])
    ]
    values = attribute_values(group, events, at + HOUR)
    values["unique_list"] = values["unique_list"][::-1]
    values["time_since_last"] += 1.5
    write(tmp_path, [record("u1", values, at + HOUR, group)])
    world = World(tmp_path)
    arrived = pa.array([at.replace(tzinfo=None)] * 3)
    table = events_table(events).append_column("collector_tstamp", arrived)
    for wrong_attribute, mismatches in ((None, 0), ("category_count", 1), ("mean", 1)):
        if wrong_attribute:
            wrong = values | {
                wrong_attribute: {"b": 3} if wrong_attribute == "category_count" else 99.5
            }
            write(tmp_path, [record("u1", wrong, at + HOUR, group)])
        warehouse = world.warehouse(table)
        report = audit(warehouse, read_served(tmp_path, group), group)
        warehouse.close()
        assert report.attributes["mismatches"].sum() == mismatches, wrong_attribute


def test_an_audit_inside_snowflake(tmp_path: Path):
    """The same statements, temporary tables and all, through the real connector."""
    attributes = [a for a in prospect_group.attributes if a.name.startswith("num_page_views")]
    group = prospect_group.model_copy(update={"attributes": attributes})
    at = END - timedelta(hours=3)
    events = [event(at + timedelta(seconds=20 * i)) for i in range(4)]
    moments = [at + timedelta(seconds=20 * i) for i in range(4)]
    good = [record("u1", attribute_values(group, events, m), m, group) for m in moments]
    lost = record("u1", {a.name: 40 for a in attributes}, moments[-1], group)
    secrets = {"SF_ACNT": "a", "SF_USR": "u", "SF_WH": "w", "SF_PWD": "hush"}
    settings = Settings(tmp_path, values={**secrets, "ATOMIC_TABLE": "DB.PUBLIC.EVENTS"})
    with server():
        warehouse = SnowflakeWarehouse.connect(settings)
        names = ("event_name", "event_vendor", "event_version")
        table = {"domain_userid": ["u1"] * len(events)}
        table |= {
            name: [e["derived_tstamp"] for e in events]
            for name in ("derived_tstamp", "collector_tstamp")
        }
        table |= {name: [e[name] for e in events] for name in names}
        load_into_server("EVENTS", pa.table(table))
        write(tmp_path, good)
        assert audit(warehouse, read_served(tmp_path, group), group).exit_code == EXIT_CLEAN
        twice = [record("u1", attribute_values(group, events * 2, m), m, group) for m in moments]
        write(tmp_path, [*twice, *[lost] * 3])
        served, sent = read_served(tmp_path, group), len(statements())
        report = audit(warehouse, served, group, known_since=moments[0])
        assert (report.causes[COUNTED_TWICE], report.causes[UNEXPLAINED]) == (4, 3), report.findings
        run = statements()[sent:]
        (read,) = (s for s in run if "FROM DB.PUBLIC.EVENTS\nWHERE" in s and "EXPLAIN" not in s)
        assert "FROM DB.PUBLIC.PROSPECT_VISITORS_" in read and '"COLLECTOR_TSTAMP" >= ' in read
        drop_connection(at=len(run) // 2)
        again = audit(warehouse, served, group, known_since=moments[0])
        assert again.causes == report.causes
        created = {s.split()[5] for s in statements() if s.startswith("CREATE OR REPLACE TEMP")}
        dropped = {s.split()[-1] for s in statements() if s.startswith("DROP TABLE IF EXISTS")}
        assert created == dropped
        warehouse.close()


def test_a_log_that_cannot_be_audited_is_one_message(tmp_path: Path):
    with pytest.raises(DataError, match="no served scores in"):
        read_served(tmp_path, prospect_group)
    values = {a.name: None for a in prospect_group.attributes}
    write(tmp_path, [record("u1", values, END, prospect_group)])
    with pytest.raises(DataError, match="widen the window"):
        read_served(tmp_path, prospect_group, since=datetime(2027, 1, 1, tzinfo=UTC))
    (log,) = tmp_path.glob("*.ndjson")
    log.write_text(log.read_text() + '{"half": ' + "\n" + json.dumps({"score": 1}) + "\n")
    assert read_served(tmp_path, prospect_group).num_rows == 1, "a torn line is left out"
