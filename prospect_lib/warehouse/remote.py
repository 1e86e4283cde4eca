"""What warehouses at the other end of a connection share: its session, and a part of their events.

Example: :class:`prospect_lib.warehouse.snowflake.SnowflakeWarehouse`.
"""

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

import pandas as pd
import pyarrow as pa

from prospect_lib.errors import ServiceError

Result = TypeVar("Result")
ATTEMPTS = 3
#: The time column by which Snowplow's events table is partitioned, unless a setting says.
PARTITION = "collector_tstamp"
_log = logging.getLogger(__name__)


class Session(ABC):
    """One connection, opened again when it was dropped, with its temporary tables.

    Attributes:
        service: the name of the warehouse, for messages.
        temporary: the statements that make each temporary table, by its name.
    """

    service: str

    def __init__(self, open_connection: Callable[[], Any]) -> None:
        self._open, self.connection = open_connection, open_connection()
        self.temporary: dict[str, Sequence[str]] = {}
        self._is_dropped = False

    @abstractmethod
    def refusal(self, error: Exception) -> tuple[str, bool] | None:
        """Return what the connector says, in one line, and whether the connection is dropped.

        ``None`` if it is no error of the connector.
        """

    def cursor(self, sql: str) -> Any:
        """Run one statement once; return the connector's cursor."""
        return self.connection.cursor().execute(sql)

    def execute(self, sql: str) -> Any:
        """Run one statement; return the connector's cursor."""
        return self.with_retry(lambda: self.cursor(sql))

    def create_temporary(self, name: str, statements: Sequence[str]) -> None:
        """Run the statements that make a table, now and after each new connection."""
        self.temporary.pop(name, None)
        self.with_retry(lambda: self._run_all(statements))
        self.temporary[name] = statements

    def with_retry(self, action: Callable[[], Result]) -> Result:
        """Return what an action returns; repeat it on a new connection if that was dropped.

        Raises:
            ServiceError: the warehouse refused the statement.
        """
        reason = ""
        for _ in range(ATTEMPTS):
            if reason:
                _log.warning("the connection to %s was dropped (%s): retry", self.service, reason)
            try:
                if self._is_dropped:
                    self._reconnect()
                return action()
            except Exception as error:
                refusal = self.refusal(error)
                if refusal is None:
                    raise
                reason, self._is_dropped = refusal
            if not self._is_dropped:
                break
        # outside the handler: the connector's error may repeat what it was given
        raise ServiceError(f"{self.service} refused the statement: {reason}")

    def _reconnect(self) -> None:
        self.connection, self._is_dropped = self._open(), False
        for statements in self.temporary.values():
            self._run_all(statements)

    def _run_all(self, statements: Sequence[str]) -> None:
        for sql in statements:
            self.cursor(sql)


class RemoteWarehouse(ABC):
    """Run statements in a warehouse at the other end of a connection.

    A statement is repeated on a new connection if the connection was dropped; temporary tables
    are made again before.

    Attributes:
        events: the name of the atomic events table, or of a part of it.
        partition: the time column by which the events table is partitioned.
        source: the SELECT of which ``events`` is a copy; empty if it is the whole table.
        data_end: when the data ends, where it cannot be seen in a copy.
        before_read: gets a sentence about each read of the whole table before it runs; may raise
            to stop it.
    """

    dialect: str
    notes: tuple[str, ...] = ()
    source: str = ""
    data_end: datetime | None = None

    def __init__(
        self,
        session: Session,
        events: str,
        *,
        partition: str = PARTITION,
        before_read: Callable[[str], None] = print,
    ) -> None:
        self.events, self.partition, self.before_read = events, partition, before_read
        self._session = session
        self._columns: list[str] | None = None

    @property
    def connection(self) -> Any:
        """The connector's connection in use."""
        return self._session.connection

    @abstractmethod
    def size_to_scan(self, select: str) -> str:
        """Return how much a SELECT over the events scans, without running it; empty if unknown."""

    @staticmethod
    @abstractmethod
    def rows(cursor: Any) -> Iterator[pa.Table]:
        """Yield the rows of a cursor as they arrive, with lower-case names; at least one table."""

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names.

        Raises:
            ServiceError: the warehouse refused the statement.
        """
        return self._session.with_retry(lambda: self._fetch(sql))

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield its rows as they arrive, one batch at a time in memory.

        Raises:
            ServiceError: the warehouse refused the statement, or the rows stopped arriving.
        """
        try:
            yield from self.rows(self._session.execute(sql))
            return
        except Exception as error:  # some rows are with the caller already
            refusal = self._session.refusal(error)
            if refusal is None:
                raise
        raise ServiceError(
            f"the rows from {self._session.service} stopped arriving ({refusal[0]}). Run it again."
        )

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE TABLE.

        Raises:
            ServiceError: the warehouse refused the statement.
        """
        self._session.execute(sql)

    def create_temporary(self, name: str, *statements: str) -> None:
        """Make and fill a temporary table; it is made again if the connection is dropped.

        Raises:
            ServiceError: the warehouse refused a statement.
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
    ) -> Self:
        """Return the same warehouse and session with another relation as its events."""
        part = copy.copy(self)
        part.events, part.source, part._columns = events, source, None
        part.data_end, part.notes = data_end or self.data_end, (*self.notes, *notes)
        return part

    def announce(self, select: str) -> None:
        """Tell ``before_read`` how much of the events table a SELECT scans."""
        size = self.size_to_scan(select) or "how much is not known"
        self.before_read(f"{self._session.service} will scan {self.events}: {size}.")

    def frame(self, sql: str) -> pd.DataFrame:
        """Run one statement; return its rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case; the warehouse is asked once."""
        if self._columns is None:
            cursor = self._session.execute(f"SELECT * FROM {self.events} LIMIT 0")
            self._columns = [column[0].lower() for column in cursor.description]
        return self._columns

    def close(self) -> None:
        """Close the connection; temporary tables end with it."""
        self._session.temporary.clear()
        self.connection.close()

    def _fetch(self, sql: str) -> pa.Table:
        parts = list(self.rows(self._session.cursor(sql)))
        return pa.concat_tables(parts, promote_options="permissive")


def in_units(size: int) -> str:
    """Return a number of bytes for people.

    >>> in_units(3_450_000_000)
    '3.5 GB'
    """
    power = max(min(len(str(size)) - 1, 14) // 3, 0)
    return f"{size / 1000**power:.{1 if power else 0}f} {('bytes', 'KB', 'MB', 'GB', 'TB')[power]}"
