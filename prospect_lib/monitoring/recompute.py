"""Served values beside those that the training set's compiler gives for the same moments.

A ``Comparison`` of its own embedded DuckDB holds the served rows and every mismatch; the
warehouse is asked once for all rows and again only about those that differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from snowplow_signals import AttributeGroup

from prospect_lib.monitoring.served_scores import (
    is_number,
    moments,
    rebuilt_value,
)
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.training_set import attributes_sql
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import (
    create_temporary,
    drop_table,
    qualified_name,
    write_temporary,
)

MOMENTS, KNOWN = "audit_moments", "audit_known"  # tables in the warehouse
_SQL = dialect_of("duckdb")
_TOLERANCE = 1e-6  # of a number, relative: two engines add floats in different orders
_READ_AFTER = 5.0  # seconds between the moment of a score and Signals' answer about an age


@dataclass
class Rebuilt:
    """Served rows (``was``), what they should have been (``now``), and what differs.

    Attributes:
        table: as :func:`prospect_lib.monitoring.served_scores.read` gives it.
    """

    warehouse: Warehouse
    group: AttributeGroup
    table: pa.Table
    bench: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)

    def __post_init__(self) -> None:
        """Rebuild every served row and write down what differs."""
        self.bench.register("was", self.table)
        self.now("now", self.table)
        parts = [
            f"SELECT served_row, {i} AS place, CAST(w.{c} AS VARCHAR) AS served, "
            f"CAST(n.{c} AS VARCHAR) AS rebuilt, CAST(NULL AS VARCHAR) AS kind "
            f"FROM was AS w JOIN now AS n USING (served_row) WHERE {self._differs(i)}"
            for i, c in enumerate(self._columns)
        ]
        self.bench.execute(f"CREATE TABLE mismatches AS {' UNION ALL '.join(parts)}")

    @property
    def names(self) -> list[str]:
        """The attributes, in the group's order."""
        return [attribute.name for attribute in self.group.attributes or []]

    @property
    def _moments(self) -> str:
        return qualified_name(self.warehouse, MOMENTS)

    @property
    def _known(self) -> str:
        return qualified_name(self.warehouse, KNOWN)

    @property
    def _columns(self) -> list[str]:
        return [_SQL.identifier(name) for name in self.names]

    @property
    def key(self) -> str:
        """The column that names a visitor."""
        return self.group.attribute_key.name or "domain_userid"

    def now(
        self,
        name: str,
        rows: pa.Table,
        *,
        shifts: Sequence[timedelta] = (timedelta(),),
        events: str | None = None,
        key: str | None = None,
    ) -> None:
        """Rebuild rows, each at its moment moved by every shift, into the local table ``name``.

        Args:
            events: another relation of events than the warehouse's.
            key: the column of ``rows`` that names the visitor in those.
        """
        asked = rows if key is None else rows.set_column(1, "domain_userid", rows[key])
        self.place(name, moments(asked, self.key, tuple(shifts)), events)

    def place(self, name: str, anchors: pa.Table, events: str | None = None) -> None:
        """The attributes at anchors (key, ``anchor_ts``, ``served_row``, ``shift`` in
        microseconds) as the local table ``name``."""
        write_temporary(self.warehouse, MOMENTS, anchors)
        sql = attributes_sql(
            self.group,
            events=events or self.warehouse.events,
            anchors=self._moments,
            dialect=self.warehouse.dialect,
        )
        found = self.warehouse.query(sql)
        types = {f.name: f.type for f in found.schema}
        values = ", ".join(
            f"{rebuilt_value(a, types[a.name])} AS {_SQL.identifier(a.name)}"
            for a in self.group.attributes or []
        )
        self.bench.register("found", found)
        self.bench.execute(
            f"CREATE OR REPLACE TABLE {name} AS "
            f'SELECT CAST(served_row AS BIGINT) AS served_row, CAST("shift" AS BIGINT) AS shift, '
            f"{values} FROM found"
        )
        self.bench.unregister("found")

    def open_rows(self, where: str = "TRUE", limit: int | None = None) -> pa.Table:
        """The served rows with a mismatch that nothing explains yet."""
        at_most = "" if limit is None else f" LIMIT {limit}"
        return self.bench.sql(
            "SELECT * FROM was WHERE served_row IN (SELECT served_row FROM mismatches "
            f"WHERE kind IS NULL) AND {where} ORDER BY hash(served_row){at_most}"
        ).to_arrow_table()

    def explain(self, kind: str, where: str) -> None:
        """Give unexplained mismatches that meet a condition a kind."""
        self.bench.execute(
            f"UPDATE mismatches SET kind = {_SQL.text(kind)} WHERE kind IS NULL AND {where}"
        )

    def explain_equal(self, kind: str, name: str) -> None:
        """Where a value of the rebuilt table ``name`` is what was served, that is why."""
        for place in range(len(self._columns)):
            self.explain(
                kind,
                f"place = {place} AND served_row IN (SELECT served_row FROM was AS w "
                f"JOIN {name} AS n USING (served_row) WHERE NOT ({self._differs(place)}))",
            )

    def equal_rows(self, name: str) -> str:
        """The SELECT of ``served_row, shift`` whose values are all what was served."""
        anything = " OR ".join(f"({self._differs(i)})" for i in range(len(self._columns)))
        return (
            f"SELECT served_row, n.shift FROM was AS w JOIN {name} AS n USING (served_row) "
            f"WHERE NOT ({anything})"
        )

    def known_then(self, rows: pa.Table) -> pa.Table:
        """Those rows before whose moment something happened that arrived only after it, and
        in the warehouse a table of what had arrived, with the row's number for a visitor."""
        write_temporary(self.warehouse, MOMENTS, moments(rows, self.key))
        of = (
            f"{self.warehouse.events} AS e JOIN {self._moments} AS m ON e.{self.key} = m.{self.key}"
        )
        before = "CAST(e.derived_tstamp AS TIMESTAMP) <= m.anchor_ts"
        arrived = "CAST(e.collector_tstamp AS TIMESTAMP)"
        late = self.warehouse.query(
            f"SELECT DISTINCT m.served_row FROM {of} WHERE {before} AND {arrived} > m.anchor_ts"
        )
        theirs = rows.filter(pc.is_in(rows["served_row"], late["served_row"].cast(pa.int64())))
        if theirs.num_rows == 0:
            return theirs
        write_temporary(self.warehouse, MOMENTS, moments(theirs, self.key))
        create_temporary(
            self.warehouse,
            KNOWN,
            f"SELECT e.* REPLACE (CAST(m.served_row AS VARCHAR) AS {self.key}) FROM {of} "
            f"WHERE {before} AND {arrived} <= m.anchor_ts",
        )
        return theirs.append_column("as_text", theirs["served_row"].cast(pa.string()))

    def times_of_events(self, rows: pa.Table, within: timedelta) -> pd.DataFrame:
        """When the visitors of rows did anything, up to so long before and after them:
        ``served_row``, the key, ``anchor_ts`` and the row's own moment ``claimed``."""
        write_temporary(self.warehouse, MOMENTS, moments(rows, self.key))
        sql = dialect_of(self.warehouse.dialect)
        at, length = "CAST(e.derived_tstamp AS TIMESTAMP)", sql.interval(within)
        return self.warehouse.query(
            f"SELECT DISTINCT m.served_row, m.{self.key}, {at} AS anchor_ts, "
            f"m.anchor_ts AS claimed FROM {self.warehouse.events} AS e JOIN {self._moments} AS m "
            f"ON e.{self.key} = m.{self.key} "
            f"AND {at} BETWEEN m.anchor_ts - {length} AND m.anchor_ts + {length}"
        ).to_pandas()

    def rebuild_known(self, name: str, rows: pa.Table) -> None:
        """Rebuild rows of :meth:`known_then` from what had arrived."""
        self.now(name, rows, events=self._known, key="as_text")

    def rebuild_since(self, name: str, rows: pa.Table, since: datetime) -> None:
        """Rebuild rows from events that happened at ``since`` (aware) or later."""
        at = dialect_of(self.warehouse.dialect).constant(since)
        create_temporary(
            self.warehouse,
            KNOWN,
            f"SELECT * FROM {self.warehouse.events} "
            f"WHERE CAST(derived_tstamp AS TIMESTAMP) >= {at}",
        )
        self.now(name, rows, events=self._known)

    def frame(self, sql: str) -> pd.DataFrame:
        """Rows of a statement over ``was``, ``now`` and ``mismatches``."""
        return self.bench.sql(sql).to_df()

    def close(self) -> None:
        """Forget the served rows, here and in the warehouse, which stays open."""
        for name in (MOMENTS, KNOWN):
            drop_table(self.warehouse, name)
        self.bench.close()

    def _differs(self, place: int) -> str:
        column, attribute = self._columns[place], (self.group.attributes or [])[place]
        if not is_number(attribute):
            return f"w.{column} IS DISTINCT FROM n.{column}"
        allowed = f"{_TOLERANCE} * GREATEST(1, ABS(w.{column}))"
        if attribute.aggregation.startswith("time_since"):
            allowed = str(_READ_AFTER)
        return (
            f"(w.{column} IS NULL) <> (n.{column} IS NULL) "
            f"OR COALESCE(ABS(w.{column} - n.{column}) > {allowed}, FALSE)"
        )
