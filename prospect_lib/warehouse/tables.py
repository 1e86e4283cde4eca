"""Write temporary tables into the warehouse, in the schema of its events.

Example: ``name = write_temporary(warehouse, "served_moments", rows)``, then use ``name`` in a
statement, then ``drop_table(warehouse, "served_moments")``.
"""

import pyarrow as pa

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
        table: columns of texts, whole numbers, booleans and timestamps (UTC, without zone).
    Returns:
        The qualified name.
    Raises:
        ServiceError: the warehouse refuses the statement.
    """
    if isinstance(warehouse, DuckDBWarehouse):
        warehouse.connection.register("rows_to_write", table)
        try:
            return create_temporary(warehouse, name, "SELECT * FROM rows_to_write")
        finally:
            warehouse.connection.unregister("rows_to_write")
    sql, qualified = dialect_of(warehouse.dialect), qualified_name(warehouse, name)
    columns = ", ".join(f"{field.name} {_type(field.type, sql)}" for field in table.schema)
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


def _type(kind: pa.DataType, sql: Dialect) -> str:
    if pa.types.is_timestamp(kind):
        return sql.timestamp_type
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    return "BIGINT" if pa.types.is_integer(kind) else "VARCHAR"
