"""Run SQL on embedded DuckDB, over the sandbox's files or one file of atomic events."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import duckdb
import pandas as pd
import pyarrow as pa

from prospect_lib.errors import DataError, ServiceError
from prospect_lib.warehouse.stored_events import history, live_events, refuse_old_format


@dataclass(frozen=True)
class DuckDBWarehouse:
    """Embedded DuckDB over files; ``events`` is a view or table of atomic events."""

    # a string: as a type, this class would keep DuckDB's types until after the exit of a program
    # in which something keeps the class, and DuckDB would print pages of warnings
    connection: "duckdb.DuckDBPyConnection"
    dialect: str = "duckdb"
    events: str = "events"

    @classmethod
    def over(
        cls, relation: str, *, files: str = "", stored: pa.RecordBatchReader | None = None
    ) -> "DuckDBWarehouse":
        """A warehouse over the given SELECT, which is read once into memory.

        Args:
            files: a SELECT over Parquet files, which stay where they are: each statement
                reads the columns that it needs.
            stored: Arrow batches that the first SELECT reads as ``stored``.
        """
        # what memory has no room for does not go to the working folder, as by default
        aside = Path(tempfile.gettempdir()) / f"prospect_lib-{uuid4().hex}"
        connection = duckdb.connect(config={"temp_directory": str(aside)})
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        warehouse = cls(connection)
        if stored is not None:
            connection.register("stored", stored)
        if relation:
            warehouse.query(f"CREATE TABLE {'arrived' if files else 'events'} AS {relation}")
        if stored is not None:
            connection.unregister("stored")
        if files:
            both = f"{files} UNION ALL BY NAME SELECT * FROM arrived" if relation else files
            warehouse.query(f"CREATE VIEW events AS {both}")
        if warehouse.query("SELECT 1 FROM events LIMIT 1").num_rows == 0:
            raise DataError("there are no events yet: run `python -m prospect_lib demo` first.")
        return warehouse

    @classmethod
    def over_home(cls, home: Path) -> "DuckDBWarehouse":
        """All events of the sandbox whose state is in ``home``: history and live, as of now.

        Raises:
            DataError: there are no events, or not in a format that this release reads.
        """
        refuse_old_format(home)
        files = history(home)
        with live_events(home) as live:
            if not files and live is None:
                raise DataError(f"no events in {home}: run `python -m prospect_lib demo` first.")
            relation, stored = live or ("", None)
            return cls.over(relation, files=files, stored=stored)

    @classmethod
    def over_file(cls, path: Path) -> "DuckDBWarehouse":
        """A Parquet or CSV file of atomic events, upper- or lower-case columns."""
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; give a Parquet or CSV of events.")
        name = path.name.removesuffix(".gz")
        reader = "read_parquet" if name.endswith(".parquet") else "read_csv"
        try:
            relation = f"SELECT * FROM {reader}({_quoted(path)})"
            stays = reader == "read_parquet"
            warehouse = cls.over("" if stays else relation, files=relation if stays else "")
        except (duckdb.Error, ServiceError) as error:
            raise DataError(f"{path} cannot be read as atomic events: {error}") from error
        if absent := {"derived_tstamp", "event_name"} - set(warehouse.columns()):
            raise DataError(f"{path} lacks the columns {sorted(absent)} of atomic events.")
        return warehouse

    def query(self, sql: str) -> pa.Table:
        try:
            relation = self.connection.sql(sql)
            table: pa.Table = pa.table({}) if relation is None else relation.to_arrow_table()
        except duckdb.Error as error:
            raise ServiceError(f"DuckDB refused the statement: {error}") from error
        return table.rename_columns([name.lower() for name in table.column_names])

    def batches(self, sql: str) -> Iterator[pa.Table]:
        yield self.query(sql)

    def run(self, sql: str) -> None:
        self.query(sql)

    def frame(self, sql: str) -> pd.DataFrame:
        """The rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        return list(self.query(f"SELECT * FROM {self.events} LIMIT 0").column_names)

    def close(self) -> None:
        self.connection.close()


def _quoted(value: Path | str) -> str:
    return "'" + str(value).replace("'", "''") + "'"
