"""The event store: stored once, read back as they were, by others meanwhile; full disks."""

import json
import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest
import requests
from snowplow_signals import (
    AtomicProperty,
    AttributeKey,
    EntityProperty,
    StreamAttributeGroup,
    domain_userid,
    network_userid,
    user_id,
)
from snowplow_signals.api_client import SignalsAPIError

from prospect_lib import cli, sandbox
from prospect_lib.aggregation.keys import NOBODY, identifier
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError, ServiceError, SettingsError
from prospect_lib.sandbox import events
from prospect_lib.sandbox.app import create_sandbox
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.events import EventStore, Row
from prospect_lib.sandbox.signals_api.online_attributes import OnlineAttributes
from prospect_lib.sandbox.simulation.traffic import send
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.events import ATOMIC_COLUMNS
from prospect_lib.warehouse.stored_events import live_events, read_only
from tests.support.sandbox import page_view, publish
from tests.support.waiting import wait_for

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
TP2 = "/com.snowplowanalytics.snowplow/tp2"


def event(visitor: str = "u1", at: datetime = AT, **fields: str) -> Row:
    payload = {"e": "pv", "eid": str(uuid4()), "duid": visitor, "aid": "website", **fields}
    entity = {"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"a": "é", "n": [1, 2.5]}}
    payload["co"] = json.dumps({"schema": "s", "data": [entity]})
    return enrich(payload, at=at, user_agent="Mozilla/5.0 (X11) Chrome/140.0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    with closing(EventStore(tmp_path)) as opened:
        yield opened


def ids(rows: list[Row]) -> list[str]:
    return [row["event_id"] for row in rows]


def in_warehouse(home: Path) -> list[str]:
    """Ids as another process reads them, sorted."""
    try:
        warehouse = DuckDBWarehouse.over_home(home)
    except DataError:
        return []
    with closing(warehouse):
        return sorted(warehouse.query("SELECT event_id FROM events")["event_id"].to_pylist())


# --- what is stored --------------------------------------------------------------------------


def test_events_come_back_as_they_were(store: EventStore, tmp_path: Path) -> None:
    rows = [event(f"u{i % 3}", page=f"page {i} \x00 é") for i in range(65)]
    rows.append({k: v for k, v in event().items() if k != "domain_userid"})
    for first in range(0, len(rows), 7):
        store.add(rows[first : first + 7])
    assert store.latest(1000) == rows[::-1]
    assert store.counts == {"good": 66, "bad": 0}
    for visitor in ("u0", "u1", "u2", "nobody"):
        expected = [row for row in rows if row.get("domain_userid") == visitor]
        assert store.of_visitor(visitor) == expected
    assert in_warehouse(tmp_path) == sorted(ids(rows))
    store.close()
    with closing(EventStore(tmp_path)) as again:
        assert again.latest(1000) == rows[::-1]
        assert again.counts == {"good": 66, "bad": 0}


def test_a_batch_larger_than_one_statement_is_stored_whole(store: EventStore) -> None:
    row = event()
    rows = [{**row, "event_id": str(uuid4())} for _ in range(2500)]
    store.add([*rows, *rows])
    assert ids(store.of_visitor("u1")) == ids(rows)
    assert store.counts["good"] == 2500


def test_an_event_is_stored_once_whenever_it_comes_again(store: EventStore, tmp_path: Path) -> None:
    first, second, third = event(), event(), event()
    store.add([first])
    store.add([first, second, second, first])
    upper = {**first, "event_id": first["event_id"].upper()}
    store.add([upper])
    store.close()
    with closing(EventStore(tmp_path)) as again:
        again.add([first, second, third])
        assert again.latest(9) == [third, second, first]
        assert again.counts["good"] == 3
    assert in_warehouse(tmp_path) == sorted(ids([first, second, third]))


def test_rejected_payloads_are_kept_with_their_reasons(store: EventStore, tmp_path: Path) -> None:
    store.add([event()], [("no UUID", {"eid": "7"}), ("not JSON", "\ud800")], AT)
    store.add([], [("too large", None)], AT + timedelta(seconds=1))
    store.close()
    with closing(EventStore(tmp_path)) as again:
        latest = again.latest_rejected(2)
        assert [record["reason"] for record in latest] == ["too large", "not JSON"]
        assert again.latest_rejected(9)[-1] == {
            "reason": "no UUID",
            "collector_tstamp": "2026-01-05T10:00:00.000000Z",
            "payload": {"eid": "7"},
        }
        assert again.counts == {"good": 1, "bad": 3}


def test_latest_events_can_be_filtered(store: EventStore) -> None:
    rows = [event(f"u{i % 2}") for i in range(10)]
    store.add(rows)
    filtered = store.latest(3, lambda row: row["domain_userid"] == "u0")
    assert filtered == [rows[8], rows[6], rows[4]]
    assert store.latest(0) == []


def test_visitors_of_a_period_are_counted(store: EventStore) -> None:
    store.add([event("early", AT - timedelta(hours=2))])
    store.add([event("at the edge", AT - timedelta(hours=1)), event("now"), event("now")])
    nobody = event()
    del nobody["domain_userid"]
    store.add([nobody])
    assert store.visitors(AT - timedelta(hours=1), AT) == {"at the edge": 1, "now": 2}


def test_attributes_follow_the_events_of_a_visitor(store: EventStore, tmp_path: Path) -> None:
    attributes = OnlineAttributes(tmp_path, store)
    for views in (1, 2):
        store.add([event("u1"), event("u2")])
        values = attributes.values(prospect_group, "u1", AT, AT)
        assert values["num_page_views_l7d"] == views


CUSTOMER = EntityProperty(vendor="com.acme", name="customer", major_version=1, path="id")


@pytest.mark.parametrize(
    ("key", "field"),
    [
        (AtomicProperty(name="user_id"), "uid"),
        (AtomicProperty(name="network_userid"), "nuid"),
        (AtomicProperty(name="domain_sessionid"), "sid"),
        (CUSTOMER, "customer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_events_are_found_by_any_key(store: EventStore, key: Any, field: str) -> None:
    def about(identifier: Any) -> Row:
        row = event(f"u{identifier}", **({} if field == "customer" else {field: identifier}))
        if field == "customer":
            row["contexts_com_acme_customer_1"] = [{"id": identifier}]
        return row

    first, other, later = about("ada@example.com"), about('O\'Hara "x"'), about("ada@example.com")
    store.add([first, other, event("without")])
    assert store.of_visitor("ada@example.com", key) == [first]
    store.add([later])
    assert store.of_visitor("ada@example.com", key) == [first, later]
    assert store.of_visitor('O\'Hara "x"', key) == [other]
    assert store.of_visitor("unknown", key) == store.of_visitor("ada@example.com") == []
    counts = {"ada@example.com": 2, 'O\'Hara "x"': 1}
    assert store.visitors(AT - timedelta(hours=1), AT, key) == counts
    store.reset()
    store.add([row := about("ada@example.com")])
    assert store.of_visitor("ada@example.com", key) == [row]


def test_an_identifier_that_is_a_number_is_found_as_the_fold_writes_it(store: EventStore) -> None:
    row = event() | {"contexts_com_acme_customer_1": [{"id": 20.0}]}
    store.add([row])
    assert identifier(by_customer(), row) == "20"
    assert store.of_visitor("20", CUSTOMER) == [row]


def by_customer() -> StreamAttributeGroup:
    key = AttributeKey(name="customer_id", property=CUSTOMER)
    return prospect_group.model_copy(update={"attribute_key": key})


def test_history_is_found_by_any_key_and_nobody_has_none(store: EventStore, tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    columns = "domain_userid, user_id, contexts_com_acme_customer_1, derived_tstamp, event_name"
    common = "TIMESTAMP '2026-01-05 09:00:00', 'page_view'"
    duckdb.sql(
        "SELECT * FROM (VALUES "
        f"""('u1', 'ada', '[{{"id": "c1"}}]', {common}), ('', NULL, NULL, {common})"""
        f") AS t({columns})"
    ).write_parquet(str(tmp_path / "history" / "part.parquet"))
    attributes = OnlineAttributes(tmp_path, store)
    store.add([event(uid="ada"), event("")])

    def count(key: AttributeKey, identifier: str) -> int:
        group = prospect_group.model_copy(update={"attribute_key": key})
        return len(attributes.events(group, identifier))

    assert count(user_id, "ada") == 2
    assert count(by_customer().attribute_key, "c1") == 1
    assert count(domain_userid, "u1") == 2
    assert count(network_userid, "ada") == 0, "the history has no such column"
    for nobody in NOBODY:
        assert count(domain_userid, nobody) == 0
    assert attributes.busiest(prospect_group, AT, timedelta(hours=2)) == ["u1"]


def test_the_cache_of_visitors_follows_writes_and_resets(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "CACHED", 2)
    stored: dict[str, list[Row]] = {visitor: [] for visitor in ("u0", "u1", "u2")}
    for turn in range(12):
        visitor = f"u{turn % 3}"
        store.add([row := event(visitor)])
        stored[visitor].append(row)
        for each in ("u1", visitor, "u2"):
            assert store.of_visitor(each) == stored[each]
        assert len(store._cache) <= 2
    store.reset()
    store.add([row := event("u1")])
    assert (store.of_visitor("u1"), store.of_visitor("u2")) == ([row], [])


def test_reset_deletes_events_and_forgets_their_ids(store: EventStore, tmp_path: Path) -> None:
    rows = [event() for _ in range(45)]
    store.add(rows, [("bad", None)])
    store.reset()
    assert store.latest(9) == store.of_visitor("u1") == store.latest_rejected(9) == []
    assert store.counts == {"good": 0, "bad": 0}
    assert in_warehouse(tmp_path) == []
    store.add(rows[:3])
    assert store.counts == {"good": 3, "bad": 0}
    assert in_warehouse(tmp_path) == sorted(ids(rows[:3]))


def test_only_the_owner_can_read_the_events(tmp_path: Path) -> None:
    home = tmp_path / "new"
    sandbox.token(home)
    with closing(EventStore(home)) as store:
        store.add([event()])
        files = list(home.iterdir())
        assert {path.name for path in files} > {"events.sqlite", "events.sqlite-wal"}
        assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert home.stat().st_mode & 0o777 == 0o700


# --- on disk, together, quickly --------------------------------------------------------------


def test_every_transaction_is_synced_to_disk(store: EventStore) -> None:
    def pragma(name: str) -> Any:
        return store._connection.execute(f"PRAGMA {name}").fetchone()[0]

    full = 2
    assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", full)


def test_requests_that_arrive_together_share_a_transaction(store: EventStore) -> None:
    statements: list[str] = []
    busy = threading.Event()
    store._writer.submit(busy.wait)
    with ThreadPoolExecutor(8) as pool:
        added = [pool.submit(store.add, [event(), event()]) for _ in range(8)]
        wait_for(lambda: len(store._waiting) == 8)
        store._connection.set_trace_callback(statements.append)
        busy.set()
        for each in added:
            each.result()
    assert statements.count("COMMIT") == 1
    assert store.counts["good"] == 16


def test_starting_and_reading_a_visitor_cost_the_same_with_many_events(tmp_path: Path) -> None:
    """Counted in steps of SQLite's virtual machine, not in seconds."""

    def steps(store: EventStore) -> int:
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        store._reader.set_progress_handler(step, 1)
        assert store.counts["good"] and len(store.of_visitor("u1")) == 1
        return count

    costs = []
    for home, others in ((tmp_path / "few", 10), (tmp_path / "many", 20_000)):
        sandbox.token(home)
        with closing(EventStore(home)) as store:
            row = event("other")
            store.add([event("u1"), *({**row, "event_id": str(uuid4())} for _ in range(others))])
        with closing(EventStore(home)) as again:
            costs.append(steps(again))
    assert costs[0] == costs[1] < 200


# --- other processes -------------------------------------------------------------------------


def test_columns_have_the_types_of_the_events_table(store: EventStore, tmp_path: Path) -> None:
    store.add([event(vid="3", se_va="2.5", cookie="1", url="https://s.example:81/")])
    with closing(DuckDBWarehouse.over_home(tmp_path)) as warehouse:
        relation = warehouse.connection.sql("FROM events")
        types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        [row] = warehouse.query("SELECT * FROM events").to_pylist()
    nested = {"contexts_com_acme_user_1": "JSON", "contexts_nl_basjes_yauaa_context_1": "JSON"}
    assert types == ATOMIC_COLUMNS | nested
    assert row["derived_tstamp"] == AT.replace(tzinfo=None)
    assert (row["domain_sessionidx"], row["se_value"], row["br_cookies"]) == (3, 2.5, True)
    assert row["page_urlport"] == 81
    assert json.loads(row["contexts_com_acme_user_1"]) == [{"a": "é", "n": [1, 2.5]}]


def test_history_and_live_events_are_one_relation(store: EventStore, tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    with closing(DuckDBWarehouse.over("SELECT 'old' AS domain_userid, 'e0' AS event_id")) as past:
        past.connection.execute(f"COPY events TO '{tmp_path / 'history' / 'past.parquet'}'")
    store.add([row := event("new")])
    with closing(DuckDBWarehouse.over_home(tmp_path)) as warehouse:
        rows = warehouse.query("SELECT domain_userid, event_id FROM events ORDER BY 2").to_pylist()
    assert {(r["domain_userid"], r["event_id"]) for r in rows} == {
        ("old", "e0"),
        ("new", row["event_id"]),
    }


def test_readers_see_acknowledged_events_once_while_others_are_written(
    store: EventStore, tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            rows = [event(), event()]
            store.add(rows)
            acknowledged.extend(ids(rows))

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write) for _ in range(4)]
        try:
            for _ in range(20):
                before = list(acknowledged)
                seen = in_warehouse(tmp_path)
                assert len(seen) == len(set(seen)) and set(before) <= set(seen)
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert in_warehouse(tmp_path) == sorted(acknowledged)


def test_other_processes_read_events_while_the_sandbox_writes(running: Settings) -> None:
    send(running.sandbox_url, [page_view(duid="reader")])
    warehouse = DuckDBWarehouse.over_home(running.home)
    rows = warehouse.query("SELECT * FROM events WHERE domain_userid = 'reader'").to_pylist()
    warehouse.close()
    assert len(rows) == 1 and isinstance(rows[0]["derived_tstamp"], datetime)


def test_a_reader_sees_one_moment_and_does_not_block_the_writer(
    store: EventStore, tmp_path: Path
) -> None:
    store.add([event()])
    with live_events(tmp_path) as live:
        assert live is not None
        _, batches = live
        store.add([event("later", co="{}") for _ in range(3000)])
        assert sum(batch.num_rows for batch in batches) == 1
    assert len(in_warehouse(tmp_path)) == 3001


def test_readers_cannot_write(store: EventStore) -> None:
    with (
        closing(read_only(store.path)) as connection,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        connection.execute("DELETE FROM events")


def test_a_home_that_is_only_readable_is_read_unless_a_log_of_writes_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EventStore(tmp_path)
    store.add([event()])
    monkeypatch.setattr(os, "access", lambda *_: False)
    with closing(read_only(store.path)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM events").fetchone() == (1,)
    store.close()  # moves the log of writes into the file
    assert not store.path.with_name(f"{store.path.name}-wal").exists()
    before = sorted(tmp_path.iterdir())
    assert len(in_warehouse(tmp_path)) == 1
    assert sorted(tmp_path.iterdir()) == before


# --- what goes wrong -------------------------------------------------------------------------


def test_a_request_that_cannot_be_stored_does_not_take_others_along(store: EventStore) -> None:
    busy = threading.Event()
    store._writer.submit(busy.wait)
    with ThreadPoolExecutor(3) as pool:
        good = [pool.submit(store.add, [event("u1")]) for _ in range(2)]
        unstorable = pool.submit(store.add, [event("u1"), {**event(), "domain_userid": "\ud800"}])
        wait_for(lambda: len(store._waiting) == 3)
        busy.set()
        for each in good:
            each.result()
        with pytest.raises(ServiceError, match="cannot be written"):
            unstorable.result()
    assert len(store.of_visitor("u1")) == 2 == store.counts["good"]


def test_a_lookup_that_fails_stores_nothing_of_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published rule looks up each visitor before the batch is stored."""
    app = create_sandbox(Settings(home=tmp_path))
    parts, client = app.extensions["sandbox"], app.test_client()
    criteria = {
        "attribute": f"{prospect_group.name}_v1:num_page_views_l7d",
        "operator": "=",
        "value": 1,
    }
    rule = {"name": "r", "version": 1, "owner": "a@example.com", "criteria": criteria}
    parts.registry.put(
        "attribute_groups", prospect_group.model_dump(mode="json", exclude_none=True)
    )
    parts.registry.put("interventions", {**rule, "is_published": True})
    body = json.dumps({"data": [page_view(duid=visitor) for visitor in ("u1", "u2")]})
    looked_up: list[str] = []
    real = OnlineAttributes.events

    def fails_at_the_second(self: OnlineAttributes, group: Any, visitor: str) -> list[Row]:
        looked_up.append(visitor)
        if len(looked_up) == 2:
            raise ServiceError("the disk cannot be read")
        return real(self, group, visitor)

    with closing(parts.events):
        with monkeypatch.context() as patch:
            patch.setattr(OnlineAttributes, "events", fails_at_the_second)
            assert client.post(TP2, data=body).status_code == 503
        assert sorted(looked_up) == ["u1", "u2"]
        assert parts.events.counts == {"good": 0, "bad": 0}
        assert client.post(TP2, data=body).status_code == 200
        assert parts.events.counts == {"good": 2, "bad": 0}


@contextmanager
def full_disk(pid: int) -> Iterator[None]:
    """Let a process write no further than the first bytes of any file."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_503_and_changes_nothing(home_settings: Settings) -> None:
    url, home = sandbox.ensure_running(home_settings), home_settings.home
    first, second = ({"e": "pv", "eid": str(uuid4()), "duid": "u1"} for _ in range(2))

    def post(*payloads: dict[str, str]) -> requests.Response:
        body = json.dumps({"data": [*payloads, {"e": "?"}]})
        return requests.post(f"{url}{TP2}", data=body, timeout=30)

    assert post(first).status_code == 200
    with full_disk(sandbox.holder(home) or 0):
        for _ in range(3):
            answer = post(second)
            assert answer.status_code == 503 and "is the disk full?" in answer.text
        counts = requests.get(f"{url}/micro/all", timeout=5).json()
        assert counts == {"total": 2, "good": 1, "bad": 1}
        with pytest.raises(SignalsAPIError, match=r"503.*is the disk full"):
            publish(home_settings)
        assert requests.get(f"{url}/micro/reset", timeout=5).status_code == 503
    publish(home_settings)
    assert in_warehouse(home) == [first["eid"]]
    assert post(second).status_code == 200
    assert requests.get(f"{url}/micro/all", timeout=5).json() == {"total": 4, "good": 2, "bad": 2}
    sandbox.stop(home_settings)
    assert in_warehouse(home) == sorted([first["eid"], second["eid"]])


@pytest.mark.parametrize("content", [b"not a database at all, whatever it was" * 99, b"SQLite"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "events.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"events\.sqlite cannot be used.*sandbox reset"):
        EventStore(tmp_path)
    with pytest.raises(DataError, match=r"events\.sqlite cannot be used.*sandbox reset"):
        DuckDBWarehouse.over_home(tmp_path)
    assert path.read_bytes() == content


def test_events_of_another_release_are_named(store: EventStore, tmp_path: Path) -> None:
    store._connection.execute("PRAGMA user_version = 99")
    for read in (EventStore, DuckDBWarehouse.over_home):
        with pytest.raises(DataError, match="format 99, expected 1"):
            read(tmp_path)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="set PROSPECT_HOME"):
        EventStore(tmp_path / "file")


@pytest.mark.parametrize("name", ["events-1.ndjson", "events-1.parquet", "index.sqlite"])
def test_a_home_of_an_earlier_release_says_how_to_go_on(
    home_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    home = home_settings.home
    (home / "live").mkdir(parents=True)
    (home / "live" / name).write_text("{}\n")
    monkeypatch.setenv("PROSPECT_HOME", str(home))
    monkeypatch.setenv("PROSPECT_PORT", str(home_settings.sandbox_port))
    monkeypatch.setenv("PREDICT_PORT", str(home_settings.predict_port))
    advice = r"format of an earlier release.*python -m prospect_lib sandbox reset$"
    for refuse in (sandbox.ensure_running, sandbox.serve):
        with pytest.raises(DataError, match=advice):
            refuse(home_settings)
    with pytest.raises(DataError, match=advice):
        DuckDBWarehouse.over_home(home)
    assert cli.main(["sandbox", "start"]) == cli.main(["train"]) == DataError.exit_code
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2 and all("sandbox reset" in line for line in errors)
    assert (home / "live" / name).read_text() == "{}\n"
    assert cli.main(["sandbox", "reset"]) == 0
    assert not (home / "live").exists()
    sandbox.ensure_running(home_settings)
    sandbox.stop(home_settings)
