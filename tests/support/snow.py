"""Snowflake on one's own machine: the real connector on fakesnow, and what fakesnow lacks.

Snowflake has ``ASOF JOIN … MATCH_CONDITION`` and ``ARRAY_SLICE`` of an array; fakesnow
0.12.1 passes the first on unchanged and gives the second as text. Both are put into
DuckDB's words here, before fakesnow's own translations.
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


def _transform(cursor: Any, expression: exp.Expr, params: Any) -> exp.Expr:
    return _translate(cursor, expression.transform(_asof).transform(_slice), params)


@contextmanager
def snowflake() -> Iterator[Any]:
    """A connection of the real connector to an empty schema ``DB.PUBLIC`` on fakesnow."""
    FakeSnowflakeCursor._transform = _transform
    try:
        with fakesnow.patch():
            import snowflake.connector

            with snowflake.connector.connect(database="DB", schema="PUBLIC") as connection:
                yield connection
    finally:
        FakeSnowflakeCursor._transform = _translate


@contextmanager
def server() -> Iterator[None]:
    """The connector speaks to a fakesnow server over HTTP, as it does to Snowflake."""
    import snowflake.connector

    real = snowflake.connector.connect
    FakeSnowflakeCursor._transform = _transform
    try:
        isolated = {"FAKESNOW_DB_PATH": ":isolated:"}
        with start_server(session_parameters=isolated) as to, MonkeyPatch.context() as patched:
            address = {name: to[name] for name in ("host", "port", "protocol")}

            def connect(session_parameters: dict[str, Any], **asked: Any) -> Any:
                both = {**session_parameters, **to["session_parameters"]}
                return real(**{**asked, **address}, session_parameters=both)

            patched.setattr(snowflake.connector, "connect", connect)
            yield
    finally:
        FakeSnowflakeCursor._transform = _translate
        sys.modules["fakesnow.server"].sessions.clear()  # dropped ones; DuckDB would complain


def load(connection: Any, name: str, table: pa.Table, variants: tuple[str, ...] = ()) -> None:
    """Fill a table as Snowflake has it: upper-case columns, nested ones as VARIANT."""
    duck = connection._duck_conn
    duck.register("arriving", table)
    columns = ", ".join(
        f'CAST("{c}" AS JSON) AS "{c.upper()}"' if c in variants else f'"{c}" AS "{c.upper()}"'
        for c in table.column_names
    )
    duck.execute(f"CREATE OR REPLACE TABLE DB.PUBLIC.{name} AS SELECT {columns} FROM arriving")
    duck.unregister("arriving")
