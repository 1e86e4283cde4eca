"""Build a training set in a warehouse: anchors, labels and features in one statement.

Example: ``extract(open_warehouse(settings))`` -> a ``TrainingSet`` with 20 features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.aggregation import group_hash
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.features import Feature, features_of
from prospect_lib.training_set import Anchors, features_sql
from prospect_lib.warehouse import Warehouse, missing_columns

_TYPES = {"number": pa.float64(), "flag": pa.bool_(), "category": pa.string()}


@dataclass(frozen=True)
class TrainingSet:
    """Rows to train on and everything needed to build them again.

    Attributes:
        table: ``domain_userid``, ``anchor_ts`` (UTC), ``label`` (bool), perhaps ``p_true``,
            then one column a feature.
        manifest: the SQL, the group's version and hash, anchors, counts and data window.
    """

    table: pa.Table
    manifest: dict[str, Any] = field(repr=False)


def extract(
    warehouse: Warehouse,
    group: AttributeGroup = prospect_group,
    anchors: Anchors | None = None,
    *,
    include_anchor: bool = True,
    truth: Path | None = None,
) -> TrainingSet:
    """The training set of a group, at the anchors of all visitors in the warehouse.

    Args:
        warehouse: where the events are.
        group: the attributes whose features are wanted.
        anchors: where rows are placed; by default at every page view.
        include_anchor: whether events exactly at an anchor count, as they do when serving.
        truth: folder of the simulator's true probabilities, joined as ``p_true``.

    Raises:
        DataError: events lack columns that attributes need, or no anchor is left.
    """
    anchors = anchors or Anchors()
    if lacking := missing_columns(group, warehouse.columns()):
        wanted = "; ".join(f"{name} needs {', '.join(cols)}" for name, cols in lacking.items())
        raise DataError(
            f"the events lack columns: {wanted}. Use a group without these attributes, or "
            "events that have the columns."
        )
    key = group.attribute_key.name or ""
    placed = anchors.sql(events=warehouse.events, key=key, dialect=warehouse.dialect)
    sql = features_sql(
        group,
        events=warehouse.events,
        anchors=f"(\n{placed}\n)",
        dialect=warehouse.dialect,
        include_anchor=include_anchor,
    )
    table = _conform(warehouse.query(sql), key, features_of(group))
    if table.num_rows == 0:
        raise DataError(
            "no anchor is left: there is no anchor event whose horizon "
            f"({anchors.horizon}) the data covers, or window and population filters exclude all. "
            "Widen --since .. --until, or check app ids."
        )
    manifest = _manifest(table, sql, group, anchors, include_anchor)
    return TrainingSet(_with_truth(table, truth) if truth else table, manifest)


def _conform(table: pa.Table, key: str, features: Sequence[Feature]) -> pa.Table:
    """Each warehouse's types made the same; connectors give Decimals, or integers with gaps."""
    columns = {
        key: table[key].cast(pa.string()),
        "anchor_ts": pc.cast(table["anchor_ts"], pa.timestamp("us")).cast(
            pa.timestamp("us", "UTC")
        ),
        "label": table["label"].cast(pa.bool_()),
        **{f.name: table[f.name].cast(_TYPES[f.kind]) for f in features},
    }
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
    table: pa.Table, sql: str, group: AttributeGroup, anchors: Anchors, include_anchor: bool
) -> dict[str, Any]:
    window = pc.min_max(table["anchor_ts"]).as_py()
    return {
        "group": {"name": group.name, "version": group.version, "hash": group_hash(group)},
        "anchors": repr(anchors),
        "include_anchor": include_anchor,
        "rows": table.num_rows,
        "positives": int(pc.sum(table["label"]).as_py() or 0),
        "since": window["min"].isoformat(),
        "until": window["max"].isoformat(),
        "sql": sql,
        "sql_sha256": hashlib.sha256(sql.encode()).hexdigest(),
    }
