"""The rows of a training set, some visitors at a time: memory stays flat on one machine.

A warehouse like Snowflake does that by itself; embedded DuckDB is given one statement after
another, each for a range of visitors, and all of them give the rows that one would give.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from snowplow_signals import AttributeGroup
from tqdm.auto import tqdm

from prospect_lib.features import Feature, features_of
from prospect_lib.sql.dialects import literal
from prospect_lib.training_set import features_sql
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.events import columns_of

ROWS_AT_ONCE = 300_000  # anchors of one statement on DuckDB: about 1.2 GB
#: visitors in their order, a new part whenever so many anchors are full
_PARTS = """
CREATE OR REPLACE TEMP TABLE prospect_parts AS
SELECT
  {key} AS visitor,
  CAST((SUM(COUNT(*)) OVER (ORDER BY {key}) - 1) // {size} AS INTEGER) AS part
FROM {anchors}
WHERE {key} IS NOT NULL
GROUP BY {key}
"""
_BOUNDS = """
SELECT part, MIN(visitor) AS first, MAX(visitor) AS last
FROM prospect_parts GROUP BY part ORDER BY part
"""
_PARTS_OF_A_FILE = 32
_MEMORY = """
SELECT
  parse_formatted_bytes(current_setting('memory_limit')) + 1048576 AS before,  -- it rounds down
  (SELECT CAST(SUM(memory_usage_bytes) AS BIGINT) FROM duckdb_memory()) AS used
"""
_MB_AT_LEAST, _MB_A_THREAD = 1000, 250  # for what is about all visitors at once
_TYPES = {"number": pa.float64(), "flag": pa.bool_(), "category": pa.string()}


def parts_of(
    warehouse: Warehouse,
    group: AttributeGroup,
    placed: str,
    include_anchor: bool,
    rows_at_once: int,
) -> Iterator[pa.Table]:
    """The rows at the anchors that the SELECT ``placed`` gives, in their order.

    Args:
        rows_at_once: on DuckDB up to so many anchors are one statement; more are several.
    """
    key, features = group.attribute_key.name or "", features_of(group)

    def sql(events: str, anchors: str) -> str:
        return features_sql(
            group,
            events=events,
            anchors=anchors,
            dialect=warehouse.dialect,
            include_anchor=include_anchor,
        )

    if warehouse.dialect == "duckdb":
        batches = _on_duckdb(warehouse, group, placed, rows_at_once, sql)
    else:
        batches = warehouse.batches(sql(warehouse.events, f"(\n{placed}\n)"))
    for batch in batches:
        yield conform(batch, key, features)


def _on_duckdb(
    warehouse: Warehouse,
    group: AttributeGroup,
    placed: str,
    rows_at_once: int,
    sql: Callable[[str, str], str],
) -> Iterator[pa.Table]:
    """One statement, or one for each range of visitors."""
    key = group.attribute_key.name or ""
    with TemporaryDirectory() as name:
        folder = Path(name)
        anchors = f"read_parquet('{folder / 'anchors.parquet'}')"  # not in memory
        with _little_memory(warehouse):
            warehouse.run(f"COPY ({placed}) TO '{folder / 'anchors.parquet'}' (FORMAT parquet)")
        count = warehouse.query(f"SELECT count(*) AS n FROM {anchors}")["n"][0].as_py()
        if count <= rows_at_once:
            yield warehouse.query(sql(warehouse.events, anchors))
            return
        # half of it, as the rows so far may be in memory too
        size = -(-rows_at_once // 2)
        warehouse.run(_PARTS.format(key=f'"{key}"', anchors=anchors, size=size))
        parts = warehouse.query(_BOUNDS).to_pylist()
        try:
            read = _events_of_parts(warehouse, group, key, len(parts), folder / "events")
            for part in tqdm(parts, "training set", unit="part"):
                mine = f'"{key}" BETWEEN {literal(part["first"])} AND {literal(part["last"])}'
                yield warehouse.query(
                    sql(
                        f"(SELECT * FROM {read(part['part'])} WHERE {mine})",
                        f"(SELECT * FROM {anchors} WHERE {mine})",
                    )
                )
        finally:
            warehouse.run("DROP TABLE prospect_parts")


def _events_of_parts(
    warehouse: Warehouse, group: AttributeGroup, key: str, parts: int, folder: Path
) -> Callable[[int], str]:
    """Where each part's events are read from: all of them again, as long as that is cheap.

    Reading all events for one part takes a tenth of the time that the part takes. Of very
    many parts a file is written for every ``_PARTS_OF_A_FILE``, so that it stays so.
    """
    if parts <= _PARTS_OF_A_FILE:
        return lambda _: warehouse.events
    needed = {"derived_tstamp", "event_name", "event_vendor", "event_version"}
    needed = needed.union(*columns_of(group).values()) & set(warehouse.columns()) - {key}
    columns = ", ".join(f'e."{name}"' for name in [key, *sorted(needed)])
    warehouse.run("SET partitioned_write_flush_threshold = 65536")  # rows; else all wait in memory
    with _little_memory(warehouse):
        warehouse.run(
            f"COPY (SELECT {columns}, p.part // {_PARTS_OF_A_FILE} AS file "
            f'FROM {warehouse.events} AS e JOIN prospect_parts AS p ON p.visitor = e."{key}") '
            f"TO '{folder}' (FORMAT parquet, PARTITION_BY (file))"
        )
    return lambda part: f"read_parquet('{folder}/file={part // _PARTS_OF_A_FILE}/*.parquet')"


@contextmanager
def _little_memory(warehouse: Warehouse) -> Iterator[None]:
    """What is about all visitors at once sorts on disk rather than in memory.

    DuckDB's own limit is 80% of the machine's; its guide advises against less than 125 MB a
    thread (duckdb.org/docs, "Environment").
    """
    found = warehouse.query(_MEMORY)
    before, used = (found[name][0].as_py() for name in ("before", "used"))
    most = used + 1_000_000 * max(_MB_AT_LEAST, _MB_A_THREAD * (os.cpu_count() or 1))
    warehouse.run(f"SET memory_limit = '{min(most, before)} B'")
    try:
        yield
    finally:
        warehouse.run(f"SET memory_limit = '{before} B'")


def conform(table: pa.Table, key: str, features: Sequence[Feature]) -> pa.Table:
    """Each warehouse's types made the same; connectors give Decimals, or integers with gaps."""
    moments = table["anchor_ts"].cast(pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    columns = {key: table[key].cast(pa.string()), "anchor_ts": moments}
    for name, kind in (("label", pa.bool_()), ("weight", pa.float64())):
        if name in table.column_names:
            columns[name] = table[name].cast(kind)
    for feature in features:
        column = table[feature.name]
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        columns[feature.name] = column.cast(_TYPES[feature.kind])
    return pa.table(columns)
