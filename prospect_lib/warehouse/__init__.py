"""Run SQL on embedded DuckDB or inside Snowflake; Arrow and pandas out, lower-case names."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from prospect_lib.settings import Settings
from prospect_lib.warehouse.duckdb import DuckDBWarehouse
from prospect_lib.warehouse.snowflake import SnowflakeWarehouse

__all__ = ["DuckDBWarehouse", "SnowflakeWarehouse", "Warehouse", "open_warehouse"]


class Warehouse(Protocol):
    """What a training set needs of a warehouse."""

    @property
    def dialect(self) -> str:
        """``duckdb`` or ``snowflake``."""

    @property
    def events(self) -> str:
        """The name of the relation of atomic events."""

    def query(self, sql: str) -> pa.Table:
        """Run one statement; the rows as Arrow, with lower-case column names."""

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """The same rows as they come, a part at a time."""

    def columns(self) -> list[str]:
        """The columns of the events relation, in lower case."""

    def run(self, sql: str) -> None:
        """Run one statement of which no rows are wanted, such as CREATE TABLE."""

    def close(self) -> None:
        """Give the connection back."""


def open_warehouse(settings: Settings, data: Path | str | None = None) -> Warehouse:
    """The warehouse in use: one file if ``data`` names it, else Snowflake or the sandbox's.

    Raises:
        SettingsError: Snowflake is chosen and secrets are missing.
        DataError: the file cannot be read, or there are no events yet.
    """
    if data is not None:
        return DuckDBWarehouse.over_file(Path(data))
    if settings.warehouse_backend == "snowflake":
        return SnowflakeWarehouse.connect(settings)
    return DuckDBWarehouse.over_home(settings.home)
