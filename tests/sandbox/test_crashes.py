"""Killed at random moments, on a disk that fills and frees: acknowledged events are stored, once.

``CRASH_ROUNDS=500 pytest tests/sandbox/test_crashes.py`` kills as often, and then, if it may
mount one, on a small file system that is really full.
"""

import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from prospect_lib import sandbox
from prospect_lib.errors import ServiceError
from prospect_lib.sandbox.events import EventStore
from prospect_lib.sandbox.simulation.traffic import send
from prospect_lib.settings import Settings
from prospect_lib.warehouse import DuckDBWarehouse
from prospect_lib.warehouse.stored_events import read_only
from tests.support.crashing import write_until_killed
from tests.support.waiting import wait_for

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "0"))
LARGE = 1 << 20  # bytes of a store, after which the next round starts with an empty home
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["tests.support.crashing"])


def stored_ids(home: Path) -> list[str]:
    """Return the ids in a store, as a reader in another process sees them."""
    if not (home / "events.sqlite").exists():
        return []  # killed before it was created
    with closing(read_only(home / "events.sqlite")) as connection:
        rows = connection.execute("SELECT event_id FROM events").fetchall()
    return [str(UUID(bytes=identifier)) for (identifier,) in rows]


def received(acknowledged: Connection, ids: set[str]) -> None:
    """Add the ids that a process sends until it is killed."""
    with closing(acknowledged), contextlib.suppress(EOFError):
        while content := acknowledged.recv_bytes():
            ids |= {str(UUID(bytes=content[at : at + 16])) for at in range(0, len(content), 16)}


def size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("events.sqlite*"))


def check(home: Path, acknowledged: set[str]) -> None:
    stored = stored_ids(home)
    assert len(stored) == len(set(stored)) and acknowledged <= set(stored)


def check_by_every_reader(home: Path) -> None:
    with closing(EventStore(home)) as store:
        of_visitors = [r["event_id"] for n in range(4) for r in store.of_visitor(f"u{n}")]
        assert store._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(DuckDBWarehouse.over_home(home)) as warehouse:
        read = warehouse.query("SELECT event_id FROM events")["event_id"].to_pylist()
    assert sorted(of_visitors) == sorted(read) == sorted(stored_ids(home))


def kill_at_random(home: Path, rounds: int, seed: int, fill: Callable[[int, bool], None]) -> int:
    """Kill the writer so often; return how many events were acknowledged.

    Args:
        fill: fills the disk for a process, or frees it again.
    """
    draw, total, acknowledged = random.Random(seed), 0, set[str]()
    for number in range(rounds):
        receiving, sending = FORKS.Pipe(duplex=False)
        process = FORKS.Process(target=write_until_killed, args=(home, sending, number))
        process.start()
        sending.close()
        receiver = threading.Thread(target=received, args=(receiving, acknowledged))
        receiver.start()
        try:
            for _ in range(draw.choice([0, 0, 1, 2])):
                time.sleep(draw.uniform(0, 0.05))
                fill(process.pid or 0, True)
                time.sleep(draw.uniform(0, 0.05))
                fill(process.pid or 0, False)
            time.sleep(draw.uniform(0, 0.2))
        finally:
            process.kill()
            process.join()
            receiver.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed"
        check(home, acknowledged)
        if size(home) > LARGE or number == rounds - 1:
            total += len(acknowledged)
            check_by_every_reader(home)
            shutil.rmtree(home)
            home.mkdir()
            acknowledged = set()
    return total


def limited(home: Path) -> Callable[[int, bool], None]:
    """Fill the disk for one process only: no file can grow by more than some bytes."""

    def fill(pid: int, full: bool) -> None:
        unlimited = resource.RLIM_INFINITY
        limit = size(home) % 40_000 if full else unlimited
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, unlimited))

    return fill


def test_kills_lose_and_double_no_acknowledged_event(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    rounds = ROUNDS or 25
    total = kill_at_random(home, rounds, 1, limited(home))
    assert total > rounds


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    yield mounted
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def kills_on_a_full_file_system(small_disk: Path) -> None:
    home = small_disk / "home"
    home.mkdir()

    def fill(_pid: int, full: bool) -> None:
        filler = small_disk / "filler"
        if full:
            free = shutil.disk_usage(small_disk).free
            with contextlib.suppress(OSError):  # the store grows meanwhile
                filler.write_bytes(bytes(max(0, free - size(home) % 20_000)))
        else:
            filler.unlink()

    total = kill_at_random(home, ROUNDS, 2, fill)
    assert total > ROUNDS


if ROUNDS:
    test_kills_on_a_full_file_system = kills_on_a_full_file_system


def load(url: str, acknowledged: list[str]) -> None:
    """Send batches until the sandbox is gone; note what it acknowledged."""
    while True:
        batch = [{"e": "pv", "eid": str(uuid4()), "duid": f"u{i}"} for i in range(4)]
        try:
            send(url, batch)
        except ServiceError as error:
            assert "no collector answers" in str(error)
            return
        acknowledged.extend(payload["eid"] for payload in batch)


def test_a_killed_sandbox_starts_again_with_all_that_it_acknowledged(
    home_settings: Settings,
) -> None:
    acknowledged: list[str] = []
    for _ in range(2):
        url = sandbox.ensure_running(home_settings)
        pid, before = sandbox.holder(home_settings.home), len(acknowledged)
        assert pid is not None
        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(load, url, acknowledged) for _ in range(4)]
            wait_for(lambda before=before: len(acknowledged) > before)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for client in clients:
            client.result()
        check(home_settings.home, set(acknowledged))
    check_by_every_reader(home_settings.home)
