"""Run SQL inside Snowflake; rows are returned in Arrow batches.

Example: ``SnowflakeWarehouse.connect(settings).query("SELECT 1 AS one")`` -> an Arrow table.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from tqdm.auto import tqdm

from prospect_lib.errors import one_line
from prospect_lib.settings import SNOWFLAKE_KEYS, Settings
from prospect_lib.warehouse.remote import PARTITION, RemoteWarehouse, Session, in_units
from prospect_lib.warehouse.snowflake_sign_in import (
    atomic_table,
    connector_arguments,
    open_connection,
    scratch_schema,
)

#: Error numbers of the connector after which a new connection may help: it could not be reached,
#: it broke, it was closed, its session ended
#: (https://docs.snowflake.com/en/developer-guide/python-connector).
_DROPPED = {250001, 250002, 250003, 250005, 251012, 253002, 390111, 390112, 390114}


class SnowflakeWarehouse(RemoteWarehouse):
    """Run statements inside Snowflake, on the table that ``ATOMIC_TABLE`` names.

    Attributes:
        scratch: the schema for temporary tables, as ``database.schema``.

    Args:
        open_connection: signs in and returns a connection.
        events: the name of the atomic events table.
        scratch: by default the schema of the events.
        partition, before_read: see :class:`RemoteWarehouse`.
    """

    dialect = "snowflake"

    def __init__(
        self,
        open_connection: Callable[[], Any],
        events: str,
        *,
        scratch: str = "",
        partition: str = PARTITION,
        before_read: Callable[[str], None] = print,
    ) -> None:
        session = _Session(open_connection)
        super().__init__(session, events, partition=partition, before_read=before_read)
        self.scratch = scratch or ".".join(events.split(".")[:-1])

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

    def size_to_scan(self, select: str) -> str:
        """Return how many partitions and bytes a SELECT scans, by EXPLAIN."""
        plan = self._session.execute(f"EXPLAIN USING JSON {select}").fetchone()
        try:
            scanned = json.loads(plan[0])["GlobalStats"]
            assigned, total = scanned["partitionsAssigned"], scanned["partitionsTotal"]
            return f"{assigned:,} of {total:,} partitions, {in_units(scanned['bytesAssigned'])}"
        except (LookupError, TypeError, ValueError):
            return ""

    @staticmethod
    def rows(cursor: Any) -> Iterator[pa.Table]:
        """Yield the rows of a cursor in batches; times are in microseconds."""
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


class _Session(Session):
    service = "Snowflake"

    def refusal(self, error: Exception) -> tuple[str, bool] | None:
        """Return what the connector says, and whether a new connection may help."""
        import snowflake.connector

        if not isinstance(error, snowflake.connector.errors.Error):
            return None
        is_dropped = error.errno in _DROPPED or bool(self.connection.is_closed())
        return one_line(error.msg), is_dropped


def _in_microseconds(empty: pa.Table) -> pa.Table:
    """Return a table without rows with times in microseconds, as batches of rows have them."""
    fields = [
        field.with_type(pa.timestamp("us", field.type.tz))
        if pa.types.is_timestamp(field.type)
        else field
        for field in empty.schema
    ]
    return empty.cast(pa.schema(fields))
