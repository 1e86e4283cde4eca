"""Two gunicorn workers against one, on the processors of this machine.

``gunicorn prospect_lib.server.wsgi:app`` with one and with two workers, in turns, with the same
model and 64 clients on kept connections (the load of ``serving.py``). Clients and the stand-in
for Signals are processes on the same machine: with two processors all of them compete, so the
measured gain is a lower bound. ``cpu_ms_a_score`` is the workers' own processor time per score
(Linux), from which follows the number of scores that a processor of its own would give.

Usage: ``python benchmarks/processes.py [seconds]`` (default 3 per load). Writes
``benchmarks/results/processes.json``; compare figures within one run only.
"""

import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from figures import save
from serving import load, our_model, process, rounded, serve_signals

from prospect_lib.model.store import promote

COUNTS, CLIENTS, TURNS, TICK = (1, 2), 64, 5, os.sysconf("SC_CLK_TCK")
with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]


def cpu_seconds(pids: list[int]) -> float:
    """Return the processor time that processes have used so far (Linux); 0 elsewhere."""
    ticks = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
    return ticks / TICK


def children(pid: int) -> list[int]:
    """Return the processes that a process has started (Linux); none elsewhere."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


@contextlib.contextmanager
def workers(home: Path, signals: str, count: int, explain: bool) -> Iterator[subprocess.Popen[Any]]:
    """Run gunicorn; yields its process when it serves. Its log goes to /dev/null."""
    module = "prospect_lib.server.wsgi:app" if explain else "processes:without_reasons()"
    with tempfile.TemporaryDirectory() as metrics:
        gunicorn = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", module, "--workers", str(count)),
                *("--threads", "32", "--bind", f"127.0.0.1:{PORT}", "--no-control-socket"),
            ],
            env={
                **os.environ,
                "PROSPECT_HOME": str(home),
                "SP_SANDBOX_URL": signals,
                "SP_SANDBOX_TOKEN": "t",
                "PROMETHEUS_MULTIPROC_DIR": metrics,
            },
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent,
        )
        try:
            wait_until_served(f"http://127.0.0.1:{PORT}/health")
            yield gunicorn
        finally:
            gunicorn.terminate()
            gunicorn.wait()


def without_reasons() -> Any:
    """Return the application of the environment's settings, without explanations."""
    from prospect_lib import signals
    from prospect_lib.server import Options, create_app
    from prospect_lib.settings import Settings

    settings = Settings.load()
    models, options = settings.home / "models", Options(explain=False)
    return create_app(models, signals.reader(settings), settings, options=options)


def wait_until_served(url: str) -> None:
    """Return when a server answers."""
    for _ in range(600):
        with contextlib.suppress(requests.ConnectionError):
            requests.get(url, timeout=10)
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing is served at {url}")


def client(url: str, seconds: float, results: "multiprocessing.Queue[dict[str, float]]") -> None:
    """Put the figures of a load into a queue."""
    results.put(load(url, CLIENTS, seconds))


def load_from_another_process(url: str, seconds: float) -> dict[str, float]:
    """Return the figures of a load whose clients use no processor time of the servers."""
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[dict[str, float]] = context.Queue()
    child = context.Process(target=client, args=(url, seconds, results), daemon=True)
    child.start()
    figures = results.get(timeout=60 + seconds)
    child.join()
    return figures


def turn(home: Path, signals: str, count: int, explain: bool, seconds: float) -> dict[str, float]:
    """Return the figures of one load on a number of workers."""
    url = f"http://127.0.0.1:{PORT}"
    with workers(home, signals, count, explain) as gunicorn:
        load(url, 16, 1.0)
        pids = children(gunicorn.pid)
        before = cpu_seconds(pids)
        figures = load_from_another_process(url, seconds)
        used = cpu_seconds(pids) - before
    scores = figures["per_second"] * seconds
    return {**figures, "cpu_ms_a_score": used / scores * 1000}


def measure(home: Path, signals: str, explain: bool, seconds: float) -> dict[str, Any]:
    """Return medians of both counts, measured in turns, and the ratio within each turn."""
    turns = []
    for _ in range(TURNS):
        turns.append({count: turn(home, signals, count, explain, seconds) for count in COUNTS})
        print(rounded({str(count): figures for count, figures in turns[-1].items()}), flush=True)
    figures: dict[str, Any] = {
        f"{count} process{'es' if count > 1 else ''}": {
            name: statistics.median(each[count][name] for each in turns) for name in turns[0][count]
        }
        for count in COUNTS
    }
    ratios = [each[2]["per_second"] / each[1]["per_second"] for each in turns]
    return figures | {"two: times one": statistics.median(ratios), "in each turn": sorted(ratios)}


def main() -> None:
    """Measure, print, write."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    figures: dict[str, Any] = {"clients": CLIENTS}
    with tempfile.TemporaryDirectory() as folder, process(serve_signals) as signals:
        home = Path(folder)
        our_model().save(home / "models" / "first")
        promote(home / "models", "first")
        figures["with explanations"] = measure(home, signals, True, seconds)
        figures["without explanations"] = measure(home, signals, False, seconds)
    save("processes", rounded(figures), write=not sys.argv[1:])


if __name__ == "__main__":
    main()
