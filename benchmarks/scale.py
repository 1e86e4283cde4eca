"""Training sets from 0.1 M events to many more: time an event, and memory, stay what they are.

Each size is a process of its own: ``extract_to`` reads Parquet files of a million events each
and writes the rows at every page view, with label and 20 features, as Parquet files.

Usage: ``python benchmarks/scale.py [millions ...]`` (default 0.1 1 10). Figures go to
``benchmarks/results/scale.json``; read them as ratios within a run. 100 M events need about
2 GB of disk and half an hour on two cores.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from features import THREADS, write_apart

RESULTS = Path(__file__).parent / "results" / "scale.json"
SIZES, FILE = (0.1, 1.0, 10.0), 1_000_000


def measure(folder: Path) -> None:
    """Build the training set of the files in a folder; print the figures as a line of JSON."""
    from prospect_lib.extract import extract_to
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


def main() -> None:
    """Measure each size and keep the figures."""
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found["cpus"] = os.cpu_count()
    for millions in map(float, sys.argv[1:]) if sys.argv[1:] else SIZES:
        events = round(millions * 1e6)
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


if __name__ == "__main__":
    main()
