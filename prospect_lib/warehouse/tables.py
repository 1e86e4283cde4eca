"""Write temporary tables into the warehouse; nobody else sees them, and they end with it.

Example::

    with temporary_table(warehouse, "served_moments", rows) as name:
        warehouse.query(f"SELECT COUNT(*) FROM {name}")
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError, ServiceError, one_line
from prospect_lib.secret_values import name_parts
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.warehouse import DuckDBWarehouse, SnowflakeWarehouse, SparkWarehouse, Warehouse

_ROWS_PER_INSERT, _BYTES_PER_INSERT = 10_000, 500_000  # Snowflake takes 16,384 rows, and 1 MB


def _name(warehouse: Warehouse, purpose: str, content: bytes) -> str:
    """Return the name of a temporary table: no other content has it, the same content always."""
    name = f"prospect_{purpose}_{hashlib.sha256(content).hexdigest()[:12]}"
    if isinstance(warehouse, SnowflakeWarehouse):
        return f"{warehouse.scratch}.{name.upper()}"
    return name


def write_temporary(warehouse: Warehouse, purpose: str, table: pa.Table) -> str:
    """Write rows as a temporary table of the warehouse.

    Args:
        purpose: part of its name, which also depends on the rows.
        table: columns of text, numbers, booleans and times. Times become UTC, decimals numbers;
            NaN becomes NULL, as pandas has it.
    Returns:
        The table's name.
    Raises:
        DataError: a column has another type, or a value that the warehouse cannot hold.
        ServiceError: the warehouse refuses the statement.
    """
    table = pa.table({name: _plain(name, table[name]) for name in table.column_names})
    name, sql = _name(warehouse, purpose, _content(table)), dialect_of(warehouse.dialect)
    columns = ", ".join(
        f"{sql.identifier(field.name)} {_type(field.type, sql)}" for field in table.schema
    )
    if isinstance(warehouse, DuckDBWarehouse | SparkWarehouse):
        warehouse.write_temporary(name, table, columns)
        return name
    statements = [f"{sql.create_temporary} {name} ({columns})"]
    rows = (f"({', '.join(map(sql.literal, row.values()))})" for row in table.to_pylist())
    statements += [f"INSERT INTO {name} VALUES {', '.join(values)}" for values in _inserts(rows)]
    warehouse.create_temporary(name, *statements)
    return name


@contextmanager
def temporary_table(warehouse: Warehouse, purpose: str, table: pa.Table) -> Iterator[str]:
    """Yield the name of a temporary table with these rows; leaving drops it.

    The arguments and errors are those of :func:`write_temporary`.
    """
    name = write_temporary(warehouse, purpose, table)
    try:
        yield name
    finally:
        drop_table(warehouse, name)


def _inserts(rows: Iterable[str]) -> Iterator[list[str]]:
    """Yield rows as many at a time as one statement may have."""
    batch, size = list[str](), 0
    for row in rows:
        length = len(row.encode()) + 2
        if batch and (len(batch) == _ROWS_PER_INSERT or size + length > _BYTES_PER_INSERT):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def create_temporary(warehouse: Warehouse, purpose: str, select: str) -> str:
    """Create a temporary table from the rows of a SELECT.

    Args:
        purpose: part of its name, which also depends on the SELECT.
    Returns:
        The table's name.
    Raises:
        ServiceError: the warehouse refuses the statement.
    """
    name = _name(warehouse, purpose, select.encode())
    create = dialect_of(warehouse.dialect).create_temporary
    warehouse.create_temporary(name, f"{create} {name} AS\n{select}")
    return name


def qualified_name(warehouse: Warehouse, name: str) -> str:
    """Return a table's name with the database and schema of the events, where it lacks them.

    A SELECT in parentheses is returned as it is.

    >>> from prospect_lib.warehouse import SnowflakeWarehouse
    >>> warehouse = SnowflakeWarehouse(lambda: None, "MY_DB.ATOMIC.EVENTS")
    >>> qualified_name(warehouse, "models.training_set")
    'MY_DB.models.training_set'
    >>> qualified_name(warehouse, "(SELECT * FROM moments)")
    '(SELECT * FROM moments)'
    """
    if isinstance(warehouse, DuckDBWarehouse | SparkWarehouse) or name.startswith("("):
        return name
    parts, outer = name_parts(name), name_parts(warehouse.events)[:-1]
    return ".".join([*outer[: max(len(outer) + 1 - len(parts), 0)], *parts])


def name_of_new_table(warehouse: Warehouse, name: str) -> str:
    """Return the qualified name of a table to keep; one name alone is in the scratch schema.

    Raises:
        DataError: the table would be in the schema of a remote warehouse's events.
    """
    if isinstance(warehouse, DuckDBWarehouse | SparkWarehouse):
        return name
    setting = ""
    if isinstance(warehouse, SnowflakeWarehouse):
        setting = ", or set SF_SCRATCH"
        if len(name_parts(name)) == 1:
            name = f"{warehouse.scratch}.{name}"
    full = qualified_name(warehouse, name)
    if name_parts(full)[:-1] == name_parts(warehouse.events)[:-1]:
        raise DataError(
            f"{full} would be in the schema of the events. Give schema.table of another schema"
            f"{setting}."
        )
    return full


def drop_table(warehouse: Warehouse, name: str) -> None:
    """Drop a temporary table, if it exists. A lost connection has dropped it already."""
    with suppress(ServiceError):
        warehouse.drop_temporary(name)


def _content(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as text, 64-bit numbers, booleans, or UTC times in microseconds."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind) and not pa.types.is_duration(kind):
        plain = pa.timestamp("us")  # a zone is dropped: Arrow keeps zoned times in UTC
    elif pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0):
        plain = pa.int64()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        plain = pa.float64()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        plain = pa.string()
    elif pa.types.is_boolean(kind):
        return column
    else:
        raise DataError(
            f"column {name} has type {kind}; expected text, numbers, booleans or times."
        )
    try:
        column = column.cast(plain, safe=plain == pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"column {name}: {one_line(error)}; expected 64-bit numbers.") from error
    if plain != pa.float64():
        return column
    if pc.any(pc.is_inf(column)).as_py():
        raise DataError(f"column {name} has an infinite number; expected finite ones.")
    return pc.if_else(pc.is_nan(column), None, column)


def _type(kind: pa.DataType, sql: Dialect) -> str:
    if pa.types.is_timestamp(kind):
        return sql.timestamp_type
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_floating(kind):
        return "DOUBLE"
    return "BIGINT" if pa.types.is_integer(kind) else sql.text_type
