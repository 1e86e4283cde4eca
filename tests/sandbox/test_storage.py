"""Events at scale: compacted, found again, read by others meanwhile; killed at any moment."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import duckdb
import pytest

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import ServiceError
from prospect_lib.sandbox import compaction, token
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.index import Index
from prospect_lib.sandbox.signals_api.profiles import Profiles
from prospect_lib.sandbox.simulation.traffic import send
from prospect_lib.sandbox.storage import Storage
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse, segments
from prospect_lib.warehouse.duckdb import events_of

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)
ROUNDS = int(os.environ.get("CRASH_ROUNDS", "10"))
Row = dict[str, Any]


def event(visitor: str = "u1", **fields: str) -> Row:
    payload = {"e": "pv", "eid": str(uuid4()), "duid": visitor, "aid": "website", **fields}
    entity = {"schema": "iglu:com.acme/user/jsonschema/1-0-0", "data": {"a": "é", "n": [1, 2.5]}}
    payload["co"] = json.dumps({"schema": "s", "data": [entity]})
    return enrich(payload, at=AT, user_agent="Mozilla/5.0 (X11) Chrome/140.0")


@contextmanager
def storage(home: Path, segment: int = 20) -> Iterator[Storage]:
    opened = Storage(home, segment)
    try:
        yield opened
    finally:
        opened.close()


def in_warehouse(home: Path) -> list[str]:
    """Ids as another process reads them."""
    relation = events_of(home)
    rows = duckdb.sql(f"SELECT event_id FROM ({relation})").fetchall() if relation else []
    return sorted(identifier for (identifier,) in rows)


def fill(kept: Storage, count: int) -> list[Row]:
    rows = [event(f"u{i % 3}", page=f"page {i}") for i in range(count)]
    for first in range(0, count, 7):
        kept.accept(rows[first : first + 7])
    return rows


# --- compaction ------------------------------------------------------------------------------


def test_compacted_events_are_the_same_events(tmp_path: Path) -> None:
    with storage(tmp_path) as kept:
        rows = fill(kept, 65)
        kept.accept([anonymous := {k: v for k, v in event().items() if k != "domain_userid"}])
        kept.compact()
        rows.append(anonymous)
        assert len(segments.parquets(kept.folder)) == 4
        assert kept.good() == rows[::-1] and kept.counts["good"] == 66
        for visitor in ("u0", "u1", "u2"):
            mine = [row for row in rows if row.get("domain_userid") == visitor]
            assert kept.of_visitor(visitor) == mine
    assert in_warehouse(tmp_path) == sorted(row["event_id"] for row in rows)


def test_types_do_not_change_when_a_log_becomes_parquet(tmp_path: Path) -> None:
    with storage(tmp_path, 1000) as kept:
        fill(kept, 5)
        before = duckdb.sql(f"SELECT * FROM ({events_of(tmp_path)}) ORDER BY event_id")
        types, found = dict(zip(before.columns, before.types, strict=True)), before.fetchall()
        kept.compact()
        after = duckdb.sql(f"SELECT * FROM ({events_of(tmp_path)}) ORDER BY event_id")
        assert dict(zip(after.columns, after.types, strict=True)) == types
        assert after.fetchall() == found


def test_visitors_stay_right_while_their_events_move(tmp_path: Path) -> None:
    with storage(tmp_path) as kept:
        first = event("u1")
        kept.accept([first])
        assert kept.of_visitor("u1") == [first]  # from now on ready
        kept.compact()
        second = event("u1")
        kept.accept([second])
        assert kept.of_visitor("u1") == [first, second]
        profiles = Profiles(tmp_path, kept)
        values = profiles.values(prospect_group, "u1", AT, AT)
        assert values["num_page_views_l7d"] == 2
    with storage(tmp_path) as again:
        assert again.of_visitor("u1") == [first, second]


def test_an_event_is_kept_once_whenever_it_comes_again(tmp_path: Path) -> None:
    old, new = event(), event()
    with storage(tmp_path) as kept:
        assert kept.accept([old]) == 1
        kept.compact()
        assert kept.accept([old, new, new]) == 1
    with storage(tmp_path) as again:
        assert again.accept([old, new]) == 0 and again.counts["good"] == 2
    assert in_warehouse(tmp_path) == sorted([old["event_id"], new["event_id"]])


def test_readers_see_each_event_once_while_it_is_written_and_compacted(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(kept: Storage) -> None:
        while not stop.is_set():
            rows = [event(), event()]
            kept.accept(rows)
            acknowledged.extend(row["event_id"] for row in rows)

    with storage(tmp_path, 30) as kept, ThreadPoolExecutor() as pool:
        writing = pool.submit(write, kept)
        try:
            while len(segments.parquets(kept.folder)) < 5 and not writing.done():
                if before := list(acknowledged):
                    seen = in_warehouse(tmp_path)
                    assert len(seen) == len(set(seen)) and set(before) <= set(seen)
        finally:
            stop.set()
        writing.result()


def test_logs_are_deleted_when_no_reader_can_be_at_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storage(tmp_path) as kept:
        fill(kept, 20)
        kept.compact()
        assert segments.logs(kept.folder)[0] == 1
        monkeypatch.setattr(segments, "GRACE", -1.0)
        kept.compact()
        assert segments.logs(kept.folder) == [2]


# --- what goes wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_parquet", "add"])
def test_a_failed_compaction_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(compaction if step == "write_parquet" else Index, step, fail)
        with storage(tmp_path) as kept:
            rows = fill(kept, 25)
            with pytest.raises(OSError, match="no space"):
                kept.compact()
            assert len(kept.good()) == 25
    ids = sorted(row["event_id"] for row in rows)
    assert in_warehouse(tmp_path) == ids
    with storage(tmp_path) as again:
        again.compact()
        assert sorted(row["event_id"] for row in again.good()) == ids
        assert segments.parquets(again.folder) == [1, 2]
    assert in_warehouse(tmp_path) == ids


def test_events_that_parquet_would_lose_stay_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "live_events", lambda log: f"SELECT '{log}' LIMIT 0")
    with storage(tmp_path) as kept:
        kept.accept([event()])
        with pytest.raises(ServiceError, match="1 events"):
            kept.compact()
        assert segments.parquets(kept.folder) == []
    assert len(in_warehouse(tmp_path)) == 1


@pytest.mark.parametrize("damage", [None, b"", b"not a database at all, whatever it was" * 99])
def test_a_lost_index_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    with storage(tmp_path) as kept:
        rows = fill(kept, 25)
        kept.compact()
    for number in segments.logs(kept.folder):
        segments.log_of(kept.folder, number).unlink()
    for path in kept.folder.glob("index.sqlite*"):
        path.unlink()
    if damage is not None:
        (kept.folder / "index.sqlite").write_bytes(damage)
    with storage(tmp_path) as again:
        assert again.good() == rows[::-1] and again.counts["good"] == 25
        assert again.accept(rows) == 0


def test_torn_and_doubled_lines_are_set_aside(tmp_path: Path) -> None:
    with storage(tmp_path) as kept:
        fill(kept, 3)
        path = kept.log
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[0], b'{"cut": sho\n', lines[1][:40]]))
    with storage(tmp_path) as again:
        assert again.counts["good"] == 3
    assert len(in_warehouse(tmp_path)) == 3
    assert len((path.parent / "torn.ndjson").read_bytes().splitlines()) == 3


def test_a_log_of_an_earlier_release_becomes_the_first_segment(tmp_path: Path) -> None:
    row = event()
    (tmp_path / "live").mkdir()
    (tmp_path / "live" / "events.ndjson").write_text(json.dumps(row) + "\n")
    assert in_warehouse(tmp_path) == [row["event_id"]]
    with storage(tmp_path) as kept:
        assert kept.good() == [row]
    assert in_warehouse(tmp_path) == [row["event_id"]]


def test_reset_forgets_segments_and_ids(tmp_path: Path) -> None:
    with storage(tmp_path) as kept:
        rows = fill(kept, 45)
        kept.compact()
        kept.reset()
        assert kept.good() == [] == kept.of_visitor("u1") and kept.counts["good"] == 0
        assert events_of(tmp_path) is None
        assert kept.accept(rows[:3]) == 3
    with storage(tmp_path) as again:
        assert again.counts["good"] == 3


# --- killed ----------------------------------------------------------------------------------

#: The sandbox with logs so short that most kills meet a compaction.
SERVER = """
import sys
from pathlib import Path
from prospect_lib import sandbox
from prospect_lib.warehouse import segments
from prospect_lib.sandbox.process import storage
from prospect_lib.settings import Settings
storage.SEGMENT, segments.GRACE = 40, 0.2
sandbox.serve(Settings(home=Path(sys.argv[1]), sandbox_port=int(sys.argv[2])))
"""


def start(settings: Settings) -> subprocess.Popen[bytes]:
    arguments = [str(settings.home), str(settings.sandbox_port)]
    process = subprocess.Popen([sys.executable, "-c", SERVER, *arguments])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            send(settings.sandbox_url, [])
        except ServiceError:
            time.sleep(0.02)
        else:
            return process
    raise AssertionError("the sandbox does not start")


def load(settings: Settings, acknowledged: list[str], stop: threading.Event) -> None:
    """Send until the sandbox is gone, noting what it acknowledged."""
    while not stop.is_set():
        batch = [{"e": "pv", "eid": str(uuid4()), "duid": f"u{i}"} for i in range(5)]
        try:
            send(settings.sandbox_url, batch)
        except ServiceError:
            return
        acknowledged.extend(payload["eid"] for payload in batch)


def test_no_acknowledged_event_is_lost_or_doubled_by_kills(home_settings: Settings) -> None:
    """``CRASH_ROUNDS=300 pytest -k kills tests/test_storage.py`` for as many."""
    token(home_settings.home)
    acknowledged: list[str] = []
    for turn in range(ROUNDS):
        process, stop = start(home_settings), threading.Event()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                pool.submit(load, home_settings, acknowledged, stop)
            time.sleep(0.15 + (turn * 0.037) % 0.4)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            stop.set()
        seen = in_warehouse(home_settings.home)
        assert len(seen) == len(set(seen)) and set(acknowledged) <= set(seen)
    with storage(home_settings.home) as kept:
        stored = [row["event_id"] for row in kept.good(10**9)]
        visitors = [row["event_id"] for i in range(5) for row in kept.of_visitor(f"u{i}")]
    assert sorted(stored) == sorted(visitors) == in_warehouse(home_settings.home)
    assert len(acknowledged) > 100 and segments.parquets(home_settings.home / "live")


def test_a_warehouse_over_the_home_reads_what_was_compacted(tmp_path: Path) -> None:
    with storage(tmp_path) as kept:
        fill(kept, 25)
        kept.compact()
        kept.accept([event("late")])
    warehouse = DuckDBWarehouse.over_home(tmp_path)
    found = warehouse.query(
        "SELECT COUNT(*) AS n, COUNT(contexts_com_acme_user_1) AS m FROM events"
    )
    warehouse.close()
    assert found.to_pylist() == [{"n": 26, "m": 26}]
