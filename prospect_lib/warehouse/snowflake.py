"""Run SQL inside Snowflake; rows are returned in Arrow batches.

Example: ``SnowflakeWarehouse.connect(settings).query("SELECT 1 AS one")`` -> an Arrow table.
"""

import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from prospect_lib.errors import ServiceError, one_line
from prospect_lib.settings import SNOWFLAKE_KEYS, Settings
from prospect_lib.warehouse.snowflake_sign_in import (
    atomic_table,
    connector_arguments,
    open_connection,
    scratch_schema,
)

Result = TypeVar("Result")
ATTEMPTS = 3
#: The time column by which Snowplow's events table is partitioned, unless ``SF_PARTITION`` says.
PARTITION = "collector_tstamp"
#: Error numbers of the connector after which a new connection may help: it could not be reached,
#: it broke, it was closed, its session ended
#: (https://docs.snowflake.com/en/developer-guide/python-connector).
_DROPPED = {250001, 250002, 250003, 250005, 251012, 253002, 390111, 390112, 390114}
_log = logging.getLogger(__name__)


class SnowflakeWarehouse:
    """Run statements inside Snowflake, on the table that ``ATOMIC_TABLE`` names.

    A statement is repeated on a new connection if the connection was dropped; temporary tables
    are made again before.

    Attributes:
        events: the name of the atomic events table, or of a part of it.
        scratch: the schema for temporary tables, as ``database.schema``.
        partition: the time column by which the events table is partitioned.
        source: the SELECT of which ``events`` is a copy; empty if it is the whole table.
        data_end: when the data ends, where it cannot be seen in a copy.
        before_read: gets a sentence about each read of the whole table before it runs; may raise
            to stop it.

    Args:
        open_connection: signs in and returns a connection.
        events: the name of the atomic events table.
        scratch: by default the schema of the events.
    """

    dialect: str = "snowflake"
    notes: tuple[str, ...] = ()
    source: str = ""
    data_end: datetime | None = None

    def __init__(
        self,
        open_connection: Callable[[], Any],
        events: str,
        *,
        scratch: str = "",
        partition: str = PARTITION,
        before_read: Callable[[str], None] = print,
    ) -> None:
        self.events, self.partition, self.before_read = events, partition, before_read
        self.scratch = scratch or ".".join(events.split(".")[:-1])
        self._session = _Session(open_connection)
        self._columns: list[str] | None = None

    @classmethod
    def connect(
        cls,
        settings: Settings,
        session: Mapping[str, str | int | bool] | None = None,
        *,
        before_read: Callable[[str], None] = print,
    ) -> "SnowflakeWarehouse":
        """Sign in as the secrets say, see ``snowflake_sign_in``.

        Args:
            settings: with the secrets.
            session: parameters of the session besides ``SESSION_PARAMETERS``.
            before_read: gets a sentence with what a read of the events will scan, before it
                runs; may raise to stop it.
        Raises:
            SettingsError: a secret is missing or cannot be right; the message names it.
            ServiceError: Snowflake refused the sign-in; the message contains no secret.
        """
        settings.secrets(*SNOWFLAKE_KEYS)  # all that are missing in one message
        arguments = connector_arguments(settings)
        arguments["session_parameters"] |= session or {}
        values = settings.values
        return cls(
            lambda: open_connection(arguments),
            ".".join(atomic_table(settings)),
            scratch=scratch_schema(settings),
            partition=settings.secret("SF_PARTITION").lower()
            if "SF_PARTITION" in values
            else PARTITION,
            before_read=before_read,
        )

    @property
    def connection(self) -> Any:
        """The connector's connection in use."""
        return self._session.connection

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names.

        Raises:
            ServiceError: Snowflake refused the statement.
        """
        return self._session.with_retry(lambda: self._fetch(sql))

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE TABLE.

        Raises:
            ServiceError: Snowflake refused the statement.
        """
        self._session.execute(sql)

    def create_temporary(self, name: str, *statements: str) -> None:
        """Make and fill a temporary table; it is made again if the connection is dropped.

        Raises:
            ServiceError: Snowflake refused a statement.
        """
        self._session.create_temporary(name, statements)

    def drop_temporary(self, name: str) -> None:
        """Drop a temporary table, if it exists."""
        self._session.temporary.pop(name, None)
        self.run(f"DROP TABLE IF EXISTS {name}")

    def part(
        self,
        events: str,
        *,
        source: str = "",
        data_end: datetime | None = None,
        notes: Sequence[str] = (),
    ) -> "SnowflakeWarehouse":
        """Return the same warehouse and session with another relation as its events."""
        part = copy.copy(self)
        part.events, part.source, part._columns = events, source, None
        part.data_end, part.notes = data_end or self.data_end, (*self.notes, *notes)
        return part

    def announce(self, select: str) -> None:
        """Tell ``before_read`` how much of the events table a SELECT scans, by EXPLAIN."""
        plan = self._session.execute(f"EXPLAIN USING JSON {select}").fetchone()
        try:
            scanned = json.loads(plan[0])["GlobalStats"]
            assigned, total = scanned["partitionsAssigned"], scanned["partitionsTotal"]
            size = f"{assigned:,} of {total:,} partitions, {_size(scanned['bytesAssigned'])}"
        except (LookupError, TypeError, ValueError):
            size = "how much is not known"
        self.before_read(f"Snowflake will scan {self.events}: {size}.")

    def frame(self, sql: str) -> pd.DataFrame:
        """Run one statement; return its rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case; Snowflake is asked once."""
        if self._columns is None:
            cursor = self._session.execute(f"SELECT * FROM {self.events} LIMIT 0")
            self._columns = [column.name.lower() for column in cursor.description]
        return self._columns

    def close(self) -> None:
        """Close the connection; temporary tables end with it."""
        self._session.temporary.clear()
        self.connection.close()

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield its rows as they arrive, one batch at a time in memory.

        Raises:
            ServiceError: Snowflake refused the statement, or the rows stopped arriving.
        """
        import snowflake.connector

        try:
            yield from self._stream(self._session.execute(sql))
        except snowflake.connector.errors.Error as error:  # some rows are with the caller already
            raise ServiceError(
                f"the rows from Snowflake stopped arriving ({one_line(error.msg)}). Run it again."
            ) from error

    def _fetch(self, sql: str) -> pa.Table:
        parts = list(self._stream(self.connection.cursor().execute(sql)))
        return pa.concat_tables(parts, promote_options="permissive")

    @staticmethod
    def _stream(cursor: Any) -> Iterator[pa.Table]:
        names = [column.name.lower() for column in cursor.description]
        total = cursor.rowcount if (cursor.rowcount or 0) >= 0 else None
        empty = True
        with tqdm(total=total, unit="rows", desc="from Snowflake", leave=False) as bar:
            # or else the precision of times would depend on each batch's values
            for batch in cursor.fetch_arrow_batches(force_microsecond_precision=True):
                empty = False
                yield batch.rename_columns(names)
                bar.update(batch.num_rows)
        if empty:
            table = cursor.fetch_arrow_all(force_return_table=True)
            yield _in_microseconds(table.rename_columns(names))


class _Session:
    """One connection, opened again when it was dropped, with its temporary tables.

    Attributes:
        temporary: the statements that make each temporary table, by its name.
    """

    def __init__(self, open_connection: Callable[[], Any]) -> None:
        self._open, self.connection = open_connection, open_connection()
        self.temporary: dict[str, Sequence[str]] = {}
        self._is_dropped = False

    def execute(self, sql: str) -> Any:
        """Run one statement; return the connector's cursor."""
        return self.with_retry(lambda: self.connection.cursor().execute(sql))

    def create_temporary(self, name: str, statements: Sequence[str]) -> None:
        """Run the statements that make a table, now and after each new connection."""
        self.temporary.pop(name, None)
        self.with_retry(lambda: self._run_all(statements))
        self.temporary[name] = statements

    def with_retry(self, action: Callable[[], Result]) -> Result:
        """Return what an action returns; repeat it on a new connection if that was dropped.

        Raises:
            ServiceError: Snowflake refused the statement.
        """
        import snowflake.connector

        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                if self._is_dropped:
                    self._reconnect()
                return action()
            except snowflake.connector.errors.Error as error:
                self._is_dropped = error.errno in _DROPPED or bool(self.connection.is_closed())
                if not attempts_left or not self._is_dropped:
                    raise ServiceError(
                        f"Snowflake refused the statement: {one_line(error.msg)}"
                    ) from error
                _log.warning("the connection to Snowflake was dropped (%s): retry", error.errno)
        raise AssertionError("unreachable")

    def _reconnect(self) -> None:
        self.connection, self._is_dropped = self._open(), False
        for statements in self.temporary.values():
            self._run_all(statements)

    def _run_all(self, statements: Sequence[str]) -> None:
        for sql in statements:
            self.connection.cursor().execute(sql)


def _size(size: int) -> str:
    """Return a number of bytes for people.

    >>> _size(3_450_000_000)
    '3.5 GB'
    """
    power = max(min(len(str(size)) - 1, 14) // 3, 0)
    return f"{size / 1000**power:.{1 if power else 0}f} {('bytes', 'KB', 'MB', 'GB', 'TB')[power]}"


def _in_microseconds(empty: pa.Table) -> pa.Table:
    """Return a table without rows with times in microseconds, as batches of rows have them."""
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type)
        else field
        for field in empty.schema
    ]
    return empty.cast(pa.schema(fields))
