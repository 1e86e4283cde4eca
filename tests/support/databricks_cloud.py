"""Databricks without an account: the real connector speaks to this server over HTTP.

Open-source Spark has a Thrift server too, but it takes no bearer token and answers the protocol of
Hive, which the connector refuses. So this one answers Databricks' own, by the connector's classes,
and runs each statement on a local engine. Arrow batches have :data:`ROWS_A_BATCH` rows.

Example::

    with cloud(lambda sql: spark.sql(sql).toArrow()) as account:
        DatabricksWarehouse.connect(Settings(Path(), values=CLOUD_SECRETS)).query("SELECT 1 AS one")
    assert account.statements == ["SELECT 1 AS one"]
"""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import databricks.sql
import pyarrow as pa
from databricks.sql.thrift_api.TCLIService import TCLIService, ttypes
from pytest import MonkeyPatch
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TTransport import TMemoryBuffer

TOKEN, HTTP_PATH = "dapi-of-the-tests-0123456789", "/sql/1.0/warehouses/a1b2c3d4e5f6"
CLOUD_SECRETS = {
    "DATABRICKS_SERVER_HOSTNAME": "127.0.0.1",
    "DATABRICKS_HTTP_PATH": HTTP_PATH,
    "DATABRICKS_TOKEN": TOKEN,
    "ATOMIC_TABLE": "spark_catalog.default.events",
}
ROWS_A_BATCH = 1000
_DETAIL = pa.table({"format": ["delta"], "numFiles": [12], "sizeInBytes": [3_450_000_000]})
_TEMPORARY = re.compile(r"CREATE TEMPORARY TABLE (\S+)")
_DONE = ttypes.TStatus(statusCode=ttypes.TStatusCode.SUCCESS_STATUS)
_STATES = ttypes.TOperationState


@dataclass
class Account:
    """What the stand-in is told, and what it has seen.

    Attributes:
        engine: runs one statement and returns its rows, or raises.
        status: the HTTP status of every answer, if not 200.
        drop_in: the session ends at the statement of this number from now on; it is not run.
        slow: a statement with this text runs until it is cancelled.
        on_poll: called when the connector asks for the state of such a statement.
        statements: each one that was sent; every session begins with ``SET TIME ZONE``.
        cancelled: how many statements were cancelled.
    """

    engine: Callable[[str], pa.Table]
    status: int = 200
    drop_in: int = 0
    slow: str = ""
    on_poll: Callable[[], object] = print
    statements: list[str] = field(default_factory=list)
    cancelled: int = 0
    temporary: dict[bytes, set[str]] = field(default_factory=dict)
    rest: dict[bytes, list[pa.RecordBatch]] = field(default_factory=dict)
    rows_sent: dict[bytes, int] = field(default_factory=dict)


class _Service(TCLIService.Iface):  # type: ignore[misc]
    """The calls that the connector makes."""

    def __init__(self, account: Account) -> None:
        self.account = account

    def OpenSession(self, _: Any) -> Any:  # noqa: N802 - names of the protocol
        identifier = _identifier()
        self.account.temporary[identifier.guid] = set()
        version = ttypes.TProtocolVersion.SPARK_CLI_SERVICE_PROTOCOL_V7
        return ttypes.TOpenSessionResp(
            status=_DONE,
            serverProtocolVersion=version,
            sessionHandle=ttypes.TSessionHandle(identifier, version),
            canUseMultipleCatalogs=True,
        )

    def CloseSession(self, req: Any) -> Any:  # noqa: N802
        self._end(req.sessionHandle.sessionId.guid)
        return ttypes.TCloseSessionResp(status=_DONE)

    def _end(self, session: bytes) -> None:
        for name in self.account.temporary.pop(session, ()):
            self.account.engine(f"DROP TABLE IF EXISTS {name}")

    def ExecuteStatement(self, req: Any) -> Any:  # noqa: N802
        account, session, sql = self.account, req.sessionHandle.sessionId.guid, req.statement
        account.statements.append(sql)
        account.drop_in -= 1
        if not account.drop_in:
            self._end(session)
        if session not in account.temporary:
            invalid = ttypes.TStatusCode.INVALID_HANDLE_STATUS
            message = f"Invalid SessionHandle: SessionHandle [{session.hex()}]"
            status = ttypes.TStatus(statusCode=invalid, errorMessage=message)
            return ttypes.TExecuteStatementResp(status=status)
        identifier = _identifier()
        handle = ttypes.TOperationHandle(
            identifier, ttypes.TOperationType.EXECUTE_STATEMENT, hasResultSet=True
        )
        if account.slow and account.slow in sql:
            return ttypes.TExecuteStatementResp(status=_DONE, operationHandle=handle)
        try:
            table = self._run(session, sql)
        except Exception as error:  # noqa: BLE001 - whatever the engine refuses
            failed = ttypes.TGetOperationStatusResp(
                status=_DONE, operationState=_STATES.ERROR_STATE, displayMessage=str(error)
            )
            results = ttypes.TSparkDirectResults(operationStatus=failed)
        else:
            account.rest[identifier.guid] = table.combine_chunks().to_batches(ROWS_A_BATCH)
            account.rows_sent[identifier.guid] = 0
            results = ttypes.TSparkDirectResults(
                operationStatus=ttypes.TGetOperationStatusResp(
                    status=_DONE, operationState=_STATES.FINISHED_STATE
                ),
                resultSetMetadata=_metadata(table.schema),
                resultSet=self._next_batch(identifier.guid),
            )
        return ttypes.TExecuteStatementResp(
            status=_DONE, operationHandle=handle, directResults=results
        )

    def _run(self, session: bytes, sql: str) -> pa.Table:
        if sql.startswith("DESCRIBE DETAIL"):
            return _DETAIL
        if created := _TEMPORARY.match(sql):
            self.account.temporary[session].add(created[1])
            sql = f"CREATE TABLE {created[1]}{sql[created.end() :]}"
        return self.account.engine(sql)

    def _next_batch(self, operation: bytes) -> Any:
        rest, sent = self.account.rest[operation], self.account.rows_sent[operation]
        batches = []
        if rest:
            batch = rest.pop(0)
            self.account.rows_sent[operation] += batch.num_rows
            data = batch.serialize().to_pybytes()
            batches = [ttypes.TSparkArrowBatch(batch=data, rowCount=batch.num_rows)]
        rows = ttypes.TRowSet(startRowOffset=sent, rows=[], arrowBatches=batches)
        return ttypes.TFetchResultsResp(status=_DONE, hasMoreRows=bool(rest), results=rows)

    def FetchResults(self, req: Any) -> Any:  # noqa: N802
        answer = self._next_batch(req.operationHandle.operationId.guid)
        answer.resultSetMetadata = _metadata(pa.schema([]))
        return answer

    def GetOperationStatus(self, _: Any) -> Any:  # noqa: N802
        self.account.on_poll()
        state = _STATES.CANCELED_STATE if self.account.cancelled else _STATES.RUNNING_STATE
        return ttypes.TGetOperationStatusResp(status=_DONE, operationState=state)

    def CancelOperation(self, _: Any) -> Any:  # noqa: N802
        self.account.cancelled += 1
        return ttypes.TCancelOperationResp(status=_DONE)

    def CloseOperation(self, req: Any) -> Any:  # noqa: N802
        self.account.rest.pop(req.operationHandle.operationId.guid, None)
        return ttypes.TCloseOperationResp(status=_DONE)


def _identifier() -> Any:
    return ttypes.THandleIdentifier(guid=uuid4().bytes, secret=uuid4().bytes)


def _metadata(schema: pa.Schema) -> Any:
    kind = ttypes.TTypeEntry(primitiveEntry=ttypes.TPrimitiveTypeEntry(ttypes.TTypeId.STRING_TYPE))
    columns = [
        ttypes.TColumnDesc(name, ttypes.TTypeDesc([kind]), number)
        for number, name in enumerate(schema.names, 1)
    ]
    return ttypes.TGetResultSetMetadataResp(
        status=_DONE,
        schema=ttypes.TTableSchema(columns),
        resultFormat=ttypes.TSparkRowSetType.ARROW_BASED_SET,
        lz4Compressed=False,
        arrowSchema=schema.serialize().to_pybytes(),
        isStagingOperation=False,
    )


def _handler(account: Account) -> type[BaseHTTPRequestHandler]:
    processor = TCLIService.Processor(_Service(account))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = account.status
            if self.path != HTTP_PATH:
                status = 404
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                status = 403
            answer = TMemoryBuffer()
            if status == 200:
                processor.process(TBinaryProtocol(TMemoryBuffer(body)), TBinaryProtocol(answer))
            self.send_response(status)
            if status == 403:
                self.send_header("x-databricks-reason-phrase", "Invalid access token.")
            self.send_header("Content-Length", str(len(answer.getvalue())))
            self.end_headers()
            self.wfile.write(answer.getvalue())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def cloud(engine: Callable[[str], pa.Table]) -> Iterator[Account]:
    """Let the connector speak to a server of its own; yield what the server sees and is told."""
    account, connect, opened = Account(engine), databricks.sql.connect, list[Any]()
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), _handler(account)) as server,
        MonkeyPatch.context() as patch,
    ):

        def connect_here(**arguments: Any) -> Any:
            uri = f"http://127.0.0.1:{server.server_port}{arguments['http_path']}"
            opened.append(connect(**arguments, _connection_uri=uri))
            return opened[-1]

        patch.setattr(databricks.sql, "connect", connect_here)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield account
        finally:
            account.status = 200
            for connection in opened:  # or else each would try to close its session at the exit
                connection.close()
            server.shutdown()
            thread.join()
