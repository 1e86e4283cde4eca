"""Compute the rows of a training set for some visitors at a time, so that memory stays flat.

Snowflake manages its memory itself. Embedded DuckDB gets one statement per range of visitors;
together they give the same rows, in the same order, as one statement would.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from snowplow_signals import AttributeGroup
from tqdm.auto import tqdm

from prospect_lib.aggregation.keys import key_name, key_property
from prospect_lib.features import Feature
from prospect_lib.sql.compiler import features_sql
from prospect_lib.sql.conditions import property_sql
from prospect_lib.sql.dialects import DuckDB
from prospect_lib.training_set.available import key_columns
from prospect_lib.warehouse import DuckDBWarehouse, Warehouse
from prospect_lib.warehouse.events import columns_of

ROWS_AT_ONCE = 300_000  # anchors per statement on DuckDB: about a gigabyte
#: The visitors in order; a new part starts whenever it has ``size`` anchors.
PARTS = """
CREATE OR REPLACE TEMP TABLE prospect_parts AS
SELECT
  {key} AS visitor,
  CAST((SUM(COUNT(*)) OVER (ORDER BY {key}) - 1) // {size} AS INTEGER) AS part
FROM {anchors}
GROUP BY {key}
"""
BOUNDS = """
SELECT part, MIN(visitor) AS first, MAX(visitor) AS last
FROM prospect_parts GROUP BY part ORDER BY part
"""
#: The columns that a group needs of the events of some parts, as one folder ``file=0`` each.
EVENTS_OF_PARTS = """
COPY (
  SELECT {columns}, p.part // {parts_per_file} AS file
  FROM {events} AS e
  JOIN prospect_parts AS p ON p.visitor = {event_key}
) TO {folder} (FORMAT parquet, PARTITION_BY (file))
"""
MEMORY = """
SELECT
  current_setting('memory_limit') AS memory_limit,
  (SELECT CAST(SUM(memory_usage_bytes) AS BIGINT) FROM duckdb_memory()) AS used
"""
_PARTS_PER_FILE = 32
_MIN_MB, _MB_PER_THREAD = 1000, 250  # for statements about all visitors at once
_FLUSH_ROWS = 65_536  # per file being written; by default half a million wait in memory
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_UTC = pa.timestamp("us", "UTC")
_TYPES = {"number": pa.float64(), "flag": pa.bool_(), "category": pa.string()}
_SQL = DuckDB()
#: From the names of two relations, events and anchors, to the statement over them.
Statement = Callable[[str, str], str]


def rows_in_parts(
    warehouse: Warehouse,
    group: AttributeGroup,
    features: Sequence[Feature],
    anchors: str,
    include_anchor: bool,
    rows_at_once: int,
) -> Iterator[pa.Table]:
    """Yield the rows at the given anchors, in order, in tables of any length.

    Args:
        anchors: a SELECT of the key column as text, ``anchor_ts`` and perhaps ``label`` and
            ``weight``, without nobody's rows.
        include_anchor: whether events exactly at an anchor count.
        rows_at_once: on DuckDB, the number of anchors beyond which there is more than one
            statement.
    """

    def statement(events: str, anchors: str) -> str:
        return features_sql(
            group,
            events=events,
            anchors=anchors,
            dialect=warehouse.dialect,
            include_anchor=include_anchor,
            features=features,
        )

    if isinstance(warehouse, DuckDBWarehouse):
        tables = _rows_on_duckdb(warehouse, group, anchors, rows_at_once, statement)
    else:
        tables = warehouse.batches(statement(warehouse.events, f"(\n{anchors}\n)"))
    for table in tables:
        yield with_feature_types(table, key_name(group), features)


def _rows_on_duckdb(
    warehouse: DuckDBWarehouse,
    group: AttributeGroup,
    select_anchors: str,
    rows_at_once: int,
    statement: Statement,
) -> Iterator[pa.Table]:
    key, event_key = _SQL.identifier(key_name(group)), _event_key(group)
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "anchors.parquet"  # rather than in memory
        with _limited_memory(warehouse):
            warehouse.run(f"COPY ({select_anchors}) TO {_SQL.text(file)} (FORMAT parquet)")
        anchors = f"read_parquet({_SQL.files([file])})"
        count = warehouse.query(f"SELECT COUNT(*) AS n FROM {anchors}")["n"][0].as_py()
        if count <= rows_at_once:
            yield warehouse.query(statement(warehouse.events, anchors))
            return
        warehouse.run(PARTS.format(key=key, anchors=anchors, size=rows_at_once))
        parts = warehouse.query(BOUNDS).to_pylist()
        try:
            events_of = _events_of_parts(warehouse, group, len(parts), folder / "events")
            for part in tqdm(parts, "training set", unit="part"):
                first, last = _SQL.literal(part["first"]), _SQL.literal(part["last"])
                between = f"BETWEEN {first} AND {last}"
                yield warehouse.query(
                    statement(
                        f"(SELECT * FROM {events_of(part['part'])} WHERE {event_key} {between})",
                        f"(SELECT * FROM {anchors} WHERE {key} {between})",
                    )
                )
        finally:
            warehouse.run("DROP TABLE prospect_parts")


def _events_of_parts(
    warehouse: DuckDBWarehouse, group: AttributeGroup, parts: int, folder: Path
) -> Callable[[int], str]:
    """Return a function from a part's number to the relation that its events are read from.

    Reading all events takes a tenth of the time that a part takes, so up to ``_PARTS_PER_FILE``
    parts read them all. For more parts, the events are first written to one folder for every
    ``_PARTS_PER_FILE`` of them.
    """
    if parts <= _PARTS_PER_FILE:
        return lambda _: warehouse.events
    needed = {"derived_tstamp", "event_name", "event_vendor", "event_version"}
    needed = needed.union(key_columns(group), *columns_of(group).values())
    needed &= set(warehouse.columns())
    with _limited_memory(warehouse):
        warehouse.run(f"SET partitioned_write_flush_threshold = {_FLUSH_ROWS}")
        try:
            warehouse.run(
                EVENTS_OF_PARTS.format(
                    columns=", ".join(f"e.{_SQL.identifier(column)}" for column in sorted(needed)),
                    parts_per_file=_PARTS_PER_FILE,
                    events=warehouse.events,
                    event_key=_event_key(group, "e"),
                    folder=_SQL.text(folder),
                )
            )
        finally:
            warehouse.run("RESET partitioned_write_flush_threshold")

    def events_of(part: int) -> str:
        files = sorted((folder / f"file={part // _PARTS_PER_FILE}").glob("*.parquet"))
        # without files none of these visitors has an event; a relation that is empty by definition
        # would make DuckDB 1.3.2 drop the rows of an ASOF LEFT JOIN
        return f"read_parquet({_SQL.files(files)})" if files else warehouse.events

    return events_of


def _event_key(group: AttributeGroup, relation: str = "") -> str:
    """Return what identifies the visitor of an event, as SQL."""
    return property_sql(key_property(group), _SQL, relation)


@contextmanager
def _limited_memory(warehouse: DuckDBWarehouse) -> Iterator[None]:
    """Let statements about all visitors at once sort on disk rather than in memory.

    DuckDB's own limit is 80% of the machine's memory; its guide advises at least 125 MB per
    thread (https://duckdb.org/docs/stable/guides/performance/environment).
    """
    memory = warehouse.query(MEMORY).to_pylist()[0]
    before = _bytes(memory["memory_limit"])
    megabytes = max(_MIN_MB, _MB_PER_THREAD * (os.cpu_count() or 1))
    limit = memory["used"] + 1_000_000 * megabytes
    warehouse.run(f"SET memory_limit = '{min(limit, before)} B'")
    try:
        yield
    finally:
        warehouse.run(f"SET memory_limit = '{before} B'")


def _bytes(shown: str) -> int:
    """Return the bytes of a size as DuckDB shows it, such as ``12.5 GiB``.

    DuckDB rounds down, in steps of 1/1024; with one step more, the result is shown as the same
    text again. (DuckDB's own ``parse_formatted_bytes`` is newer than 1.3.2.)
    """
    number, unit = shown.split()
    return int((float(number) + 1 / 1024) * _UNITS[unit])


def with_feature_types(table: pa.Table, key: str, features: Sequence[Feature]) -> pa.Table:
    """Return the same columns with the same types for every warehouse.

    Connectors return counts as Decimals, or as integers of varying width, and warehouses return
    names in lower case.
    """
    instants = table["anchor_ts"].cast(pa.timestamp("us"), safe=False)
    columns = {key: table[key.lower()].cast(pa.string()), "anchor_ts": instants.cast(_UTC)}
    for name, kind in (("label", pa.bool_()), ("weight", pa.float64())):
        if name in table.column_names:
            columns[name] = table[name].cast(kind)
    for feature in features:
        column = table[feature.name.lower()]
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        columns[feature.name] = column.cast(_TYPES[feature.kind])
    return pa.table(columns)
