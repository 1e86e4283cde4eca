"""Run SQL where the events are: on embedded DuckDB, or inside Snowflake or Databricks.

All return Arrow tables with lower-case column names.

Example: ``open_warehouse(settings).query("SELECT COUNT(*) AS n FROM events")``.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from prospect_lib.errors import wrong_type
from prospect_lib.settings import Settings, WarehouseBackend
from prospect_lib.warehouse.databricks import DatabricksWarehouse
from prospect_lib.warehouse.duckdb import DuckDBWarehouse
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse
from prospect_lib.warehouse.spark import SparkWarehouse

__all__ = [
    "DatabricksWarehouse",
    "DuckDBWarehouse",
    "SnowflakeWarehouse",
    "SparkWarehouse",
    "Warehouse",
    "open_warehouse",
]


class Warehouse(Protocol):
    """What the library needs of a warehouse; another one is a class with these members."""

    @property
    def dialect(self) -> str:
        """The name of its SQL dialect, such as ``duckdb``."""

    @property
    def events(self) -> str:
        """The name of the atomic events table."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the events: what was corrected, skipped or counted once."""

    @property
    def partition(self) -> str:
        """The time column by which the events table is partitioned."""

    @property
    def source(self) -> str:
        """The SELECT that was copied, where the events are a copy of a part; else empty."""

    @property
    def data_end(self) -> datetime | None:
        """When the data ends (aware), where the events are only a part of it."""

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names."""

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield its rows as they arrive, in batches."""

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case."""

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE TABLE."""

    def create_temporary(self, name: str, *statements: str) -> None:
        """Run the statements that make a temporary table; it lasts as long as the warehouse."""

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if it exists."""

    def part(
        self,
        events: str,
        *,
        source: str = "",
        data_end: datetime | None = None,
        notes: Sequence[str] = (),
    ) -> "Warehouse":
        """Return the same warehouse with another relation as its events, and more notes."""

    def announce(self, select: str) -> None:
        """Say what a SELECT over the events will cost, or stop it, before it runs."""

    def close(self) -> None:
        """Close the connection."""


def open_warehouse(
    settings: Settings,
    data: Path | str | None = None,
    *,
    backend: WarehouseBackend | None = None,
    before_read: Callable[[str], None] = print,
) -> Warehouse:
    """Open the warehouse that the settings choose, or a file of events.

    Args:
        data: a Parquet or CSV file of atomic events, or a folder of them, instead of a backend.
        backend: ``snowflake``, ``databricks``, or ``duckdb``, the events of the sandbox; by
            default the one whose secrets are set.
        before_read: gets a sentence with what a read of a remote warehouse will scan, before it
            runs; may raise to stop it.

    Raises:
        SettingsError: secrets of the chosen backend are missing.
        DataError: the file cannot be read, or there are no events yet.
        ServiceError: the warehouse refused the sign-in.
    """
    if data is not None and not isinstance(data, Path | str):
        raise wrong_type("data of open_warehouse", data, "the path of a Parquet or CSV file")
    if data is not None:
        return DuckDBWarehouse.over_file(Path(data))
    backend = backend or settings.warehouse_backend
    if backend == "snowflake":
        return SnowflakeWarehouse.connect(settings, before_read=before_read)
    if backend == "databricks":
        return DatabricksWarehouse.connect(settings, before_read=before_read)
    return DuckDBWarehouse.over_home(settings.home)
