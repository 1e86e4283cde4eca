"""Run SQL on a SQL warehouse or a cluster of Databricks; rows are returned in Arrow batches.

The connector waits for a warehouse that starts, and repeats what is safe to repeat. Its errors
can contain what it was given, so a refused sign-in is told in our own words.

Example: ``DatabricksWarehouse.connect(settings).query("SELECT 1 AS one")`` -> an Arrow table.
"""

import logging
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.request import getproxies

import pyarrow as pa
import urllib3.exceptions
from tqdm.auto import tqdm

from prospect_lib.errors import ServiceError, SettingsError, one_line
from prospect_lib.secret_values import databricks_host, name_parts
from prospect_lib.settings import DATABRICKS_CONNECTOR, DATABRICKS_KEYS, SECRETS, Settings
from prospect_lib.warehouse.remote import PARTITION, RemoteWarehouse, Session, in_units

#: The first statement of a session: a workspace or a user may have another zone.
IN_UTC = "SET TIME ZONE 'UTC'"
START_SECONDS = 600  # until the connector stops waiting for a warehouse that starts
ROWS_A_FETCH = 100_000
#: What to do about a refusal, by the HTTP status of the answer.
_ADVICE = {
    401: "The token is wrong or has expired. Correct DATABRICKS_TOKEN: "
    f"{SECRETS['DATABRICKS_TOKEN']}",
    403: "The token is wrong or has expired, or its user may not use the warehouse. Correct "
    "DATABRICKS_TOKEN, or ask for CAN USE on the warehouse",
    404: "There is no such warehouse. Correct DATABRICKS_HTTP_PATH: "
    f"{SECRETS['DATABRICKS_HTTP_PATH']}",
    503: f"The warehouse did not start within {START_SECONDS // 60} minutes. Start it in "
    "Databricks > SQL Warehouses, or correct DATABRICKS_HTTP_PATH",
}
_ENDED = "Invalid SessionHandle"  # of the answer to a statement of a session that has ended


class DatabricksWarehouse(RemoteWarehouse):
    """Run statements in Databricks, on the table that ``ATOMIC_TABLE`` names.

    Temporary tables are Databricks' own, which only this session sees: on SQL warehouses, and on
    clusters of Databricks Runtime 18.1 or later
    (https://docs.databricks.com/aws/en/tables/temporary-tables).

    Args:
        open_connection: signs in and returns a connection.
        events: the name of the atomic events table.
        partition, before_read: see :class:`RemoteWarehouse`.
    """

    dialect = "databricks"

    def __init__(
        self,
        open_connection: Callable[[], Any],
        events: str,
        *,
        partition: str = PARTITION,
        before_read: Callable[[str], None] = print,
    ) -> None:
        session = _Session(open_connection)
        super().__init__(session, events, partition=partition, before_read=before_read)

    @classmethod
    def connect(
        cls, settings: Settings, *, before_read: Callable[[str], None] = print
    ) -> "DatabricksWarehouse":
        """Sign in with the host, the path and the token of the settings.

        Args:
            settings: with the secrets.
            before_read: gets a sentence with what a read of the events will scan, before it
                runs; may raise to stop it.
        Raises:
            SettingsError: a secret is missing or cannot be right, or the connector is not
                installed; the message names it.
            ServiceError: Databricks refused the sign-in; the message contains no secret.
        """
        host, path, token, table = settings.secrets(*DATABRICKS_KEYS)
        if len(name_parts(table)) != 3:
            raise SettingsError(
                "ATOMIC_TABLE: expected catalog.schema.table, such as main.atomic.events, for "
                "Databricks. Complete it; the catalog of an old workspace is hive_metastore."
            )
        partition = PARTITION
        if "DATABRICKS_PARTITION" in settings.values:
            partition = settings.secret("DATABRICKS_PARTITION").lower()
        arguments = {
            "server_hostname": databricks_host(host),
            "http_path": path,
            "access_token": token,
            "user_agent_entry": "prospect_lib",
            "enable_telemetry": False,  # it would send figures of each statement to Databricks
            "_retry_delay_max": 10.0,
            "_retry_stop_after_attempts_count": 60,
            "_retry_stop_after_attempts_duration": float(START_SECONDS),
        }
        return cls(
            lambda: sign_in(arguments),
            table,
            partition=partition,
            before_read=before_read,
        )

    def create_temporary(self, name: str, *statements: str) -> None:
        """Make and fill a temporary table; Databricks has not always been able to replace one.

        Raises:
            ServiceError: Databricks refused a statement.
        """
        super().create_temporary(name, f"DROP TABLE IF EXISTS {name}", *statements)

    def size_to_scan(self, select: str) -> str:  # noqa: ARG002 - pruning is known when it runs
        """Return the size of the table of which a part is read; empty if it is no Delta table."""
        try:
            (detail,) = self.query(f"DESCRIBE DETAIL {self.events}").to_pylist()
            files, size = detail["numfiles"], detail["sizeinbytes"]
            return f"a part, by {self.partition}, of {files:,} files with {in_units(size)}"
        except (LookupError, ServiceError, TypeError, ValueError):
            return ""

    @staticmethod
    def rows(cursor: Any) -> Iterator[pa.Table]:
        """Yield the rows of a cursor in batches of at most 100,000."""
        names = [column[0].lower() for column in cursor.description]
        with tqdm(unit="rows", desc="from Databricks", leave=False) as bar:
            while True:
                batch = cursor.fetchmany_arrow(ROWS_A_FETCH)
                if batch.num_rows or not bar.n:
                    yield batch.rename_columns(names)
                if batch.num_rows < ROWS_A_FETCH:
                    return
                bar.update(batch.num_rows)


class _Session(Session):
    service = "Databricks"

    def cursor(self, sql: str) -> Any:
        """Run one statement; an interrupted one ends in Databricks too, where it costs money."""
        cursor = self.connection.cursor()
        try:
            return cursor.execute(sql)
        except KeyboardInterrupt:
            cursor.cancel()
            raise

    def refusal(self, error: Exception) -> tuple[str, bool] | None:
        """Return what Databricks says without its stack trace, and whether the session is gone."""
        import databricks.sql

        known = databricks.sql.exc.Error, urllib3.exceptions.HTTPError, ConnectionError
        if not isinstance(error, known):
            return None
        if code := _status(error):
            return _ADVICE.get(code, f"its answer is HTTP {code}. Try again later"), False
        text = str(error).strip()
        reason = one_line(re.split(r"\n|; line \d+ pos| SQLSTATE", text)[0])
        if re.search("TABLE_OR_VIEW_NOT_FOUND|SCHEMA_NOT_FOUND|NO_SUCH_CATALOG", text):
            reason += " ATOMIC_TABLE names the events."
        of_the_statement = databricks.sql.exc.ServerOperationError
        return reason, _ENDED in text or not isinstance(error, of_the_statement)


def sign_in(arguments: Mapping[str, Any]) -> Any:
    """Sign in.

    Args:
        arguments: of ``databricks.sql.connect``.
    Raises:
        SettingsError: the connector is not installed.
        ServiceError: Databricks refused, or cannot be reached; the message has no value of any
            setting, and no text of the connector.
    """
    try:
        import databricks.sql  # half a second, only for those who use Databricks
    except ModuleNotFoundError:
        raise SettingsError(
            f"the Databricks connector is not installed. pip install {DATABRICKS_CONNECTOR}"
        ) from None
    # its lines on errors, which are told here, would be printed where nobody set up logging, and
    # those with every request and answer where pyspark was imported before
    logging.getLogger("databricks.sql").addHandler(logging.NullHandler())
    logging.getLogger("databricks.sql.unsafe").setLevel(logging.CRITICAL)
    try:
        if not getproxies().get("https"):  # the connector would try for START_SECONDS
            socket.getaddrinfo(arguments["server_hostname"], 443)
        connection = databricks.sql.connect(**arguments)
        connection.cursor().execute(IN_UTC)
        return connection
    except (OSError, urllib3.exceptions.HTTPError):
        host = arguments["server_hostname"]
        reason = f"Databricks cannot be reached at {host}. Check DATABRICKS_SERVER_HOSTNAME and "
        reason += "this machine's network"
    except Exception as error:  # noqa: BLE001 - its text can contain what the connector was given
        status, kind = _status(error), type(error).__name__
        failed = f"The connector failed ({kind}{f', HTTP {status}' * bool(status)}). Check the "
        advice = _ADVICE.get(status, f"{failed}settings that begin with DATABRICKS_")
        reason = f"Databricks did not sign you in. {advice}"
    # outside the handler: the connector's error is not even the context of this one
    raise ServiceError(f"{reason}.")


def _status(error: Exception) -> int:
    """Return the HTTP status of a refused request, 503 if it was refused for too long, or 0."""
    import databricks.sql

    if any(isinstance(arg, databricks.sql.exc.MaxRetryDurationError) for arg in error.args):
        return 503
    status = int((getattr(error, "context", None) or {}).get("http-code") or 0)
    return status if status >= 400 else 0
