"""Recompute served attribute values with the training set's compiler and list the differences.

The warehouse computes the values at each served moment. An embedded DuckDB holds the served
rows and the mismatches, so that each possible cause reads only the rows in question again.
"""

from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

import duckdb
import pandas as pd
import pyarrow as pa
from snowplow_signals import AttributeGroup
from snowplow_signals.models.model import Attribute

from prospect_lib.aggregation.keys import key_name
from prospect_lib.monitoring.keyed_events import HAPPENED, KEY, keyed_events
from prospect_lib.monitoring.served_scores import (
    ROW,
    SHIFT,
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
    ``served``, ``recomputed`` and ``mismatches`` with ``served_row``, ``attribute``,
    ``served`` and ``recomputed`` (as text) and ``cause`` (null until one is known).

    Args:
        warehouse: holds the events.
        group: the attributes that were served.
        served: as :func:`prospect_lib.monitoring.served_scores.read_served` returns it.
    """

    def __init__(self, warehouse: Warehouse, group: AttributeGroup, served: pa.Table) -> None:
        self.warehouse, self.group, self.served = warehouse, group, served
        self.attributes: Sequence[Attribute] = group.attributes or []
        self.key = key_name(group)
        self._temporary = set[str]()
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
        for name in self._temporary:
            drop_table(self.warehouse, name)
        self._local.close()

    def write(self, anchors: pa.Table) -> str:
        """Write anchors into the warehouse until the context ends; return the table's name."""
        name = write_temporary(self.warehouse, "anchors", anchors)
        self._temporary.add(name)
        return name

    def write_events(self, select: str) -> str:
        """Write events into the warehouse until the context ends; return the table's name."""
        name = create_temporary(self.warehouse, "some_events", select)
        self._temporary.add(name)
        return name

    def compare(self) -> None:
        """Recompute every served row and write ``mismatches``.

        Raises:
            DefinitionError: an attribute cannot be compiled.
            ServiceError: the warehouse refuses a statement.
        """
        self.recompute("recomputed", anchors_of(self.served, self.key))
        differences = [
            f"SELECT served_row, {_SQL.text(attribute.name)} AS attribute, "
            f"CAST(s.{column} AS VARCHAR) AS served, CAST(r.{column} AS VARCHAR) AS recomputed, "
            "CAST(NULL AS VARCHAR) AS cause "
            f"FROM served AS s JOIN recomputed AS r USING (served_row) WHERE {_differs(attribute)}"
            for attribute in self.attributes
            for column in [_SQL.identifier(served_column(attribute))]
        ]
        self._local.execute(f"CREATE TABLE mismatches AS {' UNION ALL '.join(differences)}")

    def recompute(
        self,
        table: str,
        anchors: pa.Table,
        events: str | None = None,
        group: AttributeGroup | None = None,
    ) -> None:
        """Compute the attributes at anchors into a local table.

        Args:
            table: its name; it has ``served_row``, ``audit_shift`` and the attributes.
            anchors: as :func:`prospect_lib.monitoring.served_scores.anchors_of` returns them.
            events: another relation of events than the warehouse's.
            group: the same attributes by another key.
        """
        sql = attributes_sql(
            group or self.group,
            events=events or self.warehouse.events,
            anchors=self.write(anchors),
            dialect=self.warehouse.dialect,
        )
        values = self.warehouse.query(sql)
        types = {field.name.lower(): field.type for field in values.schema}
        columns = ", ".join(
            f"{recomputed_value(a, types[a.name.lower()])} AS {_SQL.identifier(served_column(a))}"
            for a in self.attributes
        )
        self._local.register("warehouse_values", values)
        self._local.execute(
            f"CREATE OR REPLACE TABLE {table} AS SELECT CAST({ROW} AS BIGINT) AS served_row, "
            f"CAST({SHIFT} AS BIGINT) AS {SHIFT}, {columns} FROM warehouse_values"
        )
        self._local.unregister("warehouse_values")

    def unexplained_rows(self, limit: int | None = None) -> pa.Table:
        """Return the served rows with a mismatch of unknown cause, in a random order."""
        at_most = "" if limit is None else f" LIMIT {limit}"
        return self._local.sql(
            "SELECT * FROM served WHERE served_row IN "
            "(SELECT served_row FROM mismatches WHERE cause IS NULL) "
            f"ORDER BY hash(served_row){at_most}"
        ).to_arrow_table()

    def explain(self, cause: str, condition: str = "TRUE") -> None:
        """Give a cause to the mismatches of unknown cause that meet a condition in SQL."""
        self._local.execute(
            f"UPDATE mismatches SET cause = {_SQL.text(cause)} WHERE cause IS NULL AND {condition}"
        )

    def explain_served(self, cause: str, condition: str) -> None:
        """Give a cause to the mismatches of served rows that meet a condition in SQL."""
        self.explain(cause, f"served_row IN (SELECT served_row FROM served WHERE {condition})")

    def explain_equal_values(self, cause: str, table: str) -> None:
        """Give a cause to the mismatches whose served value is in a recomputed table."""
        for attribute in self.attributes:
            self.explain(
                cause,
                f"attribute = {_SQL.text(attribute.name)} AND served_row IN (SELECT served_row "
                f"FROM served AS s JOIN {table} AS r USING (served_row) "
                f"WHERE NOT ({_differs(attribute)}))",
            )

    def equal_rows(self, table: str) -> str:
        """Return the SELECT of the ``served_row`` and ``audit_shift`` for which all values in a
        recomputed table are those that were served."""
        any_differs = " OR ".join(f"({_differs(attribute)})" for attribute in self.attributes)
        return (
            f"SELECT served_row, r.{SHIFT} FROM served AS s JOIN {table} AS r USING (served_row) "
            f"WHERE NOT ({any_differs})"
        )

    def frame(self, sql: str) -> pd.DataFrame:
        """Return the rows of a statement over the local tables."""
        return self._local.sql(sql).to_df()

    def event_times(self, rows: pa.Table, within: timedelta) -> pd.DataFrame:
        """Return when the visitors of served rows had events, up to ``within`` before and
        after each row: ``audit_row``, the identifier, ``anchor_ts`` and ``scored_at``."""
        anchors = self.write(anchors_of(rows, self.key))
        length = dialect_of(self.warehouse.dialect).interval(within)
        return self.warehouse.query(
            f"SELECT DISTINCT a.{ROW}, e.{KEY}, e.{HAPPENED} AS anchor_ts, "
            f"a.anchor_ts AS scored_at FROM {self.events_of_visitors(anchors)} "
            f"AND e.{HAPPENED} BETWEEN a.anchor_ts - {length} AND a.anchor_ts + {length}"
        ).to_pandas()

    def events_of_visitors(self, anchors: str) -> str:
        """Return the join of the events ``e`` with the anchors ``a`` of the same visitor."""
        key = dialect_of(self.warehouse.dialect).identifier(self.key)
        events = keyed_events(self.warehouse, self.group)
        return f"{events} AS e JOIN {anchors} AS a ON e.{KEY} = a.{key}"


def _differs(attribute: Attribute) -> str:
    """Return the condition that a served value ``s`` differs from a recomputed one ``r``."""
    column = _SQL.identifier(served_column(attribute))
    if not is_number(attribute):
        return f"s.{column} IS DISTINCT FROM r.{column}"
    tolerance = f"{_TOLERANCE} * GREATEST(1, ABS(s.{column}))"
    if attribute.aggregation.startswith("time_since"):
        tolerance = str(_AGE_TOLERANCE)
    return (
        f"(s.{column} IS NULL) <> (r.{column} IS NULL) "
        f"OR COALESCE(ABS(s.{column} - r.{column}) > {tolerance}, FALSE)"
    )
