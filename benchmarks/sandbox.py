"""The sandbox with a million live events: start, memory, attributes, tracker requests, reading.

A home is filled with events of many visitors. Then a sandbox in a process of its own starts on
it, and one on an empty home for comparison. Attributes are read over a kept connection while
100 visitors are active. DuckDB reads all events, as a notebook does. Last, clients send single
events, each acknowledged when it is on disk: once with group commit, and once with a
transaction and an ``fsync`` per request.

Usage: ``python benchmarks/sandbox.py [events] [folder]`` (default: 1,000,000 in a folder that is
removed afterwards; a folder that is given is kept and used again). Filling takes about three
minutes, the rest one. A run with the default number of events writes
``benchmarks/results/sandbox.json``.
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
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from figures import save

from prospect_lib import sandbox, signals
from prospect_lib.attributes import prospect_group, prospect_service
from prospect_lib.sandbox.collector.enrichment import enrich
from prospect_lib.sandbox.events import EventStore
from prospect_lib.settings import Settings

EVENTS = 1_000_000
VISITOR_EVENTS, ACTIVE, READS = 20, 100, 3000
CLIENTS, SECONDS = 32, 8.0
TP2 = "/com.snowplowanalytics.snowplow/tp2"
#: A sandbox with a transaction per request, for comparison.
ONE_BY_ONE = """
import threading
from prospect_lib import sandbox
from prospect_lib.sandbox.events import EventStore
from prospect_lib.settings import Settings
add, alone = EventStore.add, threading.Lock()
def one_by_one(self, *args):
    with alone:
        return add(self, *args)
EventStore.add = one_by_one
sandbox.serve(Settings.load())
"""


def payload(visitor: str) -> dict[str, str]:
    """Return one page view as a tracker sends it."""
    now = str(int(time.time() * 1000))
    return {
        "e": "pv", "eid": str(uuid4()), "duid": visitor, "sid": f"s-{visitor}", "vid": "1",
        "aid": "website", "p": "web", "page": "Pricing", "dtm": now, "stm": now,
        "url": "https://samphire.example/pricing?utm_medium=cpc", "res": "1440x900", "lang": "en",
    }  # fmt: skip


def fill(home: Path, events: int) -> float:
    """Store events as the collector does; return the seconds it took."""
    sandbox.token(home)
    start = time.perf_counter()
    template = enrich(payload(""), at=datetime.now(UTC), user_agent="Chrome/140.0")
    visitors = events // VISITOR_EVENTS
    with closing(EventStore(home)) as store:
        for first in range(0, events, 1000):
            numbers = range(first, min(first + 1000, events))
            store.add(
                {**template, "event_id": str(uuid4()), "domain_userid": f"v{i % visitors}"}
                for i in numbers
            )
    return time.perf_counter() - start


def read_all(home: Path) -> dict[str, float]:
    """Open a warehouse over a home, as a notebook does; return seconds and memory in MB."""
    code = (
        "import resource, sys, time; from pathlib import Path; "
        "from prospect_lib.warehouse import DuckDBWarehouse; start = time.perf_counter(); "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "warehouse = DuckDBWarehouse.over_home(Path(sys.argv[1])); opened = time.perf_counter(); "
        "warehouse.query('SELECT domain_userid, MAX(derived_tstamp) FROM events GROUP BY 1'); "
        "print(opened - start, time.perf_counter() - opened, "
        "(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True
    )
    opened, queried, memory = map(float, run.stdout.split())
    return {"open_seconds": opened, "query_seconds": queried, "memory_mb": memory}


class Running:
    """A sandbox in a process of its own; ``seconds`` is the time until it answered."""

    def __init__(self, home: Path, code: str | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        sandbox.token(home)
        program = ["-c", code] if code else ["-m", "prospect_lib", "sandbox"]
        variables = {"PROSPECT_HOME": str(home), "PROSPECT_PORT": str(self.port)}
        start = time.perf_counter()
        self.process = subprocess.Popen([sys.executable, *program], env=os.environ | variables)
        self.settings = Settings(home=home, sandbox_port=self.port)
        while not self._answers():
            if self.process.poll() is not None:
                raise SystemExit(f"the sandbox ended with exit code {self.process.returncode}")
            time.sleep(0.01)
        self.seconds = time.perf_counter() - start

    def memory(self) -> float:
        """Return the resident memory in MB."""
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
    """Let clients send one event after the other; put how many were acknowledged."""

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
    """Return tracker requests per second, each acknowledged when it is on disk."""
    running = Running(home, code)
    sent: multiprocessing.Queue[int] = multiprocessing.Queue()
    clients = multiprocessing.Process(target=send_for, args=(running.port, SECONDS, sent))
    clients.start()
    acknowledged = sent.get()
    clients.join()
    running.close()
    return acknowledged / SECONDS


def online_attributes(running: Running) -> dict[str, float]:
    """Return the milliseconds of reading a service's attributes while visitors are active."""
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
    """Measure, print; write the results of a full run."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    results: dict[str, Any] = {"events": events, "machine": platform.machine()}
    if not (folder / "full").is_dir():
        results["fill_seconds"] = fill(folder / "full", events)
    for name in ("empty", "one"):
        shutil.rmtree(folder / name, ignore_errors=True)
    empty, full = Running(folder / "empty"), Running(folder / "full")
    results["start_seconds"] = {"empty": empty.seconds, "full": full.seconds}
    results["memory_mb"] = {"empty": empty.memory(), "full": full.memory()}
    results["online_attributes_ms"] = online_attributes(full)
    results["memory_mb"]["full, after reads"] = full.memory()
    results["disk_mb"] = (folder / "full" / "events.sqlite").stat().st_size / 2**20
    empty.close()
    full.close()
    results["duckdb"] = read_all(folder / "full")
    results["requests_per_second"] = {
        "group commit": throughput(folder / "empty"),
        "one by one": throughput(folder / "one", ONE_BY_ONE),
    }
    together, alone = results["requests_per_second"].values()
    results["group_commit_ratio"] = together / alone
    if len(sys.argv) <= 2:
        shutil.rmtree(folder)
    save("sandbox", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
