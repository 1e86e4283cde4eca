"""The sandbox with a million live events: starting, memory, live values, tracker requests.

A home is filled with events of many visitors. Then a sandbox in a process of its own starts
on it, and one on an empty home for comparison. Live values are read over a kept connection
while 100 visitors are active. At last clients send single events, each request acknowledged
when it is on disk: once with group commit, and once with a write and an ``fsync`` for each
request, which is what group commit is for.

Usage: ``python benchmarks/sandbox.py [events] [folder]`` (default 1,000,000 in a folder that is
removed afterwards; a folder that is given is kept, and used again). Filling takes about three
minutes, the rest one. Writes ``benchmarks/results/sandbox.json``.
"""

import http.client
import json
import multiprocessing
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.storage import Storage
from prospect_lib.settings import Settings

RESULTS = Path(__file__).parent / "results" / "sandbox.json"
VISITOR_EVENTS, ACTIVE, READS = 20, 100, 3000
CLIENTS, SECONDS = 32, 8.0
TP2 = "/com.snowplowanalytics.snowplow/tp2"
#: A sandbox that syncs for each request on its own, for comparison.
ONE_BY_ONE = """
import threading
from prospect_lib import sandbox
from prospect_lib.sandbox.storage import Storage
from prospect_lib.settings import Settings
accept, alone = Storage.accept, threading.Lock()
def one_by_one(self, rows):
    with alone:
        return accept(self, rows)
Storage.accept = one_by_one
sandbox.serve(Settings.load())
"""


def payload(visitor: str) -> dict[str, str]:
    """One page view as a tracker sends it."""
    now = str(int(time.time() * 1000))
    return {
        "e": "pv", "eid": str(uuid4()), "duid": visitor, "sid": f"s-{visitor}", "vid": "1",
        "aid": "website", "p": "web", "page": "Pricing", "dtm": now, "stm": now,
        "url": "https://samphire.example/pricing?utm_medium=cpc", "res": "1440x900", "lang": "en",
    }  # fmt: skip


def fill(home: Path, events: int) -> float:
    """Write events as the collector would, compacted as they come; seconds it took."""
    start, storage = time.perf_counter(), Storage(home)
    template = enrich(payload(""), at=datetime.now(UTC), user_agent="Chrome/140.0")
    for first in range(0, events, 1000):
        numbers = range(first, min(first + 1000, events))
        storage.accept(
            {**template, "event_id": str(uuid4()), "domain_userid": f"v{i % (events // 20)}"}
            for i in numbers
        )
    while len(storage._tails) > 2:  # the compactor is behind
        time.sleep(0.1)
    storage.close()
    return time.perf_counter() - start


class Sandbox:
    """A sandbox in a process of its own; ``seconds`` is how long it took to answer."""

    def __init__(self, home: Path, code: str | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        sandbox.token(home)
        program = ["-c", code] if code else ["-m", "prospect_lib.sandbox"]
        variables = {"PROSPECT_HOME": str(home), "PROSPECT_PORT": str(self.port)}
        start = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, *program], env=os.environ | variables)
        self.settings = Settings(home=home, sandbox_port=self.port)
        while not self._answers():
            time.sleep(0.01)
        self.seconds = time.perf_counter() - start

    def memory(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def send_for(port: int, seconds: float, sent: "multiprocessing.Queue[int]") -> None:
    """Clients that send one event after the other; how many were acknowledged."""

    def client(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        done, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.request("POST", TP2, json.dumps({"data": [payload(f"c{number}")]}))
            answer = connection.getresponse()
            answer.read()
            done += answer.status == 200
        return done

    with ThreadPoolExecutor(CLIENTS) as pool:
        sent.put(sum(pool.map(client, range(CLIENTS))))


def throughput(home: Path, code: str | None = None) -> float:
    """Tracker requests a second, each acknowledged when it is on disk."""
    running = Sandbox(home, code)
    sent: multiprocessing.Queue[int] = multiprocessing.Queue()
    clients = multiprocessing.Process(target=send_for, args=(running.port, SECONDS, sent))
    clients.start()
    found = sent.get()
    clients.join()
    running.close()
    return found / SECONDS


def live_values(running: Sandbox) -> dict[str, float]:
    """Milliseconds to read a service's attributes while visitors are active."""
    client = signals.connect(running.settings)
    since = datetime.now(UTC) - timedelta(days=2)
    client.publish([prospect_group.model_copy(update={"backfill_since_tstamp": since})])
    client.publish([prospect_service])
    reader, stop = signals.reader(running.settings), threading.Event()

    def walk() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
        for i in range(10**9):
            connection.request("POST", TP2, json.dumps({"data": [payload(f"v{i % ACTIVE}")]}))
            connection.getresponse().read()
            if stop.wait(0.02):
                return

    threading.Thread(target=walk, daemon=True).start()
    cold, warm = [], []
    for i in range(READS):
        start = time.perf_counter()
        values: Any = reader.read(f"v{i % ACTIVE}")
        (cold if i < ACTIVE else warm).append((time.perf_counter() - start) * 1000)
        assert values["num_page_views_l7d"] >= VISITOR_EVENTS
    stop.set()
    percentiles = statistics.quantiles(warm, n=100)
    return {"first": statistics.median(cold), "p50": percentiles[49], "p99": percentiles[98]}


def main() -> None:
    """Measure, print, write."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    found: dict[str, Any] = {"events": events, "machine": platform.machine()}
    if not (folder / "full").is_dir():
        found["fill_seconds"] = fill(folder / "full", events)
    found["load_before"] = os.getloadavg()[0]  # what else the machine does
    for name in ("empty", "one"):
        shutil.rmtree(folder / name, ignore_errors=True)
    empty, full = Sandbox(folder / "empty"), Sandbox(folder / "full")
    found["start_seconds"] = {"empty": empty.seconds, "full": full.seconds}
    found["memory_mb"] = {"empty": empty.memory(), "full": full.memory()}
    found["live_values_ms"] = live_values(full)
    found["memory_mb"]["full, after reads"] = full.memory()
    files = [path for path in (folder / "full" / "live").iterdir() if path.is_file()]
    found["disk_mb"] = sum(path.stat().st_size for path in files) / 2**20
    empty.close()
    full.close()
    found["requests_a_second"] = {
        "group commit": throughput(folder / "empty"),
        "one by one": throughput(folder / "one", ONE_BY_ONE),
    }
    rates = list(found["requests_a_second"].values())
    found["times_as_many"] = rates[0] / rates[1]
    if len(sys.argv) <= 2:
        shutil.rmtree(folder)
    text = json.dumps(found, indent=1)
    print(text)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
