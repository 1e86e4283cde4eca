"""Build a training set in a warehouse: anchors, labels and features in compiled statements.

Example: ``extract(open_warehouse(settings))`` -> a ``TrainingSet`` with 20 features.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel
from snowplow_signals import AttributeGroup
from tqdm.auto import tqdm

from prospect_lib.aggregation import group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.features import Feature, features_of
from prospect_lib.sql import literal
from prospect_lib.training_set import Anchors, features_sql
from prospect_lib.warehouse import Warehouse, columns_of, missing_columns

ROWS_AT_ONCE = 300_000  # anchors of one statement on DuckDB: about 1.2 GB
_PLACED = "prospect_anchors"
#: visitors in their order, a new part whenever so many anchors are full
_PARTS = """
CREATE OR REPLACE TEMP TABLE prospect_parts AS
SELECT
  {key} AS visitor,
  CAST((SUM(COUNT(*)) OVER (ORDER BY {key}) - 1) // {size} AS INTEGER) AS part
FROM prospect_anchors
WHERE {key} IS NOT NULL
GROUP BY {key}
"""
_BOUNDS = """
SELECT part, MIN(visitor) AS first, MAX(visitor) AS last
FROM prospect_parts GROUP BY part ORDER BY part
"""
_PARTS_OF_A_FILE, _BATCH = 32, 65_536
_TYPES = {"number": pa.float64(), "flag": pa.bool_(), "category": pa.string()}


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on and everything needed to build them again.

    Attributes:
        table: ``domain_userid``, ``anchor_ts`` (UTC), ``label`` (bool), perhaps ``weight``
            and ``p_true``,
            then one column a feature.
        manifest: the SQL, the group's version and hash, anchors, counts and data window.
    """

    table: pa.Table
    manifest: dict[str, Any] = field(repr=False)


def extract(
    warehouse: Warehouse,
    group: AttributeGroup = prospect_group,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
    truth: Path | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> TrainingSet:
    """The training set of a group, at the anchors of all visitors in the warehouse.

    Args:
        warehouse: where the events are.
        group: the attributes whose features are wanted.
        anchors: where rows are placed; by default at every page view. Or the name of a
            relation of one's own in the warehouse: key, ``anchor_ts`` (UTC), perhaps
            ``label`` and ``weight``.
        include_anchor: whether events exactly at an anchor count, as they do when serving.
        truth: folder of the simulator's true probabilities, joined as ``p_true``.
        rows_at_once: DuckDB works through the visitors in parts of less than so many anchors,
            so that memory stays flat however many there are; the rows are the same.

    Raises:
        DataError: events lack columns that attributes need, or no anchor is left.
    """
    anchors = anchors if anchors is not None else Anchors()
    _check_columns(warehouse, group)
    key = group.attribute_key.name or ""
    placed = _placing(warehouse, anchors, key)
    sql = _features(warehouse, group, f"(\n{placed}\n)", include_anchor)
    if warehouse.dialect == "duckdb":
        table = _in_parts(warehouse, group, placed, include_anchor, rows_at_once)
    else:
        table = _conform(warehouse.query(sql), key, features_of(group))
    if table.num_rows == 0:
        raise DataError(
            f"no anchor is left ({anchors}): there is no anchor event whose horizon the data "
            "covers, or the window and the population filters exclude all. Widen --since .. "
            "--until, or check app ids."
        )
    manifest = _manifest(table, sql, group, anchors, include_anchor)
    return TrainingSet(_with_truth(table, truth) if truth else table, manifest)


def create_table(
    warehouse: Warehouse,
    name: str,
    group: AttributeGroup = prospect_group,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
) -> str:
    """Write the training set as a table of the warehouse; no row leaves it.

    Args:
        name: of the table, as the warehouse writes names; one that exists is replaced.

    Returns:
        The statement that ran.
    Raises:
        DataError: events lack columns that attributes need.
    """
    anchors = anchors if anchors is not None else Anchors()
    _check_columns(warehouse, group)
    placed = _placing(warehouse, anchors, group.attribute_key.name or "")
    select = _features(warehouse, group, f"(\n{placed}\n)", include_anchor)
    sql = f"CREATE OR REPLACE TABLE {name} AS\n{select}"
    warehouse.run(sql)
    return sql


def _check_columns(warehouse: Warehouse, group: AttributeGroup) -> None:
    if lacking := missing_columns(group, warehouse.columns()):
        wanted = "; ".join(f"{name} needs {', '.join(cols)}" for name, cols in lacking.items())
        raise DataError(
            f"the events lack columns: {wanted}. Use a group without these attributes, or "
            "events that have the columns."
        )


def _placing(warehouse: Warehouse, anchors: Anchors | str, key: str) -> str:
    """The SELECT of the anchors."""
    if isinstance(anchors, str):
        return f"SELECT * FROM {anchors}"
    return anchors.sql(events=warehouse.events, key=key, dialect=warehouse.dialect)


def _features(
    warehouse: Warehouse, group: AttributeGroup, anchors: str, include_anchor: bool
) -> str:
    return features_sql(
        group,
        events=warehouse.events,
        anchors=anchors,
        dialect=warehouse.dialect,
        include_anchor=include_anchor,
    )


def _in_parts(
    warehouse: Warehouse,
    group: AttributeGroup,
    placed: str,
    include_anchor: bool,
    rows_at_once: int,
) -> pa.Table:
    """The same rows, some visitors at a time."""
    key, features = group.attribute_key.name or "", features_of(group)

    def rows_of(part: dict[str, Any], events: str) -> pa.Table:
        mine = f'"{key}" BETWEEN {literal(part["first"])} AND {literal(part["last"])}'
        sql = features_sql(
            group,
            events=f"(SELECT * FROM {events} WHERE {mine})",
            anchors=f"(SELECT * FROM {_PLACED} WHERE {mine})",
            include_anchor=include_anchor,
        )
        return _conform(warehouse.query(sql), key, features)

    warehouse.run(f"CREATE OR REPLACE TEMP TABLE {_PLACED} AS {placed}")
    try:
        count = warehouse.query(f"SELECT count(*) AS n FROM {_PLACED}")["n"][0].as_py()
        if count <= rows_at_once:
            sql = _features(warehouse, group, _PLACED, include_anchor)
            return _conform(warehouse.query(sql), key, features)
        # half of it, as the rows so far are in memory too
        warehouse.run(_PARTS.format(key=f'"{key}"', size=-(-rows_at_once // 2)))
        parts = warehouse.query(_BOUNDS).to_pylist()
        with TemporaryDirectory() as folder:
            read = _events_of_parts(warehouse, group, key, len(parts), Path(folder))
            bar = tqdm(parts, "training set", unit="part")
            return pa.concat_tables([rows_of(part, read(part["part"])) for part in bar])
    finally:
        warehouse.run(f"DROP TABLE {_PLACED}; DROP TABLE IF EXISTS prospect_parts")


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
    warehouse.run(
        f"COPY (SELECT {columns}, p.part // {_PARTS_OF_A_FILE} AS file "
        f'FROM {warehouse.events} AS e JOIN prospect_parts AS p ON p.visitor = e."{key}") '
        f"TO '{folder}' (FORMAT parquet, PARTITION_BY (file))"
    )
    return lambda part: f"read_parquet('{folder}/file={part // _PARTS_OF_A_FILE}/*.parquet')"


def _conform(table: pa.Table, key: str, features: Sequence[Feature]) -> pa.Table:
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


def _with_truth(table: pa.Table, folder: Path) -> pa.Table:
    """Beside each anchor the simulator's probability; rows of other visitors are left out."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return table
    import duckdb

    names = ", ".join(f"'{str(path).replace(chr(39), chr(39) * 2)}'" for path in files)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("rows_", table)
        found = connection.sql(
            "SELECT r.*, t.p_true FROM rows_ AS r "
            f"JOIN (SELECT DISTINCT ON (domain_userid, anchor_ts) * FROM read_parquet([{names}]) "
            "ORDER BY domain_userid, anchor_ts, p_true) AS t "
            "ON t.domain_userid = r.domain_userid AND t.anchor_ts = CAST(r.anchor_ts AS TIMESTAMP) "
            "ORDER BY r.domain_userid, r.anchor_ts"
        ).to_arrow_table()
    result: pa.Table = found.cast(table.schema.append(pa.field("p_true", pa.float64())))
    return result


def _manifest(
    table: pa.Table,
    sql: str,
    group: AttributeGroup,
    anchors: Anchors | str,
    include_anchor: bool,
) -> dict[str, Any]:
    """What it takes to build the same rows again, and to see that they are the same."""
    window = pc.min_max(table["anchor_ts"]).as_py()
    labelled = "label" in table.column_names
    return {
        "group": {"name": group.name, "version": group.version, "hash": group_hash(group)},
        "anchors": anchors if isinstance(anchors, str) else _plain(asdict(anchors)),
        "include_anchor": include_anchor,
        "rows": table.num_rows,
        "positives": int(pc.sum(table["label"]).as_py() or 0) if labelled else None,
        "since": window["min"].isoformat(),
        "until": window["max"].isoformat(),
        "sql": sql,
        "sql_sha256": hashlib.sha256(sql.encode()).hexdigest(),
        "rows_sha256": _fingerprint(table),
    }


def _plain(value: Any) -> Any:
    """Arguments as JSON has them: lengths in seconds, moments in ISO 8601."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _fingerprint(table: pa.Table) -> str:
    """A hash of the rows, in batches of one size: equal rows, equal hash.

    Not of Arrow's own memory: what lies there below a null may be anything.
    """
    found = hashlib.sha256(repr(table.schema.names).encode())
    for first in range(0, table.num_rows, _BATCH):
        for column in table.slice(first, _BATCH).columns:
            for part in _plain_arrays(column):
                found.update(part)
    return found.hexdigest()


def _plain_arrays(column: pa.ChunkedArray) -> Iterator[Any]:
    """A column as NumPy arrays: which values are null, and the others; texts with lengths."""
    yield column.is_null().to_numpy()
    if pa.types.is_string(column.type):
        texts = pa.concat_arrays(column.fill_null("").chunks)
        yield pc.binary_length(texts).to_numpy()
        together = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
        yield pc.binary_join(together, "")[0].as_py().encode()
    else:
        yield column.to_numpy()
