"""Measure what one statement of a training set reads: of a year of events, and of 30 days of it.

The statement is that of the manifest, which runs alone. DuckDB counts its scans of the events, the
rows and the bytes that it reads from a Parquet file in order of collection, as a table that is
partitioned by ``collector_tstamp`` has them. Each run is a process of its own.

Usage: ``python benchmarks/window.py [events]`` (default 7400000). Figures go to
``benchmarks/results/window.json``.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from features import THREADS, write_apart
from figures import save

EVENTS, DAYS = 7_400_000, 365
UNTIL = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=DAYS)
RUNS = {"a year": None, "30 days of it": UNTIL - timedelta(days=30)}


def measure(path: Path, run: str) -> None:
    """Run the statement of one training set; print the figures as a line of JSON."""
    from prospect_lib.anchors import Anchors
    from prospect_lib.attributes import prospect_group
    from prospect_lib.training_set.extract import extract
    from prospect_lib.warehouse import DuckDBWarehouse

    warehouse = DuckDBWarehouse.over_file(path)
    warehouse.run(f"SET threads = {THREADS}")
    start = time.perf_counter()
    training = extract(warehouse, prospect_group, Anchors(since=RUNS[run], until=UNTIL))
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sql = training.manifest["sql"]
    ((_, text),) = warehouse.connection.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}").fetchall()
    profile = json.loads(text)
    operators, scans = list(profile["operator"]), 0
    while operators:
        operator = operators.pop()
        operators += operator.get("children", [])
        scans += operator["extra_info"].get("Function") == "READ_PARQUET"
    figures = {
        "rows": training.table.num_rows,
        "seconds": round(seconds, 1),
        "peak_mb": peak // 1024,
        "scans": scans,
        "events_read": profile["query"]["total_rows_scanned"],
        "mb_read": round(profile["io"]["total_bytes_read"] / 1e6, 1),
    }
    print(json.dumps(figures))


def main() -> None:
    """Measure both windows and write the figures."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]), sys.argv[3])
        return
    events = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    results: dict[str, object] = {"events": events, "days": DAYS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        write_apart(path, events, days=DAYS)
        results["mb"] = round(path.stat().st_size / 1e6)
        for run in RUNS:
            command = [sys.executable, __file__, "--measure", str(path), run]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results[run] = json.loads(done.stdout.splitlines()[-1])
            print(f"{run}: {results[run]}", flush=True)
    save("window", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
