"""Snowflake without an account: the real connector on fakesnow, and what fakesnow lacks.

fakesnow 0.12.1 translates neither ``ASOF JOIN … MATCH_CONDITION``, nor ``ARRAY_SLICE`` of an
array, nor ``TO_TIMESTAMP_TZ`` and its kin, ``SYSTEM$TYPEOF``, ``TYPEOF`` and ``CURRENT_WAREHOUSE``,
and has no temporary tables with qualified names. They are rewritten here as DuckDB spells them,
before fakesnow translates the rest. ``EXPLAIN USING JSON`` is answered here.

Every statement is recorded, see :func:`statements`, and checked, see ``snowflake_rules``. Where a
rule needs the types of columns, it becomes part of the statement: a quotient of integers has 6
decimals, and booleans have no least value, no largest and no sum.
"""

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import duckdb
import fakesnow
import fakesnow.arrow
import pyarrow as pa
import sqlglot
from fakesnow import server as start_server  # its name is later that of a module
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.statement_type import DESCRIBE, SHOW
from pytest import MonkeyPatch
from sqlglot import exp
from starlette.responses import JSONResponse

from tests.support.snowflake_rules import Tables, bounds, check, full_name

_translate, _execute = FakeSnowflakeCursor._transform, FakeSnowflakeCursor.execute
PARTITION_BYTES = 16_000_000  # of one day of events


@dataclass
class _Account:
    """What the stand-in knows while it runs, besides the rows."""

    tables: Tables = field(default_factory=Tables)
    sent: list[str] = field(default_factory=list)
    refused: list[AssertionError] = field(default_factory=list)
    drop_in: int = 0


_account = _Account()


def statements() -> list[str]:
    """Return every statement sent since :func:`snowflake` or :func:`server` began."""
    return _account.sent


def tables() -> Tables:
    """Return the tables that the rules of the running stand-in are about; a test may change it."""
    return _account.tables


def drop_connection(at: int = 1) -> None:
    """End the session that sends the statement number ``at`` from now on; it is not run.

    Its temporary tables are gone. The connector reports 390111, as for a session that Snowflake
    has ended. Only for :func:`server`.
    """
    _account.drop_in = at


def _asof(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Join) and (condition := node.args.get("match_condition")):
        node.set("match_condition", None)
        node.set("on", exp.and_(node.args["on"], condition))
        node.set("side", "LEFT")
    return node


def _slice(node: exp.Expr) -> exp.Expr:
    if not isinstance(node, exp.ArraySlice):
        return node
    each = exp.Literal.string('["JSON"]')
    items = exp.Anonymous(this="FROM_JSON", expressions=[node.this, each])
    start = exp.Add(this=exp.Paren(this=node.args["start"]), expression=exp.Literal.number(1))
    cut = exp.Anonymous(this="LIST_SLICE", expressions=[items, start, node.args["end"]])
    return exp.Anonymous(this="TO_JSON", expressions=[cut])


def _timestamp(node: exp.Expr) -> exp.Expr:
    if not isinstance(node, exp.Anonymous) or "TO_TIMESTAMP_" not in node.name.upper():
        return node
    cast = exp.TryCast if node.name.upper().startswith("TRY") else exp.Cast
    time = cast(this=node.expressions[0], to=exp.DataType.build("TIMESTAMPTZ"))
    if node.name.upper().endswith("_TZ"):
        return time
    return exp.AtTimeZone(this=time, zone=exp.Literal.string("UTC"))  # the zone of the session


#: Snowflake's names of DuckDB's types of timestamps.
_TYPES = {"TIMESTAMP": "TIMESTAMP_NTZ(9)[SB8]", "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_TZ(9)[SB16]"}


def _type(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Typeof):  # of a VARIANT
        return exp.Anonymous(this="JSON_TYPE", expressions=[node.this])
    if not isinstance(node, exp.Anonymous) or node.name.upper() != "SYSTEM$TYPEOF":
        return node
    kind = exp.Anonymous(this="TYPEOF", expressions=node.expressions)
    case = exp.Case(this=kind)
    for duckdb_type, snowflake_type in _TYPES.items():
        case = case.when(exp.Literal.string(duckdb_type), exp.Literal.string(snowflake_type))
    return case.else_(kind.copy())


def _warehouse(node: exp.Expr) -> exp.Expr:
    return exp.Literal.string("WH") if isinstance(node, exp.CurrentWarehouse) else node


def _temporary(cursor: Any, statement: exp.Expr) -> None:
    """Name temporary tables as DuckDB can: without a database or schema, within the session."""
    names = _temporary_tables(cursor)
    tables = [full_name(table) for table in statement.find_all(exp.Table)]
    if isinstance(statement, exp.Create) and statement.find(exp.TemporaryProperty):
        name = full_name(statement.this.find(exp.Table))
        schema = name.rpartition(".")[0]
        known = "SELECT catalog_name || '.' || schema_name FROM information_schema.schemata"
        if (schema,) not in cursor._duck_conn.execute(known).fetchall():
            raise duckdb.CatalogException(f"Schema {schema} does not exist or not authorized.")
        names.add(name)
    for table in list(statement.find_all(exp.Table)):
        if (name := full_name(table)) in names:
            parent = table.parent
            if not table.alias and isinstance(parent, exp.From | exp.Join):
                table.set("alias", exp.TableAlias(this=table.this.copy()))
            table.set("this", exp.to_identifier(name, quoted=True))
            table.set("db", None)
            table.set("catalog", None)
    if isinstance(statement, exp.Drop):
        names.difference_update(tables)


def _temporary_tables(cursor: Any) -> set[str]:
    names: set[str] = cursor._conn.__dict__.setdefault("temporary_tables", set())
    return names


def _typed(node: exp.Expr) -> exp.Expr:
    """Compute as Snowflake does where it depends on types, which DuckDB knows before it runs."""
    if isinstance(node, exp.Div):
        whole = [f"'{kind}'" for kind in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")]
        inexact = exp.or_(
            exp.not_(exp.condition(f"kind IN ({', '.join(whole)})").transform(_kind, node.left)),
            exp.condition("kind IN ('FLOAT', 'DOUBLE')").transform(_kind, node.right),
        )
        rounded = exp.Anonymous(this="ROUND", expressions=[node.copy(), exp.Literal.number(6)])
        return exp.Paren(this=exp.Case().when(inexact, node).else_(rounded))
    if isinstance(node, exp.Min | exp.Max | exp.Sum):
        problem = exp.Literal.string(f"{node.key.upper()} of a boolean")
        error = exp.Anonymous(this="ERROR", expressions=[problem])
        is_boolean = exp.condition("kind = 'BOOLEAN'").transform(_kind, node.this)
        node.set("this", exp.Case().when(is_boolean, error).else_(node.this.copy()))
    return node


def _kind(node: exp.Expr, value: exp.Expr) -> exp.Expr:
    is_placeholder = isinstance(node, exp.Column) and node.name == "kind"
    return exp.Anonymous(this="TYPEOF", expressions=[value.copy()]) if is_placeholder else node


def _interval(node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal):
        node.this.set("this", node.this.name.replace(",", ""))
    return node


def _transform(cursor: Any, expression: exp.Expr, params: Any) -> exp.Expr:
    for rewrite in (_asof, _slice, _timestamp, _type, _warehouse, _interval):
        expression = expression.transform(rewrite)
    for node in reversed(list(expression.find_all(exp.Div, exp.Min, exp.Max, exp.Sum))):
        node.replace(_typed(node.copy()))
    _temporary(cursor, expression)
    return _translate(cursor, expression, params)


def _run(cursor: Any, command: str, *args: Any, **kwargs: Any) -> Any:
    from snowflake.connector.errors import ProgrammingError

    _account.sent.append(command)
    try:
        check(command, replace(_account.tables, temporary=_temporary_tables(cursor)))
    except AssertionError as error:  # raised again at the end: a server would answer 500
        _account.refused.append(error)
        raise ProgrammingError(msg=str(error), errno=1003, sqlstate="42000") from error
    if _account.drop_in:
        _account.drop_in -= 1
        if not _account.drop_in:
            sessions = _sessions()
            (token,) = (token for token, session in sessions.items() if session is cursor._conn)
            sessions.pop(token).close()
            raise ProgrammingError(msg="Session no longer exists.", errno=390111, sqlstate="08003")
    try:
        if command.startswith("EXPLAIN USING JSON"):
            plan = _plan(cursor, command.removeprefix("EXPLAIN USING JSON"))
            command = f"""SELECT '{plan}' AS "content" """
        return _execute(cursor, command, *args, **kwargs)
    except duckdb.Error as error:  # others than fakesnow expects; a server would answer 500
        raise ProgrammingError(msg=str(error), errno=100038, sqlstate="22018") from error


def _plan(cursor: Any, command: str) -> str:
    """Return a statement's plan as Snowflake does: a day of events is one partition.

    Only the bounds on the partition's column in the WHERE of the read itself leave days out.
    """
    statement = sqlglot.parse_one(command, read="snowflake")
    query = statement.find(exp.Query)
    assert query, f"EXPLAIN of a statement without a SELECT: {command}"
    _execute(cursor, f"DESCRIBE {query.sql('snowflake')}")
    tables, scans = _account.tables, []
    for table in query.find_all(exp.Table):
        if full_name(table) == tables.events:
            day, select = f"CAST({tables.partition} AS DATE)", table.find_ancestor(exp.Select)
            conditions = [
                part.transform(_without_table).sql("duckdb")
                for part in (bounds(select, tables) if select else ())
            ]
            (total, assigned), *_ = cursor._duck_conn.execute(
                f"SELECT COUNT(DISTINCT {day}), COUNT(DISTINCT {day}) FILTER (WHERE "
                f"{' AND '.join(conditions) or 'TRUE'}) FROM {tables.events}"
            ).fetchall()
            figures = {"partitionsTotal": total, "partitionsAssigned": assigned}
            figures["bytesAssigned"] = assigned * PARTITION_BYTES
            scan = {"id": len(scans) + 1, "parentOperators": [0], "operation": "TableScan"}
            scans.append({**scan, "objects": [tables.events], **figures})
    names = ("partitionsTotal", "partitionsAssigned", "bytesAssigned")
    stats = {name: sum(scan[name] for scan in scans) for name in names}
    operations = [[{"id": 0, "operation": "Result"}, *scans]]
    return json.dumps({"GlobalStats": stats, "Operations": operations})


def _without_table(node: exp.Expr) -> exp.Expr:
    return exp.column(node.this) if isinstance(node, exp.Column) else node


@contextmanager
def _strict(rules: Tables) -> Iterator[None]:
    global _account
    _account = _Account(rules)
    FakeSnowflakeCursor._transform, FakeSnowflakeCursor.execute = _transform, _run
    try:
        yield
    finally:
        FakeSnowflakeCursor._transform, FakeSnowflakeCursor.execute = _translate, _execute
        if _account.refused:
            raise _account.refused[0]


@contextmanager
def snowflake() -> Iterator[Any]:
    """Yield a connection to an empty schema ``DB.PUBLIC``, within this process.

    No table there is the account's table of events, so each may be read as a whole.

    Raises:
        AssertionError: at the end; a statement broke a rule, see ``snowflake_rules``.
    """
    with _strict(Tables(events="")), fakesnow.patch():
        import snowflake.connector

        with snowflake.connector.connect(database="DB", schema="PUBLIC") as connection:
            yield connection


#: Seconds. Snowflake answers "still running" in time; fakesnow answers when it is done. On a busy
#: machine that can take more than the connector's 60 seconds, after which it sends the statement
#: again while the first one still runs.
PATIENCE = 600


@contextmanager
def server(rules: Tables | None = None) -> Iterator[None]:
    """Let the connector speak to a fakesnow server of its own over HTTP, as it does to Snowflake.

    Its database is empty at first; every connection uses the same one.

    Args:
        rules: which table has the events, and which ones may be written.
    Raises:
        AssertionError: at the end; a statement broke a rule, see ``snowflake_rules``.
    """
    import snowflake.connector

    connect = snowflake.connector.connect
    module = import_module("fakesnow.server")
    try:
        with (
            _strict(rules or Tables()),
            MonkeyPatch.context() as patch,
            start_server() as to,
        ):
            patch.setattr(module, "shared_fs", fakesnow.instance.FakeSnow())
            patch.setattr(module, "JSONResponse", _response)
            patch.setattr(fakesnow.arrow, "timestamp_to_sf_struct", _times)
            replaced = {name: to[name] for name in ("host", "port", "protocol")}
            replaced |= {"socket_timeout": PATIENCE, "login_timeout": PATIENCE}
            patch.setattr(
                snowflake.connector, "connect", lambda **kwargs: connect(**{**kwargs, **replaced})
            )
            yield
    finally:
        _sessions().clear()  # of dropped connections, which DuckDB would report as leaks


_times_without_null = fakesnow.arrow.timestamp_to_sf_struct


def _times(times: pa.ChunkedArray) -> pa.Array:
    """Return times as Snowflake sends them; fakesnow would send 1970 for NULL."""
    sent = _times_without_null(times.fill_null(0))
    fields = list(sent.type)
    parts = [sent.field(field.name) for field in fields]
    missing = pa.array(times.is_null().to_pylist(), pa.bool_())
    return pa.StructArray.from_arrays(parts, fields=fields, mask=missing)


def _response(content: Any, **kwargs: Any) -> Any:
    """Return the server's answer; rows of SHOW and the like as JSON, as Snowflake sends them."""
    data = content["data"] or {}
    names = [column["name"] for column in data.get("rowtype", ())]
    shows = data.get("statementTypeId") in (SHOW, DESCRIBE) or names == ["content"]
    if shows and (rows := data.pop("rowsetBase64", None)):
        with pa.ipc.open_stream(b64decode(rows)) as reader:
            records = reader.read_all().to_pylist()
        data["rowset"] = [[_text(value) for value in record.values()] for record in records]
        data["queryResultFormat"] = "json"
    return JSONResponse(content, **kwargs)


def _text(value: Any) -> str | None:
    if isinstance(value, dict):  # a time with a zone
        return f"{value['epoch']}.{value['fraction']:09d} {value['timezone']}"
    return None if value is None else str(value)


def set_up(*commands: str) -> None:
    """Run statements of a test on the running server, neither recorded nor checked."""
    for command in commands:
        _execute(list(_sessions().values())[-1].cursor(), command)


def load_into_server(name: str, table: pa.Table, variants: tuple[str, ...] = ()) -> None:
    """Fill a table of the running server, as :func:`load` does; there must be a connection.

    As statements that the server translates, the rows would take a hundred times as long.
    """
    set_up("CREATE DATABASE IF NOT EXISTS DB", "CREATE SCHEMA IF NOT EXISTS DB.PUBLIC")
    load(list(_sessions().values())[-1], name, table, variants)


def _sessions() -> dict[str, Any]:
    sessions: dict[str, Any] = import_module("fakesnow.server").sessions
    return sessions


def load(connection: Any, name: str, table: pa.Table, variants: tuple[str, ...] = ()) -> None:
    """Fill a table ``DB.PUBLIC.<name>`` as Snowflake has it.

    Args:
        connection: of :func:`snowflake`.
        variants: nested columns, JSON as text, that become VARIANT.
    """
    duck = connection._duck_conn
    duck.register("arriving", table)
    columns = ", ".join(
        f'CAST("{c}" AS JSON) AS "{c.upper()}"' if c in variants else f'"{c}" AS "{c.upper()}"'
        for c in table.column_names
    )
    duck.execute(f"CREATE OR REPLACE TABLE DB.PUBLIC.{name} AS SELECT {columns} FROM arriving")
    duck.unregister("arriving")
