"""A real Spark in this process's JVM, started once, and tables as Snowplow's loaders write them."""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from prospect_lib.aggregation.properties import snake_case
from prospect_lib.warehouse.events import NESTED
from tests.support.worlds import COLUMNS, DEVICE, ITEM, events_table

#: Types that the schema of a self-describing event may give a property.
KINDS: dict[str, pa.DataType] = {
    "string": pa.string(),
    "double": pa.float64(),
    "bigint": pa.int64(),
    "integers beyond 64 bits": pa.decimal128(38, 0),
    "cents": pa.decimal128(18, 2),
    "boolean": pa.bool_(),
    "struct": pa.struct({"b": pa.float64(), "a": pa.int64()}),
    "array": pa.list_(pa.float64()),
}


#: Whatever is not about results is as cheap as possible: most statements read a few rows.
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.log.level": "OFF",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    # optimised machine code pays off in long runs only
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "1",
    "spark.default.parallelism": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}


@cache
def session() -> SparkSession:
    """Return this process's Spark with two threads; it starts once, and ends with the process.

    Without Java the test is skipped, and in CI it fails.
    """
    if shutil.which("java") is None and "CI" not in os.environ:
        pytest.skip("no Java: apt-get install default-jre-headless")
    folder = tempfile.mkdtemp()
    builder = SparkSession.builder.master("local[2]").appName("tests")
    for name, value in {**SETTINGS, "spark.sql.warehouse.dir": f"{folder}/tables"}.items():
        builder = builder.config(name, value)
    started = builder.getOrCreate()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(started.stop)
    return started


@contextmanager
def compiling() -> Iterator[None]:
    """Let Spark compile expressions and stages, as it does where nothing is set."""
    names = [name for name in SETTINGS if "codegen" in name]
    for name in names:
        session().conf.unset(name)
    yield
    for name in names:
        session().conf.set(name, SETTINGS[name])


def load(name: str, table: pa.Table) -> None:
    """Make a temporary view of a table."""
    session().createDataFrame(table).createOrReplaceTempView(name)


def query(sql: str, **tables: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a statement over temporary views of these tables."""
    for name, table in tables.items():
        load(name, table)
    rows: list[dict[str, Any]] = session().sql(sql).toArrow().to_pylist()
    return rows


def as_loaded(table: pa.Table) -> pa.Table:
    """Return events whose nested columns, JSON as text, are as Snowplow's loaders write them."""
    for place, name in enumerate(table.column_names):
        if NESTED.match(name):
            values = [
                _snake(json.loads(text)) if text else None for text in table[name].to_pylist()
            ]
            table = table.set_column(place, name, pa.array(values))
    return table


def _snake(value: Any) -> Any:
    if isinstance(value, dict):
        return {snake_case(name): _snake(each) for name, each in value.items()}
    return [_snake(each) for each in value] if isinstance(value, list) else value


def conforming(value: Any, kind: str) -> Any:
    """Return a value of JSON as a type has it; ``None`` for what a schema would refuse."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return value if isinstance(value, str) else None
    if kind == "double":
        return float(value) if is_number and abs(value) < 1e300 else None
    if kind in ("bigint", "integers beyond 64 bits"):
        most = 2**63 if kind == "bigint" else 2**64
        return value if isinstance(value, int) and is_number and -(2**63) <= value < most else None
    if kind == "cents":
        return Decimal(f"{value:.2f}") if is_number and abs(value) < 1e9 else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "struct":
        return {"b": 1.0, "a": 20} if isinstance(value, dict) else None
    return [float(each) for each in value] if isinstance(value, list) else None


def typed(
    events: list[dict[str, Any]], kinds: dict[str, str]
) -> tuple[list[dict[str, Any]], pa.Table]:
    """Return events whose nested values have the types of a schema, and the table of them.

    Args:
        kinds: of ``price``, ``size``, ``at`` and ``device_class``.
    """
    rows = [
        {**event, ITEM: _item(event, kinds), DEVICE: _devices(event, kinds)} for event in events
    ]
    item = pa.struct(
        {
            "buyer": pa.struct({"id": pa.string()}),
            "tags": pa.list_(pa.struct({"it's": pa.string()})),
            **{name: KINDS[kinds[name]] for name in ("price", "size", "at")},
        }
    )
    device = pa.list_(pa.struct({"device_class": KINDS[kinds["device_class"]]}))
    table = events_table([{**row, ITEM: None, DEVICE: None} for row in rows])
    for name, kind in ((ITEM, item), (DEVICE, device)):
        column = pa.array([row[name] for row in rows], kind)
        table = table.set_column(list(COLUMNS).index(name), name, column)
    return rows, table


def _item(event: dict[str, Any], kinds: dict[str, str]) -> dict[str, Any] | None:
    value = event.get(ITEM)
    value = json.loads(value) if isinstance(value, str) else value
    if value is None:
        return None
    tags = [tag if isinstance(tag, dict) else {"it's": None} for tag in value.get("tags", [])]
    fields = {name: conforming(value.get(name), kinds[name]) for name in ("price", "size", "at")}
    return {"buyer": value.get("buyer"), "tags": tags or None, **fields}


def _devices(event: dict[str, Any], kinds: dict[str, str]) -> list[dict[str, Any]] | None:
    devices = event.get(DEVICE)
    if devices is None:
        return None
    values = [each.get("deviceClass", each.get("device_class")) for each in devices]
    return [{"device_class": conforming(value, kinds["device_class"])} for value in values]
