"""``datasets/sql`` and ``datasets/runs`` of the Signals API, run on the sandbox's own events.

Tables are Parquet files in ``tables/`` of the sandbox's home: anchors that a person supplies
are read from there, and what a run builds is written there, where notebooks read it.
"""

import threading
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import duckdb
from flask import Blueprint, Response, current_app, jsonify, request
from snowplow_signals.models.model import DatasetBundleRequest, UserSuppliedAnchors

from prospect_lib.errors import ProspectError
from prospect_lib.sandbox.signals_api.answers import Refusal, json_object, parsed
from prospect_lib.sandbox.signals_api.dataset_sql import bundle
from prospect_lib.warehouse.duckdb import events_of

datasets = Blueprint("datasets", __name__, url_prefix="/datasets")
MAX_PREVIEW = 1000
RUNS = 100  # remembered; their tables stay


@dataclass
class Run:
    """One build of a data set, in a thread of its own."""

    statements: list[str]
    table: dict[str, Any]
    source: str | None
    home: Path
    status: str = "pending"
    error: str | None = None
    id: UUID = field(default_factory=uuid4)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    connection: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)

    @property
    def file(self) -> Path:
        """Where the table is written."""
        return self.home / "tables" / f"{self.table['table']}.parquet"

    def work(self) -> None:
        """Run the statements; what comes of it is in ``status`` and ``error``."""
        try:
            self._build()
        except (duckdb.Error, ProspectError, OSError) as error:
            self.error = self.error or str(error)
        finally:
            self.connection.close()
        self.status = "failed" if self.error else "success"

    def cancel(self) -> None:
        """End the build; one that has ended stays as it is."""
        if self.status == "pending":
            self.error = "cancelled"
            self.connection.interrupt()

    def shown(self) -> dict[str, Any]:
        """The run as the API describes it."""
        return {
            "id": str(self.id),
            "dataset": self.table,
            "created_at": self.created_at.isoformat(),
        }

    def _build(self) -> None:
        relation = events_of(self.home)
        if relation is None:
            raise duckdb.InvalidInputException("there are no events yet")
        self._execute("SET TimeZone = 'UTC'")
        self._execute(f"CREATE TABLE events AS {relation}")
        if self.source is not None:
            path = str(self.file.with_name(f"{self.source}.parquet")).replace("'", "''")
            self._execute(f"CREATE VIEW \"{self.source}\" AS SELECT * FROM read_parquet('{path}')")
        for statement in self.statements:
            self._execute(statement)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        draft = self.file.with_suffix(f".{self.id}.draft")
        target = str(draft).replace("'", "''")
        self._execute(f"COPY \"{self.table['table']}\" TO '{target}' (FORMAT parquet)")
        draft.replace(self.file)

    def _execute(self, sql: str) -> None:
        if self.error:
            raise duckdb.InterruptException(self.error)
        self.connection.execute(sql)


@datasets.post("/sql")
def build() -> Response:
    """The statements of a data set."""
    return jsonify(bundle(_wanted()))


@datasets.post("/runs")
def submit() -> Response:
    """Begin to build a data set."""
    wanted = _wanted()
    built = bundle(wanted)
    parts = [built["anchors"], *built["attributes"], built["dataset"]]
    table = {name: value for name, value in built["dataset"].items() if name != "sql"}
    source = wanted.anchors
    run = Run(
        [part["sql"] for part in parts],
        table,
        source.source.table if isinstance(source, UserSuppliedAnchors) else None,
        Path(current_app.config["PROSPECT_HOME"]),
    )
    runs = _runs()
    runs[run.id] = run
    for old in [each for each in runs.values() if each.status != "pending"][:-RUNS]:
        del runs[old.id]
    threading.Thread(target=run.work, name="dataset", daemon=True).start()
    return jsonify(run.shown())


@datasets.get("/runs/<uuid:identifier>")
def status(identifier: UUID) -> Response:
    """Whether the data set is there."""
    run = _run(identifier)
    return jsonify({**run.shown(), "status": run.status, "error": run.error})


@datasets.get("/runs/<uuid:identifier>/preview")
def preview(identifier: UUID) -> Response:
    """The first rows of a finished data set."""
    run, limit = _run(identifier), request.args.get("limit", "100")
    if run.status != "success":
        raise Refusal(409, f"run {identifier} is {run.status}; there is no data set to preview")
    if not limit.isdecimal() or not 0 < int(limit[:9]) <= MAX_PREVIEW:
        raise Refusal(422, [{"loc": ["query", "limit"], "msg": f"from 1 to {MAX_PREVIEW}"}])
    with duckdb.connect() as connection:
        sql = "SELECT * FROM read_parquet(?)"
        cursor = connection.execute(f"{sql} LIMIT {int(limit)}", [str(run.file)])
        columns = [column[0] for column in cursor.description or []]
        data = [[_shown(value) for value in row] for row in cursor.fetchall()]
    return jsonify(columns=columns, data=data, row_count=len(data))


@datasets.post("/runs/<uuid:identifier>/cancel")
def cancel(identifier: UUID) -> Response:
    """End a run."""
    _run(identifier).cancel()
    return jsonify(status="success")


def _wanted() -> DatasetBundleRequest:
    wanted = parsed(DatasetBundleRequest, json_object())
    keys = {group.attribute_key.name for group in wanted.attributes.attribute_groups}
    if len(keys) != 1:
        raise Refusal(422, [{"loc": ["attributes"], "msg": "groups of one attribute key"}])
    return wanted


def _runs() -> dict[UUID, Run]:
    runs: dict[UUID, Run] = current_app.extensions.setdefault("dataset_runs", {})
    return runs


def _run(identifier: UUID) -> Run:
    run = _runs().get(identifier)
    if run is None:
        raise Refusal(404, f"run {identifier} is not known")
    return run


def _shown(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal | UUID):
        return str(value)
    return value
