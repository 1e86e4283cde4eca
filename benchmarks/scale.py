"""Measure how time per event and memory grow with the number of events, from 0.1 M upwards.

Each size is a process of its own: ``extract_to`` reads Parquet files of a million events each
and writes the label and the 20 features at every page view as Parquet files.

The plan is measured as well: the most rows that any operator of the statement emits, as DuckDB
counts them, as a multiple of the events and anchors that it reads.

Usage: ``python benchmarks/scale.py [millions ...]`` (default 0.1 1 10; 0 for the plan only).
Figures go to ``benchmarks/results/scale.json``; read them as ratios within one run. 100 M events
need about 2 GB of disk and half an hour on two cores.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
from features import THREADS, write_apart
from figures import save

SIZES, FILE = (0.1, 1.0, 10.0), 1_000_000


def measure(folder: Path) -> None:
    """Extract the training set of the files in a folder; print the figures as a line of JSON."""
    from prospect_lib.attributes import tutorial_group
    from prospect_lib.training_set.extract import extract_to
    from prospect_lib.warehouse import DuckDBWarehouse

    before, start = time.process_time(), time.perf_counter()
    warehouse = DuckDBWarehouse.over(
        "", files=f"SELECT * FROM read_parquet('{folder / 'events'}/*.parquet')"
    )
    warehouse.run(f"SET threads = {THREADS}")
    manifest = extract_to(folder / "rows", warehouse, tutorial_group)
    figures = {
        "rows": manifest["rows"],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu": round(time.process_time() - before, 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(figures))


def shape(events: int = FILE) -> dict[str, object]:
    """Return the most rows that an operator of the statement for features emits."""
    from prospect_lib.anchors import Anchors
    from prospect_lib.attributes import tutorial_group
    from prospect_lib.training_set import features_sql

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "events.parquet"
        write_apart(path, events)
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(f"CREATE VIEW events AS FROM '{path}'")
        connection.execute(f"CREATE TABLE anchors AS {Anchors().sql(events='events')}")
        ((anchors,),) = connection.execute("SELECT COUNT(*) FROM anchors").fetchall()
        sql = features_sql(tutorial_group, events="events", anchors="anchors")
        ((_, plan),) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").fetchall()
    operators, most = list(json.loads(plan)["operator"]), 0
    while operators:
        operator = operators.pop()
        operators += operator.get("children", [])
        most = max(most, int(operator["intermediate_rows"]))
    return {
        "events": events,
        "anchors": anchors,
        "most_rows_of_one_operator": most,
        "times_events_and_anchors": round(most / (events + anchors), 2),
    }


def main() -> None:
    """Measure each size and write the figures."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    results: dict[str, object] = {}
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
        results[f"{millions:g} million events"] = figures
        print(f"{millions:g} million events: {figures}", flush=True)
    # last, because a child's peak memory starts with its parent's
    results["shape of the plan"] = shape()
    save("scale", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
