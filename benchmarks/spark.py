"""Time the extraction of a training set on DuckDB, Spark and Polars, and how each grows.

Each contender is a process of its own, with two threads, and returns the same table: see
``features.py``, whose events, attributes and Polars are used here. Spark runs in local mode on
the same events as Snowplow's lake loader writes them; its figures include everything but the start
of the session. The figures are only kept if the tables are equal.

Usage: ``python benchmarks/spark.py [events]`` (default 740000, and ten times as many). Figures go
to ``benchmarks/results/spark.json``; read them as ratios within one run.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from features import DEVICE, EVENTS, THREADS, same, write_apart
from figures import save

FEATURES, CONTENDERS, TURNS = Path(__file__).parent / "features.py", ("ours", "spark", "polars"), 2

#: For one machine: with 200 partitions and plans that adapt, small statements take three times as
#: long.
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.memory": "6g",
    "spark.sql.shuffle.partitions": str(2 * THREADS),
    "spark.sql.adaptive.enabled": "false",
}


def write_lake(path: Path, lake: Path) -> None:
    """Write events again with the nested column as an array of structs."""
    with pq.ParquetFile(path) as events, pq.ParquetWriter(lake, _schema(events)) as writer:
        for batch in events.iter_batches(batch_size=122_880):
            devices = batch[DEVICE].dictionary_encode()
            structs = [
                [{"device_class": each["deviceClass"]} for each in json.loads(text)]
                for text in devices.dictionary.to_pylist()
            ]
            column = pa.array(structs, DEVICES).take(devices.indices)
            place = batch.schema.get_field_index(DEVICE)
            writer.write_batch(batch.set_column(place, DEVICE, column))


DEVICES = pa.list_(pa.struct({"device_class": pa.string()}))


def _schema(events: pq.ParquetFile) -> pa.Schema:
    schema = events.schema_arrow
    return schema.set(schema.get_field_index(DEVICE), pa.field(DEVICE, DEVICES))


def on_spark(lake: Path, kept: Path) -> None:
    """Extract the training set of the events of a lake; print the figures as a line of JSON."""
    from pyspark.sql import SparkSession

    from prospect_lib.anchors import Anchors
    from prospect_lib.attributes import tutorial_group
    from prospect_lib.training_set.extract import extract
    from prospect_lib.warehouse import SparkWarehouse

    builder = SparkSession.builder.master(f"local[{THREADS}]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    (java,) = (p for p in psutil.Process().children(recursive=True) if p.name() == "java")
    times = java.cpu_times()
    before, start = time.process_time() - times.user - times.system, time.perf_counter()
    session.read.parquet(str(lake)).createOrReplaceTempView("events")
    warehouse = SparkWarehouse(session, "events")
    anchors = Anchors(since=datetime(2025, 12, 1, tzinfo=UTC))
    table = extract(warehouse, tutorial_group, anchors).table
    seconds, times = time.perf_counter() - start, java.cpu_times()
    cpu = time.process_time() + times.user + times.system - before
    status = Path(f"/proc/{java.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    session.stop()
    pq.write_table(table, kept)
    print(json.dumps({"seconds": round(seconds, 2), "cpu": round(cpu, 2), "peak_mb": peak}))


def scene(events: int, turns: int) -> dict[str, Any]:
    """Return the best of a few runs of each contender, which take turns."""
    best: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, lake = Path(folder) / "events.parquet", Path(folder) / "lake.parquet"
        write_apart(path, events)
        write_lake(path, lake)
        for _ in range(turns):
            for name in CONTENDERS:
                kept = str(Path(folder) / f"{name}.kept.parquet")
                command = [sys.executable, str(FEATURES), "--contender", name, str(path), kept]
                if name == "spark":
                    command = [sys.executable, __file__, "--spark", str(lake), kept]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                new = json.loads(done.stdout.splitlines()[-1])
                print(f"  {name:10} {new}", flush=True)
                if name not in best or new["seconds"] < best[name]["seconds"]:
                    best[name] = new
        for name in CONTENDERS[1:]:
            same(Path(folder) / "ours.kept.parquet", Path(folder) / f"{name}.kept.parquet")
    return best


def main() -> None:
    """Measure both sizes and write the figures with their ratios."""
    if sys.argv[1:2] == ["--spark"]:
        on_spark(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    events = int(sys.argv[1]) if sys.argv[1:] else EVENTS
    results: dict[str, Any] = {}
    for factor, turns in ((1, TURNS), (10, 1)):
        print(f"{factor * events:,} events", flush=True)
        results[f"{factor * events:,} events"] = scene(factor * events, turns)
    small, large = results.values()
    results["ratios"] = {
        f"{name}: time per event, ten times as many": round(
            large[name]["seconds"] / small[name]["seconds"] / 10, 2
        )
        for name in CONTENDERS
    } | {
        f"{name}, {size}: times DuckDB's": round(each[name]["seconds"] / each["ours"]["seconds"], 2)
        for size, each in list(results.items())
        for name in CONTENDERS[1:]
    }
    save("spark", results, write=not sys.argv[1:])


if __name__ == "__main__":
    main()
