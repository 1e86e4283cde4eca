"""Snowflake without an account: the real connector on fakesnow, and what fakesnow lacks.

fakesnow 0.12.1 translates neither ``ASOF JOIN … MATCH_CONDITION``, nor ``ARRAY_SLICE`` of an
array, nor ``TO_TIMESTAMP_TZ`` and its kin, ``SYSTEM$TYPEOF``, ``TYPEOF`` and ``CURRENT_WAREHOUSE``.
They are rewritten here as DuckDB spells them, before fakesnow translates the rest.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fakesnow
import pyarrow as pa
from fakesnow import server as start_server  # its name is later that of a module
from fakesnow.cursor import FakeSnowflakeCursor
from pytest import MonkeyPatch
from sqlglot import exp

_translate = FakeSnowflakeCursor._transform


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


def _transform(cursor: Any, expression: exp.Expr, params: Any) -> exp.Expr:
    for rewrite in (_asof, _slice, _timestamp, _type, _warehouse):
        expression = expression.transform(rewrite)
    return _translate(cursor, expression, params)


@contextmanager
def snowflake() -> Iterator[Any]:
    """Yield a connection to an empty schema ``DB.PUBLIC``, within this process."""
    FakeSnowflakeCursor._transform = _transform
    try:
        with fakesnow.patch():
            import snowflake.connector

            with snowflake.connector.connect(database="DB", schema="PUBLIC") as connection:
                yield connection
    finally:
        FakeSnowflakeCursor._transform = _translate


#: Seconds. Snowflake answers "still running" in time; fakesnow answers when it is done. On a busy
#: machine that can take more than the connector's 60 seconds, after which it sends the statement
#: again while the first one still runs.
PATIENCE = 600


@contextmanager
def server() -> Iterator[None]:
    """Let the connector speak to a fakesnow server of its own over HTTP, as it does to Snowflake.

    The database is empty; it exists as long as the first connection.
    """
    import snowflake.connector

    connect = snowflake.connector.connect
    FakeSnowflakeCursor._transform = _transform
    try:
        isolated = {"FAKESNOW_DB_PATH": ":isolated:"}
        with start_server(session_parameters=isolated) as to, MonkeyPatch.context() as patch:
            replaced = {name: to[name] for name in ("host", "port", "protocol")}
            replaced |= {"socket_timeout": PATIENCE, "login_timeout": PATIENCE}

            def connect_here(session_parameters: dict[str, Any], **kwargs: Any) -> Any:
                parameters = {**session_parameters, **to["session_parameters"]}
                return connect(**{**kwargs, **replaced}, session_parameters=parameters)

            patch.setattr(snowflake.connector, "connect", connect_here)
            yield
    finally:
        FakeSnowflakeCursor._transform = _translate
        _sessions().clear()  # of dropped connections, which DuckDB would report as leaks


def load_into_server(name: str, table: pa.Table, variants: tuple[str, ...] = ()) -> None:
    """Fill a table of the running server, as :func:`load` does; there must be a connection.

    As statements that the server translates, the rows would take a hundred times as long.
    """
    session = list(_sessions().values())[-1]
    for create in ("DATABASE IF NOT EXISTS DB", "SCHEMA IF NOT EXISTS DB.PUBLIC"):
        session.cursor().execute(f"CREATE {create}")
    load(session, name, table, variants)


def _sessions() -> dict[str, Any]:
    sessions: dict[str, Any] = sys.modules["fakesnow.server"].sessions
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
