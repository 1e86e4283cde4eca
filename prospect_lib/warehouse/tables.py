"""Write temporary tables into the warehouse, in the schema of its events.

Example: ``name = write_temporary(warehouse, "served_moments", rows)``, then use ``name`` in a
statement, then ``drop_table(warehouse, "served_moments")``.
"""

import pyarrow as pa
import pyarrow.compute as pc

from prospect_lib.errors import DataError, one_line
from prospect_lib.sql.dialects import Dialect, dialect_of
from prospect_lib.warehouse import Warehouse
from prospect_lib.warehouse.duckdb import DuckDBWarehouse

_ROWS_PER_INSERT = 10_000  # Snowflake takes at most 16,384


def qualified_name(warehouse: Warehouse, name: str) -> str:
    """Return ``name`` with the database and schema of the events table, if it has them."""
    return ".".join([*warehouse.events.split(".")[:-1], name])


def write_temporary(warehouse: Warehouse, name: str, table: pa.Table) -> str:
    """Write rows as a table of the warehouse; replace a table of this name.

    Args:
        name: without database and schema.
        table: columns of text, numbers, booleans and times. Times become UTC, decimals numbers;
            NaN becomes NULL, as pandas has it.
    Returns:
        The qualified name.
    Raises:
        DataError: a column has another type, or a value that the warehouse cannot hold.
        ServiceError: the warehouse refuses the statement.
    """
    table = pa.table({name: _plain(name, table[name]) for name in table.column_names})
    if isinstance(warehouse, DuckDBWarehouse):
        warehouse.connection.register("rows_to_write", table)
        try:
            return create_temporary(warehouse, name, "SELECT * FROM rows_to_write")
        finally:
            warehouse.connection.unregister("rows_to_write")
    sql, qualified = dialect_of(warehouse.dialect), qualified_name(warehouse, name)
    columns = ", ".join(
        f"{sql.identifier(field.name)} {_type(field.type, sql)}" for field in table.schema
    )
    warehouse.run(f"{sql.create_temporary} {qualified} ({columns})")
    for start in range(0, table.num_rows, _ROWS_PER_INSERT):
        rows = table.slice(start, _ROWS_PER_INSERT).to_pylist()
        values = (f"({', '.join(map(sql.literal, row.values()))})" for row in rows)
        warehouse.run(f"INSERT INTO {qualified} VALUES {', '.join(values)}")
    return qualified


def create_temporary(warehouse: Warehouse, name: str, select: str) -> str:
    """Create a table from the rows of a SELECT; replace a table of this name.

    Args:
        name: without database and schema.
    Returns:
        The qualified name.
    Raises:
        ServiceError: the warehouse refuses the statement.
    """
    qualified = qualified_name(warehouse, name)
    warehouse.run(f"{dialect_of(warehouse.dialect).create_temporary} {qualified} AS {select}")
    return qualified


def drop_table(warehouse: Warehouse, name: str) -> None:
    """Drop a table that :func:`write_temporary` or :func:`create_temporary` made, if any."""
    warehouse.run(f"DROP TABLE IF EXISTS {qualified_name(warehouse, name)}")


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
    return "BIGINT" if pa.types.is_integer(kind) else "VARCHAR"
