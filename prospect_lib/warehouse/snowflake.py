"""Run SQL inside Snowflake; rows are returned in Arrow batches.

Example: ``SnowflakeWarehouse.connect(settings).query("SELECT 1 AS one")`` -> an Arrow table.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
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
)

Result = TypeVar("Result")
ATTEMPTS = 3
#: Error numbers of the connector after which a new connection may help: it could not be reached,
#: it broke, it was closed, its session ended
#: (https://docs.snowflake.com/en/developer-guide/python-connector).
_DROPPED = {250001, 250002, 250003, 250005, 251012, 253002, 390111, 390112, 390114}
_log = logging.getLogger(__name__)


class SnowflakeWarehouse:
    """Run statements inside Snowflake, on the table that ``ATOMIC_TABLE`` names.

    A statement is repeated on a new connection if the connection was dropped.

    Args:
        open_connection: signs in and returns a connection.
        events: the name of the atomic events table.
    """

    dialect: str = "snowflake"
    notes: tuple[str, ...] = ()

    def __init__(self, open_connection: Callable[[], Any], events: str) -> None:
        self._open, self.events = open_connection, events
        self.connection = open_connection()
        self._columns: list[str] | None = None

    @classmethod
    def connect(
        cls, settings: Settings, session: Mapping[str, str | int | bool] | None = None
    ) -> "SnowflakeWarehouse":
        """Sign in as the secrets say, see ``snowflake_sign_in``.

        Args:
            settings: with the secrets.
            session: parameters of the session besides ``SESSION_PARAMETERS``.
        Raises:
            SettingsError: a secret is missing or cannot be right; the message names it.
            ServiceError: Snowflake refused the sign-in; the message contains no secret.
        """
        settings.secrets(*SNOWFLAKE_KEYS)  # all that are missing in one message
        arguments = connector_arguments(settings)
        arguments["session_parameters"] |= session or {}
        table = ".".join(atomic_table(settings))
        return cls(lambda: open_connection(arguments), table)

    def query(self, sql: str) -> pa.Table:
        """Run one statement; return its rows with lower-case column names.

        Raises:
            ServiceError: Snowflake refused the statement.
        """
        return self._with_retry(lambda: self._fetch(sql))

    def run(self, sql: str) -> None:
        """Run one statement that returns no rows, such as CREATE TABLE.

        Raises:
            ServiceError: Snowflake refused the statement.
        """
        self._execute(sql)

    def frame(self, sql: str) -> pd.DataFrame:
        """Run one statement; return its rows as a pandas frame."""
        return self.query(sql).to_pandas()

    def columns(self) -> list[str]:
        """Return the columns of the events table, in lower case; Snowflake is asked once."""
        if self._columns is None:
            cursor = self._execute(f"SELECT * FROM {self.events} LIMIT 0")
            self._columns = [column.name.lower() for column in cursor.description]
        return self._columns

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def batches(self, sql: str) -> Iterator[pa.Table]:
        """Run one statement; yield its rows as they arrive, one batch at a time in memory."""
        yield from self._stream(self._execute(sql))

    def _execute(self, sql: str) -> Any:
        return self._with_retry(lambda: self.connection.cursor().execute(sql))

    def _fetch(self, sql: str) -> pa.Table:
        parts = list(self._stream(self.connection.cursor().execute(sql)))
        return pa.concat_tables(parts, promote_options="permissive")

    @staticmethod
    def _stream(cursor: Any) -> Iterator[pa.Table]:
        names = [column.name.lower() for column in cursor.description]
        total = cursor.rowcount if (cursor.rowcount or 0) >= 0 else None
        empty = True
        with tqdm(total=total, unit="rows", desc="from Snowflake", leave=False) as bar:
            for batch in cursor.fetch_arrow_batches():
                empty = False
                yield _in_microseconds(batch.rename_columns(names))
                bar.update(batch.num_rows)
        if empty:
            table = cursor.fetch_arrow_all(force_return_table=True)
            yield _in_microseconds(table.rename_columns(names))

    def _with_retry(self, action: Callable[[], Result]) -> Result:
        import snowflake.connector

        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                return action()
            except snowflake.connector.errors.Error as error:
                if not attempts_left or not self._dropped(error):
                    raise ServiceError(
                        f"Snowflake refused the statement: {one_line(error.msg)}"
                    ) from error
                _log.warning("the connection to Snowflake was dropped (%s): retry", error.errno)
                self.connection = self._open()
        raise AssertionError("unreachable")

    def _dropped(self, error: Any) -> bool:
        return error.errno in _DROPPED or bool(self.connection.is_closed())


def _in_microseconds(batch: pa.Table) -> pa.Table:
    """Return the rows with times in microseconds; each batch arrives with a precision of its own.

    The connector uses nanoseconds unless a batch has a time that they cannot express, such as
    one of the year 9999.
    """
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type)
        else field
        for field in batch.schema
    ]
    return batch.cast(pa.schema(fields), safe=False)
