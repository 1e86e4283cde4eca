"""Run SQL on embedded DuckDB, over the events of a sandbox or one file of events.

Example: ``DuckDBWarehouse.over_file(Path("events.parquet")).frame("SELECT * FROM events")``.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import duckdb
import pandas as pd
import pyarrow as pa

from prospect_lib.errors import DataError, ServiceError, one_line
from prospect_lib.warehouse.event_files import read_events
from prospect_lib.warehouse.stored_events import history, live_events, refuse_old_format


@dataclass(frozen=True)
class DuckDBWarehouse:
    """Embedded DuckDB; ``events`` is a view or table like Snowplow's atomic events table."""

    # a string: as a type, this class would keep DuckDB's types until after the exit of a program
    # in which something keeps the class, and DuckDB would print pages of warnings
    connection: "duckdb.DuckDBPyConnection"
    dialect: str = "duckdb"
    events: str = "events"
    notes: tuple[str, ...] = ()
    partition: str = "collector_tstamp"
    source: str = ""
    data_end: datetime | None = None

    @classmethod
    def over(
        cls, relation: str, *, files: str = "", stored: pa.RecordBatchReader | None = None
    ) -> "DuckDBWarehouse":
        """Return a warehouse over one or two SELECTs.

        Args:
            relation: a SELECT that is read once, into memory; may be empty.
            files: a SELECT over Parquet files that are not copied: each statement reads the
                columns that it needs; may be empty.
            stored: Arrow batches that ``relation`` reads as the relation ``stored``.

        Raises:
            DataError: there are no events.
            ServiceError: DuckDB refuses a SELECT.
        """
        connection = _connect()
        warehouse = cls(connection)
        try:
            if stored is not None:
                connection.register("stored", stored)
            if relation:
                name = "read_into_memory" if files else "events"
                warehouse.run(f"CREATE TABLE {name} AS {relation}")
            if stored is not None:
                connection.unregister("stored")
            if files:
                more = " UNION ALL BY NAME SELECT * FROM read_into_memory" if relation else ""
                warehouse.run(f"CREATE VIEW events AS {files}{more}")
            if warehouse.query("SELECT 1 FROM events LIMIT 1").num_rows == 0:
                raise DataError("there are no events.")
        except BaseException:
            connection.close()
            raise
        return warehouse

    @classmethod
    def over_home(cls, home: Path) -> "DuckDBWarehouse":
        """Return a warehouse over all events, past and live, of the sandbox in ``home``.

        Live events that arrive later are not part of it.

        Raises:
            DataError: there are no events, or their format is another release's.
        """
        refuse_old_format(home)
        files = history(home)
        with live_events(home) as live:
            if not files and live is None:
                raise DataError(
                    f"no events in {home}. Give a file of events (--data, or data=... in Python), "
                    "set Snowflake's secrets, or simulate some without any secret: python -m "
                    "prospect_lib demo."
                )
            relation, stored = live or ("", None)
            return cls.over(relation, files=files, stored=stored)

    @classmethod
    def over_file(cls, path: Path | str) -> "DuckDBWarehouse":
        """Return a warehouse over an export of the events table; its notes say what was left out.

        Args:
            path: a Parquet or CSV file, or a folder of such parts, with column names in either
                case. What it may hold is in :mod:`prospect_lib.warehouse.event_files`.
        Raises:
            DataError: there is no such file, it cannot be read, or it lacks events or columns.
        """
        connection = _connect()
        try:
            return cls(connection, notes=read_events(connection, Path(path)))
        except BaseException:
            connection.close()
            raise

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names.

        Raises:
            ServiceError: DuckDB refuses the statement.
        """
        try:
            relation = self.connection.sql(sql)
            table: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
        except duckdb.Error as error:
            reason = one_line(str(error).partition("\n")[0])
            raise ServiceError(f"DuckDB refused the statement: {reason}") from error
        return table.rename_columns([name.lower() for name in table.column_names])

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield all of its rows as one batch."""
        yield self.query(sql)

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE TABLE.

        Raises:
            ServiceError: DuckDB refuses the statement.
        """
        self.query(sql)

    def create_temporary(self, name: str, *statements: str) -> None:  # noqa: ARG002
        """Make and fill a temporary table.

        Raises:
            ServiceError: DuckDB refuses a statement.
        """
        for sql in statements:
            self.run(sql)

    def write_temporary(self, name: str, table: pa.Table, columns: str) -> None:
        """Make a temporary table of rows.

        Args:
            columns: their names and types, as SQL.
        """
        self.connection.register("rows_to_write", table)
        try:
            self.run(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")
            self.run(f"INSERT INTO {name} SELECT * FROM rows_to_write")
        finally:
            self.connection.unregister("rows_to_write")

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if it exists."""
        self.run(f"DROP TABLE IF EXISTS {name}")

    def part(
        self,
        events: str,
        *,
        source: str = "",
        data_end: datetime | None = None,
        notes: Sequence[str] = (),
    ) -> "DuckDBWarehouse":
        """Return the same warehouse with another relation as its events, and more notes."""
        data_end, notes = data_end or self.data_end, (*self.notes, *notes)
        return replace(self, events=events, source=source, data_end=data_end, notes=notes)

    def announce(self, select: str) -> None:
        """Do nothing: reading embedded events costs no money."""

    def frame(self, sql: str) -> pd.DataFrame:
        """Run one statement; return its rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case."""
        return list(self.query(f"SELECT * FROM {self.events} LIMIT 0").column_names)

    def close(self) -> None:
        """Close the connection; memory and temporary files are freed."""
        self.connection.close()


def _connect() -> "duckdb.DuckDBPyConnection":
    """Open a database in memory whose session is in UTC."""
    # by default DuckDB spills to the working folder
    spill = Path(tempfile.gettempdir()) / f"prospect_lib-{uuid4().hex}"
    connection = duckdb.connect(config={"temp_directory": str(spill)})
    connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    # by default, an ASOF join from what DuckDB guesses to be 64 rows or fewer compares all pairs
    connection.execute("SET asof_loop_join_threshold = 0")
    return connection
