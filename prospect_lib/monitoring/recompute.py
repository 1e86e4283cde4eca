"""Recompute served attribute values with the training set's compiler and list the differences.

The warehouse computes the values at each served moment, also as they would be if something had
gone wrong. An embedded DuckDB holds the served rows, the mismatches and what is recomputed.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import duckdb
import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.fold import SECONDS_IN
from prospect_lib.aggregation.keys import key_name
from prospect_lib.monitoring.keyed_events import KEY
from prospect_lib.monitoring.served_scores import (
    CASE,
    ROW,
    anchors_of,
    is_number,
    recomputed_value,
    served_column,
)
from prospect_lib.sql.compiler import attributes_sql
from prospect_lib.sql.dialects import dialect_of
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.tables import create_temporary, drop_table, write_temporary

_TOLERANCE = 1e-6  # relative: two engines add floats in different orders
_AGE_TOLERANCE = 5.0  # seconds between the moment of a score and Signals' answer about an age
_SQL = dialect_of("duckdb")


class Recomputation:
    """Served rows, their recomputed values and the values that differ.

    A context manager: leaving it drops its tables; the warehouse stays open. Local tables are
    ``served``; ``current``, the values of training, or of what is known to have gone wrong; and
    ``mismatches`` with ``served_row``, ``attribute``, ``served`` and ``recomputed`` (as text) and
    ``cause`` (null until one is known).

    Args:
        warehouse: holds the events.
        group: the attributes that were served.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
    """

    def __init__(self, warehouse: Warehouse, group: AttributeGroup, served: pa.Table) -> None:
        self.warehouse, self.group, self.served = warehouse, group, served
        self.attributes: Sequence[Attribute] = group.attributes or []
        self.key = key_name(group)
        self._temporary = list[str]()
        self._local = duckdb.connect()
        self._local.register("served", served)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.drop_temporary()
        self._local.close()

    def drop_temporary(self) -> None:
        """Drop what was written into the warehouse so far, the last first."""
        while self._temporary:
            drop_table(self.warehouse, self._temporary.pop())

    def write(self, anchors: pa.Table, purpose: str = "anchors") -> str:
        """Write anchors into the warehouse for a while; return the table's name."""
        name = write_temporary(self.warehouse, purpose, anchors)
        self._temporary.append(name)
        return name

    def write_events(self, events: str, anchors: pa.Table) -> str:
        """Write the events of the anchors' visitors for a while; return the table's name.

        The anchors are a table of its own, made before it if the connection is dropped.
        """
        keys, key = self.write(anchors, "visitors"), dialect_of(self.warehouse.dialect).identifier
        select = (
            f"SELECT e.* FROM ({events}) AS e WHERE e.{KEY} IN (SELECT {key(self.key)} FROM {keys})"
        )
        name = create_temporary(self.warehouse, "selected", select)
        self._temporary.append(name)
        return name

    def compare(self) -> None:
        """Recompute every served row, and write ``current`` and ``mismatches``.

        Raises:
            DefinitionError: an attribute cannot be compiled.
            ServiceError: the warehouse refuses a statement.
        """
        self.recompute("current", anchors_of(self.served, self.key), self.warehouse.events)
        differences = [
            f"SELECT served_row, {_SQL.text(attribute.name)} AS attribute, "
            f"CAST(s.{column} AS VARCHAR) AS served, CAST(r.{column} AS VARCHAR) AS recomputed, "
            "CAST(NULL AS VARCHAR) AS cause "
            f"FROM served AS s JOIN current AS r USING (served_row) "
            f"WHERE {_differs(attribute, 'r')}"
            for attribute in self.attributes
            for column in [_SQL.identifier(served_column(attribute))]
        ]
        self._local.execute(f"CREATE TABLE mismatches AS {' UNION ALL '.join(differences)}")

    def recompute(
        self,
        table: str,
        anchors: pa.Table,
        events: str,
        group: AttributeGroup | None = None,
        cases: Mapping[int, AttributeGroup] | None = None,
    ) -> None:
        """Compute the attributes at anchors into a local table.

        Args:
            table: its name; it has ``served_row``, ``audit_case``, ``anchor_ts`` and the
                attributes.
            anchors: as :func:`prospect_lib.monitoring.served_scores.anchors_of` returns them.
            events: a relation of events.
            group: the attributes by another key or with other definitions.
            cases: several definitions of the attributes at once; their numbers become the
                ``audit_case`` instead of the anchors'.
        """
        group = group or self.group
        columns = {_definition(a): a for a in group.attributes or []}  # each is computed once
        numbered = {str(number): case for number, case in (cases or {}).items()} or {CASE: group}
        for number, case in numbered.items():
            for a in case.attributes or []:
                other = a.model_copy(update={"name": f"{a.name}_case_{number}"})
                columns.setdefault(_definition(a), other)
        merged = group.model_copy(update={"attributes": list(columns.values())})
        sql = attributes_sql(
            merged, events=events, anchors=self.write(anchors), dialect=self.warehouse.dialect
        )
        values = self.warehouse.query(sql)
        types = {field.name.lower(): field.type for field in values.schema}
        selects = list[str]()
        for number, case in numbered.items():
            fields = ", ".join(
                f"{recomputed_value(a, column, types[column.lower()])} "
                f"AS {_SQL.identifier(served_column(a))}"
                for a in case.attributes or []
                for column in [columns[_definition(a)].name]
            )
            selects.append(
                f"SELECT CAST({ROW} AS BIGINT) AS served_row, CAST({number} AS BIGINT) AS {CASE}, "
                f"CAST(anchor_ts AS TIMESTAMP) AS anchor_ts, {fields} FROM warehouse_values"
            )
        self._local.register("warehouse_values", values)
        self._local.execute(f"CREATE OR REPLACE TABLE {table} AS {' UNION ALL '.join(selects)}")
        self._local.unregister("warehouse_values")

    def judge(self, table: str) -> None:
        """Write ``verdicts`` on recomputed values: what they explain, and what they break.

        A value is explained if it is open, that is, no cause of its mismatch is known, and comes
        out as it was served; it is broken if it agreed and comes out otherwise.
        """
        parts = [
            f"SELECT r.served_row, r.{CASE}, r.anchor_ts, {_SQL.text(a.name)} AS attribute, "
            f"NOT ({_differs(a, 'r')}) AS comes_out, NOT ({_differs(a, 'n')}) AS agrees "
            f"FROM served AS s JOIN {table} AS r USING (served_row) "
            "JOIN current AS n USING (served_row)"
            for a in self.attributes
        ]
        self._local.execute(
            f"CREATE OR REPLACE TABLE verdicts AS SELECT c.served_row, {CASE}, anchor_ts, "
            "c.attribute, comes_out AND is_open AS explained, agrees AND NOT comes_out AS broken, "
            f"is_open FROM (SELECT c.*, NOT agrees AND m.served_row IS NOT NULL AS is_open FROM "
            f"({' UNION ALL '.join(parts)}) AS c LEFT JOIN mismatches AS m ON "
            "m.served_row = c.served_row AND m.attribute = c.attribute AND m.cause IS NULL) AS c"
        )

    def explain(self, cause: str, condition: str = "TRUE") -> int:
        """Give a cause to the mismatches of unknown cause that meet a condition in SQL.

        Returns:
            How many they are.
        """
        update = f"UPDATE mismatches SET cause = {_SQL.text(cause)} WHERE cause IS NULL"
        ((count,),) = self._local.execute(f"{update} AND ({condition})").fetchall()
        return int(count)

    def register(self, name: str, frame: pd.DataFrame) -> None:
        """Make a frame a local table."""
        self._local.register(name, frame)

    def run(self, sql: str) -> None:
        """Run a statement over the local tables."""
        self._local.execute(sql)

    def frame(self, sql: str) -> pd.DataFrame:
        """Return the rows of a statement over the local tables."""
        return self._local.sql(sql).to_df()


def _definition(attribute: Attribute) -> str:
    return attribute.model_copy(update={"name": "", "description": None}).model_dump_json()


def _differs(attribute: Attribute, other: str) -> str:
    """Return the condition that a served value ``s`` differs from a recomputed one."""
    column = _SQL.identifier(served_column(attribute))
    if not is_number(attribute):
        return f"s.{column} IS DISTINCT FROM {other}.{column}"
    tolerance = f"{_TOLERANCE} * GREATEST(1, ABS(s.{column}))"
    if attribute.aggregation.startswith("time_since"):  # an age at another moment, or since then
        moved = f"ABS(date_diff('microsecond', {other}.anchor_ts, s.anchor_ts)) / 1e6"
        unit = SECONDS_IN[attribute.time_unit or "s"]
        tolerance = f"({_AGE_TOLERANCE} + {moved}) / {unit}"
    return (
        f"(s.{column} IS NULL) <> ({other}.{column} IS NULL) "
        f"OR COALESCE(ABS(s.{column} - {other}.{column}) > {tolerance}, FALSE)"
    )
