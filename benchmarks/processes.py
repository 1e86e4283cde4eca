"""What a second process of the prediction server is worth, on the processors there are.

``serve --processes`` with one and with two processes, the same model and 64 clients on kept
connections (``serving.py``'s load), in turns. Clients and the stand-in for Signals are
processes of their own on the same machine, so with two processors all of them compete: what
is measured is a floor. ``cpu_ms_a_score`` is the servers' own processor time for one
score (Linux), which says how many scores a processor of its own would give.

Usage: ``python benchmarks/processes.py [seconds]`` (default 3 for each load). Figures go to
``benchmarks/results/processes.json``; read them as ratios within a run.
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prospect_lib.model.store import promote
from prospect_lib.server.app import Options
from prospect_lib.server.processes import Several
from prospect_lib.settings import Settings
from tests.support.serving import load, our_model, process, rounded, serve_signals

RESULTS = Path(__file__).parent / "results" / "processes.json"
COUNTS, CLIENTS, TURNS, TICK = (1, 2), 64, 5, os.sysconf("SC_CLK_TCK")
PORT = 9391


def cpu_seconds(pids: list[int]) -> float:
    """Processor time that processes have used so far (Linux); 0 elsewhere."""
    found = 0
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            found += int(user) + int(system)
    return found / TICK


def client(url: str, seconds: float, told: "multiprocessing.Queue[dict[str, float]]") -> None:
    """The clients, in a process of their own."""
    told.put(load(url, CLIENTS, seconds))


def apart(url: str, seconds: float) -> dict[str, float]:
    """A load from a process of its own: the servers' processor is not the clients'."""
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[dict[str, float]] = context.Queue()
    child = context.Process(target=client, args=(url, seconds, told), daemon=True)
    child.start()
    figures = told.get(timeout=60 + seconds)
    child.join()
    return figures


def turn(settings: Settings, count: int, explain: bool, seconds: float) -> dict[str, float]:
    """One load on so many processes."""
    with quiet(), Several(settings, Options(explain=explain), count) as several:
        load(several.url, 4, 0.5)
        before = cpu_seconds(several.pids)
        figures = apart(several.url, seconds)
        used = cpu_seconds(several.pids) - before
    scores = figures["per_second"] * seconds
    return {**figures, "cpu_ms_a_score": used / scores * 1000}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The log of the servers is written as it would be, but to nowhere."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def measure(settings: Settings, explain: bool, seconds: float) -> dict[str, Any]:
    """Both counts in turns; medians, and the ratio within each turn."""
    turns = []
    for _ in range(TURNS):
        turns.append({count: turn(settings, count, explain, seconds) for count in COUNTS})
        print(rounded({str(count): figures for count, figures in turns[-1].items()}), flush=True)
    found: dict[str, Any] = {
        f"{count} process{'es' if count > 1 else ''}": {
            name: statistics.median(each[count][name] for each in turns) for name in turns[0][count]
        }
        for count in COUNTS
    }
    ratios = [each[2]["per_second"] / each[1]["per_second"] for each in turns]
    return found | {"two: times one": statistics.median(ratios), "in each turn": sorted(ratios)}


def main() -> None:
    """Measure, print, write."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    found: dict[str, Any] = {
        "processors": os.cpu_count(),
        "clients": CLIENTS,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as home, process(serve_signals) as signals:
        secrets = {"SP_SANDBOX_URL": signals, "SP_SANDBOX_TOKEN": "t"}
        settings = Settings(home=Path(home), predict_port=PORT, values=secrets)
        our_model().save(settings.home / "models" / "first")
        promote(settings.home / "models", "first")
        found["with explanations"] = measure(settings, True, seconds)
        found["without explanations"] = measure(settings, False, seconds)
    found = rounded(found)
    print(json.dumps(found, indent=1))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
