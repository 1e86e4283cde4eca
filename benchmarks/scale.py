"""Training sets from 0.1 M events to many more: time an event, and memory, stay what they are.

Each size is a process of its own: ``extract_to`` reads Parquet files of a million events each
and writes the rows at every page view, with label and 20 features, as Parquet files.

The shape of the plan is kept, too: the most rows that any operator of the statement emits, as
DuckDB counts them, in times of the events and anchors that it reads.

Usage: ``python benchmarks/scale.py [millions ...]`` (default 0.1 1 10; 0: only the shape).
Figures go to ``benchmarks/results/scale.json``; read them as ratios within a run. 100 M events
need about 2 GB of disk and half an hour on two cores.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from features import THREADS, write_apart

RESULTS = Path(__file__).parent / "results" / "scale.json"
SIZES, FILE = (0.1, 1.0, 10.0), 1_000_000


def measure(folder: Path) -> None:
    """Build the training set of the files in a folder; print the figures as a line of JSON."""
    from prospect_lib.training_set.extract import extract_to
    from prospect_lib.warehouse import DuckDBWarehouse

    before, start = time.process_time(), time.perf_counter()
    warehouse = DuckDBWarehouse.over(
        "", files=f"SELECT * FROM read_parquet('{folder / 'events'}/*.parquet')"
    )
    warehouse.run(f"SET threads = {THREADS}")
    manifest = extract_to(folder / "rows", warehouse)
    figures = {
        "rows": manifest["rows"],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu": round(time.process_time() - before, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures))


def shape(events: int = FILE) -> dict[str, object]:
    """The most rows that an operator of the features' statement emits."""
    from prospect_lib.attributes import prospect_group
    from prospect_lib.training_set import features_sql
    from prospect_lib.training_set.anchors import Anchors

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "events.parquet"
        write_apart(path, events)
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW events AS FROM '{path}'")
        connection.execute(f"CREATE TABLE anchors AS {Anchors().sql(events='events')}")
        ((anchors,),) = connection.execute("SELECT COUNT(*) FROM anchors").fetchall()
        sql = features_sql(prospect_group, events="events", anchors="anchors")
        told = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").fetchall()
    waiting, most = list(json.loads(told[0][1])["operator"]), 0
    while waiting:
        operator = waiting.pop()
        waiting += operator.get("children", [])
        most = max(most, int(operator["intermediate_rows"]))
    return {
        "events": events,
        "anchors": anchors,
        "most_rows_of_one_operator": most,
        "times_events_and_anchors": round(most / (events + anchors), 2),
    }


def main() -> None:
    """Measure each size and keep the figures."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found["cpus"] = os.cpu_count()
    for millions in map(float, sys.argv[1:]) if sys.argv[1:] else SIZES:
        if not (events := round(millions * 1e6)):
            continue
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "events").mkdir()
            for first in range(0, events, FILE):
                path = folder / "events" / f"{first // FILE:05}.parquet"
                write_apart(path, min(FILE, events - first), seed=first // FILE)
            command = [sys.executable, __file__, "--measure", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        figures["cpu_microseconds_an_event"] = round(figures["cpu"] / events * 1e6, 2)
        found[f"{millions:g} million events"] = figures
        print(f"{millions:g} million events: {figures}", flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    # last: a process begins with the peak of the one that started it
    found["shape of the plan"] = shape()
    print(found["shape of the plan"], flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
