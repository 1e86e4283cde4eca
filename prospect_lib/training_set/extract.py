"""Build a training set in a warehouse: anchors, labels and features, and a manifest.

Example: ``extract(open_warehouse(settings)).table`` -> an Arrow table with the label and the
features at every moment at which the demo website asks for a score.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation.definitions import LEFT_OUT
from prospect_lib.aggregation.fold import group_hash
from prospect_lib.aggregation.keys import key_property
from prospect_lib.anchors import SESSION, Anchors
from prospect_lib.errors import DataError, one_line
from prospect_lib.files import draft_of, write_whole
from prospect_lib.model.dataset import PART
from prospect_lib.problem import ScoringProblem, problem_of, prospect_problem
from prospect_lib.sql.clocks import time_sql, wrong_clock_sql
from prospect_lib.sql.compiler import features_sql, reading_once
from prospect_lib.sql.conditions import nobody_sql, property_sql
from prospect_lib.sql.dialects import DuckDB, dialect_of
from prospect_lib.training_set.available import Available, refuse_missing_columns
from prospect_lib.training_set.event_notes import NO_MATCH, event_notes
from prospect_lib.training_set.events_part import EventsPart
from prospect_lib.training_set.own_anchors import OwnAnchors
from prospect_lib.training_set.partitions import ROWS_AT_ONCE, rows_in_parts
from prospect_lib.warehouse import DuckDBWarehouse, SparkWarehouse, Warehouse
from prospect_lib.warehouse.clocks import end_of_data
from prospect_lib.warehouse.tables import name_of_new_table

#: The relation in a training set's SQL that is the part of the events it reads.
_PART = "events_part"
#: Each anchor with the simulator's best observable score, from files with both.
WITH_TRUTH = """
SELECT r.*, t.best_observable
FROM training_rows AS r
JOIN (
  SELECT DISTINCT ON ({key}, anchor_ts) *
  FROM read_parquet({files})
  ORDER BY {key}, anchor_ts, best_observable
) AS t ON t.{key} = r.{key} AND t.anchor_ts = CAST(r.anchor_ts AS TIMESTAMP)
ORDER BY r.{key}, r.anchor_ts
"""
#: How many events are somebody's and have a right clock, and from when to when they are.
RANGE = """
SELECT COUNT({ts}) AS n, MIN({ts}) AS first_ts, MAX({ts}) AS last_ts
FROM {events}
WHERE NOT COALESCE({wrong_clock}, FALSE) AND {key} NOT IN ({nobody})"""


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on, and everything that is needed to build them again.

    Attributes:
        table: the key, ``anchor_ts`` (UTC), ``label`` (bool), ``weight`` and
            ``best_observable`` where they exist, then one column per feature; sorted by key and
            ``anchor_ts``.
        manifest: group, anchors, number of rows and positives, first and last anchor, the SQL,
            and hashes of group, SQL and rows; ``left_out``, the attributes without features, with
            the columns that the events lack; ``notes``, sentences about what was left out.
    """

    table: pa.Table
    manifest: dict[str, Any] = field(repr=False)


def extract(
    warehouse: Warehouse,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
    truth: Path | str | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> TrainingSet:
    """Return the training set of a group, for all visitors in the warehouse.

    Attributes for which the events have no columns are left out; the manifest lists them.

    Args:
        warehouse: where the events are.
        problem: the scoring problem, or an attribute group, whose anchors are the page views.
        anchors: where rows are placed; by default the problem's. Or the name of your own
            relation in the warehouse, with the key column, ``anchor_ts`` (UTC), and ``label``
            and ``weight`` if you have them; other columns are ignored.
        include_anchor: whether events exactly at an anchor count, as they do when serving.
        truth: a folder with the simulator's best observable scores, which become a column.
        rows_at_once: on DuckDB, visitors are processed in parts of fewer anchors than this, so
            that memory stays flat; the rows do not depend on it.

    Raises:
        DataError: the events lack columns of the key, the goal or the anchors, own anchors
            cannot be read, or no row is left.
        ServiceError: the warehouse refuses the statement.

    Example: a visitor with a page view every hour; the horizon of the last one is not covered.
        >>> from prospect_lib.attributes import sample_group
        >>> from prospect_lib.warehouse import DuckDBWarehouse
        >>> warehouse = DuckDBWarehouse.over(
        ...     "SELECT 'a visitor' AS domain_userid, 'https://example.com/' AS page_url, "
        ...     "'page_view' AS event_name, 'com.snowplowanalytics.snowplow' AS event_vendor, "
        ...     "'1-0-0' AS event_version, "
        ...     "TIMESTAMP '2026-01-05' + INTERVAL (range) HOUR AS derived_tstamp FROM range(4)"
        ... )
        >>> extract(warehouse, sample_group).table["num_page_views"].to_pylist()
        [1.0, 2.0, 3.0]
        >>> warehouse.close()
    """
    with _extraction(warehouse, problem, anchors, include_anchor) as extraction:
        table = pa.concat_tables(list(extraction.tables(rows_at_once)))
    if truth:
        table = _with_truth(table, Path(truth), extraction.problem.key)
    return TrainingSet(table, extraction.manifest())


def extract_to(
    folder: Path | str,
    warehouse: Warehouse,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
    rows_at_once: int = ROWS_AT_ONCE,
) -> dict[str, Any]:
    """Write a training set that is larger than memory as Parquet files; return the manifest.

    ``ProspectModel.fit(folder)`` trains on them, if all parts that ``manifest.json`` lists are
    there. It is written last; without it, the next call removes the parts and starts again. The
    arguments, and the example, are those of :func:`extract`.

    Raises:
        DataError: as in :func:`extract`, or the folder is not empty.
        ServiceError: the warehouse refuses the statement.
    """
    folder = Path(folder)
    left = [*folder.iterdir()] if folder.exists() else []
    if not all(PART.search(path.name) for path in left):
        raise DataError(f"{folder} is not empty; give an empty folder or a new one.")
    for path in left:  # of an interrupted call, which wrote no manifest
        path.unlink()
    parts = dict[str, int]()
    with _extraction(warehouse, problem, anchors, include_anchor) as extraction:
        folder.mkdir(parents=True, exist_ok=True)
        for number, table in enumerate(extraction.tables(rows_at_once)):
            name = f"part-{number:05}.parquet"
            with draft_of(folder / name) as draft:
                pq.write_table(table, draft)
            parts[name] = table.num_rows
    manifest = {**extraction.manifest(), "parts": parts}
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=1))
    return manifest


def create_table(
    warehouse: Warehouse,
    name: str,
    problem: ScoringProblem | AttributeGroup = prospect_problem,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
) -> str:
    """Write a training set as a table of the warehouse, without transferring a row.

    Args:
        name: of the table, as the warehouse writes names; a table of this name is replaced.
            Snowflake: ``schema.name``, or ``name`` if ``SF_SCRATCH`` is set.
            The other arguments are those of :func:`extract`.

    Returns:
        One statement that makes the same table.
    Raises:
        DataError: as in :func:`extract`; or the table would be beside Snowflake's events.
        ServiceError: the warehouse refuses the statement.
    """
    create = f"CREATE OR REPLACE TABLE {name_of_new_table(warehouse, name)} AS\n"
    with _extraction(warehouse, problem, anchors, include_anchor) as extraction:
        if isinstance(warehouse, SparkWarehouse):
            warehouse.create_table(name, extraction.statement)
        else:
            extraction.events.run(create + extraction.statement)
    return create + extraction.sql


class RowSummary:
    """Counts and a hash of rows that arrive in tables; their division into tables is irrelevant.

    Attributes:
        rows: how many rows there are.
        positives: how many are labelled true; ``None`` if there is no label.
        first, last: the earliest and the latest anchor.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.positives: int | None = None
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._hashes: dict[str, Any] = {}

    def add(self, table: pa.Table) -> None:
        """Add the next rows."""
        self.rows += table.num_rows
        if "label" in table.column_names:
            self.positives = (self.positives or 0) + int(pc.sum(table["label"]).as_py() or 0)
        bounds = pc.min_max(table["anchor_ts"]).as_py()
        known = [ts for ts in (bounds["min"], bounds["max"], self.first, self.last) if ts]
        if known:
            self.first, self.last = min(known), max(known)
        for name, column in zip(table.column_names, table.columns, strict=True):
            for part, content in _hashable(column):
                self._hashes.setdefault(f"{name} {part}", hashlib.sha256()).update(content)

    def fingerprint(self) -> str:
        """Return a hash of the columns' hashes; equal rows have equal hashes."""
        digests = [f"{part}: {digest.hexdigest()}" for part, digest in self._hashes.items()]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass(frozen=True)
class _Extraction:
    """One training set to be built, and the summary of its rows so far.

    Attributes:
        warehouse: as it was given.
        events: the same with only the part of the events that is needed.
    """

    warehouse: Warehouse
    events: Warehouse
    part: EventsPart
    problem: ScoringProblem
    available: Available
    anchors: Anchors | OwnAnchors
    include_anchor: bool
    notes: Sequence[str]
    summary: RowSummary = field(default_factory=RowSummary)

    def _select_anchors(self, events: str) -> str:
        if isinstance(self.anchors, OwnAnchors):
            return self.anchors.select
        return self.anchors.sql(
            events=events,
            key=self.problem.group,
            dialect=self.warehouse.dialect,
            columns=self.part.columns,
        )

    def _statement(self, events: str) -> str:
        """The statement that returns all rows, over a relation of events."""
        return features_sql(
            self.available.group,
            events=events,
            anchors=f"(\n{self._select_anchors(events)}\n)",
            dialect=self.warehouse.dialect,
            include_anchor=self.include_anchor,
            features=self.available.features,
        )

    @property
    def statement(self) -> str:
        """The statement over the part that is read."""
        return self._statement(self.events.events)

    @property
    def sql(self) -> str:
        """One statement that returns all rows, and reads the events itself, once."""
        select, dialect = self.part.select(self.warehouse), self.warehouse.dialect
        return reading_once(self._statement(_PART), _PART, select, dialect)

    def tables(self, rows_at_once: int) -> Iterator[pa.Table]:
        if rows_at_once < 1:
            raise DataError(f"rows_at_once={rows_at_once} of extract: expected 1 or more.")
        left_out = self.available.left_out
        for table in rows_in_parts(
            self.events,
            self.available.group,
            self.available.features,
            self._select_anchors(self.events.events),
            self.include_anchor,
            rows_at_once,
        ):
            self.summary.add(table)
            metadata = {LEFT_OUT: json.dumps(left_out)} if left_out else None
            yield table.replace_schema_metadata(metadata)
        if self.summary.rows == 0:
            raise DataError(self._why_no_rows())

    def _why_no_rows(self) -> str:
        """Return the sentence about an extraction without a row."""
        anchors = self.anchors
        unmatched = [note for note in self.notes if note.startswith(f"{NO_MATCH} `at`")]
        if unmatched:
            return f"no training row: n{unmatched[0][1:]} Correct the problem's anchors."
        if isinstance(anchors, OwnAnchors):
            return f"no training row: the relation {anchors.relation} has no row that can be used."
        since, until = (f"{m:%Y-%m-%d %H:%M}" if m else "" for m in (anchors.since, anchors.until))
        window = f" between {since} and {until}" if since and until else ""
        window = window or f" from {since} on" * bool(since) + f" before {until}" * bool(until)
        is_embedded = isinstance(self.warehouse, DuckDBWarehouse)
        events = self._range(self.warehouse if is_embedded else self.events)
        if not events["n"] and not is_embedded:
            end = f"{end_of_data(self.warehouse):%Y-%m-%d %H:%M}"
            return (
                f"no training row{window}: no event with a {self.problem.key} was collected then; "
                f"the events end at {end} (UTC). Choose another --since .. --until."
            )
        if not events["n"]:
            return (
                f"no training row: no event with a right clock has a {self.problem.key}. Check "
                "the key, and the columns derived_tstamp and collector_tstamp."
            )
        first, last = (f"{events[name]:%Y-%m-%d %H:%M}" for name in ("first_ts", "last_ts"))
        return (
            f"no training row{window}: the events are from {first} to {last} "
            f"(UTC), and {_in_words(anchors)}. Widen --since .. --until, or change the "
            "problem's anchors."
        )

    def _range(self, warehouse: Warehouse) -> dict[str, Any]:
        """Return how many events are usable, and their first and last time."""
        sql, columns = dialect_of(warehouse.dialect), warehouse.columns()
        select = RANGE.format(
            ts=time_sql("derived_tstamp", sql),
            events=warehouse.events,
            wrong_clock=wrong_clock_sql(columns, warehouse.dialect, events=warehouse.events),
            key=property_sql(key_property(self.problem.group), sql),
            nobody=nobody_sql(sql),
        )
        row: dict[str, Any] = warehouse.query(select).to_pylist()[0]
        return row

    def manifest(self) -> dict[str, Any]:
        """What is needed to build the same rows again, and to check that they are the same."""
        group, anchors, sql = self.problem.group, self.anchors, self.sql
        return {
            "problem": self.problem.name,
            "key": self.problem.key,
            "group": {"name": group.name, "version": group.version, "hash": group_hash(group)},
            "left_out": dict(self.available.left_out),
            "anchors": anchors.relation
            if isinstance(anchors, OwnAnchors)
            else _jsonable(asdict(anchors)),
            "include_anchor": self.include_anchor,
            "rows": self.summary.rows,
            "positives": self.summary.positives,
            "since": self.summary.first and self.summary.first.isoformat(),
            "until": self.summary.last and self.summary.last.isoformat(),
            "notes": list(self.notes),
            "sql": sql,
            "sql_sha256": hashlib.sha256(sql.encode()).hexdigest(),
            "rows_sha256": self.summary.fingerprint(),
        }


@contextmanager
def _extraction(
    warehouse: Warehouse,
    what: ScoringProblem | AttributeGroup,
    anchors: Anchors | str | None,
    include_anchor: bool,
) -> Iterator[_Extraction]:
    """Read the part of the events that a training set needs; leaving drops the copy, if any."""
    if not hasattr(warehouse, "batches"):
        raise DataError(
            f"extract needs a warehouse, not a {type(warehouse).__name__}: give "
            'open_warehouse(settings, "events.parquet").'
        )
    problem, columns = problem_of(what), warehouse.columns()
    anchors = problem.anchors if anchors is None else anchors
    placed: Anchors | OwnAnchors
    if isinstance(anchors, str):
        placed = OwnAnchors.of(warehouse, anchors, problem.group)
    elif isinstance(anchors, Anchors):
        refuse_missing_columns(anchors, problem.group, columns)
        placed = anchors
    else:
        raise DataError(
            f"anchors of extract: a {type(anchors).__name__}, expected Anchors or the name of "
            "a relation, such as my_moments after warehouse.connection.register("
            "'my_moments', frame)."
        )
    available = Available.of(problem, columns)
    part = (
        placed.part(warehouse, available.group)
        if isinstance(placed, OwnAnchors)
        else EventsPart.of(warehouse, available.group, placed)
    )
    with part.read(warehouse) as events:
        notes = [*events.notes, *available.notes()]
        if isinstance(placed, OwnAnchors):
            notes += placed.notes
        else:
            notes += event_notes(events, problem.group, placed, part.columns)
        yield _Extraction(
            warehouse, events, part, problem, available, placed, include_anchor, notes
        )


def _in_words(anchors: Anchors) -> str:
    """Return what an anchor must meet, as half a sentence."""
    events = " or ".join(event.name or event.vendor or "any event" for event in anchors.at)
    places = [events] * bool(events) + [f"every {anchors.every}"] * bool(anchors.every)
    known = f"the events go on {anchors.horizon} longer"
    if anchors.horizon == SESSION:
        known = "the session has ended"
    filters = ("app_ids", "first_seen", "excluded", "min_events", "until_goal")
    narrowed = ", ".join(name for name in filters if getattr(anchors, name))
    narrowing = f", narrowed by {narrowed}" * bool(narrowed)
    return f"rows are at {' and '.join(places)}, if {known}{narrowing}"


def _hashable(column: pa.ChunkedArray) -> Iterator[tuple[str, Any]]:
    """Which values are null, and the values, as bytes; of texts the lengths as well.

    Not Arrow's own buffers, whose content below a null is undefined.
    """
    yield "is null", column.is_null().to_numpy()
    if not pa.types.is_string(column.type):
        yield "value", column.to_numpy()
        return
    for chunk in column.chunks:
        texts = chunk.fill_null("")
        yield "length", pc.binary_length(texts).to_numpy()
        together = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        yield "value", pc.binary_join(together, "")[0].as_py().encode()


def _jsonable(value: Any) -> Any:
    """Return arguments as JSON types: lengths of time in seconds, datetimes as ISO 8601."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _with_truth(table: pa.Table, folder: Path, key: str) -> pa.Table:
    """Return the rows with the best observable scores; rows without one are left out.

    The simulator's files say them for some keys only; for another key there are none.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return table
    try:
        if key not in pq.read_schema(files[0]).names:
            return table
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{files[0]} cannot be read ({one_line(error)}). Delete it to train without the best "
            "observable scores, or run `python -m prospect_lib demo` to simulate them again."
        ) from error
    sql = DuckDB()
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("training_rows", table)
        select = WITH_TRUTH.format(files=sql.files(files), key=sql.identifier(key))
        joined = connection.sql(select).to_arrow_table()
    result: pa.Table = joined.cast(table.schema.append(pa.field("best_observable", pa.float64())))
    return result
