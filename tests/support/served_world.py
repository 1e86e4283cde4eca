"""Write the log of served scores that a server would have written, with faults if needed.

The values come from the fold, which is the definition in plain Python; the audit compiles SQL.
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from prospect_lib.aggregation.fold import attribute_values, group_hash
from prospect_lib.aggregation.keys import key_name
from prospect_lib.attributes import prospect_group
from prospect_lib.monitoring.served_scores import read_served
from prospect_lib.sandbox.simulation.visitors import simulate
from prospect_lib.warehouse import DuckDBWarehouse

END = datetime(2026, 3, 1, tzinfo=UTC)
Row = dict[str, Any]


@functools.cache
def simulated(visitors: int, days: int = 10, seed: int = 0) -> pa.Table:
    """Simulated events up to END, the same for all tests of a run."""
    return simulate(visitors, days, end=END, seed=seed).events


def happened(event: Row) -> datetime:
    """When an event happened (aware)."""
    at: datetime = event["derived_tstamp"]
    return at.replace(tzinfo=UTC)


@dataclass
class World:
    """Events of some visitors and the moments at which they were scored.

    Attributes:
        group: the attributes as Signals defined them.
        claimed: the attributes as the log names them.
        seen: the events of a visitor that Signals knew at a moment.
        as_of: the moment of the values that Signals answers with.
        at: the time on the server's clock.
        stored: the events that the warehouse has instead of one.
        since: the first moment that is scored.
        days, seed: of the simulated events.
        score: the score of a visitor's attribute values.
        decision: what else the decision has, from these values.
    """

    folder: Path
    visitors: int = 60
    group: Any = field(default_factory=lambda: prospect_group)
    claimed: Any = field(default_factory=lambda: prospect_group)
    seen: Callable[[list[Row], datetime], list[Row]] = lambda events, _at: events
    as_of: Callable[[datetime], datetime] = lambda at: at
    at: Callable[[datetime], datetime] = lambda at: at
    stored: Callable[[Row], Sequence[Row]] = lambda event: [event]
    since: datetime = END - timedelta(days=2)
    days: int = 10
    seed: int = 0
    score: Callable[[Row], float] = lambda _values: 0.1
    decision: Callable[[Row], Row] = lambda _values: {}
    events: list[Row] = field(default_factory=list)

    def serve(self) -> pa.Table:
        """Write the log of every page view since ``since``, and read it."""
        self.events = simulated(self.visitors, self.days, self.seed).to_pylist()
        visitors: dict[str, list[Row]] = {}
        for event in self.events:
            visitors.setdefault(event["domain_userid"], []).append(event)
        records = [
            self._record(visitor, events, happened(event))
            for visitor, events in visitors.items()
            for event in events
            if event["event_name"] == "page_view" and happened(event) >= self.since
        ]
        self.folder.mkdir(exist_ok=True, parents=True)
        write(self.folder, records)
        return read_served(self.folder, self.claimed)

    def warehouse(self, table: pa.Table | None = None) -> DuckDBWarehouse:
        """Open a warehouse of the events that were stored."""
        events = simulated(self.visitors, self.days, self.seed) if table is None else table
        rows = [row for event in events.to_pylist() for row in self.stored(event)]
        stored = pa.Table.from_pylist(rows, schema=events.schema)
        opened = DuckDBWarehouse.over("SELECT NULL AS nothing")
        opened.connection.register("stored", stored)
        opened.run("CREATE OR REPLACE TABLE events AS SELECT * FROM stored")
        opened.connection.unregister("stored")
        return opened

    def _record(self, visitor: str, events: list[Row], at: datetime) -> Row:
        as_of = self.as_of(at)
        then = [event for event in events if happened(event) <= as_of]
        values = attribute_values(self.group, self.seen(then, at), as_of)
        score, decision = self.score(values), self.decision(values)
        return record(visitor, values, self.at(at), self.claimed, score, **decision)


def record(
    visitor: str, values: Row, at: datetime, group: Any, score: float = 0.1, **decision: Any
) -> Row:
    key = key_name(group)
    return {
        key: visitor,
        "key": key,
        "group": group.name,
        "group_hash": group_hash(group),
        "signals": {key: visitor, **values},
        "scoring_attributes": {},
        "score": score,
        "model_version": "test",
        "scored_at": at.isoformat().replace("+00:00", "Z"),
        "decision": {"name": "invite", "threshold": 0.05, "act": score >= 0.05, **decision},
        "cold_start": all(v is None for v in values.values()),
        "stale": False,
    }


def write(folder: Path, records: list[Row]) -> None:
    lines: dict[str, list[str]] = {}
    for each in records:
        lines.setdefault(each["scored_at"][:10], []).append(json.dumps(each))
    for day, of_day in lines.items():
        (folder / f"{day}.ndjson").write_text("\n".join(of_day) + "\n")
