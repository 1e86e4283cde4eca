"""Run SQL on a Spark session: in this process, or on a cluster.

Example: ``SparkWarehouse(session, "atomic.events").query("SELECT 1 AS one")`` -> an Arrow table.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from prospect_lib.errors import ServiceError, SettingsError, one_line, wrong_type

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_NAME = re.compile(r"(`[^`]+`|\w+)(\.(`[^`]+`|\w+))*")
#: What to do about a refusal, by Spark's name of the kind of error.
_ADVICE = (
    (
        "DATATYPE_MISMATCH",
        " Nested columns must be structs and arrays of structs, as Snowplow's lake loader writes "
        "them. Where they are JSON as text, export the events and read the file with "
        "open_warehouse(Settings.load(), file).",
    ),
    (
        "TABLE_OR_VIEW_NOT_FOUND|SCHEMA_NOT_FOUND|SINGLE_PART_NAMESPACE|NO_SUCH_CATALOG",
        " Check the name of the events table and that this session has its catalog: SHOW TABLES.",
    ),
)


@dataclass(frozen=True)
class SparkWarehouse:
    """A table, or a temporary view, of a Spark session (4.0 or later); its time zone becomes UTC.

    Temporary tables are cached views: in memory, and on the executors' disks beyond.

    Attributes:
        session: of ``SparkSession.builder``, or ``spark`` in a notebook of a cluster.
        events: the name of the atomic events table.
        partition: the time column by which it is partitioned.
    """

    session: "SparkSession"
    events: str
    partition: str = "collector_tstamp"
    dialect: str = "spark"
    notes: tuple[str, ...] = ()
    source: str = ""
    data_end: datetime | None = None
    _temporary: set[str] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        """Let Spark read a time within a struct as UTC.

        Raises:
            DataError: ``session`` is no session.
            SettingsError: ``events`` is no name.
        """
        if not hasattr(self.session, "sql"):
            raise wrong_type("session", self.session, "a SparkSession")
        if not self.events.startswith("(") and not _NAME.fullmatch(self.events):
            raise SettingsError(
                f"events={self.events!r}: expected the name of a table or view, such as "
                "lake.atomic.events."
            )
        self.session.conf.set("spark.sql.session.timeZone", "UTC")

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names.

        Raises:
            ServiceError: Spark refuses the statement.
        """
        with _refusals():
            table: pa.Table = self.session.sql(sql).toArrow()
        return table.rename_columns([name.lower() for name in table.column_names])

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield all of its rows as one batch, which the driver must hold."""
        yield self.query(sql)

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE VIEW.

        Raises:
            ServiceError: Spark refuses the statement.
        """
        with _refusals():
            self.session.sql(sql)

    def create_table(self, name: str, select: str) -> None:
        """Write the rows of a SELECT as a table of the session's default format.

        CREATE OR REPLACE TABLE is only for formats of lakes, such as Delta and Iceberg.

        Raises:
            ServiceError: Spark refuses the statement.
        """
        with _refusals():
            rows = self.session.sql(select).write.mode("overwrite")
            rows.option("overwriteSchema", "true").saveAsTable(name)

    def create_temporary(self, name: str, *statements: str) -> None:
        """Make a temporary table.

        Raises:
            ServiceError: Spark refuses a statement.
        """
        self.drop_temporary(name)
        for sql in statements:
            self.run(sql)
        self._temporary.add(name)

    def write_temporary(self, name: str, table: pa.Table, columns: str) -> None:
        """Make a temporary table of rows.

        Args:
            columns: their names and types, as SQL.
        """
        self.session.createDataFrame(table, columns).createOrReplaceTempView(name)
        self._temporary.add(name)

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if it exists."""
        self.session.catalog.dropTempView(name)
        self._temporary.discard(name)

    def part(
        self,
        events: str,
        *,
        source: str = "",
        data_end: datetime | None = None,
        notes: Sequence[str] = (),
    ) -> "SparkWarehouse":
        """Return the same warehouse with another relation as its events, and more notes."""
        data_end, notes = data_end or self.data_end, (*self.notes, *notes)
        return replace(self, events=events, source=source, data_end=data_end, notes=notes)

    def announce(self, select: str) -> None:
        """Do nothing: what Spark will read is known when it reads."""

    def frame(self, sql: str) -> pd.DataFrame:
        """Run one statement; return its rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case."""
        return list(self.query(f"SELECT * FROM {self.events} LIMIT 0").column_names)

    def close(self) -> None:
        """Drop the temporary tables; the session stays open, for it is the caller's."""
        for name in [*self._temporary]:
            self.drop_temporary(name)


@contextmanager
def _refusals() -> Iterator[None]:
    """Say in one line what Spark says, without its plans and stack traces."""
    from pyspark.errors import PySparkException

    # this logger of PySpark's writes the whole plan of a refused statement to stderr
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    try:
        yield
    except PySparkException as error:
        reason = re.split(r"\n|; line \d+ pos| SQLSTATE", str(error).strip())[0]
        advice = next((advice for kind, advice in _ADVICE if re.search(kind, reason)), "")
        raise ServiceError(f"Spark refused the statement: {one_line(reason)}{advice}") from error
