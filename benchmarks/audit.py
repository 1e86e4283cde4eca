"""Measure an audit of 100,000 served scores, without faults and with planted ones.

The training set's own statement makes the served log from simulated events, so the first audit
finds no mismatch. Then one score in fifty gets a later time, so that its values are too old,
and one in a thousand a wrong value. The fold ``attribute_values`` over each visitor's events,
timed on 500 of the same scores, is the simplest other way to compute the values.

Also counts the false alarms of the drift report: 100 simulated days on which nothing has
changed, each compared with the same training rows of other visitors.

Usage: ``python benchmarks/audit.py``; writes ``benchmarks/results/audit.json``.
"""

import json
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from figures import save

from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.monitoring.audit import audit
from prospect_lib.monitoring.drift import measure_drift
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.teaching.visitor import visitor_events
from prospect_lib.training_set import SITE_ANCHORS, attributes_sql, features_sql
from prospect_lib.warehouse import DuckDBWarehouse

END = datetime(2026, 3, 1, tzinfo=UTC)
SCORES, VISITORS, FOLDED, DAYS = 100_000, 18_000, 500, 100


def warehouse_of(visitors: int, seed: int) -> DuckDBWarehouse:
    """Return a warehouse of sixty simulated days."""
    events = simulate(visitors, 60, end=END, seed=seed).events
    warehouse = DuckDBWarehouse.over("SELECT NULL AS nothing")
    warehouse.connection.register("simulated", events)
    warehouse.run("CREATE OR REPLACE TABLE events AS SELECT * FROM simulated")
    warehouse.connection.unregister("simulated")
    return warehouse


def serve(warehouse: DuckDBWarehouse, folder: Path) -> None:
    """Write the log of ``SCORES`` scores, at the moments at which the website requests them."""
    anchors = f"(SELECT * FROM ({SITE_ANCHORS.sql(events='events')}) LIMIT {SCORES})"
    sql = attributes_sql(prospect_group, events="events", anchors=anchors)
    names = [attribute.name for attribute in prospect_group.attributes]
    digest = group_hash(prospect_group)
    lines = []
    for row in warehouse.query(sql).to_pylist():
        signals = {name: row[name] for name in names}
        record = {"domain_userid": row["domain_userid"], "group_hash": digest, "signals": signals}
        about = {"score": 0.1, "scored_at": row["anchor_ts"].isoformat(), "stale": False}
        lines.append(record | about)
    folder.mkdir()
    write(folder, lines)


def write(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write all records into one file."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "2026-03-01.ndjson").write_text(text)


def plant_faults(folder: Path) -> None:
    """Give one score in fifty old values, and one in a thousand a wrong value."""
    path = folder / "2026-03-01.ndjson"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place in range(0, len(lines), 50):
        at = datetime.fromisoformat(lines[place]["scored_at"])
        lines[place]["scored_at"] = (at + timedelta(seconds=8)).isoformat()
    for place in range(7, len(lines), 1000):
        lines[place]["signals"]["num_page_pings_l7d"] = 999
    write(folder, lines)


def timed_audit(warehouse: DuckDBWarehouse, folder: Path) -> dict[str, Any]:
    """Read the log, audit it, and return the result with its duration."""
    start = time.perf_counter()
    report = audit(warehouse, read_served(folder, prospect_group))
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "scores": report.scores,
        "mismatches": int(report.attributes["mismatches"].sum()),
        "exit_code": report.exit_code,
        "kinds": {cause: count for cause, count in report.causes.items() if count},
    }


def fold_seconds(warehouse: DuckDBWarehouse, served: pa.Table) -> float:
    """Return the seconds that the fold takes for all scores, measured on ``FOLDED``."""
    some = served.slice(0, FOLDED).to_pylist()
    known = {v: visitor_events(warehouse, v) for v in {row["domain_userid"] for row in some}}
    start = time.perf_counter()
    for row in some:
        at = row["anchor_ts"].replace(tzinfo=UTC)
        attribute_values(prospect_group, known[row["domain_userid"]], at)
    return (time.perf_counter() - start) / FOLDED * SCORES


def false_alarms() -> dict[str, Any]:
    """Count the days that raise an alarm although nothing has changed."""
    days: list[pd.DataFrame] = []
    training = rows_of(seed=0)
    seed = 0
    while len(days) < DAYS:
        seed += 1
        rows = rows_of(seed)
        days += [day for _, day in rows.groupby(rows["anchor_ts"].dt.date) if len(day) > 20]
    alarms = [measure_drift(training, day).alarms for day in days[:DAYS]]
    counts = [day["domain_userid"].nunique() for day in days[:DAYS]]
    return {
        "days": DAYS,
        "visitors_a_day": round(sum(counts) / len(counts)),
        "days_with_an_alarm": sum(map(bool, alarms)),
        "features_named": sorted({name for names in alarms for name in names}),
    }


def rows_of(seed: int) -> pd.DataFrame:
    """Return feature rows of the last 30 of 60 simulated days."""
    warehouse = warehouse_of(2000, seed)
    anchors = f"({SITE_ANCHORS.sql(events='events')})"
    rows = warehouse.frame(features_sql(prospect_group, events="events", anchors=anchors))
    warehouse.close()
    rows["anchor_ts"] = rows["anchor_ts"].astype("datetime64[us]")
    start = END.replace(tzinfo=None) - timedelta(days=30)
    return rows[rows["anchor_ts"] >= start].reset_index(drop=True)


def main() -> None:
    """Measure, print and write the results."""
    results: dict[str, Any] = {}
    warehouse = warehouse_of(VISITORS, seed=0)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "served"
        serve(warehouse, folder)
        results["clean"] = timed_audit(warehouse, folder)
        fold = fold_seconds(warehouse, read_served(folder, prospect_group))
        results["fold"] = {"seconds": round(fold, 1)}
        results["times as fast"] = round(fold / results["clean"]["seconds"], 1)
        plant_faults(folder)
        results["faults"] = timed_audit(warehouse, folder)
    warehouse.close()
    results["drift"] = false_alarms()
    save("audit", results)


if __name__ == "__main__":
    main()
