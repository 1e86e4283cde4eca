"""Build a training set in a warehouse: anchors, labels and features in compiled statements.

Example: ``extract(open_warehouse(settings))`` -> a ``TrainingSet`` with 20 features.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from snowplow_signals import AttributeGroup

from prospect_lib.attributes import prospect_group
from prospect_lib.errors import DataError
from prospect_lib.training_set import features_sql
from prospect_lib.training_set.anchors import Anchors
from prospect_lib.training_set.partitions import ROWS_AT_ONCE, parts_of
from prospect_lib.training_set.provenance import Provenance
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.events import missing_columns


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
    work = _Work.of(warehouse, group, anchors, include_anchor)
    tables = list(work.parts(rows_at_once))
    table = pa.concat_tables(tables)
    return TrainingSet(_with_truth(table, truth) if truth else table, work.manifest())


def extract_to(
    folder: Path,
    warehouse: Warehouse,
    group: AttributeGroup = prospect_group,
    anchors: Anchors | str | None = None,
    *,
    include_anchor: bool = True,
    rows_at_once: int = ROWS_AT_ONCE,
) -> dict[str, Any]:
    """Write the training set as Parquet files: more rows than memory has room for.

    ``ProspectModel.fit(folder)`` trains on them. The manifest, as ``manifest.json`` too,
    comes last, so that it vouches for all of them.

    Returns:
        The manifest.
    Raises:
        DataError: as :func:`extract`, or the folder has files of another training set.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; give a folder that is, or a new one.")
    work = _Work.of(warehouse, group, anchors, include_anchor)
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(work.parts(rows_at_once)):
        pq.write_table(table, folder / f"part-{number:05}.parquet")
    manifest = work.manifest()
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return manifest


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
    work = _Work.of(warehouse, group, anchors, include_anchor)
    sql = f"CREATE OR REPLACE TABLE {name} AS\n{work.sql}"
    warehouse.run(sql)
    return sql


@dataclass(frozen=True)
class _Work:
    """One training set to build: what is asked of which warehouse."""

    warehouse: Warehouse
    group: AttributeGroup
    anchors: Anchors | str
    include_anchor: bool
    placed: str
    provenance: Provenance = field(default_factory=Provenance)

    @classmethod
    def of(
        cls,
        warehouse: Warehouse,
        group: AttributeGroup,
        anchors: Anchors | str | None,
        include_anchor: bool,
    ) -> "_Work":
        _check_columns(warehouse, group)
        anchors = Anchors() if anchors is None else anchors
        key = group.attribute_key.name or ""
        if isinstance(anchors, str):
            placed = f"SELECT * FROM {anchors}"
        else:
            placed = anchors.sql(events=warehouse.events, key=key, dialect=warehouse.dialect)
        return cls(warehouse, group, anchors, include_anchor, placed)

    @property
    def sql(self) -> str:
        """The one statement that gives all rows."""
        return features_sql(
            self.group,
            events=self.warehouse.events,
            anchors=f"(\n{self.placed}\n)",
            dialect=self.warehouse.dialect,
            include_anchor=self.include_anchor,
        )

    def parts(self, rows_at_once: int) -> Iterator[pa.Table]:
        for table in parts_of(
            self.warehouse, self.group, self.placed, self.include_anchor, rows_at_once
        ):
            self.provenance.add(table)
            yield table
        if self.provenance.rows == 0:
            raise DataError(
                f"no anchor is left ({self.anchors}): there is no anchor event whose horizon the "
                "data covers, or the window and the population filters exclude all. Widen "
                "--since .. --until, or check app ids."
            )

    def manifest(self) -> dict[str, Any]:
        return self.provenance.manifest(self.sql, self.group, self.anchors, self.include_anchor)


def _check_columns(warehouse: Warehouse, group: AttributeGroup) -> None:
    if lacking := missing_columns(group, warehouse.columns()):
        wanted = "; ".join(f"{name} needs {', '.join(cols)}" for name, cols in lacking.items())
        raise DataError(
            f"the events lack columns: {wanted}. Use a group without these attributes, or "
            "events that have the columns."
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
