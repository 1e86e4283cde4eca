"""Build a training set in a warehouse: anchors, labels and features in compiled statements.

Example: ``extract(open_warehouse(settings))`` -> a ``TrainingSet`` with 20 features.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from snowplow_signals import AttributeGroup

from prospect_lib.anchors import Anchors
from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.features import features_of
from prospect_lib.parts import ROWS_AT_ONCE, conform, rows_in_parts
from prospect_lib.provenance import manifest_of
from prospect_lib.training_set import features_sql
from prospect_lib.warehouse import Warehouse, missing_columns


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
        table = rows_in_parts(warehouse, group, placed, include_anchor, rows_at_once)
    else:
        table = conform(warehouse.query(sql), key, features_of(group))
    if table.num_rows == 0:
        raise DataError(
            f"no anchor is left ({anchors}): there is no anchor event whose horizon the data "
            "covers, or the window and the population filters exclude all. Widen --since .. "
            "--until, or check app ids."
        )
    manifest = manifest_of(table, sql, group, anchors, include_anchor)
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
